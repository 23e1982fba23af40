//! How fast a stream is: in virtual time, by loss and buffer; and how much processor it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{Stream, StreamConfig};
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
