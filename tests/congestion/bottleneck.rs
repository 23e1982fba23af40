//! Streams that share a bottleneck, in virtual time: the very code of the product between a queue
//! of limited rate and length, a delay, and loss with a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pilot_agent::proto::stream::{
    CongestionControl, Macroflow, Outgoing, Segment, Stream, StreamConfig,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Bytes of a datagram that are not payload: IPv4, UDP, seal, packet header.
pub(crate) const OVERHEAD: u64 = 98;
/// Payload of a full segment on a path of 1,500 bytes.
pub(crate) const PAYLOAD: u16 = 1400;
/// Timers of a driver are good to a millisecond.
const TIMER: Duration = Duration::from_millis(1);

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How packets are lost, queue overflow apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Loss {
    None,
    /// Each for itself, with this probability.
    Random(f64),
    /// So many of all, five at a time on average (Gilbert).
    Bursts(f64),
}

/// A path, the same in both directions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// Bits per second.
    pub(crate) rate: f64,
    /// Round trip without queue.
    pub(crate) rtt: Duration,
    /// Bytes that may wait, in bandwidth-delay products.
    pub(crate) buffer: f64,
    pub(crate) loss: Loss,
    /// Packets arrive at multiples of this only, as over radio links that send in aggregates.
    pub(crate) bunch: Duration,
    /// Every 20 ms, nothing arrives for so long: the process that receives is put aside.
    pub(crate) pause: Duration,
}

const PAUSE_EVERY: Duration = Duration::from_millis(20);

impl Path {
    pub(crate) fn new(mbit: f64, rtt_ms: u64, buffer: f64, loss: Loss) -> Self {
        let rtt = Duration::from_millis(rtt_ms);
        Self { rate: mbit * 1e6, rtt, buffer, loss, bunch: Duration::ZERO, pause: Duration::ZERO }
    }

    /// Two processes on one machine: 2 GB/s, 50 us, and a socket's buffer of so many bytes.
    pub(crate) fn loopback(buffer: u32, pause: Duration) -> Self {
        let rtt = Duration::from_micros(50);
        Self { rtt, pause, ..Self::new(16_000.0, 0, f64::from(buffer) / 100e3, Loss::None) }
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    path: Path,
    rng: StdRng,
    in_burst: bool,
    start: Instant,
    free_at: Instant,
    /// Sum of waiting times, packets that waited, packets dropped for lack of room.
    waited: Duration,
    passed: u64,
    dropped: u64,
}

impl Lane {
    /// When a datagram of `len` bytes arrives, if it does.
    fn send(&mut self, now: Instant, len: u64) -> Option<Instant> {
        let is_lost = match self.path.loss {
            Loss::None => false,
            Loss::Random(p) => self.rng.random_bool(p),
            Loss::Bursts(p) => {
                // Bursts of five: left with 1/5, entered so that the share is right.
                let turn = if self.in_burst { 0.2 } else { 0.2 * p / (1.0 - p) };
                self.in_burst ^= self.rng.random_bool(turn);
                self.in_burst
            }
        };
        if is_lost {
            return None;
        }
        let rate = self.path.rate / 8.0;
        let waits = self.free_at.saturating_duration_since(now);
        let most = (self.path.buffer * self.path.rtt.as_secs_f64() * rate).max(10_000.0);
        if waits.as_secs_f64() * rate + len as f64 > most {
            self.dropped += 1;
            return None;
        }
        self.waited += waits;
        self.passed += 1;
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(len as f64 / rate);
        let at = self.free_at + self.path.rtt / 2;
        let since = |every: Duration| {
            Duration::from_nanos(((at - self.start).as_nanos() % every.as_nanos()) as u64)
        };
        if !self.path.bunch.is_zero() {
            return Some(at + self.path.bunch - since(self.path.bunch));
        }
        Some(at + self.path.pause.saturating_sub(since(PAUSE_EVERY)))
    }
}

/// What a dialer and the one it dials do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) congestion: CongestionControl,
    pub(crate) start: Duration,
    /// Bytes the dialer writes, before it says that this is all.
    pub(crate) request: u64,
    /// Bytes the other writes when it has read them.
    pub(crate) reply: u64,
}

impl Job {
    /// Sends for ever.
    pub(crate) fn bulk(congestion: CongestionControl) -> Self {
        Self { congestion, start: Duration::ZERO, request: u64::MAX, reply: 0 }
    }
}

/// A job being done.
pub(crate) struct Flow {
    job: Job,
    config: Arc<StreamConfig>,
    pub(crate) ends: [Option<Stream>; 2],
    left: [u64; 2],
    has_finished: [bool; 2],
    /// Bytes read at either end.
    pub(crate) read: [u64; 2],
    /// When the dialer had read all.
    pub(crate) done_at: Option<Instant>,
}

impl Flow {
    fn run(&mut self, now: Instant) {
        for side in 0..2 {
            let may_write = side == 0 || self.read[1] == self.job.request;
            let Some(stream) = &mut self.ends[side] else { continue };
            while stream.poll_event().is_some() {}
            while let Ok(Some(chunk)) = stream.read_chunk(now, usize::MAX) {
                if chunk.is_empty() {
                    break;
                }
                self.read[side] += chunk.len() as u64;
            }
            while may_write && self.left[side] > 0 {
                let len = self.left[side].min(ZEROS.len() as u64) as usize;
                let piece = Bytes::from_static(&ZEROS[..len]);
                if !stream.write_bytes(now, piece).expect("nobody closes early") {
                    break;
                }
                self.left[side] -= len as u64;
            }
            if may_write && self.left[side] == 0 && !self.has_finished[side] {
                self.has_finished[side] = true;
                stream.finish(now).expect("both are ours");
            }
        }
        if self.done_at.is_none() && self.read == [self.job.reply, self.job.request] {
            self.done_at = Some(now);
        }
    }
}

struct Packet {
    flow: usize,
    to: usize,
    header: Outgoing,
    payload: Vec<u8>,
}

/// The simulation.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) flows: Vec<Flow>,
    lanes: [Lane; 2],
    /// Arrivals by time; the packet's slot breaks ties in the order of sending.
    arrivals: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    packets: Vec<Option<Packet>>,
    free: Vec<usize>,
    spare: Vec<Vec<u8>>,
    sent: u64,
    /// What the endpoints know of the path from earlier streams.
    pub(crate) known_rtt: Option<Duration>,
    /// What the streams of a side share, if they do, and the line of those that are held.
    shared: Option<[Macroflow; 2]>,
    held: [VecDeque<usize>; 2],
}

impl World {
    pub(crate) fn new(path: Path, jobs: &[Job], seed: u64) -> Self {
        let now = Instant::now();
        let lane = |n: u64| Lane {
            path,
            rng: StdRng::seed_from_u64(seed * 2 + n),
            in_burst: false,
            start: now,
            free_at: now,
            waited: Duration::ZERO,
            passed: 0,
            dropped: 0,
        };
        // Windows that are never in the way.
        let bytes = (path.rate / 8.0 * path.rtt.as_secs_f64()) as usize * 8 + (4 << 20);
        let flow = |job: &Job| Flow {
            job: *job,
            config: Arc::new(StreamConfig {
                congestion: job.congestion,
                max_payload: PAYLOAD,
                send_buffer: bytes,
                recv_buffer: bytes,
                ..StreamConfig::default()
            }),
            ends: [None, None],
            left: [job.request, job.reply],
            has_finished: [false; 2],
            read: [0; 2],
            done_at: None,
        };
        Self {
            now,
            start: now,
            flows: jobs.iter().map(flow).collect(),
            lanes: [lane(0), lane(1)],
            arrivals: BinaryHeap::new(),
            packets: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            sent: 0,
            known_rtt: None,
            shared: None,
            held: [VecDeque::new(), VecDeque::new()],
        }
    }

    /// Streams share what endpoints make them share.
    pub(crate) fn share(&mut self, congestion: CongestionControl) {
        let flow = || Macroflow::new(self.now, congestion, PAYLOAD);
        self.shared = Macroflow::is_for(congestion).then(|| [flow(), flow()]);
    }

    /// Plays for so long, or until every job is done.
    pub(crate) fn play(&mut self, time: Duration) {
        let end = self.now + time;
        for flow in 0..self.flows.len() {
            self.attend(flow);
        }
        while self.flows.iter().any(|flow| flow.done_at.is_none()) {
            let arrival = self.arrivals.peek().map(|Reverse((at, ..))| *at);
            let timer = self.flows.iter().filter_map(|flow| self.next_timer(flow)).min();
            let resume = (0..2).filter_map(|side| self.next_resume(side)).min();
            let Some(next) = [arrival, timer, resume].into_iter().flatten().min() else { break };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            while let Some(Reverse((at, _, slot))) = self.arrivals.peek().copied()
                && at <= self.now
            {
                self.arrivals.pop();
                self.deliver(slot);
            }
            (0..2).for_each(|side| self.resume(side));
            if timer.is_some_and(|at| at <= self.now) {
                for flow in 0..self.flows.len() {
                    if self.next_timer(&self.flows[flow]).is_some_and(|at| at <= self.now) {
                        self.attend(flow);
                    }
                }
            }
        }
        self.now = self.now.max(end);
    }

    /// When a driver would let those that are held go on.
    fn next_resume(&self, side: usize) -> Option<Instant> {
        let flow = &self.shared.as_ref()?[side];
        self.held[side].front().and(flow.resume_at()).map(|at| self.tick(at))
    }

    /// The next millisecond.
    fn tick(&self, at: Instant) -> Instant {
        let since = at.saturating_duration_since(self.start).as_nanos();
        let ticks = since.div_ceil(TIMER.as_nanos());
        self.start + TIMER * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// When a driver would next look after the flow: at the next millisecond.
    fn next_timer(&self, flow: &Flow) -> Option<Instant> {
        if flow.ends[0].is_none() {
            return Some(self.start + flow.job.start);
        }
        let due = flow.ends.iter().flatten().filter_map(Stream::poll_timeout).min()?;
        Some(self.tick(due))
    }

    /// Timers, application, and whatever is to be sent then.
    fn attend(&mut self, index: usize) {
        let (now, flow) = (self.now, &mut self.flows[index]);
        if flow.ends[0].is_none() && now >= self.start + flow.job.start {
            let mut stream = Stream::connect(now, flow.config.clone());
            if let Some([flow, _]) = &self.shared {
                stream.share(now, flow);
            }
            if let Some(rtt) = self.known_rtt {
                stream.expect_rtt(rtt);
            }
            flow.ends[0] = Some(stream);
        }
        flow.ends.iter_mut().flatten().for_each(|stream| stream.handle_timeout(now));
        flow.run(now);
        self.transmit(index);
    }

    fn transmit(&mut self, index: usize) {
        for from in 0..2 {
            self.transmit_from(index, from);
            self.resume(from);
        }
    }

    /// Those that are held go on, in the order in which they came.
    fn resume(&mut self, side: usize) {
        while let Some(flow) = &self.shared
            && flow[side].has_room(self.now)
            && let Some(index) = self.held[side].pop_front()
        {
            self.transmit_from(index, side);
        }
    }

    fn transmit_from(&mut self, index: usize, from: usize) {
        while let Some(stream) = &mut self.flows[index].ends[from] {
            let mut payload = self.spare.pop().unwrap_or_default();
            payload.clear();
            let Some(header) = stream.poll_transmit(self.now, &mut payload) else {
                if stream.is_held() && !self.held[from].contains(&index) {
                    self.held[from].push_back(index);
                }
                self.spare.push(payload);
                break;
            };
            let len = payload.len() as u64 + OVERHEAD;
            let Some(at) = self.lanes[from].send(self.now, len) else {
                self.spare.push(payload);
                continue;
            };
            let packet = Packet { flow: index, to: 1 - from, header, payload };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.packets.push(None);
                self.packets.len() - 1
            });
            self.packets[slot] = Some(packet);
            self.sent += 1;
            self.arrivals.push(Reverse((at, self.sent, slot)));
        }
    }

    fn deliver(&mut self, slot: usize) {
        let Some(packet) = self.packets[slot].take() else { return };
        self.free.push(slot);
        let flow = &mut self.flows[packet.flow];
        let Outgoing { flags, seq, ack, window } = packet.header;
        let segment = Segment { flags, seq, ack, window, payload: &packet.payload };
        match &mut flow.ends[packet.to] {
            Some(stream) => stream.handle_segment(self.now, &segment),
            // Early data that overtakes a lost SYN is dropped, as the endpoint does.
            None if flags == pilot_agent::wire::Flags::SYN => {
                let mut stream = Stream::accept(self.now, flow.config.clone(), &segment);
                if let Some([_, flow]) = &self.shared {
                    stream.share(self.now, flow);
                }
                if let Some(rtt) = self.known_rtt {
                    stream.expect_rtt(rtt);
                }
                flow.ends[1] = Some(stream);
            }
            None => {}
        }
        self.spare.push(packet.payload);
        flow.run(self.now);
        self.transmit(packet.flow);
    }

    /// Mean time that packets from the dialers waited in the queue, and the share that found no
    /// room in it; since the last call.
    pub(crate) fn queue(&mut self) -> (Duration, f64) {
        let lane = &mut self.lanes[0];
        let passed = lane.passed.max(1);
        let mean = lane.waited.div_f64(passed as f64);
        let dropped = lane.dropped as f64 / (lane.dropped + passed) as f64;
        (lane.waited, lane.passed, lane.dropped) = (Duration::ZERO, 0, 0);
        (mean, dropped)
    }
}

/// The share of the link that `bytes` of payload in `time` took, headers included.
pub(crate) fn utilisation(path: &Path, bytes: u64, time: Duration) -> f64 {
    let wire = bytes as f64 * (1.0 + OVERHEAD as f64 / f64::from(PAYLOAD));
    wire * 8.0 / time.as_secs_f64() / path.rate
}

/// Jain's index: 1 if all have the same, 1/n if one has all.
pub(crate) fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    sum * sum / (shares.len() as f64 * squares)
}
