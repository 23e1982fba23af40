//! What the stream's state machine costs: no cryptography, no socket, both ends on one core.
//!
//! `cargo bench --bench stream` prints bytes per second for three sizes of segments. On a Xeon with
//! two shared cores, 2026-11-20: 3.4, 8.6 and 3.7 GB/s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{Segment, State, Stream, StreamConfig};

/// Moved for each figure.
const TOTAL: usize = 1 << 30;

fn main() {
    for max_payload in [1152, 8192, 60_000] {
        let rate = processor_throughput(TOTAL, max_payload);
        println!("{max_payload:>6} bytes a segment {:>6.0} MB/s", rate / 1e6);
    }
}

/// Moves `total` bytes between two streams with nothing between them but memory, batch by batch
/// as a driver would. Returns bytes per second of processor time, both ends together.
fn processor_throughput(total: usize, max_payload: u16) -> f64 {
    let mut now = Instant::now();
    // Fixed buffers: those that grow are a matter of caches, not of the state machine.
    let (send_buffer, recv_buffer) = (1 << 20, 4 << 20);
    let config = Arc::new(StreamConfig {
        max_payload,
        send_buffer,
        max_send_buffer: send_buffer,
        recv_buffer,
        max_recv_buffer: recv_buffer,
        ..StreamConfig::default()
    });
    let mut dialer = Stream::connect(now, config.clone());
    let mut buf = Vec::new();
    let syn = dialer.poll_transmit(now, &mut buf).expect("SYN");
    let segment =
        Segment { flags: syn.flags, seq: syn.seq, ack: syn.ack, window: syn.window, payload: &buf };
    let mut listener = Stream::accept(now, config, &segment);
    let (data, mut sink) = (vec![7; 64 * 1024], vec![0; 256 * 1024]);
    let (mut written, mut read) = (0, 0);
    let start = Instant::now();
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
    assert_eq!(dialer.state(), State::Established);
    total as f64 / start.elapsed().as_secs_f64()
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
