//! Stories about streams: one end against hand-written segments, or two ends over a tiny link.

mod close;
mod flow;
mod garbage;
mod go;
mod handshake;
mod recovery;
mod timeouts;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::wire::Flags;
use crate::wire::options::StreamOptions;

const MS: Duration = Duration::from_millis(1);
const SYN: Flags = Flags::SYN;
const ACK: Flags = Flags::ACK;
const FIN: Flags = Flags::FIN;
const RST: Flags = Flags::RST;
const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);
const FIN_ACK: Flags = Flags::FIN.with(Flags::ACK);

/// A segment with its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    flags: Flags,
    seq: u32,
    ack: u32,
    window: u16,
    payload: Vec<u8>,
}

impl Sent {
    fn new(flags: Flags, seq: u32, ack: u32, window: u16, payload: &[u8]) -> Self {
        Self { flags, seq, ack, window, payload: payload.to_vec() }
    }

    fn is_data(&self) -> bool {
        !self.payload.is_empty()
            && !self.flags.contains(SYN)
            && crate::wire::SackBlocks::parse(&self.payload).is_none()
    }
}

fn config() -> Arc<StreamConfig> {
    Arc::new(StreamConfig::default())
}

/// For what RFC 5681 and its kin say in numbers.
fn reno() -> Arc<StreamConfig> {
    Arc::new(StreamConfig { congestion: CongestionControl::NewReno, ..StreamConfig::default() })
}

fn transmit(stream: &mut Stream, now: Instant) -> Option<Sent> {
    let mut buf = Vec::new();
    let out = stream.poll_transmit(now, &mut buf)?;
    Some(Sent::new(out.flags, out.seq.0, out.ack.0, out.window, &buf))
}

fn drain(stream: &mut Stream, now: Instant) -> Vec<Sent> {
    std::iter::from_fn(|| transmit(stream, now)).collect()
}

fn feed(stream: &mut Stream, now: Instant, sent: &Sent) {
    let Sent { flags, seq, ack, window, ref payload } = *sent;
    stream.handle_segment(now, &Segment { flags, seq: Seq(seq), ack: Seq(ack), window, payload });
}

fn events(stream: &mut Stream) -> Vec<StreamEvent> {
    std::iter::from_fn(|| stream.poll_event()).collect()
}

fn read_all(stream: &mut Stream, now: Instant) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = [0; 10_000];
    while let Ok(Some(n)) = stream.read(now, &mut buf) {
        if n == 0 {
            break;
        }
        all.extend_from_slice(&buf[..n]);
    }
    all
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

/// A stream that has accepted a Go node's SYN; its SYN-ACK is out.
fn accepted_from_go(now: Instant, config: Arc<StreamConfig>) -> Stream {
    let syn = Segment { flags: SYN, seq: Seq(0), ack: Seq(0), window: 512, payload: &[] };
    let mut stream = Stream::accept(now, config, &syn);
    assert_eq!(drain(&mut stream, now), [Sent::new(SYN_ACK, 0, 1, 512, &[])]);
    stream
}

/// A stream that has accepted one of our nodes' SYN; its SYN-ACK is out.
fn accepted_from_native(now: Instant, config: Arc<StreamConfig>) -> Stream {
    let mut payload = Vec::new();
    StreamOptions { window_shift: 7, ..StreamConfig::default().options() }.encode(&mut payload);
    let syn = Segment { flags: SYN, seq: Seq(0), ack: Seq(0), window: 512, payload: &payload };
    let mut stream = Stream::accept(now, config, &syn);
    let answer = drain(&mut stream, now);
    assert_eq!((answer.len(), answer[0].flags), (1, SYN_ACK));
    stream
}

type Filter = Box<dyn FnMut(&Sent) -> bool>;

/// Two ends, a clock, and a link of constant latency that loses what a filter says.
struct Pair {
    now: Instant,
    ends: [Stream; 2],
    latency: Duration,
    link: VecDeque<(Instant, usize, Sent)>,
    lose: [Filter; 2],
    log: Vec<(Instant, usize, Sent)>,
}

impl Pair {
    /// A dialer (end 0), its SYN not yet sent, and a stream (end 1) that accepts it.
    fn new(config: &Arc<StreamConfig>) -> Self {
        let now = Instant::now();
        let mut dialer = Stream::connect(now, config.clone());
        let syn = transmit(&mut dialer, now).unwrap();
        let segment = Segment {
            flags: SYN,
            seq: Seq(0),
            ack: Seq(0),
            window: syn.window,
            payload: &syn.payload,
        };
        let listener = Stream::accept(now, config.clone(), &segment);
        let lose: [Filter; 2] = [Box::new(|_| false), Box::new(|_| false)];
        let ends = [dialer, listener];
        let mut pair =
            Self { now, ends, latency: 20 * MS, link: VecDeque::new(), lose, log: Vec::new() };
        pair.run_for(100 * MS);
        assert_eq!(pair.ends[0].state(), State::Established);
        assert_eq!(pair.ends[1].state(), State::Established);
        pair.log.clear();
        pair.ends.iter_mut().for_each(|end| drop(events(end)));
        pair
    }

    fn pump(&mut self) {
        for from in 0..2 {
            while let Some(sent) = transmit(&mut self.ends[from], self.now) {
                if !(self.lose[from])(&sent) {
                    self.link.push_back((self.now + self.latency, 1 - from, sent.clone()));
                }
                self.log.push((self.now, from, sent));
            }
        }
    }

    /// Moves to the next thing that happens, at most to `end`. `false` if nothing does before.
    fn step(&mut self, end: Instant) -> bool {
        self.pump();
        let timeouts = self.ends.iter().filter_map(Stream::poll_timeout);
        let arrival = self.link.front().map(|(at, ..)| *at);
        let Some(next) = timeouts.chain(arrival).min().filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        while self.link.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, to, sent) = self.link.pop_front().unwrap();
            feed(&mut self.ends[to], self.now, &sent);
        }
        self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now));
        self.pump();
        true
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Writes `data` at end `from`, as there is room, and reads it at the other; returns how long
    /// it took.
    fn transfer(&mut self, from: usize, data: &[u8]) -> Duration {
        let (start, mut written, mut got) = (self.now, 0, Vec::new());
        let end = start + Duration::from_secs(600);
        while got.len() < data.len() {
            written += self.ends[from].write(self.now, &data[written..]).unwrap();
            assert!(self.step(end), "stalled after {} bytes", got.len());
            got.extend(read_all(&mut self.ends[1 - from], self.now));
        }
        assert!(got == data);
        let took = self.now - start;
        self.run_for(100 * MS);
        took
    }

    fn sent_by(&self, end: usize) -> Vec<&Sent> {
        self.log.iter().filter(|(_, from, _)| *from == end).map(|(.., sent)| sent).collect()
    }
}

/// Loses the first segment, from either end, that `which` picks.
fn lose_once(mut which: impl FnMut(&Sent) -> bool + 'static) -> Filter {
    let mut done = false;
    Box::new(move |sent| {
        let lose = !done && which(sent);
        done |= lose;
        lose
    })
}
