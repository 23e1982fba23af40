//! Streams that have carried something and wait: ten thousand of them on one pair of nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::endpoint::{Endpoint, EndpointConfig, PeerRecord, StreamId};
use pilot_agent::proto::stream::Stream;
use pilot_agent::proto::tunnel::LocalKeys;
use pilot_agent::wire::{Addr, NodeId};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::heap::{live, owned};

const STREAMS: usize = 10_000;
const AT_ONCE: usize = 500;
/// Each way, on each stream.
const BYTES: usize = 50_000;
const PORT: u16 = 1000;
/// Bytes for each idle stream, at either end, with all that its endpoint keeps for it.
const MOST: isize = 4 * 1024;

/// Two endpoints; all that number `n` allocates is counted for owner `n + 1`.
struct Nodes {
    now: Instant,
    ends: [Endpoint; 2],
    buf: Vec<u8>,
}

fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1 + index as u8], 4000))
}

impl Nodes {
    fn new() -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let identities = [(); 2].map(|()| Arc::new(Identity::generate(&mut rng)));
        let ends = [0, 1].map(|index| {
            let node = NodeId(1 + index as u32);
            owned(index + 1, || {
                let local = LocalKeys::new(node, identities[index].clone());
                let mut endpoint = Endpoint::new(EndpointConfig::default(), local, [7; 32]);
                let record = PeerRecord {
                    public_key: identities[1 - index].public_key(),
                    endpoint: Some(addr(1 - index)),
                    is_native: true,
                    ..PeerRecord::default()
                };
                endpoint.set_peer(now, NodeId(2 - index as u32), &record);
                endpoint.listen(PORT);
                endpoint
            })
        });
        Self { now, ends, buf: Vec::with_capacity(1 << 17) }
    }

    /// Does something at one end.
    fn at<T>(&mut self, index: usize, verb: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        owned(index + 1, || verb(&mut self.ends[index], self.now))
    }

    /// Carries datagrams both ways for some time, a round each millisecond.
    fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            for from in 0..2 {
                let to = 1 - from;
                let mut buf = std::mem::take(&mut self.buf);
                while let Some(run) = self.at(from, |end, now| end.poll_transmit(now, &mut buf)) {
                    for datagram in buf.chunks_mut(run.segment_size) {
                        self.at(to, |end, now| end.handle_datagram(now, addr(from), datagram));
                    }
                }
                self.buf = buf;
                self.at(from, |end, _| while end.poll_event().is_some() {});
            }
            self.now += Duration::from_millis(1);
            for index in 0..2 {
                self.at(index, |end, now| end.handle_timeout(now));
            }
        }
    }

    /// Opens streams, moves data both ways on each, and leaves them open.
    fn open(&mut self, count: usize, data: &[u8]) {
        let to = Addr::global(NodeId(2));
        let dialed: Vec<StreamId> = (0..count)
            .map(|_| self.at(0, |end, now| end.connect(now, to, PORT, true).expect("room")))
            .collect();
        self.run(20);
        let accepted: Vec<StreamId> =
            (0..count).map(|_| self.at(1, |end, _| end.accept(PORT).expect("a stream"))).collect();
        for (index, ids) in [(0, &dialed), (1, &accepted)] {
            for id in ids {
                let n = self.at(index, |end, now| end.write(now, *id, data).expect("open"));
                assert_eq!(n, data.len());
            }
        }
        let mut left = 2 * count * data.len();
        while left > 0 {
            self.run(1);
            for (index, ids) in [(0, &dialed), (1, &accepted)] {
                for id in ids {
                    left -= self.at(index, |end, now| read(end, now, *id));
                }
            }
        }
    }
}

/// Reads whatever has come, half of it into a buffer of the caller's, as applications do.
fn read(end: &mut Endpoint, now: Instant, id: StreamId) -> usize {
    let mut buf = [0; 4096];
    let into = end.with_stream(id, |stream| stream.read(now, &mut buf)).expect("open").unwrap_or(0);
    let mut got = into;
    while let Some(chunk) = end.read_chunk(now, id, usize::MAX).expect("open") {
        assert!(!chunk.is_empty(), "nobody has finished");
        got += chunk.len();
    }
    got
}

#[test]
fn an_idle_stream_takes_little_memory_at_either_end() {
    let mut nodes = Nodes::new();
    let data = vec![7; BYTES];
    // Tunnels, and tables that exist whether there are many streams or few.
    nodes.open(1, &data);
    nodes.run(1000);
    let before = [live(1), live(2)];
    for _ in 0..STREAMS / AT_ONCE {
        nodes.open(AT_ONCE, &data);
    }
    nodes.run(10_000);
    let count = isize::try_from(STREAMS).expect("small");
    let each = [(live(1) - before[0]) / count, (live(2) - before[1]) / count];
    println!(
        "dialed {} bytes, accepted {}, of these {} Stream",
        each[0],
        each[1],
        size_of::<Stream>()
    );
    assert!(each.iter().all(|bytes| *bytes < MOST), "{each:?}");
}
