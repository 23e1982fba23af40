//! The reliable stream: bytes in order, once, or a clear error.
pub mod config;
mod error;
mod segment;
mod state;
mod stats;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use config::{ConfigError, StreamConfig};
pub use error::StreamError;
pub use segment::{Dialect, GO_UNIT_BYTES, Outgoing, Segment};
pub use state::State;
pub use stats::StreamStats;

/// What happened on a stream; edge-triggered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The peer answered our SYN. Only a dialer's stream says so.
    Connected,
    /// There is something new to read: data, the end, or an error.
    Readable,
    /// After a write that was cut short: there is room again.
    Writable,
    /// The stream is over, in order (`None`) or not. Said once; buffered data can still be read.
    Closed(Option<StreamError>),
}

/// One reliable stream.
#[derive(Debug)]
pub struct Stream {
    config: Arc<StreamConfig>,
}

#[expect(unused_variables, reason = "signatures first")]
#[expect(missing_docs, reason = "signatures first")]
impl Stream {
    pub fn connect(now: Instant, config: Arc<StreamConfig>) -> Self {
        Self { config }
    }
    pub fn accept(now: Instant, config: Arc<StreamConfig>, syn: &Segment<'_>) -> Self {
        Self { config }
    }
    pub fn handle_segment(&mut self, now: Instant, segment: &Segment<'_>) {}
    pub fn handle_timeout(&mut self, now: Instant) {}
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    #[must_use]
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Outgoing> {
        None
    }
    #[must_use]
    pub fn poll_event(&mut self) -> Option<StreamEvent> {
        None
    }
    /// Ok(0) with data: full, wait for Writable.
    pub fn write(&mut self, now: Instant, data: &[u8]) -> Result<usize, StreamError> {
        Ok(0)
    }
    /// All or nothing: Ok(false) when the buffer is at its limit (it may exceed it by one chunk).
    pub fn write_bytes(&mut self, now: Instant, data: Bytes) -> Result<bool, StreamError> {
        Ok(false)
    }
    pub fn read(&mut self, now: Instant, buf: &mut [u8]) -> Result<Option<usize>, StreamError> {
        Ok(None)
    }
    pub fn read_chunk(&mut self, now: Instant, max: usize) -> Result<Option<Bytes>, StreamError> {
        Ok(None)
    }
    pub fn finish(&mut self, now: Instant) -> Result<(), StreamError> {
        Ok(())
    }
    /// The application lets go of the stream; must be called (or abort) before is_finished.
    pub fn close(&mut self, now: Instant) {}
    pub fn abort(&mut self, now: Instant) {}
    /// Fails at once without a packet: PeerRestarted, PeerUnreachable…
    pub fn fail(&mut self, now: Instant, error: StreamError) {}
    pub fn set_max_payload(&mut self, bytes: u16) {}
    pub fn set_nodelay(&mut self, now: Instant, nodelay: bool) {}
    #[must_use]
    pub fn is_readable(&self) -> bool {
        false
    }
    #[must_use]
    pub fn is_writable(&self) -> bool {
        false
    }
    /// Everything written (and FIN, if finished) is acknowledged.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        false
    }
    /// Over AND released by close/abort (or the end/error was read): the endpoint may forget it.
    /// A SYN that hits state() == TimeWait may replace the stream.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        false
    }
    #[must_use]
    pub fn state(&self) -> State {
        State::SynSent
    }
    #[must_use]
    pub fn stats(&self) -> StreamStats {
        StreamStats::default()
    }
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        None
    }
}
