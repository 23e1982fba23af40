//! Opening.

use super::*;

#[test]
fn dialing_a_go_node_is_syn_with_options_it_ignores_then_ack() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    let syn = transmit(&mut stream, now).unwrap();
    assert_eq!((syn.flags, syn.seq, syn.ack, syn.window), (SYN, 0, 0, 512));
    assert!(StreamOptions::parse(&syn.payload).unwrap().is_some());
    assert_eq!(transmit(&mut stream, now), None);

    feed(&mut stream, now + MS, &Sent::new(SYN_ACK, 0, 1, 512, &[]));
    assert_eq!(stream.dialect(), Some(Dialect::Go));
    assert_eq!(events(&mut stream), [StreamEvent::Connected]);
    assert_eq!(drain(&mut stream, now + MS), [Sent::new(ACK, 1, 1, 512, &[])]);
    assert_eq!(stream.stats().srtt, Some(MS));
}

#[test]
fn options_in_syn_and_syn_ack_make_both_ends_native() {
    let mut pair = Pair::new(&config());
    for end in &pair.ends {
        let Some(Dialect::Native(options)) = end.dialect() else { panic!("{end:?}") };
        assert_eq!((options.window_shift, options.half_close), (11, true));
    }
    pair.transfer(0, b"ping");
    pair.transfer(1, b"pong");
}

#[test]
fn a_go_dialer_is_answered_without_options() {
    let stream = accepted_from_go(Instant::now(), config());
    assert_eq!((stream.dialect(), stream.state()), (Some(Dialect::Go), State::SynReceived));
}

#[test]
fn options_that_cannot_be_read_are_as_good_as_none() {
    let now = Instant::now();
    let syn = Segment { flags: SYN, seq: Seq(0), ack: Seq(0), window: 9, payload: b"PAO1\x01\x09" };
    assert_eq!(Stream::accept(now, config(), &syn).dialect(), Some(Dialect::Go));
}

#[test]
fn the_listener_may_speak_before_the_third_packet() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, b"hello").unwrap();
    assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 1, 1, 512, b"hello")]);
}

#[test]
fn a_repeated_syn_gets_the_same_syn_ack_and_what_followed_it() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.write(now, b"hello").unwrap();
    let first = drain(&mut stream, now);
    feed(&mut stream, now + 250 * MS, &Sent::new(SYN, 0, 0, 512, &[]));
    let again = drain(&mut stream, now + 250 * MS);
    assert_eq!(again[0], Sent::new(SYN_ACK, 0, 1, 512, &[]));
    assert_eq!(again[1..], first);
}

#[test]
fn any_initial_sequence_number_of_the_peer_will_do() {
    let now = Instant::now();
    let syn = Segment { flags: SYN, seq: Seq(u32::MAX), ack: Seq(0), window: 512, payload: &[] };
    let mut stream = Stream::accept(now, config(), &syn);
    assert_eq!(drain(&mut stream, now)[0].ack, 0);
    feed(&mut stream, now, &Sent::new(ACK, 0, 1, 512, b"abc"));
    assert_eq!(drain(&mut stream, now)[0].ack, 3);
    assert_eq!(read_all(&mut stream, now), b"abc");
}

#[test]
fn the_third_packet_may_carry_any_number() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 0, 1, 512, &[]));
    assert_eq!(stream.state(), State::Established);
    assert_eq!(drain(&mut stream, now), []);
}

#[test]
fn the_third_packet_measures_the_path_but_early_data_does_not() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now + MS, &Sent::new(ACK, 1, 1, 512, b"early"));
    assert_eq!(stream.stats().srtt, None);
    feed(&mut stream, now + 30 * MS, &Sent::new(ACK, 6, 1, 512, &[]));
    assert_eq!(stream.stats().srtt, Some(30 * MS));
}

#[test]
fn early_data_follows_syn_in_the_same_flight() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    assert_eq!(stream.write(now, b"early"), Ok(5));
    let flight = drain(&mut stream, now);
    assert_eq!(flight[0].flags, SYN);
    assert_eq!(flight[1..], [Sent::new(ACK, 1, 1, 512, b"early")]);

    let mut listener = accepted_from_go(now, config());
    feed(&mut listener, now, &flight[1]);
    assert_eq!(read_all(&mut listener, now), b"early");
}

#[test]
fn early_data_waits_if_so_configured() {
    let now = Instant::now();
    let config = Arc::new(StreamConfig { early_data: false, ..StreamConfig::default() });
    let mut stream = Stream::connect(now, config);
    stream.write(now, b"early").unwrap();
    assert_eq!(drain(&mut stream, now).len(), 1);
    feed(&mut stream, now + MS, &Sent::new(SYN_ACK, 0, 1, 512, &[]));
    assert_eq!(drain(&mut stream, now + MS), [Sent::new(ACK, 1, 1, 512, b"early")]);
}

#[test]
fn early_data_lost_with_the_syn_is_repeated_at_once_when_the_answer_comes() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    stream.write(now, b"early").unwrap();
    drain(&mut stream, now);
    stream.handle_timeout(now + 250 * MS);
    assert_eq!(drain(&mut stream, now + 250 * MS).len(), 1, "only SYN is repeated");
    feed(&mut stream, now + 251 * MS, &Sent::new(SYN_ACK, 0, 1, 512, &[]));
    assert_eq!(drain(&mut stream, now + 251 * MS), [Sent::new(ACK, 1, 1, 512, b"early")]);
}

#[test]
fn early_data_acknowledged_by_the_answer_is_not_repeated() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    stream.write(now, b"early").unwrap();
    drain(&mut stream, now);
    feed(&mut stream, now + MS, &Sent::new(SYN_ACK, 0, 6, 512, &[]));
    assert!(stream.is_drained());
    assert_eq!(drain(&mut stream, now + MS), [Sent::new(ACK, 6, 1, 512, &[])]);
}

#[test]
fn syn_is_repeated_as_release_1_18_does_until_the_dial_gives_up() {
    let start = Instant::now();
    let mut stream = Stream::connect(start, config());
    let mut at = Vec::new();
    let mut now = start;
    loop {
        at.extend(drain(&mut stream, now).iter().filter(|s| s.flags == SYN).map(|_| now - start));
        let Some(next) = stream.poll_timeout() else { break };
        now = next;
        stream.handle_timeout(now);
    }
    assert_eq!(at, [0, 250, 750, 1750, 2250, 3250, 5250, 9250].map(|ms| MS * ms));
    let error = StreamError::TimedOut { after: Duration::from_secs(12) };
    assert_eq!(now - start, Duration::from_secs(12));
    assert_eq!(events(&mut stream).last(), Some(&StreamEvent::Closed(Some(error))));
    assert_eq!(stream.write(now, b"x"), Err(error));
}

#[test]
fn a_dial_whose_syn_is_never_fetched_ends_all_the_same() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    let end = stream.poll_timeout().unwrap();
    assert_eq!(end, now + config().connect_timeout);
    stream.handle_timeout(end);
    assert_eq!(stream.state(), State::Closed);
}

#[test]
fn reset_while_dialing_means_refused() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    drain(&mut stream, now);
    feed(&mut stream, now, &Sent::new(RST, 0, 0, 0, &[]));
    assert_eq!(
        events(&mut stream),
        [StreamEvent::Readable, StreamEvent::Closed(Some(StreamError::Refused))]
    );
    assert_eq!(stream.read(now, &mut [0; 9]), Err(StreamError::Refused));
    assert!(stream.is_finished() && stream.poll_timeout().is_none());
}

#[test]
fn a_syn_ack_that_acknowledges_what_was_never_sent_is_ignored() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    drain(&mut stream, now);
    for ack in [0, 2, 77, u32::MAX] {
        feed(&mut stream, now, &Sent::new(SYN_ACK, 0, ack, 512, &[]));
        assert_eq!(stream.state(), State::SynSent);
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let good = StreamConfig::default();
    assert_eq!(good.validate(), Ok(()));
    let bad = StreamConfig { recv_buffer: 1, ..good.clone() };
    assert_eq!(bad.validate().unwrap_err().field, "recv_buffer");
    let bad = StreamConfig { idle_timeout: MS, ..good };
    assert_eq!(bad.validate().unwrap_err().field, "idle_timeout");
}
