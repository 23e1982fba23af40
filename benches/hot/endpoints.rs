//! Two endpoints, tunnels and all, connected by memory: what a node's protocol costs without its
//! sockets. Time is virtual; datagrams take 50 microseconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::endpoint::{Endpoint, EndpointConfig, EndpointEvent, PeerRecord, StreamId};
use pilot_agent::proto::stream::StreamConfig;
use pilot_agent::proto::tunnel::LocalKeys;
use pilot_agent::wire::{Addr, NodeId};

use super::Case;

const MIB: usize = 1 << 20;
const PORT: u16 = 7;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [1_402, 60_000]
        .map(|max_payload: u16| {
            Case::new(format!("endpoints-mib-{max_payload}"), MIB, move |count| {
                let mut pair = Pair::new(max_payload);
                pair.transfer(count * MIB);
            })
        })
        .into();
    cases.push(Case::new("endpoints-echo-64", 0, |count| {
        let mut pair = Pair::new(1_402);
        for _ in 0..count {
            pair.echo(&[7; 64]);
        }
    }));
    cases
}

struct Pair {
    now: Instant,
    ends: [Endpoint; 2],
    addrs: [SocketAddr; 2],
    dialed: StreamId,
    accepted: StreamId,
    run: Vec<u8>,
}

impl Pair {
    fn new(max_payload: u16) -> Self {
        let now = Instant::now();
        let stream = StreamConfig { max_payload, ..StreamConfig::default() };
        let config = EndpointConfig { stream: Arc::new(stream), ..EndpointConfig::default() };
        let identities = [1, 2].map(|seed| Arc::new(Identity::from_seed(&[seed; 32])));
        let addrs = [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], 4_000)));
        let mut ends = [0, 1].map(|i: usize| {
            let node = NodeId(i as u32 + 1);
            let local = LocalKeys::new(node, identities[i].clone());
            Endpoint::new(config.clone(), local, [node.0 as u8; 32])
        });
        for (i, end) in ends.iter_mut().enumerate() {
            let record = PeerRecord {
                public_key: identities[1 - i].public_key(),
                endpoint: Some(addrs[1 - i]),
                is_native: true,
                ..PeerRecord::default()
            };
            end.set_peer(now, NodeId(2 - i as u32), &record);
        }
        ends[1].listen(PORT);
        let to = Addr::global(NodeId(2));
        let dialed = ends[0].connect(now, to, PORT, true).expect("a known peer");
        let placeholder = dialed;
        let mut pair = Self { now, ends, addrs, dialed, accepted: placeholder, run: Vec::new() };
        let accepted = loop {
            pair.step();
            if let Some(id) = pair.ends[1].accept(PORT) {
                break id;
            }
        };
        pair.accepted = accepted;
        pair
    }

    /// Lets datagrams pass once each way.
    fn step(&mut self) {
        self.now += Duration::from_micros(50);
        for from in 0..2 {
            let to = 1 - from;
            self.ends[from].handle_timeout(self.now);
            for _ in 0..64 {
                let Some(sent) = self.ends[from].poll_transmit(self.now, &mut self.run) else {
                    break;
                };
                for datagram in self.run.chunks_mut(sent.segment_size) {
                    self.ends[to].handle_datagram(self.now, self.addrs[from], datagram);
                }
            }
            while let Some(event) = self.ends[from].poll_event() {
                if let EndpointEvent::NeedPeer(node) = event {
                    unreachable!("{node} was introduced");
                }
            }
        }
    }

    fn transfer(&mut self, total: usize) {
        let data = vec![7; 256 << 10];
        let (mut written, mut read) = (0, 0);
        while read < total {
            while written < total {
                let piece = &data[..data.len().min(total - written)];
                let taken = self.ends[0].write(self.now, self.dialed, piece).expect("open");
                written += taken;
                if taken < piece.len() {
                    break;
                }
            }
            self.step();
            read += self.read(1, self.accepted);
        }
    }

    fn read(&mut self, end: usize, id: StreamId) -> usize {
        let mut read = 0;
        while let Some(chunk) = self.ends[end].read_chunk(self.now, id, MIB).expect("open") {
            read += chunk.len();
        }
        read
    }

    fn echo(&mut self, payload: &[u8]) {
        self.ends[0].write(self.now, self.dialed, payload).expect("open");
        while self.read(1, self.accepted) == 0 {
            self.step();
        }
        self.ends[1].write(self.now, self.accepted, payload).expect("open");
        while self.read(0, self.dialed) == 0 {
            self.step();
        }
    }
}
