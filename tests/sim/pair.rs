//! Two ends, two links and a clock that jumps from event to event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{Outgoing, Segment, Stream, StreamConfig};
use pilot_agent::wire::packet::HEADER_LEN;
use pilot_agent::wire::{Addr, Header, NodeId, Packet, Protocol};
use rand::RngExt;
use rand::rngs::StdRng;

use super::end::{End, Plan};
use super::go_peer::GoPeer;
use super::link::{Link, LinkParams};

/// Virtual time after which a schedule counts as stalled.
const TOO_LONG: Duration = Duration::from_secs(3 * 3600);

/// Either kind of end.
pub(crate) enum Side {
    Ours(Box<End>),
    /// A listener that waits for the first SYN.
    Listening(Arc<StreamConfig>, Plan),
    Go(Box<GoPeer>),
}

/// A schedule being played.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) sides: [Side; 2],
    links: [Link; 2],
    rng: StdRng,
    trace: bool,
}

impl Pair {
    /// Side 0 dials side 1.
    pub(crate) fn new(
        sides: [Side; 2],
        params: [LinkParams; 2],
        now: Instant,
        mut rng: StdRng,
    ) -> Self {
        let links =
            params.map(|params| Link::new(now, LinkParams { seed: rng.random(), ..params }));
        let trace = std::env::var_os("PILOT_SIM_TRACE").is_some();
        Self { now, start: now, sides, links, rng, trace }
    }

    /// Plays until both ends are done and forgotten.
    pub(crate) fn play(&mut self) {
        let mut steps = 0u64;
        while self.step() {
            steps += 1;
            assert!(self.now - self.start < TOO_LONG, "stalled: {}", self.describe());
            assert!(steps < 3_000_000, "live-locked: {}", self.describe());
        }
        for side in &self.sides {
            if let Side::Ours(end) = side {
                assert!(end.stream.is_finished(), "asleep: {}", end.describe(self.now));
                let at_rest = end.stream.stats().in_flight == 0;
                assert!(at_rest && end.stream.poll_timeout().is_none());
            }
        }
    }

    /// Plays to the next event; `false` if there is none.
    pub(crate) fn step(&mut self) -> bool {
        self.run_applications();
        self.transmit();
        let Some(next) = self.next_event() else { return false };
        self.now = self.now.max(next);
        for to in 0..2 {
            while let Some(bytes) = self.links[1 - to].receive(self.now) {
                self.deliver(to, &bytes);
            }
        }
        for side in &mut self.sides {
            match side {
                Side::Ours(end) => end.stream.handle_timeout(self.now),
                Side::Go(peer) => peer.handle_timeout(self.now),
                Side::Listening(..) => {}
            }
        }
        true
    }

    fn run_applications(&mut self) {
        for side in &mut self.sides {
            match side {
                Side::Ours(end) => end.run(self.now, &mut self.rng),
                Side::Go(peer) => peer.run(self.now),
                Side::Listening(..) => {}
            }
        }
    }

    fn transmit(&mut self) {
        let mut buf = Vec::new();
        for from in 0..2 {
            loop {
                buf.clear();
                buf.resize(HEADER_LEN, 0);
                let mut payload = Vec::new();
                let out = match &mut self.sides[from] {
                    Side::Ours(end) => end.transmit(self.now, &mut payload),
                    Side::Go(peer) => peer.transmit(&mut payload),
                    Side::Listening(..) => None,
                };
                let Some(out) = out else { break };
                if self.trace {
                    let at = self.now - self.start;
                    println!("{at:?} {from} {out:?} +{}", payload.len());
                }
                buf.extend_from_slice(&payload);
                header(&out, from).encode(&mut buf).expect("a packet of legal size");
                self.links[from].send(self.now, buf.clone());
            }
            if let Side::Ours(end) = &mut self.sides[from]
                && self.rng.random_bool(0.1)
            {
                end.check_spurious_timeout(self.now);
            }
        }
    }

    /// What the checksum does not vouch for never reaches a stream.
    fn deliver(&mut self, to: usize, bytes: &[u8]) {
        let Ok(Packet { header, payload }) = Packet::parse(bytes) else { return };
        let segment = Segment {
            flags: header.flags,
            seq: header.seq,
            ack: header.ack,
            window: header.window,
            payload,
        };
        match &mut self.sides[to] {
            Side::Ours(end) => end.receive(self.now, &segment),
            Side::Go(peer) => peer.receive(self.now, &segment),
            Side::Listening(config, plan) => {
                if segment.flags == pilot_agent::wire::Flags::SYN {
                    let stream = Stream::accept(self.now, config.clone(), &segment);
                    let end = End::new(self.now, to, stream, *plan);
                    self.sides[to] = Side::Ours(Box::new(end));
                }
            }
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let links = self.links.iter().filter_map(Link::next_arrival);
        let sides = self.sides.iter().filter_map(|side| match side {
            Side::Ours(end) => {
                let action = end.next_action(self.now);
                [end.stream.poll_timeout(), action].into_iter().flatten().min()
            }
            Side::Go(peer) => peer.next_timeout(self.now),
            Side::Listening(..) => None,
        });
        links.chain(sides).min()
    }

    pub(crate) fn describe(&self) -> String {
        let sides = self.sides.each_ref().map(|side| match side {
            Side::Ours(end) => end.describe(self.now),
            Side::Go(peer) => format!("{peer:?}").chars().take(600).collect(),
            Side::Listening(..) => "listening".to_owned(),
        });
        format!("{sides:#?}")
    }

    /// The ends of ours that were opened.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &End> {
        self.sides.iter().filter_map(|side| match side {
            Side::Ours(end) => Some(&**end),
            _ => None,
        })
    }
}

fn header(out: &Outgoing, from: usize) -> Header {
    let node = |index: usize| Addr::global(NodeId(index as u32 + 1));
    Header {
        flags: out.flags,
        protocol: Protocol::Stream,
        src: node(from),
        dst: node(1 - from),
        src_port: 49_152,
        dst_port: 1000,
        seq: out.seq,
        ack: out.ack,
        window: out.window,
    }
}
