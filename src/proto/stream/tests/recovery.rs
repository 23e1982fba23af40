//! Loss, and how soon it is made good. The round trip is 40 ms, the timeout at least 200 ms.

use super::*;

/// A pair that has measured the path and opened its window.
fn warm() -> Pair {
    warm_with(&config())
}

fn warm_with(config: &Arc<StreamConfig>) -> Pair {
    let mut pair = Pair::new(config);
    pair.transfer(0, &pattern(300_000));
    pair.log.clear();
    pair
}

fn retransmitted(pair: &Pair) -> u64 {
    pair.ends[0].stats().segments_retransmitted
}

#[test]
fn one_lost_segment_costs_one_round_trip() {
    let mut pair = warm();
    pair.lose[0] = lose_once(Sent::is_data);
    let took = pair.transfer(0, &pattern(20_000));
    assert!((60 * MS..90 * MS).contains(&took), "{took:?}");
    let stats = pair.ends[0].stats();
    assert_eq!((stats.segments_retransmitted, stats.recoveries, stats.timeouts), (1, 1, 0));
}

#[test]
fn a_burst_of_losses_is_repaired_in_one_round_trip() {
    let mut pair = warm();
    let mut n = 0;
    pair.lose[0] = Box::new(move |sent| {
        n += u32::from(sent.is_data());
        sent.is_data() && (3..9).contains(&n)
    });
    let took = pair.transfer(0, &pattern(40_000));
    assert!(took < 130 * MS, "{took:?}");
    assert_eq!((retransmitted(&pair), pair.ends[0].stats().recoveries), (6, 1));
}

#[test]
fn a_lost_retransmission_does_not_wait_for_a_timeout() {
    let mut pair = warm();
    let (mut first, mut losses) = (None, 0);
    pair.lose[0] = Box::new(move |sent| {
        let hit = sent.is_data() && *first.get_or_insert(sent.seq) == sent.seq && losses < 2;
        losses += u32::from(hit);
        hit
    });
    let took = pair.transfer(0, &pattern(200_000));
    assert!(took < 300 * MS, "{took:?}");
    let stats = pair.ends[0].stats();
    assert_eq!((stats.segments_retransmitted, stats.timeouts), (2, 0));
}

#[test]
fn a_lost_retransmission_is_noticed_by_what_was_sent_after_it() {
    let mut pair = warm();
    let (mut first, mut losses) = (None, 0);
    pair.lose[0] = Box::new(move |sent| {
        let hit = sent.is_data() && *first.get_or_insert(sent.seq) == sent.seq && losses < 2;
        losses += u32::from(hit);
        hit
    });
    pair.transfer(0, &pattern(900_000));
    let stats = pair.ends[0].stats();
    assert_eq!((stats.segments_retransmitted, stats.timeouts, stats.tail_probes), (2, 0, 0));
}

#[test]
fn a_lost_tail_is_probed_before_the_timeout() {
    let mut pair = warm();
    let data = pattern(5 * 1152);
    let mut left = 5;
    pair.lose[0] = Box::new(move |sent| {
        left -= i32::from(sent.is_data());
        sent.is_data() && (0..2).contains(&left)
    });
    let took = pair.transfer(0, &data);
    assert!(took < 200 * MS, "{took:?}");
    let stats = pair.ends[0].stats();
    assert_eq!((stats.timeouts, stats.tail_probes), (0, 1));
}

#[test]
fn a_lone_lost_segment_is_repeated_by_the_tail_probe() {
    let mut pair = warm();
    pair.lose[0] = lose_once(Sent::is_data);
    let took = pair.transfer(0, b"request");
    assert!((60 * MS..150 * MS).contains(&took), "{took:?}");
    assert_eq!(pair.ends[0].stats().timeouts, 0);
}

#[test]
fn a_probe_that_is_lost_is_repeated() {
    let mut pair = warm();
    let mut losses = 0;
    pair.lose[0] = Box::new(move |sent| {
        losses += u32::from(sent.is_data());
        sent.is_data() && losses <= 2
    });
    let took = pair.transfer(0, b"request");
    assert!(took < 300 * MS, "{took:?}");
    assert_eq!(pair.ends[0].stats().timeouts, 0);
}

#[test]
fn when_probes_and_tail_are_lost_the_timeout_repairs() {
    let mut pair = warm();
    let mut losses = 0;
    pair.lose[0] = Box::new(move |sent| {
        losses += u32::from(sent.is_data());
        sent.is_data() && losses <= 3
    });
    let took = pair.transfer(0, b"request");
    assert!(took < 600 * MS, "{took:?}");
    assert_eq!(pair.ends[0].stats().timeouts, 1);
}

#[test]
fn lost_acknowledgements_cost_nothing_while_others_follow() {
    let mut pair = warm();
    let mut n = 0;
    pair.lose[1] = Box::new(move |_| {
        n += 1;
        n % 2 == 0
    });
    let took = pair.transfer(0, &pattern(100_000));
    assert!(took < 300 * MS, "{took:?}");
    assert_eq!(pair.ends[0].stats().timeouts, 0);
}

#[test]
fn timeouts_double_until_progress_and_fall_to_one_segment() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, reno());
    stream.write(now, &pattern(8 * 1152)).unwrap();
    assert_eq!(drain(&mut stream, now).len(), 8);
    let mut gaps = Vec::new();
    let mut last = now;
    while gaps.len() < 4 {
        let now = stream.poll_timeout().unwrap();
        stream.handle_timeout(now);
        let sent = drain(&mut stream, now);
        if !sent.is_empty() {
            assert_eq!((sent.len(), sent[0].seq), (1, 1));
            gaps.push((now - last).as_millis());
            last = now;
        }
    }
    assert_eq!(gaps, [1000, 2000, 4000, 8000]);
    feed(&mut stream, last, &Sent::new(ACK, 1, 1153, 512, &[]));
    let next = drain(&mut stream, last);
    assert_eq!((next.len(), next[0].seq), (2, 1153), "slow start from one segment");
}

#[test]
fn karn_a_retransmitted_segment_measures_nothing() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, b"x").unwrap();
    drain(&mut stream, now);
    stream.handle_timeout(now + 1000 * MS);
    drain(&mut stream, now + 1000 * MS);
    feed(&mut stream, now + 1001 * MS, &Sent::new(ACK, 1, 2, 512, &[]));
    assert_eq!(stream.stats().srtt, None);
    assert_eq!(stream.stats().rto, 1000 * MS, "progress ends the back-off");
}

#[test]
fn the_window_is_halved_once_for_all_losses_of_a_flight() {
    let mut pair = warm_with(&reno());
    let before = pair.ends[0].stats().cwnd;
    let mut n = 0;
    pair.lose[0] = Box::new(move |sent| {
        n += u32::from(sent.is_data());
        sent.is_data() && [2, 5, 9, 12].contains(&n)
    });
    pair.transfer(0, &pattern(60_000));
    let stats = pair.ends[0].stats();
    assert_eq!(stats.recoveries, 1);
    assert!(stats.ssthresh >= 2 * 1152 && stats.ssthresh <= before / 2, "{stats:?}");
}

#[test]
fn after_a_pause_sending_starts_from_the_initial_window() {
    let mut pair = warm_with(&reno());
    assert!(pair.ends[0].stats().cwnd > 50_000);
    pair.run_for(Duration::from_secs(5));
    pair.ends[0].write(pair.now, &pattern(100_000)).unwrap();
    pair.run_for(10 * MS);
    assert_eq!(pair.sent_by(0).iter().filter(|sent| sent.is_data()).count(), 10);
}

#[test]
fn reordering_is_not_loss() {
    let now = Instant::now();
    let mut stream = accepted_from_native(now, config());
    // Measure 40 ms.
    stream.write(now, b"x").unwrap();
    drain(&mut stream, now);
    let now = now + 40 * MS;
    feed(&mut stream, now, &Sent::new(ACK, 1, 2, 4096, &[]));
    stream.write(now, &pattern(3 * 1152)).unwrap();
    drain(&mut stream, now);

    let mut sack = Vec::new();
    let mut blocks = crate::wire::SackBlocks::default();
    blocks.push(crate::wire::sack::SackBlock { left: Seq(1154), right: Seq(3458) });
    blocks.encode(&mut sack);
    feed(&mut stream, now + 40 * MS, &Sent::new(ACK, 1, 2, 4096, &sack));
    assert_eq!(drain(&mut stream, now + 40 * MS), [], "two segments beyond the gap: wait");
    feed(&mut stream, now + 45 * MS, &Sent::new(ACK, 1, 3458, 4096, &[]));
    stream.handle_timeout(now + 60 * MS);
    assert_eq!(drain(&mut stream, now + 60 * MS), []);
    assert_eq!(stream.stats().recoveries, 0);
}

#[test]
fn segments_that_the_path_no_longer_carries_are_sent_again_in_pieces() {
    let now = Instant::now();
    let mut stream = accepted_from_native(now, config());
    let mut data = pattern(3000);
    data[1400..1413].copy_from_slice(b"SACK\x01\0\0\0\0\0\0\0\0");
    stream.set_max_payload(3000);
    stream.write(now, &data).unwrap();
    assert_eq!(drain(&mut stream, now).len(), 1);
    stream.set_max_payload(700);
    let again = drain(&mut stream, now);
    let sizes: Vec<_> = again.iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(sizes, [700, 700, 1, 700, 700, 199], "no piece looks like SACK blocks");
    assert!(again.iter().flat_map(|sent| &sent.payload).eq(&data));
    assert_eq!(again[1].seq, 701);
    assert_eq!(stream.stats().recoveries, 0, "no congestion");
}

#[test]
fn toward_a_go_node_segments_keep_their_boundaries() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, &pattern(2304)).unwrap();
    let first = drain(&mut stream, now);
    stream.set_max_payload(500);
    assert_eq!(drain(&mut stream, now), []);
    let later = stream.poll_timeout().unwrap();
    stream.handle_timeout(later);
    assert_eq!(drain(&mut stream, later)[0], first[0]);
}
