//! Flow control: how much the peer takes, and how much we say that we take.
//!
//! A Go node counts segments: free slots of its delivery queue, each good for 1152 bytes when it
//! is the sender. Our nodes count bytes, scaled, and never take room back: the right edge of the
//! window only moves right. In SYN and SYN-ACK the field counts segments, whoever sends it.

use super::config::StreamConfig;
use super::recv::Assembler;
use super::segment::{Dialect, GO_FLIGHT_SEGMENTS, GO_UNIT_BYTES, GO_WINDOW_SEGMENTS};

/// Least growth of the announced edge, so that a slow reader does not provoke tiny segments
/// (RFC 9293 s3.8.6.2.2).
const MIN_GROWTH: u64 = 2 * GO_UNIT_BYTES as u64;

/// The room the peer offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerWindow {
    /// Segments that may be unacknowledged.
    Segments {
        /// As in the last window field.
        count: u16,
        /// Whether the last change made it smaller.
        shrinking: bool,
    },
    /// Bytes up to this offset may be sent.
    Bytes {
        /// One past the last byte.
        edge: u64,
        /// The peer's scale.
        shift: u8,
    },
}

impl PeerWindow {
    /// What a dialer assumes before the answer.
    pub(super) const UNKNOWN: Self = Self::Segments { count: 10, shrinking: false };

    /// The window of a SYN or SYN-ACK.
    pub(super) fn open(dialect: Dialect, window: u16) -> Self {
        match dialect {
            Dialect::Go => Self::Segments { count: window, shrinking: false },
            Dialect::Native(options) => {
                let edge = 1 + u64::from(window) * GO_UNIT_BYTES as u64;
                Self::Bytes { edge, shift: options.window_shift }
            }
        }
    }

    /// Takes the window field of an acknowledgement of everything below `ack`. `is_news` is false
    /// for an empty segment that repeats known numbers: with window 0 it may be a keep-alive of an
    /// old Go node, which is not to be taken at its word unless the window was closing anyway.
    pub(super) fn update(&mut self, ack: u64, window: u16, is_news: bool) {
        match self {
            Self::Segments { count, shrinking } => {
                if window == 0 && !is_news && !*shrinking {
                    return;
                }
                if window != *count {
                    *shrinking = window < *count;
                    *count = window;
                }
            }
            Self::Bytes { edge, shift } => *edge = (*edge).max(ack + (u64::from(window) << *shift)),
        }
    }

    /// How many of `want` bytes a new segment at `nxt` may have, behind `outstanding` segments.
    pub(super) fn room(&self, nxt: u64, want: usize, outstanding: usize) -> usize {
        match *self {
            Self::Segments { count, .. } => {
                let may = outstanding < usize::from(count).min(GO_FLIGHT_SEGMENTS);
                if may { want } else { 0 }
            }
            Self::Bytes { edge, .. } => {
                want.min(usize::try_from(edge.saturating_sub(nxt)).unwrap_or(usize::MAX))
            }
        }
    }

    /// Whether a segment that ends at `end`, behind `before` others, may be sent again. The first
    /// one always may: it is what makes the peer say its window.
    pub(super) fn allows_again(&self, end: u64, before: usize) -> bool {
        before == 0
            || match *self {
                Self::Segments { count, .. } => before < usize::from(count),
                Self::Bytes { edge, .. } => end <= edge,
            }
    }

    /// Whether nothing may be sent beyond `una`.
    pub(super) fn is_closed(&self, una: u64) -> bool {
        match *self {
            Self::Segments { count, .. } => count == 0,
            Self::Bytes { edge, .. } => edge <= una,
        }
    }
}

/// The room we offer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalWindow {
    /// `None`: in segments.
    shift: Option<u8>,
    max_segments: u16,
    /// Toward our own nodes: what was offered may be used, so it only grows.
    edge: u64,
    /// The last field sent, 0 if it announced nothing.
    last: u16,
    /// Toward a Go node: that the window has opened was said, and no data has come since.
    reopened: bool,
}

impl LocalWindow {
    pub(super) fn new(config: &StreamConfig) -> Self {
        let max_segments = config.go_window_segments().min(GO_WINDOW_SEGMENTS);
        let edge = 1 + u64::from(max_segments) * GO_UNIT_BYTES as u64;
        Self { shift: None, max_segments, edge, last: max_segments, reopened: false }
    }

    /// Toward our own nodes: what was offered so far ends here.
    pub(super) fn edge(&self) -> u64 {
        self.edge
    }

    /// The field of our SYN and SYN-ACK.
    pub(super) fn at_open(&self) -> u16 {
        self.max_segments
    }

    /// From now on, the field counts bytes.
    pub(super) fn set_shift(&mut self, shift: u8) {
        self.shift = Some(shift);
    }

    /// The field of the next segment.
    pub(super) fn announce(&mut self, recv: &Assembler) -> u16 {
        self.last = match self.shift {
            None => {
                let segments = self.segments(recv);
                self.reopened = segments > 0 && (self.reopened || self.last == 0);
                segments
            }
            Some(shift) => {
                let limit = recv.limit_edge();
                if limit >= self.edge + MIN_GROWTH {
                    self.edge = limit;
                }
                field(self.edge.saturating_sub(recv.rcv_nxt()) >> shift)
            }
        };
        self.last
    }

    /// Whether the peer should hear that the window has opened: it was below a quarter of the
    /// whole, and would be above half of it (RFC 9293 s3.8.6.2.2).
    pub(super) fn wants_update(&self, recv: &Assembler) -> bool {
        let (last, now, whole) = match self.shift {
            None => (self.last.into(), self.segments(recv).into(), self.max_segments.into()),
            Some(_) => {
                let left = self.edge.saturating_sub(recv.rcv_nxt());
                (left, recv.free() as u64, recv.limit() as u64)
            }
        };
        last < whole.div_ceil(4) && now > whole / 2 || self.last == 0 && now >= whole.div_ceil(4)
    }

    /// Data has come: the peer knows that it may send.
    pub(super) fn on_data(&mut self) {
        self.reopened = false;
    }

    /// Whether an empty segment, which may be a probe, deserves an answer: the last field sent
    /// said that there is no room, while there is some. A Go node, which probes in no other way,
    /// is told again until data comes, since that it was told may have been lost. Between our
    /// nodes, which probe with data, this would never end.
    pub(super) fn answers_probe(&self, recv: &Assembler) -> bool {
        match self.shift {
            None => self.reopened || self.last == 0 && self.segments(recv) > 0,
            Some(_) => self.last == 0 && recv.limit_edge() >= self.edge + MIN_GROWTH,
        }
    }

    fn segments(&self, recv: &Assembler) -> u16 {
        field((recv.free() / GO_UNIT_BYTES) as u64).min(self.max_segments)
    }
}

fn field(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_window_counts_segments_and_at_most_128() {
        let mut window = PeerWindow::open(Dialect::Go, 512);
        assert_eq!((window.room(1, 700, 127), window.room(1, 700, 128)), (700, 0));
        window.update(1, 3, true);
        assert_eq!((window.room(1, 700, 2), window.room(1, 700, 3)), (700, 0));
    }

    #[test]
    fn a_bogus_zero_window_is_ignored_but_a_closing_one_is_not() {
        let mut window = PeerWindow::open(Dialect::Go, 512);
        window.update(1, 0, false);
        assert!(!window.is_closed(1), "a keep-alive of an old Go node");
        window.update(1, 1, true);
        window.update(1, 0, false);
        assert!(window.is_closed(1));
    }

    #[test]
    fn a_native_window_never_shrinks() {
        let mut window = PeerWindow::Bytes { edge: 1001, shift: 3 };
        window.update(1, 0, true);
        assert_eq!(window.room(501, 9999, 0), 500);
        window.update(501, 100, true);
        assert_eq!(window.room(1001, 9999, 0), 300);
        assert!(window.is_closed(1301));
    }

    #[test]
    fn our_window_follows_the_buffer_in_either_unit() {
        let size = 128 * 1024;
        let config =
            StreamConfig { recv_buffer: size, max_recv_buffer: size, ..StreamConfig::default() };
        let mut recv = Assembler::new(config.recv_buffer);
        let mut go = LocalWindow::new(&config);
        assert_eq!(go.at_open(), 113);
        let mut native = go;
        native.set_shift(config.window_shift());
        assert_eq!((go.announce(&recv), native.announce(&recv)), (113, 32_544));
        recv.insert(1, &vec![0; 127 * 1024]);
        assert_eq!((go.announce(&recv), native.announce(&recv)), (0, 32));
        assert!(!go.wants_update(&recv));
        let _ = recv.read_chunk(usize::MAX);
        assert!(go.wants_update(&recv));
        assert!(native.wants_update(&recv));
    }
}
