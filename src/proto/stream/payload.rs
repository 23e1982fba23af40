//! How much a segment carries, which changes with the path.

use super::timers::Timer;
use super::{Dialect, Stream, config};

impl Stream {
    /// Sets the payload of new segments to what the path carries. The peer's own limit is
    /// honoured in any case.
    ///
    /// When it gets smaller, larger segments that are not known to have arrived count as lost, and
    /// are sent again in pieces at once: that is how a stream leaves a black hole. Toward a Go node
    /// segments keep their boundaries.
    pub fn set_max_payload(&mut self, bytes: u16) {
        self.path_payload = bytes.clamp(1, config::MAX_PAYLOAD_LIMIT);
        self.controller.set_max_payload(self.max_payload().into());
        if self.recut() {
            // What happened to large segments says nothing about small ones.
            self.rtt.reset_backoff();
            self.timers.stop(Timer::Rto);
        }
    }

    /// Payload bytes of a full segment.
    pub(super) fn max_payload(&self) -> u16 {
        match self.dialect {
            Some(Dialect::Native(options)) => self.path_payload.min(options.max_payload),
            _ => self.path_payload,
        }
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
