//! The simulated world: two hosts, a link, an attacker who sees and sends everything.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::tunnel::{LocalKeys, Tunnel, TunnelConfig, TunnelEvent};
use pilot_agent::wire::tunnel::{
    AuthFrame, KeyFrame, SEALED_HEADER_LEN, SEALED_OVERHEAD, SealedHeader, TunnelFrame,
    auth_signed_bytes,
};
use pilot_agent::wire::{Addr, Flags, Header, NodeId, Packet, Protocol, Seq};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// How a link treats datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
}

impl Link {
    pub(crate) const PERFECT: Self = Self {
        latency: Duration::from_millis(5),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplication: 0.0,
    };
}

/// What happens during the disturbed part of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) disturbed_for: Duration,
    pub(crate) restarts: u32,
    pub(crate) rekeys: u32,
    pub(crate) attacks: u32,
    /// Which of the two wants keys by itself; the other one only listens.
    pub(crate) dialers: [bool; 2],
}

impl Plan {
    pub(crate) const QUIET: Self = Self {
        disturbed_for: Duration::ZERO,
        restarts: 0,
        rekeys: 0,
        attacks: 0,
        dialers: [true, false],
    };
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// From the last disturbance until both had received a packet sent after it.
    pub(crate) converged_after: Duration,
    /// The longest time in which a host received nothing, after its first packet.
    pub(crate) longest_gap: Duration,
    /// Packets sent after the first ones had arrived on both sides, and lost; without restarts.
    pub(crate) lost_once_confirmed: usize,
    pub(crate) restarts_reported: usize,
    pub(crate) rekeys_reported: usize,
    pub(crate) attacks: usize,
}

enum Event {
    Deliver { to: usize, bytes: Vec<u8> },
    Send(usize),
    PeerKey { host: usize, life: u32 },
    Restart(usize),
    Rekey(usize),
    Attack,
}

/// A packet of the application: from which life of its sender, and which number.
type Mark = (u32, u32);

struct Host {
    local: LocalKeys,
    identity: Arc<Identity>,
    tunnel: Tunnel,
    dials: bool,
    life: u32,
    next_number: u32,
    /// When each packet was sent.
    sent: BTreeMap<Mark, Duration>,
    /// What arrived in this life, and when.
    received: BTreeMap<Mark, Duration>,
    last_received: Option<Duration>,
    /// The peer's life, by its packets; unknown after a reported restart.
    peer_life: Option<u32>,
    /// Lives of the peer that are over.
    over: u32,
    nonces: BTreeSet<([u8; 4], u64)>,
}

pub(crate) struct World {
    start: Instant,
    now: Duration,
    link: Link,
    plan: Plan,
    rng: StdRng,
    config: Arc<TunnelConfig>,
    hosts: [Host; 2],
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    captured: Vec<(usize, Vec<u8>)>,
    traces: bool,
    last_disturbance: Duration,
    report: Report,
}

fn host(id: u32, dials: bool, config: &Arc<TunnelConfig>, rng: &mut StdRng) -> Host {
    let identity = Arc::new(Identity::generate(rng));
    let node = NodeId(id);
    Host {
        local: LocalKeys::new(node, identity.clone()),
        identity,
        tunnel: Tunnel::new(NodeId(3 - id), config.clone(), rng),
        dials,
        life: 1,
        next_number: 0,
        sent: BTreeMap::new(),
        received: BTreeMap::new(),
        last_received: None,
        peer_life: None,
        over: 0,
        nonces: BTreeSet::new(),
    }
}

impl World {
    pub(crate) fn new(seed: u64, link: Link, plan: &Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let config = Arc::new(TunnelConfig::default());
        let hosts =
            [1, 2].map(|id: u32| host(id, plan.dialers[id as usize - 1], &config, &mut rng));
        let mut world = Self {
            start: Instant::now(),
            now: Duration::ZERO,
            link,
            plan: *plan,
            rng,
            config,
            hosts,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            captured: Vec::new(),
            traces: std::env::var_os("PILOT_SIM_TRACE").is_some(),
            last_disturbance: Duration::ZERO,
            report: Report::default(),
        };
        world.schedule(Duration::ZERO, Event::Send(0));
        world.schedule(Duration::from_millis(1), Event::Send(1));
        for _ in 0..plan.restarts {
            let (at, host) = (world.some_time(), world.rng.random_range(0..2));
            world.last_disturbance = world.last_disturbance.max(at);
            world.schedule(at, Event::Restart(host));
        }
        for _ in 0..plan.rekeys {
            let (at, host) = (world.some_time(), world.rng.random_range(0..2));
            world.schedule(at, Event::Rekey(host));
            if world.rng.random_bool(0.3) {
                world.schedule(at + Duration::from_millis(3), Event::Rekey(1 - host));
            }
        }
        for _ in 0..plan.attacks {
            let at = world.some_time();
            world.last_disturbance = world.last_disturbance.max(at);
            world.schedule(at, Event::Attack);
        }
        world
    }

    /// Runs the disturbed part and `calm` after it, and checks what must always hold.
    pub(crate) fn run(mut self, calm: Duration) -> Report {
        let end = self.plan.disturbed_for + calm;
        while let Some(at) = self.next_time().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            for index in 0..2 {
                if self.timeout_of(index).is_some_and(|at| at <= self.now) {
                    let now = self.instant();
                    self.hosts[index].tunnel.handle_timeout(now);
                    self.drain(index);
                    let again = self.timeout_of(index);
                    assert!(again.is_none_or(|at| at > self.now), "timer spins: {again:?}");
                }
            }
            while let Some(Reverse((at, id))) = self.queue.peek().copied() {
                if at > self.now {
                    break;
                }
                self.queue.pop();
                let event = self.events.remove(&id).unwrap();
                self.handle(event);
            }
        }
        self.finish(end)
    }

    fn handle(&mut self, event: Event) {
        let now = self.instant();
        match event {
            Event::Deliver { to, bytes } => self.deliver(to, bytes),
            Event::Send(index) => {
                let host = &mut self.hosts[index];
                if host.tunnel.is_ready() {
                    let mark = (host.life, host.next_number);
                    host.next_number += 1;
                    host.sent.insert(mark, self.now);
                    self.send_packet(index, Protocol::Datagram, Flags::NONE, &encode(mark));
                } else if host.dials {
                    host.tunnel.start(now);
                }
                self.drain(index);
                let pause = Duration::from_millis(self.rng.random_range(20..80));
                self.schedule(self.now + pause, Event::Send(index));
            }
            Event::PeerKey { host, life } => {
                let key = self.hosts[1 - host].identity.public_key();
                if self.hosts[host].life == life {
                    self.hosts[host].tunnel.set_peer_key(now, key);
                    self.drain(host);
                }
            }
            Event::Restart(index) => {
                self.trace(format_args!("host {index} restarts"));
                let tunnel =
                    Tunnel::new(NodeId(2 - index as u32), self.config.clone(), &mut self.rng);
                let host = &mut self.hosts[index];
                host.tunnel = tunnel;
                host.life += 1;
                host.next_number = 0;
                host.received.clear();
                host.peer_life = None;
                host.over = 0;
                host.nonces.clear();
            }
            Event::Rekey(index) => {
                self.trace(format_args!("host {index} rekeys"));
                self.hosts[index].tunnel.rekey(now);
                self.drain(index);
            }
            Event::Attack => self.attack(),
        }
    }

    fn deliver(&mut self, to: usize, mut bytes: Vec<u8>) {
        let now = self.instant();
        let host = &mut self.hosts[to];
        match TunnelFrame::parse(&bytes) {
            Ok(TunnelFrame::Auth(frame)) => {
                let _ = host.tunnel.handle_key_exchange(now, &host.local, &frame);
            }
            Ok(TunnelFrame::Key(frame)) => {
                let _ = host.tunnel.handle_key_request(now, &frame);
            }
            Ok(TunnelFrame::Sealed { .. }) => {
                if let Ok(packet) = host.tunnel.open_in_place(now, &mut bytes) {
                    let packet = packet.to_vec();
                    // First the events: a restart is reported before what follows it.
                    self.drain(to);
                    self.receive(to, &packet);
                }
            }
            _ => {}
        }
        self.drain(to);
    }

    fn receive(&mut self, to: usize, bytes: &[u8]) {
        let packet = Packet::parse(bytes).expect("what opens is a packet");
        assert_eq!(packet.src_node(), self.hosts[1 - to].local.node(), "a foreign packet");
        match packet.header.protocol {
            Protocol::Control if packet.header.flags == Flags::NONE => {
                let payload = packet.payload.to_vec();
                self.send_packet(to, Protocol::Control, Flags::ACK, &payload);
            }
            Protocol::Datagram => self.receive_mark(to, decode(packet.payload)),
            _ => {}
        }
    }

    fn receive_mark(&mut self, to: usize, mark: Mark) {
        let now = self.now;
        let host = &mut self.hosts[to];
        let before = host.received.insert(mark, now);
        assert_eq!(before, None, "packet {mark:?} delivered twice");
        let life = *host.peer_life.get_or_insert(mark.0);
        assert_eq!(mark.0, life, "a restart of the peer was not reported, or an old life returns");
        assert!(life > host.over, "a restart was reported that was none");
        if let Some(last) = host.last_received {
            self.report.longest_gap = self.report.longest_gap.max(now - last);
        }
        host.last_received = Some(now);
    }

    /// Sends what the host has to send, and does what its tunnel wants done.
    fn drain(&mut self, index: usize) {
        let now = self.instant();
        loop {
            let host = &mut self.hosts[index];
            if let Some(frame) = host.tunnel.poll_handshake(now, &host.local) {
                self.transmit(index, frame.bytes);
                continue;
            }
            let event = host.tunnel.poll_event();
            if let Some(event) = &event {
                self.trace(format_args!("host {index}: {event:?} {:?}", self.hosts[index].tunnel));
            }
            match event {
                None => break,
                Some(TunnelEvent::NeedPeerKey) => {
                    let life = self.hosts[index].life;
                    let at = self.now + Duration::from_millis(self.rng.random_range(1..20));
                    self.schedule(at, Event::PeerKey { host: index, life });
                }
                Some(TunnelEvent::PeerRestarted) => {
                    let host = &mut self.hosts[index];
                    host.over = host.peer_life.take().unwrap_or(host.over);
                    host.received.clear();
                    self.report.restarts_reported += 1;
                }
                Some(TunnelEvent::Rekeyed) => self.report.rekeys_reported += 1,
                Some(_) => {}
            }
        }
    }

    fn send_packet(&mut self, index: usize, protocol: Protocol, flags: Flags, payload: &[u8]) {
        let now = self.instant();
        let host = &mut self.hosts[index];
        let mut frame = vec![0; SEALED_HEADER_LEN + 34];
        frame.extend_from_slice(payload);
        let header = Header {
            flags,
            protocol,
            src: Addr::global(host.local.node()),
            dst: Addr::global(host.tunnel.peer()),
            src_port: 0,
            dst_port: 0,
            seq: Seq(0),
            ack: Seq(0),
            window: 0,
        };
        header.encode(&mut frame[SEALED_HEADER_LEN..]).unwrap();
        frame.resize(payload.len() + 34 + SEALED_OVERHEAD, 0);
        host.tunnel.seal_in_place(now, &host.local, &mut frame).expect("is ready");
        self.transmit(index, frame);
    }

    /// Puts a frame of a host on the link, where the attacker sees it.
    fn transmit(&mut self, from: usize, bytes: Vec<u8>) {
        if let Ok(TunnelFrame::Sealed { header, .. }) = TunnelFrame::parse(&bytes) {
            let nonce = (header.nonce_prefix, header.counter);
            assert!(self.hosts[from].nonces.insert(nonce), "nonce used twice: {nonce:?}");
            let theirs = &self.hosts[1 - from].nonces;
            assert!(!theirs.contains(&nonce), "nonce used by both: {nonce:?}");
        }
        self.trace_exchange("host", from, &bytes);
        self.captured.push((1 - from, bytes.clone()));
        let copies = 1 + u32::from(self.rng.random_bool(self.link.duplication));
        for _ in 0..copies {
            if self.rng.random_bool(self.link.loss) {
                continue;
            }
            let jitter = self.link.jitter.mul_f64(self.rng.random_range(0.0..1.0));
            let at = self.now + self.link.latency + jitter;
            self.schedule(at, Event::Deliver { to: 1 - from, bytes: bytes.clone() });
        }
    }

    fn attack(&mut self) {
        let to = self.rng.random_range(0..2usize);
        let Some((captured_to, captured)) = (!self.captured.is_empty())
            .then(|| self.rng.random_range(0..self.captured.len()))
            .map(|i| self.captured[i].clone())
        else {
            return;
        };
        let peer = self.hosts[1 - to].local.node();
        let attacker = Identity::generate(&mut self.rng);
        let x25519 = self.some_x25519();
        let (to, bytes) = match self.rng.random_range(0..9) {
            // Replayed to its receiver, and thrown back at its sender.
            0 | 1 => (captured_to, captured),
            2 => (1 - captured_to, captured),
            // A bit turned over.
            3 => {
                let mut bytes = captured;
                let bit = self.rng.random_range(0..bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                (captured_to, bytes)
            }
            // A key exchange in the peer's name, by another identity.
            4 => (to, announcement(peer, &x25519, &attacker)),
            // A genuine one, that the peer made for somebody else.
            5 => (to, announcement(peer, &x25519, &self.hosts[1 - to].identity)),
            // An old key exchange of the peer.
            6 => {
                let is_auth = |b: &[u8]| b.starts_with(b"PILA");
                let old: Vec<_> = self.captured.iter().filter(|(_, b)| is_auth(b)).collect();
                old.get(self.rng.random_range(0..old.len().max(1)))
                    .map_or((to, Vec::new()), |frame| (*frame).clone())
            }
            7 => {
                let counter = if self.rng.random() { u64::MAX } else { 1 };
                let header =
                    SealedHeader { sender: peer, nonce_prefix: self.rng.random(), counter };
                let mut bytes = header.encode().to_vec();
                bytes.resize(90, 0x5a);
                (to, bytes)
            }
            _ => (to, KeyFrame { node: peer, x25519_public: &x25519 }.encode().to_vec()),
        };
        self.trace_exchange("attack on", to, &bytes);
        self.report.attacks += 1;
        self.deliver(to, bytes);
    }

    fn some_x25519(&mut self) -> [u8; 32] {
        let mut secret = [0; 32];
        self.rng.fill_bytes(&mut secret);
        x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secret)).to_bytes()
    }

    fn finish(mut self, end: Duration) -> Report {
        let calm_from = self.last_disturbance;
        for index in 0..2 {
            let (host, peer) = (&self.hosts[index], &self.hosts[1 - index]);
            let first = host
                .received
                .iter()
                .filter(|(mark, _)| peer.sent.get(mark).is_some_and(|at| *at >= calm_from))
                .map(|(_, at)| *at)
                .min();
            let Some(first) = first else {
                panic!(
                    "host {index} heard nothing after the last disturbance at {calm_from:?}:\n{:?}\n{:?}",
                    host.tunnel, peer.tunnel
                );
            };
            self.report.converged_after = self.report.converged_after.max(first - calm_from);
            // Still flowing at the end, and not only once.
            let last = host.received.values().max().copied().unwrap_or_default();
            let silence = end - last;
            assert!(silence < Duration::from_secs(2), "host {index}: silent for {silence:?}");
            let since = self.hosts.iter().filter_map(|h| h.received.values().min()).max();
            let since = since.copied().unwrap_or_default();
            let margin = self.link.latency + self.link.jitter;
            let lost = peer
                .sent
                .iter()
                .filter(|(mark, at)| {
                    **at > since && **at + margin < end && !host.received.contains_key(mark)
                })
                .inspect(|(mark, at)| self.trace(format_args!("lost {mark:?} sent at {at:?}")))
                .count();
            self.report.lost_once_confirmed += lost;
        }
        self.report
    }

    fn some_time(&mut self) -> Duration {
        self.plan.disturbed_for.mul_f64(self.rng.random_range(0.0..1.0))
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.queue.push(Reverse((at, self.next_event)));
        self.events.insert(self.next_event, event);
        self.next_event += 1;
    }

    fn trace(&self, what: std::fmt::Arguments<'_>) {
        if self.traces {
            eprintln!("{:>10?} {what}", self.now);
        }
    }

    fn trace_exchange(&self, who: &str, index: usize, bytes: &[u8]) {
        if let Ok(TunnelFrame::Auth(frame)) = TunnelFrame::parse(bytes) {
            self.trace(format_args!("{who} {index}: key {:02x?}", &frame.x25519_public[..4]));
        }
    }

    fn timeout_of(&self, index: usize) -> Option<Duration> {
        let at = self.hosts[index].tunnel.poll_timeout()?;
        Some(at.saturating_duration_since(self.start))
    }

    fn next_time(&self) -> Option<Duration> {
        let queued = self.queue.peek().map(|Reverse((at, _))| *at);
        queued.into_iter().chain(self.timeout_of(0)).chain(self.timeout_of(1)).min()
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }
}

fn announcement(node: NodeId, x25519_public: &[u8; 32], signer: &Identity) -> Vec<u8> {
    AuthFrame {
        node,
        x25519_public,
        ed25519_public: &signer.public_key(),
        signature: &signer.sign(&auth_signed_bytes(node, x25519_public)),
    }
    .encode()
    .to_vec()
}

fn encode((life, number): Mark) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&life.to_be_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn decode(payload: &[u8]) -> Mark {
    let (life, number) = payload.split_at(4);
    let number_of = |b: &[u8]| u32::from_be_bytes(b.try_into().unwrap());
    (number_of(life), number_of(number))
}
