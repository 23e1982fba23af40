//! A bulk transfer does not hold up what is small: neither in the same tunnel nor in others.

use std::sync::Arc;
use std::time::Duration;

use pilot_agent::proto::endpoint::StreamId;
use pilot_agent::proto::stream::StreamConfig;
use pilot_agent::proto::stream::congestion::CongestionControl;

use super::world::{Host, Link, World};
use super::{LAN, seconds, text};

/// Bytes around a segment's payload when it goes directly.
const OVERHEAD: usize = 70;
/// Bytes that a bulk stream writes at once.
const BULK: usize = 512 << 10;

/// A sender `0` with a warm bulk stream to each of `peers` others, and a quiet one to one of them
/// or to a further one.
struct Busy {
    world: World,
    bulk: Vec<StreamId>,
    quiet: StreamId,
}

impl Busy {
    fn new(peers: usize, quiet_apart: bool) -> Self {
        let mut world = World::new(1, LAN);
        // BBR would pace the bulk streams: there would not always be something to compete with.
        let congestion = CongestionControl::NewReno;
        world.endpoint.stream = Arc::new(StreamConfig { congestion, ..StreamConfig::default() });
        let sender = world.add_host();
        let others: Vec<usize> = (0..peers).map(|_| world.add_host()).collect();
        let quiet_peer = if quiet_apart { world.add_host() } else { others[0] };
        let open = |world: &mut World, to: usize, port| {
            world.introduce(sender, to);
            world.at(to, |host, _| host.endpoint.listen(port));
            let addr = world.hosts[to].here();
            let id = world.at(sender, |host, now| host.endpoint.connect(now, addr, port, true));
            world.run_for(seconds(1));
            id.unwrap()
        };
        let bulk: Vec<_> = others.iter().map(|to| open(&mut world, *to, 9)).collect();
        let quiet = open(&mut world, quiet_peer, 10);
        let mut busy = Self { world, bulk, quiet };
        // Round trips in which the congestion windows open; the last answers arrive exactly now.
        for _ in 0..8 {
            busy.write_bulk();
            busy.world.at(sender, |_, _| ());
            busy.drain(&others);
        }
        busy
    }

    fn sender(&mut self) -> &mut Host {
        &mut self.world.hosts[0]
    }

    fn write_bulk(&mut self) {
        let now = self.world.now;
        for id in self.bulk.clone() {
            let _ = self.sender().endpoint.write(now, id, &[7; BULK]).unwrap();
        }
    }

    /// Lets everything that was written arrive and be read.
    fn drain(&mut self, others: &[usize]) {
        let ids = self.bulk.clone();
        let done = self.world.run_until(seconds(5), |world| {
            for other in others {
                let ids: Vec<_> = world.hosts[*other].endpoint.stream_ids().collect();
                world.at(*other, |host, now| {
                    for id in ids {
                        while let Ok(Some(chunk)) = host.endpoint.read_chunk(now, id, BULK)
                            && !chunk.is_empty()
                        {}
                    }
                });
            }
            ids.iter().all(|id| world.hosts[0].endpoint.stream(*id).unwrap().is_drained())
        });
        assert!(done);
    }

    /// Sizes of the datagrams of the next run.
    fn next_run(&mut self) -> Vec<usize> {
        let (now, mut buf) = (self.world.now, Vec::new());
        match self.sender().endpoint.poll_transmit(now, &mut buf) {
            Some(transmit) => buf.chunks(transmit.segment_size).map(<[u8]>::len).collect(),
            None => Vec::new(),
        }
    }
}

fn is_bulk(run: &[usize]) -> bool {
    run.iter().sum::<usize>() > 10_000
}

#[test]
fn a_small_write_leaves_within_the_next_run_while_bulk_streams_have_more_to_send() {
    for (peers, quiet_apart) in [(1, false), (1, true), (3, true)] {
        let mut busy = Busy::new(peers, quiet_apart);
        busy.write_bulk();
        for _ in 0..peers {
            let first = busy.next_run();
            assert!(is_bulk(&first), "{first:?}");
        }
        let (now, quiet) = (busy.world.now, busy.quiet);
        busy.sender().endpoint.write(now, quiet, &[1; 64]).unwrap();
        assert_eq!(busy.next_run(), [64 + OVERHEAD], "{peers} {quiet_apart}");
        let after = busy.next_run();
        assert!(is_bulk(&after), "there was more to send: {after:?}");
    }
}

#[test]
fn a_request_leaves_within_the_next_run_while_a_bulk_stream_has_more_to_send() {
    let mut busy = Busy::new(1, false);
    let to = busy.world.hosts[1].here();
    let ask =
        |host: &mut Host, now| host.messenger.request(now, &mut host.endpoint, to, text("?"), None);
    // The first one opens the lane.
    busy.world.at(0, ask);
    busy.world.run_for(Duration::from_millis(100));
    busy.write_bulk();
    assert!(is_bulk(&busy.next_run()));
    let now = busy.world.now;
    ask(busy.sender(), now);
    let run = busy.next_run();
    assert!(!is_bulk(&run) && !run.is_empty(), "{run:?}");
    assert!(is_bulk(&busy.next_run()));
}

/// Streams to one peer share a window, and wait in line for it. Some are aborted while they wait or
/// while what they sent is in flight: the others go on.
#[test]
fn streams_in_line_get_through_whatever_becomes_of_the_others() {
    super::with_seeds(10, |seed| {
        let mut world = World::new(seed, Link { loss: 0.02, ..LAN });
        let (sender, reader) = (world.add_host(), world.add_host());
        world.introduce(sender, reader);
        world.at(reader, |host, _| host.endpoint.listen(9));
        let addr = world.hosts[reader].here();
        let open = |_| {
            let id = world.at(sender, |host, now| host.endpoint.connect(now, addr, 9, true));
            id.unwrap()
        };
        let ids: Vec<StreamId> = (0..30).map(open).collect();
        let data = vec![7; 200 << 10];
        world.at(sender, |host, now| {
            for id in &ids {
                assert_eq!(host.endpoint.write(now, *id, &data), Ok(data.len()));
            }
        });
        world.run_for(Duration::from_millis(45));
        let is_held = |id: &StreamId, world: &World| {
            world.hosts[sender].endpoint.stream(*id).is_some_and(|stream| stream.is_held())
        };
        assert!(ids.iter().any(|id| is_held(id, &world)), "all had room: this tests nothing");
        for id in ids.iter().step_by(3) {
            world.at(sender, |host, now| host.endpoint.abort(now, *id));
        }
        let rest: Vec<StreamId> =
            ids.iter().enumerate().filter(|(n, _)| n % 3 > 0).map(|(_, id)| *id).collect();
        let done = world.run_until(seconds(5), |world| {
            let open: Vec<_> = world.hosts[reader].endpoint.stream_ids().collect();
            world.at(reader, |host, now| {
                for id in open {
                    while let Ok(Some(chunk)) = host.endpoint.read_chunk(now, id, BULK)
                        && !chunk.is_empty()
                    {}
                }
            });
            let stream =
                |id: &StreamId| world.hosts[sender].endpoint.stream(*id).unwrap().is_drained();
            rest.iter().all(stream)
        });
        assert!(done, "after {:?}", world.elapsed());
    });
}
