//! What a stream counts.

use std::time::Duration;

use super::State;

/// A snapshot of a stream's counters and estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Where the stream is in its life.
    pub state: State,
    /// Data bytes sent for the first time.
    pub bytes_sent: u64,
    /// Data bytes the peer has acknowledged, in order.
    pub bytes_acked: u64,
    /// Data bytes sent again.
    pub bytes_retransmitted: u64,
    /// Data bytes received in order, each counted once.
    pub bytes_received: u64,
    /// Segments of any kind that were sent.
    pub segments_sent: u64,
    /// Segments of any kind that were received.
    pub segments_received: u64,
    /// Data segments and FINs sent again.
    pub segments_retransmitted: u64,
    /// Data segments that arrived ahead of a gap.
    pub segments_out_of_order: u64,
    /// Data segments that brought nothing new.
    pub segments_duplicate: u64,
    /// Data segments that found no room.
    pub segments_dropped: u64,
    /// Times that segments in flight were cut again because the path had become too small.
    pub recuts: u64,
    /// Losses after which the window was reduced, other than by timeout.
    pub recoveries: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Tail loss probes sent.
    pub tail_probes: u64,
    /// Window probes sent.
    pub window_probes: u64,
    /// Keep-alive probes sent.
    pub keepalive_probes: u64,
    /// Smoothed round-trip time; `None` before the first measurement.
    pub srtt: Option<Duration>,
    /// Least round-trip time seen.
    pub min_rtt: Option<Duration>,
    /// Retransmission timeout, with back-off.
    pub rto: Duration,
    /// Congestion window, bytes.
    pub cwnd: u64,
    /// Slow start threshold, bytes; `u64::MAX` before the first loss.
    pub ssthresh: u64,
    /// Bytes believed to be in the network.
    pub in_flight: u64,
    /// Bytes written by the application that are not acknowledged.
    pub send_buffered: usize,
    /// Bytes received in order that the application has not read.
    pub recv_buffered: usize,
    /// Payload bytes of a full segment.
    pub max_payload: u16,
}
