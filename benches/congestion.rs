//! What the congestion controllers make of links, in virtual time: `cargo bench --bench congestion`
//! prints the tables of docs/performance.md. The figures depend on nothing but the code.

#[path = "../tests/congestion/bottleneck.rs"]
mod bottleneck;
#[path = "../tests/congestion/matrix.rs"]
mod matrix;

use std::time::Duration;

use bottleneck::{Loss, Path, jain};
use pilot_agent::proto::stream::CongestionControl;

const TIME: Duration = Duration::from_secs(10);

/// The links of the table: name, path, time before measuring.
fn links() -> Vec<(&'static str, Path, Duration)> {
    let away = Duration::from_millis(4);
    let (one, five) = (Duration::from_secs(1), Duration::from_secs(5));
    vec![
        ("100M 20ms", Path::new(100.0, 20, 1.0, Loss::None), one),
        ("100M 20ms, 0.1 %", Path::new(100.0, 20, 1.0, Loss::Random(0.001)), one),
        ("100M 20ms, 1 %", Path::new(100.0, 20, 1.0, Loss::Random(0.01)), one),
        ("100M 20ms, 3 %", Path::new(100.0, 20, 1.0, Loss::Random(0.03)), one),
        ("100M 20ms, 1 % bursts", Path::new(100.0, 20, 1.0, Loss::Bursts(0.01)), one),
        ("100M 20ms, buffer 1/4", Path::new(100.0, 20, 0.25, Loss::None), one),
        ("100M 20ms, buffer 4", Path::new(100.0, 20, 4.0, Loss::None), one),
        (
            "100M 20ms, bunches of 10 ms",
            Path { bunch: Duration::from_millis(10), ..Path::new(100.0, 20, 1.0, Loss::None) },
            one,
        ),
        ("100M 200ms", Path::new(100.0, 200, 1.0, Loss::None), five),
        ("500M 100ms, 0.1 %", Path::new(500.0, 100, 1.0, Loss::Random(0.001)), five),
        ("10M 50ms, buffer 4", Path::new(10.0, 50, 4.0, Loss::None), five),
        ("1M 80ms", Path::new(1.0, 80, 1.0, Loss::None), five),
        ("loopback", Path::loopback(4_000_000, Duration::ZERO), one / 10),
        ("loopback, away 4 of 20 ms", Path::loopback(4_000_000, away), one / 10),
        ("loopback, away, buffer 400 KB", Path::loopback(400_000, away), one / 10),
        ("1000M 2ms", Path::new(1000.0, 2, 1.0, Loss::None), one),
    ]
}

fn main() {
    print_many();
    print_single();
    print_shared();
}

fn print_single() {
    println!("use of the link / mean queue in round trips / drops, one stream\n");
    println!("| link | bbr | cubic | newreno |\n|---|---|---|---|");
    for (name, path, warm_up) in links() {
        let cells = CongestionControl::ALL.map(|congestion| {
            let time = if warm_up < Duration::from_secs(1) { warm_up * 5 } else { TIME };
            let f = matrix::single(congestion, &path, warm_up, time);
            let (used, dropped) = (f.utilisation * 100.0, f.dropped * 100.0);
            format!("{used:.0} % / {:.2} / {dropped:.2} %", f.queue)
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn print_shared() {
    println!("\nstreams side by side: share of each, Jain's index, queue, drops\n");
    println!("| link | streams | shares | Jain | queue | drops |\n|---|---|---|---|---|---|");
    let (bbr, cubic, reno) =
        (CongestionControl::Bbr, CongestionControl::Cubic, CongestionControl::NewReno);
    for (streams, who) in [
        ("4 bbr", vec![bbr; 4]),
        ("4 cubic", vec![cubic; 4]),
        ("4 newreno", vec![reno; 4]),
        ("bbr, cubic", vec![bbr, cubic]),
        ("cubic, bbr", vec![cubic, bbr]),
        ("bbr, newreno", vec![bbr, reno]),
    ] {
        for buffer in [0.25, 1.0, 4.0] {
            let path = Path::new(100.0, 20, buffer, Loss::None);
            let (shares, f) = matrix::shared(&who, &path, Duration::from_secs(30));
            let each: Vec<String> = shares.iter().map(|x| format!("{:.0}", x * 100.0)).collect();
            println!(
                "| 100M 20ms, buffer {buffer} | {streams} | {} | {:.2} | {:.2} | {:.2} % |",
                each.join(" "),
                jain(&shares),
                f.queue,
                f.dropped * 100.0
            );
        }
    }
}

fn print_many() {
    println!("\n50 replies of 200 KiB at once, ms until half / 99 % / all are there\n");
    println!("| link | bbr | cubic | newreno |\n|---|---|---|---|");
    for (mbit, loss) in [1000.0, 100.0].into_iter().flat_map(|m| [0.0, 0.01, 0.03].map(|l| (m, l)))
    {
        let cells = CongestionControl::ALL.map(|congestion| {
            let path = Path::new(mbit, 20, 1.0, Loss::Random(loss));
            let [half, most, all] = matrix::many(congestion, &path, 50, 200 * 1024, 1);
            format!("{} / {} / {}", half.as_millis(), most.as_millis(), all.as_millis())
        });
        println!("| {mbit:.0}M 20ms, {:.0} % | {} |", loss * 100.0, cells.join(" | "));
    }
}
