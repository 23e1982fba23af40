//! Flow control, acknowledgements, and small segments.

use super::*;

const KB: usize = 1024;

fn small_buffers() -> Arc<StreamConfig> {
    let (send_buffer, recv_buffer) = (64 * KB, 64 * KB);
    Arc::new(StreamConfig {
        send_buffer,
        max_send_buffer: send_buffer,
        recv_buffer,
        max_recv_buffer: recv_buffer,
        ..StreamConfig::default()
    })
}

#[test]
fn megabytes_arrive_both_ways() {
    let mut pair = Pair::new(&config());
    let data = pattern(3_000_000);
    let took = pair.transfer(0, &data);
    assert!(took < Duration::from_secs(2), "{took:?}");
    pair.transfer(1, &data);
    let stats = pair.ends[0].stats();
    assert_eq!((stats.bytes_sent, stats.bytes_acked), (3_000_000, 3_000_000));
    assert_eq!((stats.bytes_received, stats.segments_retransmitted), (3_000_000, 0));
    assert!(pair.ends.iter().all(Stream::is_drained));
}

#[test]
fn a_write_is_cut_short_by_the_buffer_and_room_is_announced_at_half() {
    let mut pair = Pair::new(&small_buffers());
    assert_eq!(pair.ends[0].write(pair.now, &[0; 100 * KB]), Ok(64 * KB));
    assert_eq!(pair.ends[0].write(pair.now, b"x"), Ok(0));
    assert!(!pair.ends[0].is_writable());
    while !events(&mut pair.ends[0]).contains(&StreamEvent::Writable) {
        let end = pair.now + Duration::from_secs(9);
        assert!(pair.step(end));
        read_all(&mut pair.ends[1], pair.now);
    }
    assert!(pair.ends[0].stats().send_buffered < 32 * KB);
    pair.run_for(MS * 500);
    assert_eq!(events(&mut pair.ends[0]), [], "said once");
}

#[test]
fn a_chunk_is_taken_without_copying_and_the_end_is_an_empty_chunk() {
    let mut pair = Pair::new(&config());
    let data = Bytes::from(pattern(200_000));
    assert_eq!(pair.ends[0].write_bytes(pair.now, data.clone()), Ok(true));
    pair.ends[0].finish(pair.now).unwrap();
    pair.run_for(MS * 500);
    let mut got = Vec::new();
    while let Ok(Some(chunk)) = pair.ends[1].read_chunk(pair.now, 50_000) {
        assert!(chunk.len() <= 50_000);
        if chunk.is_empty() {
            break;
        }
        got.extend_from_slice(&chunk);
    }
    assert!(got == data);
}

#[test]
fn a_reader_that_stops_closes_the_window_and_reopening_is_announced() {
    let mut pair = Pair::new(&small_buffers());
    let data = pattern(64 * KB);
    pair.ends[0].write(pair.now, &data).unwrap();
    pair.run_for(Duration::from_secs(1));
    assert!(pair.ends[0].write(pair.now, &data).unwrap() > 60 * KB);
    pair.run_for(Duration::from_secs(1));
    assert!(pair.ends[1].stats().recv_buffered > 60 * KB);
    let before = pair.ends[0].stats();
    assert!(before.send_buffered > 32 * KB);

    pair.log.clear();
    read_all(&mut pair.ends[1], pair.now);
    let start = pair.now;
    pair.step(start + MS);
    let update = pair.sent_by(1)[0];
    assert!(!update.is_data() && update.window > 0, "{update:?}");
    pair.run_for(MS * 200);
    assert!(pair.ends[0].is_drained());
}

#[test]
fn a_lost_window_update_is_recovered_by_a_probe_of_one_byte() {
    let mut pair = Pair::new(&small_buffers());
    pair.ends[0].write(pair.now, &pattern(64 * KB)).unwrap();
    pair.run_for(Duration::from_secs(1));
    let more = pair.ends[0].write(pair.now, &pattern(64 * KB)).unwrap();
    pair.run_for(Duration::from_secs(5));
    assert!(pair.ends[0].stats().window_probes >= 2);
    assert!(pair.sent_by(0).iter().any(|sent| sent.payload.len() == 1));

    pair.lose[1] = lose_once(|sent| sent.window > 0 && !sent.is_data());
    let mut got = read_all(&mut pair.ends[1], pair.now).len();
    for _ in 0..200 {
        pair.run_for(MS * 100);
        got += read_all(&mut pair.ends[1], pair.now).len();
    }
    assert_eq!(got, 64 * KB + more);
    assert!(pair.ends[0].is_drained());
}

#[test]
fn a_peer_that_keeps_its_window_closed_does_not_time_out() {
    let mut pair = Pair::new(&small_buffers());
    pair.ends[0].write(pair.now, &pattern(64 * KB)).unwrap();
    pair.run_for(Duration::from_secs(1));
    pair.ends[0].write(pair.now, &pattern(64 * KB)).unwrap();
    pair.run_for(Duration::from_secs(600));
    assert_eq!(pair.ends[0].state(), State::Established);
    let probes = pair.ends[0].stats().window_probes;
    assert!((50..100).contains(&probes), "{probes} probes in ten minutes");
}

#[test]
fn window_probes_back_off() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 1, &[]));
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 0, &[]));
    stream.write(now, &[7; 5000]).unwrap();
    assert_eq!(drain(&mut stream, now), []);
    let (start, mut at, mut acked) = (now, Vec::new(), 1);
    for _ in 0..5 {
        let now = stream.poll_timeout().unwrap();
        stream.handle_timeout(now);
        for probe in drain(&mut stream, now) {
            assert_eq!(probe.payload.len(), 1);
            at.push((now - start).as_millis());
            acked += 1;
            feed(&mut stream, now, &Sent::new(ACK, 1, acked, 0, &[]));
            drain(&mut stream, now);
        }
    }
    assert_eq!(at, [200, 600, 1400, 3000, 6200]);
}

#[test]
fn a_segment_that_the_window_would_cut_waits_while_others_are_out() {
    let now = Instant::now();
    let mut stream = accepted_from_native(now, config());
    let edge = 512 * GO_UNIT_BYTES;
    let mut sent = 0;
    stream.write(now, &pattern(edge + 5000)).unwrap();
    while sent + 1152 <= edge {
        let out = transmit(&mut stream, now);
        match out {
            Some(out) => sent += out.payload.len(),
            None => {
                let ack = u32::try_from(sent).unwrap() + 1;
                feed(&mut stream, now, &Sent::new(ACK, 1, ack, 0, &[]));
            }
        }
    }
    assert_eq!(sent, edge);
    let ack = u32::try_from(sent).unwrap() + 1;
    feed(&mut stream, now, &Sent::new(ACK, 1, ack, 1, &[]));
    let small = drain(&mut stream, now);
    assert_eq!((small.len(), small[0].payload.len()), (1, 128), "nothing else moves the window");
    feed(&mut stream, now, &Sent::new(ACK, 1, ack, 2, &[]));
    assert_eq!(drain(&mut stream, now), []);
}

#[test]
fn full_segments_are_acknowledged_in_pairs_and_short_ones_at_once() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, &[0; 1152]));
    assert_eq!(drain(&mut stream, now), []);
    feed(&mut stream, now, &Sent::new(ACK, 1153, 1, 512, &[0; 1152]));
    assert_eq!(drain(&mut stream, now)[0].ack, 2305);
    feed(&mut stream, now, &Sent::new(ACK, 2305, 1, 512, b"short"));
    assert_eq!(drain(&mut stream, now)[0].ack, 2310);
}

#[test]
fn a_lone_full_segment_is_acknowledged_after_five_milliseconds() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, &[0; 1152]));
    assert_eq!(stream.poll_timeout(), Some(now + 5 * MS));
    stream.handle_timeout(now + 5 * MS);
    assert_eq!(drain(&mut stream, now + 5 * MS)[0].ack, 1153);
}

#[test]
fn data_carries_the_acknowledgement() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, b"ping"));
    stream.write(now, b"pong").unwrap();
    assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 1, 5, 512, b"pong")]);
}

#[test]
fn a_gap_and_a_duplicate_are_acknowledged_at_once() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    feed(&mut stream, now, &Sent::new(ACK, 1153, 1, 512, &[0; 1152]));
    let ack = drain(&mut stream, now);
    let blocks = crate::wire::SackBlocks::parse(&ack[0].payload).unwrap();
    assert_eq!((ack.len(), ack[0].ack), (1, 1));
    assert_eq!((blocks.as_slice()[0].left, blocks.as_slice()[0].right), (Seq(1153), Seq(2305)));
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, &[0; 1152]));
    assert_eq!(drain(&mut stream, now), [Sent::new(ACK, 1, 2305, 512, &[])]);
    feed(&mut stream, now, &Sent::new(ACK, 1, 1, 512, &[0; 1152]));
    assert_eq!(drain(&mut stream, now).len(), 1);
}

#[test]
fn every_gap_has_its_turn_in_the_four_blocks() {
    let now = Instant::now();
    let mut stream = accepted_from_native(now, config());
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..6 {
        for i in 0..10 {
            let seq = 11 + 20 * i;
            feed(&mut stream, now, &Sent::new(ACK, seq, 1, 512, &[0; 10]));
            let ack = drain(&mut stream, now);
            let blocks = crate::wire::SackBlocks::parse(&ack[0].payload).unwrap();
            let lefts: Vec<u32> = blocks.as_slice().iter().map(|b| b.left.0).collect();
            assert!(lefts.is_sorted() && (round > 0 || lefts.contains(&seq)), "{lefts:?}");
            seen.extend(lefts);
        }
    }
    assert_eq!(seen.len(), 10);
}

#[test]
fn with_nodelay_every_write_leaves_at_once() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    for i in 1..=3 {
        stream.write(now, b"x").unwrap();
        assert_eq!(drain(&mut stream, now), [Sent::new(ACK, i, 1, 512, b"x")]);
    }
}

#[test]
fn nagle_gathers_short_writes_until_the_acknowledgement() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.set_nodelay(now, false);
    for (byte, sent) in [(b"a", 1), (b"b", 0), (b"c", 0)] {
        stream.write(now, byte).unwrap();
        assert_eq!(drain(&mut stream, now).len(), sent);
    }
    stream.write(now, &[b'd'; 1150]).unwrap();
    assert_eq!(drain(&mut stream, now)[0].payload.len(), 1152, "a full segment");
    stream.write(now, b"ef").unwrap();
    assert_eq!(drain(&mut stream, now), []);
    feed(&mut stream, now + MS, &Sent::new(ACK, 1, 1154, 512, &[]));
    assert_eq!(drain(&mut stream, now + MS)[0].payload, b"ef");
}

#[test]
fn nagle_holds_a_segment_for_forty_milliseconds_at_most() {
    let now = Instant::now();
    let mut stream = accepted_from_go(now, config());
    stream.set_nodelay(now, false);
    stream.write(now, b"a").unwrap();
    drain(&mut stream, now);
    stream.write(now, b"b").unwrap();
    drain(&mut stream, now);
    assert_eq!(stream.poll_timeout(), Some(now + 40 * MS));
    stream.handle_timeout(now + 40 * MS);
    assert_eq!(drain(&mut stream, now + 40 * MS)[0].payload, b"b");
}

#[test]
fn the_peers_largest_payload_is_honoured_and_ours_holds_at_once() {
    let now = Instant::now();
    let mut payload = Vec::new();
    let options =
        StreamOptions { window_shift: 7, max_payload: 900, half_close: true, path_probes: false };
    options.encode(&mut payload);
    let syn = Segment { flags: SYN, seq: Seq(0), ack: Seq(0), window: 512, payload: &payload };
    let mut stream = Stream::accept(now, config(), &syn);
    stream.write(now, &[1; 5000]).unwrap();
    let sizes: Vec<_> = drain(&mut stream, now)[1..].iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [900, 900, 900, 900, 900, 500]);
    feed(&mut stream, now, &Sent::new(ACK, 1, 5001, 512, &[]));
    stream.set_max_payload(400);
    stream.write(now, &[1; 800]).unwrap();
    assert!(drain(&mut stream, now).iter().all(|s| s.payload.len() == 400));
    stream.set_max_payload(4000);
    assert_eq!(stream.stats().max_payload, 900);
}

#[test]
fn numbers_wrap_at_four_gigabytes() {
    let now = Instant::now();
    let irs = u32::MAX - 5000;
    let syn = Segment { flags: SYN, seq: Seq(irs), ack: Seq(0), window: 512, payload: &[] };
    let mut stream = Stream::accept(now, config(), &syn);
    drain(&mut stream, now);
    let data = pattern(20_000);
    for (i, piece) in data.chunks(1000).enumerate() {
        let seq = irs.wrapping_add(1 + 1000 * u32::try_from(i).unwrap());
        if i == 3 {
            continue;
        }
        feed(&mut stream, now, &Sent::new(ACK, seq, 1, 512, piece));
        drain(&mut stream, now);
    }
    feed(&mut stream, now, &Sent::new(ACK, irs.wrapping_add(3001), 1, 512, &data[3000..4000]));
    assert_eq!(drain(&mut stream, now)[0].ack, 20_001 - 5001);
    assert!(read_all(&mut stream, now) == data);
}

#[test]
fn both_buffers_grow_to_what_the_path_takes_in_a_round_trip() {
    let mut pair = Pair::new(&config());
    pair.latency = 100 * MS;
    let data = pattern(60_000_000);
    let took = pair.transfer(0, &data);
    // 14,600 bytes doubling each 200 ms: 12 rounds, where a window of 1 MiB would need 60.
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(pair.ends[1].recv.limit() > 8 << 20, "{}", pair.ends[1].recv.limit());
    assert_eq!(pair.ends[0].recv.limit(), 1 << 20, "nothing came this way");
}

#[test]
fn buffers_of_equal_initial_and_largest_size_stay_as_they_are() {
    let mut pair = Pair::new(&small_buffers());
    let took = pair.transfer(0, &pattern(1_000_000));
    assert!(took > MS * 40 * 14, "more than a window each round trip: {took:?}");
    assert_eq!(pair.ends[1].recv.limit(), 64 * KB);
}

#[test]
fn a_send_buffer_grows_only_for_a_writer_that_it_cuts_short() {
    let mut pair = Pair::new(&config());
    for _ in 0..100 {
        pair.transfer(0, &pattern(100_000));
    }
    assert_eq!(pair.ends[0].write(pair.now, &vec![0; 2 << 20]), Ok(1 << 20));
}
