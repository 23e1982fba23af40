//! A stream that carries very much needs no more memory at the end than after a tenth of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pilot_agent::proto::stream::{Segment, Stream, StreamConfig};

use crate::heap::take_peak;

/// GiB to move, and the variable that says otherwise: 100 take 12 s on a Xeon of 2026.
const DEFAULT_GIB: u64 = 100;
const VARIABLE: &str = "PILOT_BULK_GIB";
/// A prime, so that no mistake by a round number passes.
const PERIOD: usize = 262_139;
/// Segments that the two ends exchange at a time.
const BATCH: usize = 16;

/// Moves what `from` has to send, at most a batch.
fn carry(now: Instant, from: &mut Stream, to: &mut Stream, buf: &mut Vec<u8>) {
    for _ in 0..BATCH {
        buf.clear();
        let Some(out) = from.poll_transmit(now, buf) else { break };
        let (flags, seq, ack, window) = (out.flags, out.seq, out.ack, out.window);
        to.handle_segment(now, &Segment { flags, seq, ack, window, payload: buf });
    }
    from.handle_timeout(now);
    while from.poll_event().is_some() {}
}

/// Moves 100 GiB through one stream, or as many as `PILOT_BULK_GIB` says.
#[test]
fn memory_does_not_grow_with_the_bytes_that_a_stream_carries() {
    let gib = std::env::var(VARIABLE).map_or(DEFAULT_GIB, |gib| gib.parse().expect("a number"));
    let total = gib << 30;
    let config = Arc::new(StreamConfig { max_payload: 60_000, ..StreamConfig::default() });
    let mut now = Instant::now();
    let mut buf = Vec::with_capacity(1 << 17);
    let mut block: Vec<u8> = (0..PERIOD).map(|i| (i * i % 251) as u8).collect();
    block.extend_from_within(..);
    let block = Bytes::from(block);
    let at = |offset: u64, len: usize| {
        let from = usize::try_from(offset % PERIOD as u64).expect("small");
        block.slice(from..from + len)
    };

    let mut dialer = Stream::connect(now, config.clone());
    let syn = dialer.poll_transmit(now, &mut buf).expect("SYN");
    let (flags, seq, ack, window) = (syn.flags, syn.seq, syn.ack, syn.window);
    let syn = Segment { flags, seq, ack, window, payload: &buf };
    let mut listener = Stream::accept(now, config, &syn);

    let (mut written, mut read, mut early_peak) = (0, 0, None);
    while read < total {
        now += Duration::from_micros(50);
        while written < total && dialer.write_bytes(now, at(written, PERIOD)).expect("open") {
            written += PERIOD as u64;
        }
        carry(now, &mut dialer, &mut listener, &mut buf);
        while let Some(chunk) = listener.read_chunk(now, PERIOD).expect("open") {
            assert!(chunk == at(read, chunk.len()), "wrong bytes at {read}");
            read += chunk.len() as u64;
        }
        carry(now, &mut listener, &mut dialer, &mut buf);
        if early_peak.is_none() && read >= total / 10 {
            early_peak = Some(take_peak());
        }
    }
    let (early, late) = (early_peak.expect("a tenth"), take_peak());
    println!("{gib} GiB: {early} bytes at most in the first tenth, {late} after it");
    assert!(late <= early + 64 * 1024, "{early} bytes grew to {late}");
}
