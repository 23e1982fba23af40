//! How much may be in the network: the [`Controller`] trait, and [`NewReno`].
//!
//! The stream finds out what was delivered and what was lost (`loss`); a controller
//! only turns that into a window. Rate-based controllers get delivery-rate samples and may pace.

mod new_reno;

use std::fmt;
use std::time::{Duration, Instant};

pub use new_reno::NewReno;

/// A decision maker about the congestion window. All sizes are bytes.
pub trait Controller: fmt::Debug + Send {
    /// Data was delivered: acknowledged, or reported by SACK.
    fn on_ack(&mut self, ack: &Ack);

    /// A loss was found, the first in its window of data (RFC 5681 s3.2, RFC 6675 s5).
    fn on_congestion(&mut self, now: Instant, flight_size: u64);

    /// A retransmission timeout (RFC 5681 s3.1). Only the first of several in a row reports a
    /// `flight_size`; the others leave the threshold alone.
    fn on_timeout(&mut self, now: Instant, flight_size: Option<u64>);

    /// Sending starts again after a pause longer than the timeout (RFC 5681 s4.1).
    fn on_restart(&mut self, now: Instant);

    /// The payload of a full segment changed.
    fn set_max_payload(&mut self, bytes: u64);

    /// The congestion window.
    fn cwnd(&self) -> u64;

    /// The slow start threshold, `u64::MAX` if there was no loss yet or the notion is unknown.
    fn ssthresh(&self) -> u64;

    /// Bytes per second at which to send, if the controller paces.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}

/// What one received acknowledgement delivered.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// When it arrived.
    pub now: Instant,
    /// Bytes it acknowledged in order (not those it reported by SACK).
    pub acked: u64,
    /// Bytes in the network before it.
    pub in_flight_before: u64,
    /// Round-trip time it measured.
    pub rtt: Option<Duration>,
    /// Whether the stream is recovering from a loss.
    pub in_recovery: bool,
    /// Delivery rate over the flight of the newest segment it covers.
    pub rate: Option<RateSample>,
}

/// Bytes delivered over an interval, for controllers that estimate bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes delivered between sending and acknowledging a segment.
    pub delivered: u64,
    /// The time between.
    pub interval: Duration,
}
