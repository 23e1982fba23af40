//! Pacing, what new streams know from others, and what turns out to have been needless.

use super::*;

#[test]
fn small_writes_never_wait_and_large_ones_are_spread_over_the_round_trip() {
    let mut pair = Pair::new(&config());
    pair.transfer(0, &pattern(300_000));
    pair.run_for(Duration::from_secs(2));
    pair.log.clear();
    let start = pair.now;
    pair.ends[0].write(start, &pattern(8 * 1152)).unwrap();
    pair.pump();
    assert_eq!(pair.sent_by(0).len(), 8, "at once");
    pair.run_for(Duration::from_secs(2));
    pair.log.clear();
    pair.ends[0].write(pair.now, &pattern(300_000)).unwrap();
    let start = pair.now;
    pair.pump();
    let burst = pair.sent_by(0).len();
    assert!((10..100).contains(&burst), "{burst}");
    assert!(pair.ends[0].poll_timeout().unwrap() < start + 5 * MS, "the rest follows by timer");
}

#[test]
fn a_fin_ahead_of_lost_data_is_reported_and_repaired_in_a_round_trip() {
    let mut pair = Pair::new(&config());
    pair.transfer(0, &pattern(50_000));
    pair.log.clear();
    pair.lose[0] = lose_once(Sent::is_data);
    let start = pair.now;
    pair.ends[0].write(start, b"the last word").unwrap();
    pair.ends[0].finish(start).unwrap();
    while !pair.ends[1].is_readable() {
        assert!(pair.step(start + Duration::from_secs(5)));
    }
    assert!(pair.now - start < 90 * MS, "{:?}", pair.now - start);
    assert_eq!(read_all(&mut pair.ends[1], pair.now), b"the last word");
    let stats = pair.ends[0].stats();
    assert_eq!((stats.segments_retransmitted, stats.tail_probes, stats.timeouts), (1, 0, 0));
}

#[test]
fn a_dialer_that_hears_data_asks_for_the_lost_answer_at_once() {
    let now = Instant::now();
    let mut dialer = Stream::connect(now, config());
    assert_eq!(drain(&mut dialer, now).len(), 1);
    let soon = now + 40 * MS;
    let data = Sent::new(ACK, 1, 1, 512, b"hello");
    feed(&mut dialer, soon, &data);
    feed(&mut dialer, soon, &data);
    let sent = drain(&mut dialer, soon);
    assert_eq!((sent.len(), sent[0].flags), (1, SYN));
    feed(&mut dialer, soon, &data);
    assert_eq!(drain(&mut dialer, soon), [], "once is enough");
}

#[test]
fn a_known_round_trip_makes_a_lost_syn_cheap() {
    let now = Instant::now();
    let mut dialer = Stream::connect(now, config());
    dialer.expect_rtt(20 * MS);
    let mut at = Vec::new();
    let mut time = now;
    while at.len() < 5 {
        if drain(&mut dialer, time).iter().any(|sent| sent.flags == SYN) {
            at.push((time - now).as_millis());
        }
        time = dialer.poll_timeout().unwrap();
        dialer.handle_timeout(time);
    }
    assert_eq!(at, [0, 60, 180, 1180, 1680], "then as if nothing were known");
}

#[test]
fn a_timeout_that_only_met_a_late_acknowledgement_is_undone() {
    let mut pair = Pair::new(&reno());
    pair.transfer(0, &pattern(300_000));
    let before = pair.ends[0].stats();
    // The path falls silent for longer than the timeout, and then delivers everything.
    let start = pair.now;
    pair.ends[0].write(start, &pattern(20 * 1152)).unwrap();
    pair.pump();
    let mut held: Vec<_> = pair.link.drain(..).collect();
    let end = start + 2000 * MS;
    while pair.ends[0].stats().timeouts == before.timeouts {
        assert!(pair.step(end), "no timeout");
        held.extend(pair.link.drain(..));
    }
    let now = pair.now;
    assert_eq!(pair.ends[0].stats().cwnd, 1152);
    for (_, to, sent) in held {
        feed(&mut pair.ends[to], now, &sent);
        for answer in drain(&mut pair.ends[1], now) {
            feed(&mut pair.ends[0], now + MS, &answer);
        }
    }
    let after = pair.ends[0].stats();
    assert!(after.cwnd >= before.cwnd, "{after:?}");
    assert!(after.segments_retransmitted <= 4, "{after:?}");
}
