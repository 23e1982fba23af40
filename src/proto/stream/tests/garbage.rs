//! Segments that make no sense, at any time: nothing panics, nothing runs wild, nothing hangs.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// A number at or near one that means something, or any.
fn number(rng: &mut StdRng) -> u32 {
    match rng.random_range(0..5) {
        0 => rng.random(),
        1 => rng.random_range(0..3),
        2 => 0u32.wrapping_sub(rng.random_range(0..3)),
        3 => (1u32 << 31).wrapping_add(rng.random_range(0..5)).wrapping_sub(2),
        _ => rng.random_range(0..200_000),
    }
}

fn garbage(rng: &mut StdRng) -> Sent {
    let len = [0, 1, 10, 1152, 9000][rng.random_range(0..5)];
    let mut payload: Vec<u8> = (0..len).map(|_| rng.random()).collect();
    if rng.random_bool(0.4) {
        payload = b"SACK".to_vec();
        payload.push(rng.random_range(0..6));
        for _ in 0..rng.random_range(0..10) {
            payload.extend_from_slice(&number(rng).to_be_bytes());
        }
    } else if rng.random_bool(0.1) {
        payload = b"PAO1".to_vec();
        payload.extend((0..rng.random_range(0..12)).map(|_| rng.random_range(0..5)));
    }
    let window = [0, 1, 512, u16::MAX][rng.random_range(0..4)];
    // Mostly ACK, so that more than the first check is passed.
    let flags = if rng.random_bool(0.6) { ACK } else { Flags(rng.random_range(0..16)) };
    let flags = if flags.contains(RST) && rng.random_bool(0.9) { ACK } else { flags };
    Sent::new(flags, number(rng), number(rng), window, &payload)
}

fn random_stream(rng: &mut StdRng, now: Instant) -> Stream {
    let config = Arc::new(StreamConfig {
        recv_buffer: 1 << rng.random_range(16..20),
        send_buffer: 1 << rng.random_range(16..20),
        nodelay: rng.random(),
        ..StreamConfig::default()
    });
    match rng.random_range(0..3) {
        0 => Stream::connect(now, config),
        1 => accepted_from_go(now, Arc::new(StreamConfig::default())),
        _ => {
            let syn = garbage(rng);
            let Sent { flags, seq, ack, window, ref payload } = syn;
            let (seq, ack) = (Seq(seq), Seq(ack));
            Stream::accept(now, config, &Segment { flags, seq, ack, window, payload })
        }
    }
}

#[test]
fn no_sequence_of_segments_and_calls_breaks_a_stream() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut now = Instant::now();
        let mut stream = random_stream(&mut rng, now);
        for _ in 0..300 {
            match rng.random_range(0..20) {
                0..10 => feed(&mut stream, now, &garbage(&mut rng)),
                10..13 => drop(stream.write(now, &pattern(rng.random_range(0..20_000)))),
                13..15 => drop(stream.read(now, &mut [0; 5000])),
                15 => now += Duration::from_millis(rng.random_range(0..3000)),
                16 => stream.set_max_payload(rng.random()),
                17 if rng.random_bool(0.1) => drop(stream.finish(now)),
                18 if rng.random_bool(0.1) => stream.close(now),
                _ => stream.handle_timeout(now),
            }
            let sent = drain_at_most(&mut stream, now, 4000);
            assert!(sent < 4000, "seed {seed}: {:?}", stream.stats());
            let stats = stream.stats();
            assert!(stats.recv_buffered <= 4 << 20 && stats.send_buffered <= 4 << 20);
        }
        stream.close(now);
        assert!(ends_by_itself(&mut stream, now), "seed {seed}: {:?}", stream.stats());
    }
}

fn drain_at_most(stream: &mut Stream, now: Instant, most: usize) -> usize {
    (0..most).take_while(|_| transmit(stream, now).is_some()).count()
}

/// Whether a closed stream that nobody answers comes to its end.
fn ends_by_itself(stream: &mut Stream, mut now: Instant) -> bool {
    for _ in 0..1000 {
        drain_at_most(stream, now, 4000);
        let Some(next) = stream.poll_timeout() else { break };
        now = now.max(next);
        stream.handle_timeout(now);
    }
    stream.is_finished()
}
