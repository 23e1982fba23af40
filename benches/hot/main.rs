//! What the hot parts cost: codec, sealing, the stream's machine, and two whole endpoints with
//! nothing between them but memory.
//!
//! `cargo bench --bench hot` prints nanoseconds and bytes per second; words after `--` choose cases
//! by part of their name. Time is noisy: `benches/instructions.py` (`make bench-instructions`)
//! counts machine instructions of the same cases instead and compares them with those on record.
//! For that, `--run CASE COUNT` does a case so many times, in silence.

mod codec;
mod endpoints;
mod sealing;
mod stream;

use std::time::{Duration, Instant};

/// Time spent on each figure, and figures of which the median counts.
const BUDGET: Duration = Duration::from_millis(120);
const ROUNDS: usize = 5;

/// Something to be measured.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Bytes that one operation moves; 0 if it is not about bytes.
    pub(crate) bytes: usize,
    /// Does the operation so many times.
    pub(crate) run: Box<dyn Fn(usize)>,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        bytes: usize,
        run: impl Fn(usize) + 'static,
    ) -> Self {
        Self { name: name.into(), bytes, run: Box::new(run) }
    }
}

fn main() {
    let cases: Vec<Case> = [codec::cases(), sealing::cases(), stream::cases(), endpoints::cases()]
        .into_iter()
        .flatten()
        .collect();
    // Cargo says `--bench`; words that are no option choose cases.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.first().map(String::as_str) {
        Some("--list") => cases.iter().for_each(|case| println!("{}", case.name)),
        Some("--run") => {
            let count = words.get(2).and_then(|count| count.parse().ok()).expect("a count");
            let case = cases.iter().find(|case| Some(&case.name) == words.get(1));
            (case.expect("a case of --list").run)(count);
        }
        _ => {
            let chosen = |case: &&Case| {
                words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()))
            };
            cases.iter().filter(chosen).for_each(measure);
        }
    }
}

fn measure(case: &Case) {
    let mut count = 1;
    while time(case, count) < BUDGET / 4 {
        count *= 2;
    }
    let mut each: Vec<f64> =
        (0..ROUNDS).map(|_| time(case, 4 * count).as_secs_f64() / (4 * count) as f64).collect();
    each.sort_by(f64::total_cmp);
    let (median, spread) = (each[ROUNDS / 2], each[ROUNDS - 1] / each[0] - 1.0);
    let rate = match case.bytes {
        0 => String::new(),
        bytes => format!("{:>8.2} GB/s", bytes as f64 / median / 1e9),
    };
    println!("{:<32} {:>12.1} ns{rate:>15}  ±{:.0} %", case.name, median * 1e9, spread * 50.0);
}

fn time(case: &Case, count: usize) -> Duration {
    let start = Instant::now();
    (case.run)(count);
    start.elapsed()
}
