//! How much may be in the network, and how fast it goes there: [`Controller`] and three of them.
//!
//! The stream finds out what was delivered and what was lost (`loss`), measures round trips and
//! delivery rates, and paces; a controller only turns that into a window and a rate.
//!
//! | controller | what it takes as the sign of a full path | on a path that loses at random |
//! |---|---|---|
//! | [`Bbr`] | deliveries that no longer speed up | keeps its rate |
//! | [`Cubic`] | loss; in slow start also longer round trips | collapses: its rate goes with 1/loss^0.75 |
//! | [`NewReno`] | loss | collapses: its rate goes with 1/loss^0.5 |
//!
//! # Why BBR is the default
//! The paths between agents are other people's: radio, tunnels, relays, small buffers. Loss there
//! often is not congestion. `cargo bench --bench congestion` plays every controller over a matrix of
//! links: on 100 Mbit/s with a round trip of 20 ms and 1 % of loss, [`Bbr`] keeps 99 % of the link
//! where [`Cubic`] and [`NewReno`] keep 7 %, and it does so with the shortest queues, which is what
//! a small request on the same link waits behind. Against that stands that BBR is no equal of a
//! loss-based neighbour: next to CUBIC it gets a half of the link where the buffer holds a
//! bandwidth-delay product, a quarter where it holds four, and nearly all where it holds a quarter.
//! Whoever shares a bottleneck with much TCP and does not like that can choose
//! [`Cubic`](CongestionControl::Cubic).
//!
//! With [`Bbr`] the streams to a peer share one controller, see [`Macroflow`](super::Macroflow).

pub mod bbr;
mod cubic;
mod hystart;
mod max_filter;
mod new_reno;
mod prr;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub use bbr::Bbr;
pub use cubic::Cubic;
pub use new_reno::NewReno;

/// Segments of the initial window (RFC 6928).
const INITIAL_SEGMENTS: u64 = 10;
/// Bytes the initial window never exceeds, unless two segments do (RFC 6928 s2).
const INITIAL_BYTES: u64 = 14_600;
/// Least window after a loss, in segments.
const MIN_SEGMENTS: u64 = 2;

/// Which [`Controller`] a stream has. Only the sending side decides; the peer does not notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CongestionControl {
    /// [`Bbr`]: by measured bandwidth and round-trip time; the default, for [these
    /// reasons](self#why-bbr-is-the-default).
    #[default]
    Bbr,
    /// [`Cubic`]: RFC 9438 with HyStart++ (RFC 9406), what TCP does nearly everywhere.
    Cubic,
    /// [`NewReno`]: RFC 5681, the most cautious.
    NewReno,
}

impl CongestionControl {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bbr, Self::Cubic, Self::NewReno];

    /// A controller for segments of `max_payload` bytes.
    #[must_use]
    pub fn controller(self, now: Instant, max_payload: u64) -> Box<dyn Controller> {
        match self {
            Self::Bbr => Box::new(Bbr::new(now, max_payload)),
            Self::Cubic => Box::new(Cubic::new(max_payload)),
            Self::NewReno => Box::new(NewReno::new(max_payload)),
        }
    }

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
        }
    }
}

impl fmt::Display for CongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No controller has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no congestion control is named {0:?}; there are bbr, cubic and newreno")]
pub struct UnknownCongestionControl(String);

impl FromStr for CongestionControl {
    type Err = UnknownCongestionControl;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|which| which.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownCongestionControl(name.to_owned()))
    }
}

/// A decision maker about the congestion window. All sizes are bytes.
pub trait Controller: fmt::Debug + Send {
    /// A data segment was sent, for the first time or again.
    fn on_sent(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// Data was delivered: acknowledged, or reported by SACK. Comes after what the same
    /// acknowledgement showed to be lost.
    fn on_ack(&mut self, ack: &Ack);

    /// A loss was found, the first in its window of data (RFC 5681 s3.2, RFC 6675 s5).
    fn on_congestion(&mut self, loss: &Congestion);

    /// A retransmission timeout (RFC 5681 s3.1). Only the first of several in a row reports a
    /// `flight_size`; the others leave the threshold alone.
    fn on_timeout(&mut self, now: Instant, flight_size: Option<u64>);

    /// What the last loss or timeout was about had only been late (RFC 3522): what it did is
    /// undone.
    fn on_spurious(&mut self) {}

    /// Sending starts again after a pause longer than the timeout (RFC 5681 s4.1).
    fn on_restart(&mut self, now: Instant);

    /// So many streams have something to send, one of which had nothing in the network.
    fn on_start(&mut self, streams: u64) {
        let _ = streams;
    }

    /// The payload of a full segment changed.
    fn set_max_payload(&mut self, bytes: u64);

    /// The congestion window.
    fn cwnd(&self) -> u64;

    /// The slow start threshold, `u64::MAX` if there was no loss yet or the notion is unknown.
    fn ssthresh(&self) -> u64;

    /// Bytes per second at which to send; `None`: as the window allows. `srtt` is the smoothed
    /// round-trip time.
    fn pacing_rate(&self, srtt: Option<Duration>) -> Option<u64>;
}

/// What one received acknowledgement delivered.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// When it arrived.
    pub now: Instant,
    /// Bytes it acknowledged in order (not those it reported by SACK).
    pub acked: u64,
    /// Bytes newly known to have arrived, in order or not.
    pub delivered: u64,
    /// All bytes delivered on the stream so far.
    pub total_delivered: u64,
    /// All bytes found lost so far, timeouts not included.
    pub total_lost: u64,
    /// Bytes in the network before it.
    pub in_flight_before: u64,
    /// Bytes in the network after it.
    pub in_flight: u64,
    /// Round-trip time it measured.
    pub rtt: Option<Duration>,
    /// Whether the stream is recovering from a loss.
    pub in_recovery: bool,
    /// Delivery rate over the flight of the newest segment it covers.
    pub rate: Option<RateSample>,
}

/// A loss that begins a recovery.
#[derive(Debug, Clone, Copy)]
pub struct Congestion {
    /// When it was found.
    pub now: Instant,
    /// Bytes sent and not known to have arrived, lost or not; at most the window.
    pub flight_size: u64,
    /// Bytes in the network, the lost ones taken off.
    pub in_flight: u64,
}

/// Bytes delivered over an interval (draft-cheng-iccrg-delivery-rate-estimation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes delivered between sending and acknowledging a segment.
    pub delivered: u64,
    /// The longer of the times in which they were sent and acknowledged: acknowledgements that
    /// come in a bunch do not look like speed.
    pub interval: Duration,
    /// Bytes that had been delivered when the segment was sent.
    pub prior_delivered: u64,
    /// The sender had less to send than the path would have taken, so the path may be faster.
    pub is_app_limited: bool,
}

/// Bytes per second, if that is a number.
fn rate(bytes: u64, time: Duration) -> Option<u64> {
    let nanos = u64::try_from(time.as_nanos()).ok().filter(|nanos| *nanos > 0)?;
    match bytes.checked_mul(1_000_000_000) {
        Some(product) => Some(product / nanos),
        None => u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(nanos)).ok(),
    }
}

fn initial_window(mss: u64) -> u64 {
    (INITIAL_SEGMENTS * mss).min(INITIAL_BYTES.max(MIN_SEGMENTS * mss))
}

/// How Linux paces loss-based controllers: fast enough to double the window each round trip in
/// slow start, and a little faster than it drains after, so that the window is what limits.
fn window_pacing_rate(cwnd: u64, ssthresh: u64, srtt: Option<Duration>) -> Option<u64> {
    let per_rtt = if cwnd < ssthresh / 2 { cwnd * 2 } else { cwnd + cwnd / 5 };
    rate(per_rtt, srtt?)
}

/// Whether the window, not the application, was what held sending back. Pacing keeps a little of
/// the window free even then.
fn is_window_used(cwnd: u64, mss: u64, in_flight_before: u64) -> bool {
    in_flight_before + in_flight_before / 4 + 2 * mss >= cwnd
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const MSS: u64 = 1000;

    /// `acked` bytes are acknowledged in order, out of `in_flight_before`.
    pub(super) fn ack(acked: u64, in_flight_before: u64, in_recovery: bool) -> Ack {
        Ack {
            now: Instant::now(),
            acked,
            delivered: acked,
            total_delivered: acked,
            total_lost: 0,
            in_flight_before,
            in_flight: in_flight_before.saturating_sub(acked),
            rtt: None,
            in_recovery,
            rate: None,
        }
    }

    pub(super) fn loss(flight_size: u64) -> Congestion {
        Congestion { now: Instant::now(), flight_size, in_flight: flight_size - MSS }
    }

    #[test]
    fn names_are_read_back_and_others_refused() {
        for which in CongestionControl::ALL {
            assert_eq!(which.to_string().parse(), Ok(which));
        }
        assert_eq!("CUBIC".parse(), Ok(CongestionControl::Cubic));
        let error = "vegas".parse::<CongestionControl>().unwrap_err();
        assert!(error.to_string().contains("\"vegas\"") && error.to_string().contains("bbr"));
    }

    #[test]
    fn rates_neither_overflow_nor_divide_by_zero() {
        assert_eq!(rate(1000, Duration::from_millis(1)), Some(1_000_000));
        assert_eq!(rate(u64::MAX / 4, Duration::from_secs(4)), Some(u64::MAX / 16));
        assert_eq!(rate(u64::MAX, Duration::from_nanos(1)), None);
        assert_eq!(rate(1, Duration::ZERO), None);
    }

    #[test]
    fn loss_based_pacing_is_twice_the_window_in_slow_start_and_a_fifth_more_after() {
        let srtt = Some(Duration::from_millis(100));
        assert_eq!(window_pacing_rate(10_000, u64::MAX, srtt), Some(200_000));
        assert_eq!(window_pacing_rate(10_000, 10_000, srtt), Some(120_000));
        assert_eq!(window_pacing_rate(10_000, 10_000, None), None);
    }
}
