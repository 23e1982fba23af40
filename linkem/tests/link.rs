//! What a link does, in virtual time.

use std::time::{Duration, Instant};

use linkem::{Link, LinkParams, Loss};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn spec(text: &str) -> LinkParams {
    text.parse().expect("a legal spec")
}

/// Sends packets that carry their number, one every `gap`, and returns what arrives, and when.
fn run(params: LinkParams, count: u32, gap: Duration) -> (Link, Vec<(Duration, Vec<u8>)>) {
    let start = Instant::now();
    let mut link = Link::new(start, params);
    for number in 0..count {
        let mut packet = vec![0; 1000];
        packet[..4].copy_from_slice(&number.to_be_bytes());
        link.send(start + gap * number, packet);
    }
    let mut arrived = Vec::new();
    while let Some(at) = link.next_arrival() {
        assert!(link.receive(at - Duration::from_nanos(1)).is_none(), "too early");
        arrived.push((at - start, link.receive(at).expect("due")));
    }
    (link, arrived)
}

fn numbers(arrived: &[(Duration, Vec<u8>)]) -> Vec<u32> {
    arrived.iter().map(|(_, p)| u32::from_be_bytes(p[..4].try_into().unwrap())).collect()
}

#[test]
fn a_perfect_link_delivers_at_once_and_in_order() {
    let (link, arrived) = run(LinkParams::default(), 100, Duration::ZERO);
    assert_eq!(numbers(&arrived), (0..100).collect::<Vec<_>>());
    assert!(arrived.iter().all(|(at, _)| at.is_zero()));
    assert_eq!((link.counters().delivered, link.in_flight()), (100, 0));
}

#[test]
fn a_rate_spaces_packets_and_its_queue_drops_the_tail() {
    // 1000 bytes take a millisecond; the one that leaves and four that wait.
    let (link, arrived) = run(spec("rate=8mbit,queue=5kB,delay=10ms"), 20, Duration::ZERO);
    assert_eq!(numbers(&arrived), [0, 1, 2, 3, 4]);
    let times: Vec<_> = arrived.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [ms(11), ms(12), ms(13), ms(14), ms(15)]);
    assert_eq!(link.counters().dropped, 15);
}

#[test]
fn a_packet_that_is_lost_has_taken_its_time_on_the_link() {
    let (_, arrived) = run(spec("rate=8mbit,queue=1MB,loss=50%,seed=3"), 100, Duration::ZERO);
    let numbers = numbers(&arrived);
    assert!((30..70).contains(&numbers.len()), "{}", numbers.len());
    for (number, (at, _)) in numbers.iter().zip(&arrived) {
        assert_eq!(*at, ms(u64::from(*number) + 1));
    }
}

#[test]
fn a_link_without_a_named_queue_holds_a_round_trip() {
    assert_eq!(spec("rate=100mbit,delay=10ms").queue_bytes(), 250_000);
    assert_eq!(spec("rate=1mbit,delay=1ms").queue_bytes(), 64_000);
    assert_eq!(spec("rate=100mbit,delay=10ms,queue=7B").queue_bytes(), 7);
}

#[test]
fn the_backlog_is_what_waits() {
    let start = Instant::now();
    let mut link = Link::new(start, spec("rate=8mbit"));
    for _ in 0..5 {
        link.send(start, vec![0; 1000]);
    }
    assert_eq!([0, 2, 9].map(|at| link.backlog(start + ms(at))), [5000, 3000, 0]);
}

#[test]
fn the_fate_of_the_nth_packet_depends_on_the_seed_and_on_nothing_else() {
    let bad = spec("loss=5%/3,duplicate=5%,reorder=5%,corrupt=5%,jitter=3ms,delay=5ms,seed=9");
    let (_, slowly) = run(bad, 2000, ms(1000));
    let (_, quickly) = run(bad, 2000, ms(2000));
    // As far apart as they are sent, packets do not overtake: same order, same bits, same copies.
    let packets = |arrived: Vec<(Duration, Vec<u8>)>| -> Vec<Vec<u8>> {
        arrived.into_iter().map(|(_, packet)| packet).collect()
    };
    let slowly = packets(slowly);
    assert_eq!(slowly, packets(quickly));
    let (_, otherwise) = run(LinkParams { seed: 10, ..bad }, 2000, ms(1000));
    assert_ne!(slowly, packets(otherwise));
}

#[test]
fn what_else_happens_to_a_packet_does_not_change_which_are_lost() {
    let (_, lossy) = run(spec("loss=10%,seed=5"), 1000, ms(1));
    let (_, worse) = run(spec("loss=10%,seed=5,delay=9ms,duplicate=20%,mtu=2000"), 1000, ms(1));
    let mut twice = numbers(&worse);
    twice.dedup();
    assert_eq!(numbers(&lossy), twice);
}

#[test]
fn losses_are_as_many_as_asked_for() {
    for text in ["loss=1%", "loss=1%/8", "burst=1%/20%/90%", "loss=100%", "loss=0"] {
        let params = spec(text);
        let (link, _) = run(params, 200_000, Duration::ZERO);
        let share = link.counters().lost as f64 / 200_000.0;
        let expected = params.loss.share();
        assert!((share - expected).abs() <= expected * 0.1, "{text}: {share}, not {expected}");
    }
}

#[test]
fn bursts_have_the_length_asked_for() {
    let (link, arrived) = run(spec("loss=2%/8"), 200_000, Duration::ZERO);
    let bursts = numbers(&arrived).windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    let length = link.counters().lost as f64 / bursts as f64;
    assert!((7.0..9.0).contains(&length), "{length}");
    let Loss::Bursts { leave, loss, .. } = link.params().loss else { panic!("bursts") };
    assert_eq!((leave, loss), (0.125, 1.0));
}

#[test]
fn jitter_reorders_unless_told_not_to() {
    let in_order = |numbers: Vec<u32>| numbers.is_sorted();
    let (_, arrived) = run(spec("delay=5ms,jitter=5ms"), 500, ms(1));
    assert!(!in_order(numbers(&arrived)));
    assert!(arrived.iter().all(|(_, packet)| packet.len() == 1000));
    let (_, arrived) = run(spec("delay=5ms,jitter=5ms,keep-order"), 500, ms(1));
    assert!(in_order(numbers(&arrived)));
}

#[test]
fn a_packet_held_back_is_late_by_what_was_asked_for() {
    let late = |text: &str| {
        let (link, arrived) = run(spec(text), 1000, ms(1));
        let late = arrived.iter().zip(numbers(&arrived)).map(|((at, _), n)| *at - ms(n.into()));
        let late: Vec<_> = late.filter(|late| *late != ms(5)).collect();
        assert_eq!(link.counters().reordered, late.len() as u64);
        assert!((30..80).contains(&late.len()), "{}", late.len());
        late
    };
    assert!(late("delay=5ms,reorder=5%/2ms").iter().all(|late| *late == ms(7)));
    let by_delays = late("delay=5ms,reorder=5%");
    for expected in [10, 15, 20] {
        assert!(by_delays.contains(&ms(expected)));
    }
}

#[test]
fn a_spoiled_packet_has_one_flipped_bit_and_a_doubled_one_comes_twice() {
    let (link, arrived) = run(spec("corrupt=100%"), 100, ms(1));
    for (number, (_, packet)) in arrived.iter().enumerate() {
        let mut sent = vec![0; 1000];
        sent[..4].copy_from_slice(&(number as u32).to_be_bytes());
        let flipped: u32 = sent.iter().zip(packet).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(flipped, 1);
    }
    assert_eq!(link.counters().corrupted, 100);
    let (_, arrived) = run(spec("duplicate=100%"), 3, ms(1));
    assert_eq!(numbers(&arrived), [0, 0, 1, 1, 2, 2]);
}

#[test]
fn a_packet_above_the_mtu_vanishes_and_one_of_its_size_does_not() {
    let start = Instant::now();
    let mut link = Link::new(start, spec("mtu=1280"));
    link.send(start, vec![0; 1281]);
    link.send(start, vec![0; 1280]);
    assert_eq!(link.receive(start).map(|packet| packet.len()), Some(1280));
    assert_eq!(link.counters().too_big, 1);
}

#[test]
fn a_link_goes_down_and_up_and_dies() {
    let start = Instant::now();
    let mut link = Link::new(start, spec("delay=10ms,dead-after=5s"));
    link.send(start, vec![1]);
    let mut params = *link.params();
    params.apply("down").expect("legal");
    link.set_params(params);
    link.send(start, vec![2]);
    params.apply("up").expect("legal");
    link.set_params(params);
    link.send(start, vec![3]);
    link.send(start + ms(5000), vec![4]);
    let later = start + ms(60_000);
    let arrived: Vec<_> = std::iter::from_fn(|| link.receive(later)).collect();
    assert_eq!(arrived, [[1], [3]], "what was on its way arrives");
    assert_eq!(link.counters().cut, 2);
}

#[test]
fn a_note_travels_with_its_packet() {
    let start = Instant::now();
    let mut link = Link::new(start, LinkParams::clean(ms(1)));
    link.send(start, ("to whom", vec![7]));
    assert_eq!(link.receive(start + ms(1)), Some(("to whom", vec![7])));
}
