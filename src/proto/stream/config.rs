//! What can be set about a stream. One [`StreamConfig`] is shared by many streams.

use std::time::Duration;

use super::congestion::CongestionControl;
use super::segment::{GO_LARGEST_SEGMENT, GO_UNIT_BYTES, GO_WINDOW_SEGMENTS};
use crate::wire::options::StreamOptions;

/// Most bytes that a segment of ours may carry: a UDP datagram less the room for packet header,
/// seal and relay header, rounded down.
pub const MAX_PAYLOAD_LIMIT: u16 = 65_000;
/// Least receive buffer that [`StreamConfig::validate`] accepts.
pub const MIN_BUFFER_BYTES: usize = 64 * 1024;

const LESS_THAN_INITIAL: &str = "must not be less than the initial size";

/// Settings of a stream; `Default` works, fields are read when the stream is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Bytes the application may write ahead of the peer's acknowledgement, at first. Default
    /// 1 MiB.
    pub send_buffer: usize,
    /// What `send_buffer` may become when a path takes more in a round trip than the buffer
    /// holds. A stream holds at most this much to send. Equal to `send_buffer`: fixed. Default
    /// 64 MiB.
    pub max_send_buffer: usize,
    /// Bytes that may wait for the application to read, at first; also the window toward our own
    /// nodes, which limits a stream to one window each round trip. Default 1 MiB.
    pub recv_buffer: usize,
    /// What `recv_buffer` may become when the application reads more than half of it in a round
    /// trip. A stream holds at most this much received data, and only as much as there is. Equal
    /// to `recv_buffer`: fixed. Default 64 MiB.
    pub max_recv_buffer: usize,
    /// Payload bytes of a segment before the path's MTU is known. Default 1152, which fits a
    /// relayed frame in 1280 bytes.
    pub max_payload: u16,
    /// What decides how much may be in the network. Default
    /// [`Bbr`](CongestionControl::Bbr); see [`congestion`](super::congestion) for why.
    pub congestion: CongestionControl,
    /// Most payload bytes of a segment, whatever the path turns out to carry. Default 65000, the
    /// most there can be.
    pub payload_limit: u16,
    /// Send short segments at once (`true`, the default) instead of waiting for the
    /// acknowledgement of earlier ones (Nagle, RFC 896).
    pub nodelay: bool,
    /// With `nodelay` off: how long a short segment waits at most. Default 40 ms.
    pub nagle_hold: Duration,
    /// How long an acknowledgement of full segments waits for a second one. Default 5 ms.
    pub delayed_ack: Duration,
    /// Whether a dialer's data may follow its SYN without waiting for the answer. Default on:
    /// sequence numbers start at 0 on both sides, so it is understood by every peer, and what
    /// overtakes the SYN is sent again.
    pub early_data: bool,
    /// How long a dialer repeats SYN before [`TimedOut`](super::StreamError::TimedOut).
    /// Default 12 s.
    pub connect_timeout: Duration,
    /// Time to the first repetition of SYN. Default 250 ms.
    pub syn_retry: Duration,
    /// Retransmission timeout before the first measurement. Default 1 s.
    pub initial_rto: Duration,
    /// Least retransmission timeout. Default 200 ms.
    pub min_rto: Duration,
    /// Most retransmission timeout, and most time between two window probes. Default 10 s.
    pub max_rto: Duration,
    /// How long sent data may stay without any progress before the stream fails with
    /// [`TimedOut`](super::StreamError::TimedOut). A peer that keeps saying "window 0" makes
    /// progress. Default 30 s.
    pub user_timeout: Duration,
    /// Silence of the peer after which it is probed. Default 30 s.
    pub keepalive: Duration,
    /// Silence of the peer, while it is probed, after which the stream fails with
    /// [`IdleTimeout`](super::StreamError::IdleTimeout). Default 120 s.
    pub idle_timeout: Duration,
    /// How long a closed stream keeps trying, counted from its last progress, to deliver what
    /// was written and to hear the peer's FIN. Default 30 s.
    pub linger: Duration,
    /// How long a stream that was closed in order answers late packets. Default 2 s.
    pub time_wait: Duration,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            send_buffer: 1024 * 1024,
            max_send_buffer: 64 * 1024 * 1024,
            recv_buffer: 1024 * 1024,
            max_recv_buffer: 64 * 1024 * 1024,
            max_payload: 1152,
            congestion: CongestionControl::default(),
            payload_limit: MAX_PAYLOAD_LIMIT,
            nodelay: true,
            nagle_hold: Duration::from_millis(40),
            delayed_ack: Duration::from_millis(5),
            early_data: true,
            connect_timeout: Duration::from_secs(12),
            syn_retry: Duration::from_millis(250),
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(10),
            user_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            linger: Duration::from_secs(30),
            time_wait: Duration::from_secs(2),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream setting {field}: {problem}")]
pub struct ConfigError {
    /// The field of [`StreamConfig`].
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl StreamConfig {
    /// Checks that the settings can work together.
    ///
    /// # Errors
    /// The first setting that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zero = Duration::ZERO;
        let rules = [
            (self.send_buffer >= MIN_BUFFER_BYTES, "send_buffer", "must be at least 64 KiB"),
            (self.recv_buffer >= MIN_BUFFER_BYTES, "recv_buffer", "must be at least 64 KiB"),
            (self.max_send_buffer >= self.send_buffer, "max_send_buffer", LESS_THAN_INITIAL),
            (self.max_recv_buffer >= self.recv_buffer, "max_recv_buffer", LESS_THAN_INITIAL),
            (self.max_recv_buffer <= 65_535 << 14, "max_recv_buffer", "must be less than 1 GiB"),
            (self.max_payload >= 64, "max_payload", "must be at least 64 bytes"),
            (
                self.max_payload <= self.payload_limit,
                "max_payload",
                "must not exceed payload_limit",
            ),
            (self.payload_limit <= MAX_PAYLOAD_LIMIT, "payload_limit", "must be at most 65000"),
            (self.syn_retry > zero, "syn_retry", "must not be zero"),
            (self.min_rto > zero, "min_rto", "must not be zero"),
            (self.max_rto >= self.min_rto, "max_rto", "must not be less than min_rto"),
            (self.initial_rto <= self.max_rto, "initial_rto", "must not be more than max_rto"),
            (self.delayed_ack < self.min_rto, "delayed_ack", "must be less than min_rto"),
            (self.connect_timeout > zero, "connect_timeout", "must not be zero"),
            (self.user_timeout > self.min_rto, "user_timeout", "must be more than min_rto"),
            (self.keepalive > zero, "keepalive", "must not be zero"),
            (self.idle_timeout > self.keepalive, "idle_timeout", "must be more than keepalive"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, problem)) => Err(ConfigError { field, problem }),
            None => Ok(()),
        }
    }

    /// What our SYN and SYN-ACK tell a peer that understands options.
    #[must_use]
    pub fn options(&self) -> StreamOptions {
        StreamOptions {
            window_shift: self.window_shift(),
            max_payload: self.max_recv_payload(),
            half_close: true,
            path_probes: true,
        }
    }

    /// The smallest shift with which 16 bits cover the receive buffer at its largest: what SYN
    /// says holds for the life of the stream.
    #[must_use]
    pub fn window_shift(&self) -> u8 {
        (0..14).find(|shift| self.max_recv_buffer <= 65_535 << shift).unwrap_or(14)
    }

    /// Most payload bytes we accept in one segment. A quarter of the buffer, so that a sender can
    /// always fill the window that [`Stream`](super::Stream) announces when it reopens.
    fn max_recv_payload(&self) -> u16 {
        u16::try_from(self.recv_buffer / 4).unwrap_or(u16::MAX).min(MAX_PAYLOAD_LIMIT)
    }

    /// The receive buffer in the unit in which Go peers count.
    pub(super) fn go_window_segments(&self) -> u16 {
        u16::try_from(self.recv_buffer / GO_UNIT_BYTES).unwrap_or(u16::MAX)
    }

    /// The receive buffer toward a Go node, which counts segments whatever their size: room for
    /// a whole window of its largest ones, as far as the limits allow.
    pub(super) fn go_recv_buffer(&self) -> usize {
        let whole = usize::from(GO_WINDOW_SEGMENTS) * GO_LARGEST_SEGMENT;
        whole.clamp(self.recv_buffer, self.max_recv_buffer.max(self.recv_buffer))
    }
}
