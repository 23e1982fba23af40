//! What Go nodes need, and what they do.

use super::*;

#[test]
fn toward_a_go_node_at_most_128_segments_are_in_flight() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, &pattern(500_000)).unwrap();
    let (mut una, mut next, mut most) = (1, 1, 0);
    for _ in 0..50 {
        let flight = drain(&mut stream, now);
        next += flight.iter().map(|s| u32::try_from(s.payload.len()).unwrap()).sum::<u32>();
        most = most.max((next - una).div_ceil(1152));
        una = next.min(una + 1152 * 64);
        feed(&mut stream, now, &Sent::new(ACK, 1, una, 512, &[]));
    }
    assert_eq!(most, 128);
}

#[test]
fn a_go_window_is_a_number_of_segments_however_short() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 3, &[]));
    for _ in 0..5 {
        stream.write(now, b"x").unwrap();
        let _ = transmit(&mut stream, now);
    }
    assert_eq!(stream.stats().in_flight, 3);
    feed(&mut stream, now, &Sent::new(ACK, 1, 2, 3, &[]));
    assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 4, 1, 512, b"xx")]);
}

#[test]
fn retransmission_keeps_segment_boundaries() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    let mut first = Vec::new();
    for piece in [&b"one"[..], b"two", b"three"] {
        stream.write(now, piece).unwrap();
        first.extend(drain(&mut stream, now));
    }
    let later = now + Duration::from_secs(2);
    stream.handle_timeout(later);
    assert_eq!(drain(&mut stream, later), first);
}

#[test]
fn data_that_looks_like_sack_is_cut_after_its_first_byte_in_either_dialect() {
    let now = Instant::now();
    for mut stream in [accepted_from_go(now, config()), accepted_from_native(now, config())] {
        let trap = b"SACK\x01\0\0\0\x01\0\0\0\x09 and more";
        stream.write(now, trap).unwrap();
        let sent = drain(&mut stream, now);
        assert_eq!(sent[0].payload, b"S");
        assert_eq!(sent[1].payload, &trap[1..]);
        assert!(sent.iter().all(Sent::is_data));
    }
}

#[test]
fn bytes_that_only_begin_like_sack_are_not_cut() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, b"SACK\x05 is not one").unwrap();
    assert_eq!(drain(&mut stream, now).len(), 1);
}

#[test]
fn every_segment_with_payload_carries_the_ack_flag_and_without_it_is_ignored() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(Flags::NONE, 1, 1, 512, b"no flag"));
    assert_eq!((drain(&mut stream, now), read_all(&mut stream, now)), (vec![], vec![]));
    let mut pair = Pair::new(&config());
    pair.transfer(0, &pattern(50_000));
    assert!(pair.log.iter().all(|(.., s)| s.payload.is_empty() || s.flags.contains(ACK)));
}

fn hundred_segments() -> StreamConfig {
    let recv_buffer = 115_200;
    StreamConfig { recv_buffer, max_recv_buffer: recv_buffer, ..StreamConfig::default() }
}

#[test]
fn toward_a_go_node_the_window_is_free_segments() {
    let now = Instant::now();
    let config = Arc::new(hundred_segments());
    let syn = Segment { flags: SYN, seq: Seq(0), ack: Seq(0), window: 512, payload: &[] };
    let mut stream = Stream::accept(now, config, &syn);
    assert_eq!(drain(&mut stream, now)[0].window, 100);
    let mut windows = Vec::new();
    for i in 0..100 {
        feed(&mut stream, now, &Sent::new(ACK, 1 + i * 1152, 1, 512, &[0; 1152]));
        windows.extend(drain(&mut stream, now).iter().map(|s| s.window));
    }
    assert_eq!((windows.first(), windows.last()), (Some(&98), Some(&0)));

    // Neither reading a little nor reading nothing says anything; reading half does.
    let mut buf = vec![0; 10 * 1152];
    stream.read(now, &mut buf).unwrap();
    assert_eq!(drain(&mut stream, now), []);
    buf.resize(50 * 1152, 0);
    stream.read(now, &mut buf).unwrap();
    assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 1, 115_201, 60, &[])]);
}

#[test]
fn a_probe_is_answered_only_if_the_window_was_zero_and_has_opened() {
    let now = Instant::now();
    let config = Arc::new(hundred_segments());
    let syn = Segment { flags: SYN, seq: Seq(0), ack: Seq(0), window: 512, payload: &[] };
    let mut stream = Stream::accept(now, config, &syn);
    for i in 0..100 {
        feed(&mut stream, now, &Sent::new(ACK, 1 + i * 1152, 1, 512, &[0; 1152]));
    }
    drain(&mut stream, now);
    let probe = Sent::new(ACK, 115_201, 1, 512, &[]);
    feed(&mut stream, now, &probe);
    assert_eq!(drain(&mut stream, now), [], "still full");
    stream.read(now, &mut [0; 1152 * 5]).unwrap();
    feed(&mut stream, now, &probe);
    assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 1, 115_201, 5, &[])]);
    feed(&mut stream, now, &probe);
    assert_eq!(drain(&mut stream, now).len(), 1, "the answer may have been lost");
    feed(&mut stream, now, &Sent::new(ACK, 115_201, 1, 512, b"it was not"));
    drain(&mut stream, now);
    feed(&mut stream, now, &Sent::new(ACK, 115_211, 1, 512, &[]));
    assert_eq!(drain(&mut stream, now), []);
}

#[test]
fn a_keepalive_of_an_old_go_node_does_not_close_the_window() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 0, &[]));
    stream.write(now, b"still open").unwrap();
    assert_eq!(drain(&mut stream, now).len(), 1);
}

#[test]
fn zero_window_is_probed_with_one_data_segment_per_timeout() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, &[1; 3 * 1152]).unwrap();
    drain(&mut stream, now);
    // The reader has stopped: the first segment is taken, the others are dropped.
    feed(&mut stream, now + MS, &Sent::new(ACK, 1, 1153, 0, &[]));
    let mut now = now + MS;
    for _ in 0..20 {
        now = stream.poll_timeout().unwrap();
        stream.handle_timeout(now);
        let sent = drain(&mut stream, now);
        assert!(sent.len() <= 1, "{sent:?}");
        for probe in sent {
            assert_eq!((probe.seq, probe.payload.len()), (1153, 1152));
            feed(&mut stream, now, &Sent::new(ACK, 1, 1153, 0, &[]));
        }
    }
    assert_eq!(stream.state(), State::Established, "acknowledgements keep coming");
    let cwnd = stream.stats().cwnd;
    assert!(cwnd >= 11_520, "a closed window is not congestion: {cwnd}");
    feed(&mut stream, now, &Sent::new(ACK, 1, 1153, 512, &[]));
    assert_eq!(drain(&mut stream, now)[0].seq, 1153, "reopened: repeated at once");
}

#[test]
fn fin_of_a_go_node_ends_both_directions() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, b"bye"));
    drain(&mut stream, now);
    feed(&mut stream, now, &Sent::new(FIN, 4, 0, 0, &[]));
    assert_eq!(drain(&mut stream, now), [Sent::new(FIN_ACK, 1, 5, 0, &[])]);
    let mut buf = [0; 9];
    assert_eq!(stream.read(now, &mut buf), Ok(Some(3)));
    assert_eq!(stream.read(now, &mut buf), Ok(Some(0)));
    assert_eq!(stream.write(now, b"late"), Err(StreamError::PeerClosed));
    assert_eq!(stream.finish(now), Ok(()), "already closed");
    assert_eq!(events(&mut stream), [StreamEvent::Readable, StreamEvent::Closed(None)]);
}

#[test]
fn data_that_a_closing_go_node_did_not_take_is_reported() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, b"lost").unwrap();
    drain(&mut stream, now);
    feed(&mut stream, now, &Sent::new(FIN, 1, 0, 0, &[]));
    let closed = StreamEvent::Closed(Some(StreamError::PeerClosed));
    assert!(events(&mut stream).contains(&closed));
    assert_eq!(stream.read(now, &mut [0; 9]), Ok(Some(0)));
}

#[test]
fn fin_ack_is_never_answered_and_a_repeated_fin_not_often() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(FIN, 1, 0, 0, &[]));
    assert_eq!(drain(&mut stream, now).len(), 1);
    let end = stream.poll_timeout();
    for i in 0..100 {
        feed(&mut stream, now + MS * i, &Sent::new(FIN_ACK, 1, 1, 0, &[]));
        feed(&mut stream, now + MS * i, &Sent::new(FIN, 1, 0, 0, &[]));
        assert_eq!(drain(&mut stream, now + MS * i), []);
    }
    feed(&mut stream, now + 300 * MS, &Sent::new(FIN, 1, 0, 0, &[]));
    assert_eq!(drain(&mut stream, now + 300 * MS), [Sent::new(FIN_ACK, 1, 2, 0, &[])]);
    assert_eq!(stream.poll_timeout(), end, "TIME_WAIT is not renewed");
}

#[test]
fn fin_of_a_go_node_ahead_of_missing_data_waits_for_it() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 4, 1, 512, b"def"));
    drain(&mut stream, now);
    feed(&mut stream, now, &Sent::new(FIN, 7, 0, 0, &[]));
    let answer = drain(&mut stream, now);
    assert_eq!((answer.len(), answer[0].flags, answer[0].ack), (1, ACK, 1));
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, b"abc"));
    assert_eq!(drain(&mut stream, now)[0], Sent::new(FIN_ACK, 1, 8, 0, &[]));
    assert_eq!(read_all(&mut stream, now), b"abcdef");
    assert_eq!(stream.state(), State::TimeWait);
}

#[test]
fn half_close_toward_a_go_node_is_a_clear_error() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    assert_eq!(stream.finish(now), Err(StreamError::HalfCloseUnsupported));
    assert_eq!(stream.write(now, b"goes on"), Ok(7));

    let mut dialer = Stream::connect(now, config());
    assert_eq!(dialer.finish(now), Ok(()), "the peer is not known yet");
    drain(&mut dialer, now);
    feed(&mut dialer, now, &Sent::new(SYN_ACK, 0, 1, 512, &[]));
    assert_eq!(drain(&mut dialer, now), [Sent::new(RST, 0, 0, 0, &[])]);
    assert_eq!(dialer.read(now, &mut [0]), Err(StreamError::HalfCloseUnsupported));
}

#[test]
fn closing_toward_a_go_node_drains_first_and_fin_takes_a_number() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, b"last words").unwrap();
    stream.close(now);
    assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 1, 1, 512, b"last words")]);
    feed(&mut stream, now, &Sent::new(ACK, 1, 11, 511, &[]));
    assert_eq!(drain(&mut stream, now), [Sent::new(FIN, 11, 0, 0, &[])]);
    assert!(!stream.is_drained());
    feed(&mut stream, now, &Sent::new(FIN_ACK, 1, 12, 0, &[]));
    assert_eq!(drain(&mut stream, now), [], "FIN+ACK is not answered");
    assert_eq!((stream.state(), stream.is_drained()), (State::TimeWait, true));
    assert_eq!(events(&mut stream), [StreamEvent::Closed(None)]);
    stream.handle_timeout(now + config().time_wait);
    assert!(stream.is_finished());
}

#[test]
fn fin_that_a_go_node_does_not_answer_is_repeated_but_not_for_ever() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.close(now);
    let mut fins = drain(&mut stream, now).len();
    while let Some(now) = stream.poll_timeout() {
        stream.handle_timeout(now);
        fins += drain(&mut stream, now).iter().filter(|s| s.flags == FIN).count();
    }
    assert!((2..=7).contains(&fins), "{fins}");
    assert_eq!(events(&mut stream), [StreamEvent::Closed(None)], "everything was delivered");
    assert!(stream.is_finished());
}

#[test]
fn both_sides_closing_at_once_end_in_order() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.close(now);
    assert_eq!(drain(&mut stream, now), [Sent::new(FIN, 1, 0, 0, &[])]);
    feed(&mut stream, now, &Sent::new(FIN, 1, 0, 0, &[]));
    assert_eq!(drain(&mut stream, now), [Sent::new(FIN_ACK, 2, 2, 0, &[])]);
    assert_eq!(events(&mut stream), [StreamEvent::Closed(None)]);
}
