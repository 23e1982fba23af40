//! The measurements: one stream on every kind of link, several on one, many short ones.

use std::time::Duration;

use pilot_agent::proto::stream::CongestionControl;

use crate::bottleneck::{Job, Path, World, utilisation};

/// What came of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Share of the link in use, headers included, repetitions not.
    pub(crate) utilisation: f64,
    /// Mean time in the queue, in round trips of the empty link.
    pub(crate) queue: f64,
    /// Share of packets for which the queue had no room.
    pub(crate) dropped: f64,
}

/// One stream for `time` after a start of `warm_up`.
pub(crate) fn single(
    congestion: CongestionControl,
    path: &Path,
    warm_up: Duration,
    time: Duration,
) -> Figures {
    let mut world = World::new(*path, &[Job::bulk(congestion)], 7);
    world.play(warm_up);
    let before = world.flows[0].read[1];
    world.queue();
    world.play(time);
    let (queue, dropped) = world.queue();
    Figures {
        utilisation: utilisation(path, world.flows[0].read[1] - before, time),
        queue: queue.as_secs_f64() / path.rtt.as_secs_f64(),
        dropped,
    }
}

/// Streams side by side, each starting 300 ms after the one before: what each got of the link in
/// the last two thirds of the time, the mean queue in round trips, and the drops.
pub(crate) fn shared(
    controllers: &[CongestionControl],
    path: &Path,
    time: Duration,
) -> (Vec<f64>, Figures) {
    let job = |(n, congestion): (usize, &CongestionControl)| Job {
        start: Duration::from_millis(300) * n as u32,
        ..Job::bulk(*congestion)
    };
    let jobs: Vec<Job> = controllers.iter().enumerate().map(job).collect();
    let mut world = World::new(*path, &jobs, 7);
    world.play(time / 3);
    let before: Vec<u64> = world.flows.iter().map(|flow| flow.read[1]).collect();
    world.queue();
    world.play(time * 2 / 3);
    let (queue, dropped) = world.queue();
    let shares: Vec<f64> = world
        .flows
        .iter()
        .zip(before)
        .map(|(flow, before)| utilisation(path, flow.read[1] - before, time * 2 / 3))
        .collect();
    let queue = queue.as_secs_f64() / path.rtt.as_secs_f64();
    let utilisation = shares.iter().sum();
    (shares, Figures { utilisation, queue, dropped })
}

/// `count` replies of `bytes`, asked for at once from a peer whose round trip is known: when half of them, 99 of 100, and all were there.
pub(crate) fn many(
    congestion: CongestionControl,
    path: &Path,
    count: usize,
    bytes: u64,
    seed: u64,
) -> [Duration; 3] {
    let job = Job { congestion, start: Duration::ZERO, request: 100, reply: bytes };
    let mut world = World::new(*path, &vec![job; count], seed);
    world.known_rtt = Some(path.rtt);
    world.share(congestion);
    world.play(Duration::from_secs(120));
    let mut took: Vec<Duration> = world
        .flows
        .iter()
        .map(|flow| flow.done_at.expect("120 seconds are enough") - world.start)
        .collect();
    took.sort_unstable();
    [took[count / 2], took[(count * 99).div_ceil(100) - 1], took[count - 1]]
}
