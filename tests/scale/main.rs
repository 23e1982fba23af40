//! What many idle peers and streams cost one node: memory, timers and datagrams, counted in
//! virtual time and so the same on every machine.

mod allocations;
mod star;

use std::time::Duration;

use star::Star;

/// Bytes that an idle peer may cost its node. Key schedules of AWS-LC come on top, about 1 KiB: its
/// allocator is not ours.
const MAX_PER_PEER: usize = 8 << 10;
/// The same of an idle stream.
const MAX_PER_STREAM: usize = 8 << 10;

#[test]
fn five_thousand_idle_peers_with_ten_thousand_streams_fit_in_few_kilobytes_each() {
    let mut star = Star::new();
    let empty = allocations::held();
    star.add_spokes(5_000);
    star.run_for(Duration::from_secs(10));
    assert_eq!(star.ready_peers(), 5_000);
    let with_peers = allocations::held();
    let per_peer = (with_peers - empty) / 5_000;
    star.open_streams(2);
    star.run_for(Duration::from_secs(10));
    assert_eq!(star.hub.stream_count(), 10_000);
    let per_stream = (allocations::held() - with_peers) / 10_000;
    println!("{per_peer} bytes a peer, {per_stream} bytes a stream");
    assert!(per_peer <= MAX_PER_PEER, "{per_peer} bytes a peer");
    assert!(per_stream <= MAX_PER_STREAM, "{per_stream} bytes a stream");
}

#[test]
fn a_thousand_idle_peers_cost_nothing() {
    let mut star = Star::new();
    star.add_spokes(1_000);
    // All of them at the same time, as when a node starts. What was used goes on being used for a
    // minute; then its path may lapse, as the relay leads to it.
    star.run_for(Duration::from_secs(120));
    let (wakeups, sent, received) = (star.wakeups, star.sent, star.received);
    star.run_for(Duration::from_secs(60));
    let seen = (star.wakeups - wakeups, star.sent - sent, star.received - received);
    assert_eq!(seen, (0, 0, 0), "wake-ups, datagrams sent and received in a minute");
}

#[test]
fn peers_without_use_are_left_alone_after_a_while() {
    let mut star = Star::new();
    star.add_spokes(100);
    star.run_for(Duration::from_secs(600));
    let (wakeups, sent) = (star.wakeups, star.sent);
    star.run_for(Duration::from_secs(600));
    assert_eq!((star.wakeups - wakeups, star.sent - sent), (0, 0));
}
