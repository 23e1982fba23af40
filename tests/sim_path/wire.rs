//! Two streams, a path between them, and applications that write and check a known pattern. Made
//! for much data: the pattern is shared, not computed, and packets are not encoded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pilot_agent::proto::stream::{Outgoing, Segment, Stream, StreamConfig, StreamEvent};
use pilot_agent::wire::{Flags, SackBlocks};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// The stream's bytes repeat after so many: a prime, so that no mistake by a round number passes.
const PERIOD: usize = 262_139;

/// What an application that is not as fast as it can writes at a time.
const WRITE_BYTES: u64 = 60_000;

/// What an application writes: `at(offset)` can be had without copying.
pub(crate) struct Pattern(Bytes);

impl Pattern {
    pub(crate) fn new(rng: &mut StdRng) -> Self {
        let mut block = vec![0; PERIOD];
        rng.fill_bytes(&mut block);
        // Now and then, what begins a SACK payload.
        for at in (0..PERIOD - 8).step_by(997) {
            block[at..at + 5].copy_from_slice(b"SACK\x01");
        }
        block.extend_from_within(..);
        Self(block.into())
    }

    /// Up to `len` bytes of the stream from byte `offset` on; one call may return less.
    pub(crate) fn at(&self, offset: u64, len: usize) -> Bytes {
        let from = usize::try_from(offset % PERIOD as u64).expect("small");
        self.0.slice(from..from + len.min(PERIOD))
    }
}

/// What the path does. Probabilities from 0 to 1.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    pub(crate) latency: Duration,
    pub(crate) loss: f64,
    pub(crate) reorder: f64,
    pub(crate) duplicate: f64,
    /// Larger payloads are dropped.
    pub(crate) max_payload: u16,
}

/// How much one end writes in all, and how fast at most (bytes per second).
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) to_write: u64,
    pub(crate) rate: u64,
}

/// A packet on its way, ordered by its arrival.
type Packet = Reverse<(Instant, u64, usize, Load)>;

#[derive(PartialEq, Eq)]
struct Load(Outgoing, Vec<u8>);

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Load {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal // the number before it is unique
    }
}

pub(crate) struct Wire {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) ends: [Stream; 2],
    pub(crate) path: Path,
    pub(crate) written: [u64; 2],
    pub(crate) read: [u64; 2],
    plans: [Plan; 2],
    pattern: Pattern,
    packets: BinaryHeap<Packet>,
    sent: u64,
    spare: Vec<Vec<u8>>,
    rng: StdRng,
}

impl Wire {
    /// Two ends that are connected already.
    pub(crate) fn new(config: &Arc<StreamConfig>, path: Path, plans: [Plan; 2], seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut dialer = Stream::connect(now, config.clone());
        let mut buf = Vec::new();
        let syn = dialer.poll_transmit(now, &mut buf).expect("SYN");
        let listener = Stream::accept(now, config.clone(), &segment(&syn, &buf));
        let pattern = Pattern::new(&mut rng);
        Self {
            now,
            start: now,
            ends: [dialer, listener],
            path,
            written: [0; 2],
            read: [0; 2],
            plans,
            pattern,
            packets: BinaryHeap::new(),
            sent: 0,
            spare: Vec::new(),
            rng,
        }
    }

    /// Everything has been written, read and acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        (0..2).all(|end| {
            let all = self.plans[end].to_write;
            self.written[end] == all && self.read[1 - end] == all && self.ends[end].is_drained()
        })
    }

    /// Lets everything happen that can now, then moves to the next event, at most to `end`.
    pub(crate) fn step(&mut self, end: Instant) {
        for index in 0..2 {
            self.run_application(index);
        }
        for index in 0..2 {
            self.transmit(index);
        }
        let timeouts = self.ends.iter().filter_map(Stream::poll_timeout);
        let arrival = self.packets.peek().map(|Reverse((at, ..))| *at);
        let writes = (0..2).filter_map(|index| self.next_write(index));
        let next = timeouts.chain(arrival).chain(writes).min().unwrap_or(end);
        self.now = self.now.max(next.min(end));
        while self.packets.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to, Load(out, payload)))) = self.packets.pop() else { break };
            self.ends[to].handle_segment(self.now, &segment(&out, &payload));
            self.spare.push(payload);
        }
        for stream in &mut self.ends {
            stream.handle_timeout(self.now);
        }
    }

    fn run_application(&mut self, index: usize) {
        let (now, stream) = (self.now, &mut self.ends[index]);
        while let Some(event) = stream.poll_event() {
            assert!(!matches!(event, StreamEvent::Closed(_)), "{event:?} {:?}", stream.stats());
        }
        let elapsed = (now - self.start).as_secs_f64();
        let Plan { to_write, rate } = self.plans[index];
        let allowed = (rate as f64 * elapsed) as u64;
        // A write at a time, not a byte.
        let least =
            if rate < u64::MAX { WRITE_BYTES.min(to_write - self.written[index]) } else { 1 };
        let goal = to_write.min(allowed.max(least));
        while self.written[index] < goal && goal - self.written[index] >= least {
            let len = usize::try_from(goal - self.written[index]).unwrap_or(usize::MAX);
            let data = self.pattern.at(self.written[index], len);
            let len = data.len() as u64;
            if !stream.write_bytes(now, data).expect("open") {
                break;
            }
            self.written[index] += len;
        }
        while let Some(chunk) = stream.read_chunk(now, PERIOD).expect("open") {
            assert!(!chunk.is_empty(), "nobody has finished");
            let expected = self.pattern.at(self.read[index], chunk.len());
            assert!(chunk == expected, "wrong bytes at {}", self.read[index]);
            self.read[index] += chunk.len() as u64;
        }
    }

    /// When an application that is not as fast as it can writes again.
    fn next_write(&self, index: usize) -> Option<Instant> {
        let Plan { to_write, rate } = self.plans[index];
        (self.written[index] < to_write && rate < u64::MAX && self.ends[index].is_writable())
            .then(|| {
                let seconds = (self.written[index] + WRITE_BYTES + 1) as f64 / rate as f64;
                self.start + Duration::from_secs_f64(seconds)
            })
            .filter(|at| *at > self.now)
    }

    fn transmit(&mut self, from: usize) {
        loop {
            let mut buf = self.spare.pop().unwrap_or_default();
            buf.clear();
            let Some(out) = self.ends[from].poll_transmit(self.now, &mut buf) else {
                self.spare.push(buf);
                return;
            };
            self.check(from, &out, &buf);
            let path = self.path;
            let is_lost = self.rng.random_bool(path.loss);
            if is_lost || buf.len() > usize::from(path.max_payload) {
                self.spare.push(buf);
                continue;
            }
            if self.rng.random_bool(path.duplicate) {
                let copy = buf.clone();
                self.launch(1 - from, out, copy);
            }
            self.launch(1 - from, out, buf);
        }
    }

    fn launch(&mut self, to: usize, out: Outgoing, payload: Vec<u8>) {
        let late = self.rng.random_bool(self.path.reorder);
        let factor = if late { self.rng.random_range(1.0..3.0) } else { 1.0 };
        let at = self.now + self.path.latency.mul_f64(factor);
        self.sent += 1;
        self.packets.push(Reverse((at, self.sent, to, Load(out, payload))));
    }

    /// What must hold for every segment: its bytes are those of its number, and not too many.
    fn check(&self, from: usize, out: &Outgoing, payload: &[u8]) {
        let is_data = !payload.is_empty()
            && !out.flags.contains(Flags::SYN)
            && SackBlocks::parse(payload).is_none();
        if !is_data {
            return;
        }
        let stats = self.ends[from].stats();
        assert!(payload.len() <= usize::from(stats.max_payload), "{} bytes", payload.len());
        // The number's offset is near what was acknowledged.
        let near = stats.bytes_acked;
        let offset = out.seq.unwrap_near(near + 1).expect("a number in the window") - 1;
        let is_keepalive = payload == [0] && offset < near;
        if !is_keepalive {
            assert!(payload == self.pattern.at(offset, payload.len()), "wrong bytes at {offset}");
        }
    }

    pub(crate) fn describe(&self) -> String {
        let at = self.now - self.start;
        let stats = self.ends.each_ref().map(Stream::stats);
        format!("after {at:?}, written {:?}, read {:?}: {stats:#?}", self.written, self.read)
    }

    /// A random number from the schedule's seed.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    /// A random time of at most so many milliseconds.
    pub(crate) fn pick_ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(0..most))
    }
}

fn segment<'a>(out: &Outgoing, payload: &'a [u8]) -> Segment<'a> {
    let Outgoing { flags, seq, ack, window } = *out;
    Segment { flags, seq, ack, window, payload }
}
