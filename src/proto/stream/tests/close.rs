//! Ending a stream between our nodes.

use super::*;

#[test]
fn half_close_ends_one_direction_and_the_other_goes_on() {
    let mut pair = Pair::new(&config());
    pair.ends[0].write(pair.now, b"question").unwrap();
    pair.ends[0].finish(pair.now).unwrap();
    assert_eq!(pair.ends[0].write(pair.now, b"more"), Err(StreamError::Closed));
    assert_eq!(pair.ends[0].finish(pair.now), Ok(()));
    pair.run_for(100 * MS);
    assert_eq!(pair.ends.each_ref().map(Stream::state), [State::FinWait2, State::CloseWait]);
    assert!(pair.ends[0].is_drained());

    let mut buf = [0; 20];
    assert_eq!(pair.ends[1].read(pair.now, &mut buf), Ok(Some(8)));
    assert_eq!(pair.ends[1].read(pair.now, &mut buf), Ok(Some(0)));
    let answer = pattern(200_000);
    pair.transfer(1, &answer);
    pair.ends[1].finish(pair.now).unwrap();
    pair.run_for(100 * MS);
    assert_eq!(pair.ends[0].read(pair.now, &mut buf), Ok(Some(0)));
    assert_eq!(pair.ends.each_ref().map(Stream::state), [State::TimeWait, State::Closed]);
    pair.run_for(config().time_wait);
    for end in &mut pair.ends {
        assert_eq!(events(end).last(), Some(&StreamEvent::Closed(None)));
        assert!(end.is_finished() && end.poll_timeout().is_none());
    }
}

#[test]
fn fin_takes_a_number_carries_an_acknowledgement_and_is_acknowledged_by_a_pure_ack() {
    let now = Instant::now();
    let mut stream = accepted_from_native(now, config());
    stream.write(now, b"bye").unwrap();
    stream.finish(now).unwrap();
    let sent = drain(&mut stream, now);
    assert_eq!((sent[0].flags, sent[0].seq), (ACK, 1));
    assert_eq!((sent[1].flags, sent[1].seq, sent[1].ack), (FIN_ACK, 4, 1));
    feed(&mut stream, now, &Sent::new(ACK, 1, 5, 512, &[]));
    assert_eq!(stream.state(), State::FinWait2);
    feed(&mut stream, now, &Sent::new(FIN_ACK, 1, 5, 512, &[]));
    let answer = drain(&mut stream, now);
    assert_eq!((answer.len(), answer[0].flags), (1, ACK));
    assert_eq!((answer[0].seq, answer[0].ack), (5, 2));
}

#[test]
fn both_ends_may_finish_at_once() {
    let mut pair = Pair::new(&config());
    for i in 0..2 {
        pair.ends[i].write(pair.now, b"bye").unwrap();
        pair.ends[i].finish(pair.now).unwrap();
    }
    pair.run_for(100 * MS);
    for end in &mut pair.ends {
        assert_eq!(end.state(), State::TimeWait);
        assert_eq!(read_all(end, pair.now), b"bye");
    }
}

#[test]
fn a_lost_fin_is_repeated() {
    let mut pair = Pair::new(&config());
    pair.lose[0] = lose_once(|sent| sent.flags.contains(FIN));
    pair.ends[0].finish(pair.now).unwrap();
    pair.run_for(400 * MS);
    assert_eq!(pair.ends[1].state(), State::CloseWait);
}

#[test]
fn a_lost_acknowledgement_of_fin_is_repeated_even_in_time_wait() {
    let mut pair = Pair::new(&config());
    pair.ends[0].finish(pair.now).unwrap();
    pair.run_for(100 * MS);
    pair.ends[1].finish(pair.now).unwrap();
    pair.lose[0] = lose_once(|sent| sent.flags == ACK);
    pair.run_for(500 * MS);
    assert_eq!(pair.ends.each_ref().map(Stream::state), [State::TimeWait, State::Closed]);
}

#[test]
fn fin_ahead_of_missing_data_waits_for_it() {
    let mut pair = Pair::new(&config());
    pair.lose[0] = lose_once(Sent::is_data);
    pair.ends[0].write(pair.now, b"first").unwrap();
    pair.ends[0].finish(pair.now).unwrap();
    pair.run_for(30 * MS);
    assert_eq!(pair.ends[1].state(), State::Established);
    pair.run_for(400 * MS);
    assert_eq!(pair.ends[1].state(), State::CloseWait);
    assert_eq!(read_all(&mut pair.ends[1], pair.now), b"first");
}

#[test]
fn close_delivers_what_was_written_and_then_forgets_the_stream() {
    let mut pair = Pair::new(&config());
    let data = pattern(500_000);
    pair.ends[0].write_bytes(pair.now, Bytes::from(data.clone())).unwrap();
    pair.ends[0].close(pair.now);
    assert_eq!(pair.ends[0].read(pair.now, &mut [0]), Err(StreamError::Closed));
    pair.run_for(Duration::from_secs(2));
    assert!(read_all(&mut pair.ends[1], pair.now) == data);
    pair.ends[1].close(pair.now);
    pair.run_for(Duration::from_secs(3));
    assert!(pair.ends.iter().all(Stream::is_finished));
}

#[test]
fn data_for_a_closed_reader_is_answered_by_reset() {
    let mut pair = Pair::new(&config());
    pair.ends[0].write(pair.now, b"all of it").unwrap();
    pair.ends[0].close(pair.now);
    pair.run_for(100 * MS);
    pair.ends[1].write(pair.now, b"who reads this?").unwrap();
    pair.run_for(100 * MS);
    assert!(pair.ends[0].is_finished());
    assert_eq!(read_all(&mut pair.ends[1], pair.now), b"all of it");
    assert_eq!(pair.ends[1].write(pair.now, b"x"), Err(StreamError::Reset));
}

#[test]
fn a_closed_stream_gives_up_on_a_peer_that_never_finishes() {
    let mut pair = Pair::new(&config());
    pair.ends[0].close(pair.now);
    pair.run_for(config().linger + 100 * MS);
    assert!(pair.ends[0].is_finished());
    assert_eq!(pair.ends[1].write(pair.now, b"x"), Err(StreamError::Reset));
}

#[test]
fn a_stream_closed_before_the_answer_is_taken_back() {
    let now = Instant::now();
    let mut stream = Stream::connect(now, config());
    drain(&mut stream, now);
    stream.close(now);
    assert_eq!(drain(&mut stream, now), [Sent::new(RST, 0, 0, 0, &[])]);
    assert!(stream.is_finished());

    let mut stream = Stream::connect(now, config());
    stream.write(now, b"fire and forget").unwrap();
    drain(&mut stream, now);
    stream.close(now);
    feed(&mut stream, now, &Sent::new(SYN_ACK, 0, 1, 512, &[]));
    drain(&mut stream, now);
    feed(&mut stream, now, &Sent::new(ACK, 1, 16, 512, &[]));
    assert_eq!(drain(&mut stream, now), [Sent::new(FIN, 16, 0, 0, &[])]);
}

#[test]
fn abort_resets_both_ends_at_once() {
    let mut pair = Pair::new(&config());
    pair.ends[0].write(pair.now, b"before").unwrap();
    pair.run_for(100 * MS);
    pair.ends[0].abort(pair.now);
    assert!(!pair.ends[0].is_finished(), "the RST is not out yet");
    pair.run_for(100 * MS);
    assert!(pair.ends[0].is_finished());
    assert_eq!(pair.ends[0].write(pair.now, b"x"), Err(StreamError::Aborted));
    assert_eq!(read_all(&mut pair.ends[1], pair.now), b"before", "what came before the error");
    assert_eq!(pair.ends[1].read(pair.now, &mut [0]), Err(StreamError::Reset));
    assert!(pair.ends[1].is_finished());
}

#[test]
fn a_reset_out_of_the_window_is_ignored_but_one_of_zeros_counts() {
    let now = Instant::now();
    let mut stream = accepted_from_native(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, b"0123456789"));
    for seq in [5, 100_000_000, u32::MAX] {
        feed(&mut stream, now, &Sent::new(RST, seq, 0, 0, &[]));
        assert_eq!(stream.state(), State::Established, "{seq}");
    }
    feed(&mut stream, now, &Sent::new(RST, 0, 0, 0, &[]));
    assert_eq!(stream.state(), State::Closed);

    let mut stream = accepted_from_native(now, config());
    feed(&mut stream, now, &Sent::new(RST, 1, 0, 0, &[]));
    assert_eq!(stream.state(), State::Closed);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_ignored_with_its_data() {
    let now = Instant::now();
    let mut stream = accepted_from_native(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 99, 512, b"nonsense"));
    assert_eq!(read_all(&mut stream, now), b"");
    assert_eq!(drain(&mut stream, now), []);
}

#[test]
fn states_follow_rfc_9293() {
    use State::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, TimeWait,
    };
    for (from, to) in [(FinWait1, FinWait2), (Closing, TimeWait), (LastAck, Closed)] {
        assert_eq!(from.after_fin_acked(), to);
    }
    for (from, to) in [
        (SynReceived, CloseWait),
        (Established, CloseWait),
        (FinWait1, Closing),
        (FinWait2, TimeWait),
        (CloseWait, CloseWait),
    ] {
        assert_eq!(from.after_fin_received(), to);
    }
}
