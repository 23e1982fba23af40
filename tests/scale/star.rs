//! One node in the middle, many around it; a perfect network and a virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::endpoint::{Endpoint, EndpointConfig, PeerRecord};
use pilot_agent::proto::tunnel::LocalKeys;
use pilot_agent::wire::{Addr, NodeId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::allocations::counted;

const PORT: u16 = 9;

struct Spoke {
    endpoint: Endpoint,
    node: NodeId,
    addr: SocketAddr,
}

pub(crate) struct Star {
    now: Instant,
    rng: StdRng,
    /// What it holds is counted.
    pub(crate) hub: Endpoint,
    hub_record: PeerRecord,
    hub_addr: SocketAddr,
    config: EndpointConfig,
    spokes: Vec<Spoke>,
    /// The driver's buffer.
    run: Vec<u8>,
    /// When the spokes want to be called, the hub as `usize::MAX`; some entries are out of date.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Calls of the hub's `handle_timeout`.
    pub(crate) wakeups: u64,
    /// Datagrams of the hub.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Star {
    pub(crate) fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let identity = Arc::new(Identity::generate(&mut rng));
        let hub_addr = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let public_key = identity.public_key();
        let hub_record = PeerRecord {
            public_key,
            endpoint: Some(hub_addr),
            is_native: true,
            ..PeerRecord::default()
        };
        let local = LocalKeys::new(NodeId(1), identity);
        let config = EndpointConfig::default();
        let mut hub = counted(|| Endpoint::new(config.clone(), local, [1; 32]));
        counted(|| hub.listen(PORT));
        Self {
            now: Instant::now(),
            rng,
            hub,
            hub_record,
            hub_addr,
            config,
            spokes: Vec::new(),
            run: Vec::with_capacity(128 << 10),
            deadlines: BinaryHeap::new(),
            wakeups: 0,
            sent: 0,
            received: 0,
        }
    }

    /// Adds nodes; the hub and each of them ping each other once.
    pub(crate) fn add_spokes(&mut self, count: usize) {
        for _ in 0..count {
            let index = self.spokes.len();
            let node = NodeId(u32::try_from(index).unwrap() + 100);
            let [_, b, c, d] = node.0.to_be_bytes();
            let addr = SocketAddr::from((Ipv4Addr::new(10, b, c, d), 4_000));
            let identity = Arc::new(Identity::generate(&mut self.rng));
            let record = PeerRecord {
                public_key: identity.public_key(),
                endpoint: Some(addr),
                is_native: true,
                ..PeerRecord::default()
            };
            let mut seed = [0; 32];
            self.rng.fill_bytes(&mut seed);
            let local = LocalKeys::new(node, identity);
            let mut endpoint = Endpoint::new(self.config.clone(), local, seed);
            endpoint.set_peer(self.now, NodeId(1), &self.hub_record);
            endpoint.listen(PORT);
            self.spokes.push(Spoke { endpoint, node, addr });
            let (hub, now) = (&mut self.hub, self.now);
            counted(|| {
                hub.set_peer(now, node, &record);
                hub.ping(now, node).expect("known");
            });
            self.pump();
            self.spokes[index].endpoint.ping(now, NodeId(1)).expect("known");
            self.receive_from(index);
            self.pump();
        }
    }

    /// Opens streams from the hub to every other node, and uses each once.
    pub(crate) fn open_streams(&mut self, each: usize) {
        for index in 0..self.spokes.len() {
            let to = Addr::global(self.spokes[index].node);
            for _ in 0..each {
                let (hub, now) = (&mut self.hub, self.now);
                let stream = counted(|| {
                    let id = hub.connect(now, to, PORT, true).unwrap();
                    hub.write(now, id, b"hello").unwrap();
                    id
                });
                self.pump();
                let other = self.spokes[index].endpoint.accept(PORT).expect("accepted");
                let endpoint = &mut self.spokes[index].endpoint;
                assert_eq!(endpoint.read_chunk(now, other, 10).unwrap().unwrap(), "hello");
                endpoint.write(now, other, &[7; 2_000]).unwrap();
                self.pump();
                self.receive_from(index);
                let mut answered = 0;
                while answered < 2_000 {
                    self.run_for(Duration::from_millis(1));
                    let (hub, now) = (&mut self.hub, self.now);
                    while let Some(data) = counted(|| hub.read_chunk(now, stream, 4_000)).unwrap() {
                        answered += data.len();
                    }
                }
            }
        }
        self.pump();
    }

    /// How many peers of the hub have keys that both sides have shown to have.
    pub(crate) fn ready_peers(&self) -> usize {
        self.hub.peers().filter(|(_, peer)| peer.tunnel().is_confirmed()).count()
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.pump();
        while let Some(&Reverse((at, index))) = self.deadlines.peek()
            && at <= end
        {
            self.deadlines.pop();
            if self.deadline(index) == Some(at) {
                self.now = self.now.max(at);
                self.fire(index);
                self.pump();
                self.schedule(index);
            }
        }
        self.now = end;
    }

    fn deadline(&mut self, index: usize) -> Option<Instant> {
        match self.spokes.get_mut(index) {
            Some(spoke) => spoke.endpoint.poll_timeout(),
            None => self.hub.poll_timeout(),
        }
    }

    fn schedule(&mut self, index: usize) {
        if let Some(at) = self.deadline(index) {
            self.deadlines.push(Reverse((at, index)));
        }
    }

    fn fire(&mut self, index: usize) {
        let now = self.now;
        if let Some(spoke) = self.spokes.get_mut(index) {
            spoke.endpoint.handle_timeout(now);
            self.receive_from(index);
        } else {
            self.wakeups += 1;
            let hub = &mut self.hub;
            counted(|| hub.handle_timeout(now));
        }
    }

    /// Carries datagrams until nobody has any more.
    fn pump(&mut self) {
        let (now, mut buf) = (self.now, std::mem::take(&mut self.run));
        loop {
            let hub = &mut self.hub;
            let transmit = counted(|| {
                while hub.poll_event().is_some() {}
                hub.poll_transmit(now, &mut buf)
            });
            let Some(transmit) = transmit else { break };
            let SocketAddr::V4(to) = transmit.destination.addr else { break };
            let [_, b, c, d] = to.ip().octets();
            let index = u32::from_be_bytes([0, b, c, d]) as usize - 100;
            for datagram in buf.chunks_mut(transmit.segment_size) {
                self.sent += 1;
                let spoke = &mut self.spokes[index].endpoint;
                spoke.handle_datagram(now, self.hub_addr, datagram);
            }
            self.receive_from(index);
        }
        self.run = buf;
        self.schedule(usize::MAX);
    }

    fn receive_from(&mut self, index: usize) {
        let (now, mut buf) = (self.now, Vec::new());
        let Self { spokes, hub, received, .. } = self;
        let Spoke { endpoint, addr, .. } = &mut spokes[index];
        while endpoint.poll_event().is_some() {}
        while let Some(transmit) = endpoint.poll_transmit(now, &mut buf) {
            for datagram in buf.chunks_mut(transmit.segment_size) {
                *received += 1;
                counted(|| hub.handle_datagram(now, *addr, datagram));
            }
        }
        self.schedule(index);
    }
}
