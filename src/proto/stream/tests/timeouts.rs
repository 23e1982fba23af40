//! Deadlines: nothing hangs.

use super::*;

const S: Duration = Duration::from_secs(1);

#[test]
fn a_peer_that_vanishes_with_data_in_flight_fails_within_the_user_timeout() {
    let mut pair = Pair::new(&config());
    pair.lose = [Box::new(|_| true), Box::new(|_| true)];
    let start = pair.now;
    pair.ends[0].write(pair.now, b"anybody there?").unwrap();
    while pair.ends[0].state() != State::Closed {
        assert!(pair.step(start + 100 * S));
    }
    let error = StreamError::TimedOut { after: 30 * S };
    assert_eq!(pair.now - start, 30 * S);
    assert!(events(&mut pair.ends[0]).contains(&StreamEvent::Closed(Some(error))));
    assert_eq!(pair.ends[0].read(pair.now, &mut [0]), Err(error));
    assert_eq!(pair.ends[0].write(pair.now, b"x"), Err(error));
    assert!(pair.sent_by(0).last().unwrap().flags == RST, "the peer may live after all");
}

#[test]
fn progress_renews_the_user_timeout() {
    let mut pair = Pair::new(&reno());
    let mut n = 0;
    pair.lose[0] = Box::new(move |sent| {
        n += u32::from(sent.is_data());
        sent.is_data() && !n.is_multiple_of(5)
    });
    let took = pair.transfer(0, &pattern(80_000));
    assert!(took > 30 * S, "{took:?}");
}

#[test]
fn silence_is_probed_and_probes_keep_an_idle_stream_alive() {
    let mut pair = Pair::new(&config());
    pair.run_for(3600 * S);
    assert!(pair.ends.iter().all(|end| end.state() == State::Established));
    let probes = pair.ends[0].stats().keepalive_probes + pair.ends[1].stats().keepalive_probes;
    assert!((100..=250).contains(&probes), "{probes}");
    let probe = pair.sent_by(0)[0];
    assert!(probe.window > 0, "a real window: {probe:?}");
    assert!(pair.ends.iter_mut().all(|end| read_all(end, pair.now).is_empty()));
}

#[test]
fn a_go_node_answers_the_probe_as_a_duplicate_and_that_is_enough() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    for i in 1..=20 {
        let now = now + 30 * S * i;
        assert_eq!(stream.poll_timeout(), Some(now));
        stream.handle_timeout(now);
        assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 0, 1, 512, &[0])]);
        feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, &[]));
    }
    assert_eq!(stream.state(), State::Established);
}

#[test]
fn a_peer_that_answers_no_probe_for_two_minutes_is_given_up() {
    let mut pair = Pair::new(&config());
    let last_heard = pair.ends[0].last_received;
    pair.lose = [Box::new(|_| true), Box::new(|_| true)];
    while pair.ends[0].state() != State::Closed {
        let end = pair.now + 200 * S;
        assert!(pair.step(end));
    }
    let error = StreamError::IdleTimeout { after: 120 * S };
    assert_eq!(pair.now - last_heard, 120 * S);
    assert_eq!(pair.ends[0].read(pair.now, &mut [0]), Err(error));
    assert_eq!(pair.ends[0].stats().keepalive_probes, 3);
}

#[test]
fn early_and_extra_timeouts_do_nothing() {
    let mut pair = Pair::new(&config());
    pair.ends[0].write(pair.now, b"in flight").unwrap();
    pair.pump();
    for end in &mut pair.ends {
        let (stats, next) = (end.stats(), end.poll_timeout());
        for _ in 0..3 {
            end.handle_timeout(pair.now);
        }
        assert_eq!((end.stats(), end.poll_timeout()), (stats, next));
        assert_eq!(transmit(end, pair.now), None);
    }
}

#[test]
fn at_rest_nothing_is_due_but_the_keepalive() {
    let mut pair = Pair::new(&config());
    pair.transfer(0, &pattern(100_000));
    pair.run_for(S);
    for end in &pair.ends {
        assert_eq!(end.stats().in_flight, 0);
        assert!(end.poll_timeout().unwrap() > pair.now + 20 * S);
    }
}

#[test]
fn a_peer_that_restarted_or_cannot_be_reached_fails_the_stream_at_once() {
    for error in [StreamError::PeerRestarted, StreamError::PeerUnreachable] {
        let now = Instant::now();
        let mut stream = accepted_from_go(now, config());
        stream.write(now, b"lost").unwrap();
        stream.fail(now, error);
        assert_eq!(drain(&mut stream, now), [], "nobody is there to be told");
        assert_eq!(stream.read(now, &mut [0]), Err(error));
        assert_eq!(stream.write(now, b"x"), Err(error));
        assert!(stream.is_finished());
    }
}
