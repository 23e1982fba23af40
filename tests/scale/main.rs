//! What many idle peers and streams cost one node: memory, timers and datagrams, counted in
//! virtual time and so the same on every machine.

mod allocations;
mod star;

use std::time::Duration;

use star::Star;

/// Bytes that an idle peer may cost its node. Key schedules of AWS-LC come on top, about 1 KiB: its
/// allocator is not ours.
const MAX_PER_PEER: usize = 6 << 10;
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
fn a_thousand_idle_peers_cost_their_keepalives_and_nothing_else() {
    let mut star = Star::new();
    star.add_spokes(1_000);
    // All of them at the same time, as when a node starts; the keep-alives come by and by.
    star.run_for(Duration::from_secs(60));
    let (wakeups, sent, received) = (star.wakeups, star.sent, star.received);
    let busiest = star.busiest_second(Duration::from_secs(60));
    let (wakeups, sent) = (star.wakeups - wakeups, star.sent - sent);
    let received = star.received - received;
    println!("a minute: {wakeups} wake-ups, {sent} sent, {received} received");
    println!("at most {busiest} sent in a second");
    // One keep-alive each 18 to 24 seconds from either side, and one wake-up for each of ours.
    assert!((2_400..=3_500).contains(&sent), "{sent} sent");
    assert!((2_400..=3_500).contains(&received), "{received} received");
    assert!(wakeups <= sent + 200, "{wakeups} wake-ups");
    assert!(busiest <= 150, "{busiest} in one second: a burst");
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
