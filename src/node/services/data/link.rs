//! Frames over a stream. Every wait is bounded, and so is what is held for all sessions together.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::node::error::NodeError;
use crate::node::services::echo::write_all;
use crate::node::stream::NodeStream;
use crate::wire::frames::data::{DataFrame, DataFrameDecoder};

/// Bytes taken from the stream at once.
const CHUNK: usize = 256 << 10;

/// A connection of data exchange.
#[derive(Debug)]
pub(super) struct Link {
    stream: NodeStream,
    decoder: DataFrameDecoder,
    held: Held,
}

impl Link {
    /// A link that takes frames of up to `max_payload` bytes, and holds received bytes only while
    /// `budget` allows it.
    pub(super) fn new(stream: NodeStream, max_payload: usize, budget: &Budget) -> Self {
        let held = Held { budget: budget.clone(), bytes: 0 };
        Self { stream, decoder: DataFrameDecoder::new(max_payload), held }
    }

    pub(super) fn stream(&self) -> &NodeStream {
        &self.stream
    }

    /// The next frame; `None` when the peer has finished. Fails when nothing comes for `limit`.
    pub(super) async fn receive(
        &mut self,
        limit: Duration,
    ) -> Result<Option<DataFrame>, NodeError> {
        loop {
            let frame = self.decoder.next_frame();
            if let Some(frame) = frame.map_err(|error| NodeError::Protocol(error.to_string()))? {
                return Ok(Some(frame));
            }
            let chunk = self.bounded(limit, "data exchange", read(&self.stream)).await?;
            if chunk.is_empty() {
                return match self.decoder.buffered() {
                    0 => Ok(None),
                    _ => Err(NodeError::Protocol("data frame: the stream ended in it".to_owned())),
                };
            }
            self.decoder.feed(chunk);
            self.held.set(self.decoder.buffered())?;
        }
    }

    /// Sends a frame; returns when the stream has taken it.
    pub(super) async fn send(&self, frame: &DataFrame, limit: Duration) -> Result<(), NodeError> {
        let mut head = Vec::new();
        let tail = frame
            .encode_head(&mut head)
            .map_err(|error| NodeError::Invalid(format!("cannot be sent: {error}")))?;
        // A small frame goes out in one piece, a large payload without a copy.
        let small = tail.len() <= 1_024;
        if small {
            head.extend_from_slice(&tail);
        }
        let writing = async {
            write_all(&self.stream, &head).await?;
            if small { Ok(()) } else { write_all(&self.stream, &tail).await }
        };
        self.bounded(limit, "data exchange", writing).await
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        what: &'static str,
        future: impl Future<Output = Result<T, NodeError>>,
    ) -> Result<T, NodeError> {
        tokio::time::timeout(limit, future).await.unwrap_or_else(|_| {
            let peer = self.stream.peer().to_string();
            Err(NodeError::Timeout { peer, what, after: limit })
        })
    }
}

async fn read(stream: &NodeStream) -> Result<Bytes, NodeError> {
    loop {
        if let Some(chunk) = stream.try_read(CHUNK)? {
            return Ok(chunk);
        }
        poll_fn(|cx| stream.poll_readable(cx)).await?;
    }
}

/// Bytes that sessions may hold together while frames are incomplete. Without it every session
/// could hold the largest frame.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: Arc::default(), limit }
    }
}

/// One session's part of the budget. Kept until the next bytes come, so that it covers the frame
/// that is being handled.
#[derive(Debug)]
struct Held {
    budget: Budget,
    bytes: usize,
}

impl Held {
    fn set(&mut self, bytes: usize) -> Result<(), NodeError> {
        let used = &self.budget.used;
        let before = if bytes >= self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed)
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed)
        };
        let is_growing = bytes > self.bytes;
        let total = before.saturating_add(bytes.saturating_sub(self.bytes));
        self.bytes = bytes;
        if is_growing && total > self.budget.limit {
            return Err(NodeError::Protocol("too much data of all peers at once".to_owned()));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
