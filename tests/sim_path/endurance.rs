//! An hour over a bad path, in which the sequence numbers begin anew.

use std::sync::Arc;
use std::time::Duration;

use pilot_agent::proto::stream::StreamConfig;

use crate::wire::{Path, Plan, Wire};

#[test]
fn an_hour_at_three_percent_loss_and_reordering_wraps_the_numbers_and_loses_nothing() {
    let hour = Duration::from_secs(3600);
    let all = (1 << 32) + (200 << 20);
    // Written evenly over the hour, with a little time left for the last bytes to arrive.
    let rate = all / 3590;
    let plans = [Plan { to_write: all, rate }, Plan { to_write: all / 1000, rate: rate / 1000 }];
    let path = Path {
        latency: Duration::from_millis(20),
        loss: 0.03,
        reorder: 0.03,
        duplicate: 0.005,
        max_payload: 30_000,
    };
    let config = Arc::new(StreamConfig { max_payload: 30_000, ..StreamConfig::default() });
    let mut wire = Wire::new(&config, path, plans, 1);
    let end = wire.start + hour;
    while wire.now < end && !wire.is_done() {
        wire.step(end);
    }
    assert!(wire.is_done(), "{}", wire.describe());
    assert!(wire.ends[0].stats().bytes_acked > u64::from(u32::MAX));
}
