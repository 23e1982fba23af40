//! How much a segment carries, which changes with the path.

use super::timers::Timer;
use super::{Dialect, Stream};

impl Stream {
    /// Sets the payload of new segments to what the path carries. The peer's own limit is
    /// honoured in any case.
    ///
    /// When it gets smaller, larger segments that are not known to have arrived count as lost, and
    /// are sent again in pieces at once: that is how a stream leaves a black hole. Toward a Go node
    /// segments keep their boundaries.
    pub fn set_max_payload(&mut self, bytes: u16) {
        self.path_payload = bytes.clamp(1, self.config.payload_limit);
        self.flow.set_max_payload(self.max_payload().into());
        let is_recut = self.recut();
        self.flow.sync(&self.board);
        if is_recut {
            // What happened to large segments says nothing about small ones.
            self.rtt.reset_backoff();
            self.timers.stop(Timer::Rto);
        }
    }

    /// Payload bytes of a full segment.
    pub(super) fn max_payload(&self) -> u16 {
        match self.dialect {
            Some(Dialect::Native(options)) => self.path_payload.min(options.max_payload),
            // It may be more than a peer that has not spoken yet would take.
            _ => self.path_payload.min(self.config.max_payload),
        }
    }

    /// If the retransmission timer has gone off without progress since: how many times in a row,
    /// and how many bytes the segment has that does not get through. A closed window does not
    /// count.
    #[must_use]
    pub fn stalled(&self) -> Option<(u32, u32)> {
        let repeats = self.rtt.backoff();
        let head = self.board.head().filter(|head| !head.fin)?;
        let is_stalled = repeats > 0 && !self.peer_window.is_closed(self.board.una());
        is_stalled.then_some((repeats, head.len))
    }

    /// Cuts segments that are too large for the path; whether there were any.
    pub(super) fn recut(&mut self) -> bool {
        if !matches!(self.dialect, Some(Dialect::Native(_))) {
            return false;
        }
        let max = self.max_payload().into();
        let Self { board, send, .. } = self;
        let is_recut = board.recut(max, |start, len| send.piece_len(start, len));
        self.stats.recuts += u64::from(is_recut);
        is_recut
    }
}
