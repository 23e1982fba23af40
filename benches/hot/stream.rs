//! The stream's state machine: no cryptography, no socket, both ends on one core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{Segment, Stream, StreamConfig};

use super::Case;

const MIB: usize = 1 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let case = |max_payload: u16| {
        Case::new(format!("stream-mib-{max_payload}"), MIB, move |count| {
            transfer(count * MIB, max_payload);
        })
    };
    [1_152, 1_402, 8_192, 60_000].map(case).into()
}

/// Moves `total` bytes between two streams, batch by batch as a driver would.
fn transfer(total: usize, max_payload: u16) {
    let mut now = Instant::now();
    let config = Arc::new(StreamConfig { max_payload, ..StreamConfig::default() });
    let mut dialer = Stream::connect(now, config.clone());
    let mut buf = Vec::new();
    let syn = dialer.poll_transmit(now, &mut buf).expect("SYN");
    let segment =
        Segment { flags: syn.flags, seq: syn.seq, ack: syn.ack, window: syn.window, payload: &buf };
    let mut listener = Stream::accept(now, config, &segment);
    let (data, mut sink) = (vec![7; 64 << 10], vec![0; 256 << 10]);
    let (mut written, mut read) = (0, 0);
    while read < total {
        now += Duration::from_micros(100);
        while written < total {
            let n = dialer.write(now, &data[..data.len().min(total - written)]).expect("open");
            written += n;
            if n < data.len() {
                break;
            }
        }
        carry(now, &mut dialer, &mut listener, &mut buf);
        while let Some(n) = listener.read(now, &mut sink).expect("open") {
            read += n;
        }
        carry(now, &mut listener, &mut dialer, &mut buf);
        while dialer.poll_event().is_some() || listener.poll_event().is_some() {}
    }
}

fn carry(now: Instant, from: &mut Stream, to: &mut Stream, buf: &mut Vec<u8>) {
    for _ in 0..512 {
        buf.clear();
        let Some(out) = from.poll_transmit(now, buf) else { break };
        let (flags, seq, ack, window) = (out.flags, out.seq, out.ack, out.window);
        to.handle_segment(now, &Segment { flags, seq, ack, window, payload: buf });
    }
    from.handle_timeout(now);
}
