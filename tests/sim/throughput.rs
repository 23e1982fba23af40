//! How fast a stream is: in virtual time, by loss and buffer; and how much processor it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{Segment, State, Stream, StreamConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::end::{End, Plan};
use super::link::{LinkParams, Loss};
use super::pair::{Pair, Side};

const ONE_WAY: Duration = Duration::from_millis(20);

/// Bytes per second of virtual time for `bytes` over 40 ms there and back.
pub(crate) fn goodput(bytes: u64, loss: f64, recv_buffer: usize) -> f64 {
    let config = Arc::new(StreamConfig { recv_buffer, ..StreamConfig::default() });
    let plan = |to_write, to_read| Plan {
        to_write,
        to_read,
        write_size: 64 * 1024,
        write_pause: Duration::ZERO,
        read_size: 64 * 1024,
        read_pause: Duration::ZERO,
        read_from: Duration::ZERO,
        half_close: false,
        abort_at: None,
    };
    let now = Instant::now();
    let params = LinkParams { loss: Loss::Bernoulli(loss), ..LinkParams::clean(ONE_WAY) };
    let dialer = End::new(now, 0, Stream::connect(now, config.clone()), plan(bytes, 0));
    let sides = [Side::Ours(Box::new(dialer)), Side::Listening(config, plan(0, bytes))];
    let mut pair = Pair::new(sides, [params; 2], now, StdRng::seed_from_u64(7));
    let done = |pair: &Pair| pair.ends().nth(1).is_some_and(End::is_complete);
    while !done(&pair) {
        assert!(pair.step(), "{}", pair.describe());
    }
    bytes as f64 / (pair.now - pair.start).as_secs_f64()
}

/// Moves `total` bytes between two streams with nothing between them but memory, batch by batch
/// as a driver would. Returns bytes per second of processor time, both ends together.
pub(crate) fn processor_throughput(total: usize, max_payload: u16) -> f64 {
    let mut now = Instant::now();
    let config = Arc::new(StreamConfig { max_payload, ..StreamConfig::default() });
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
