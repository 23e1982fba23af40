//! Handles of streams and listeners.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::{Core, Shared};
use super::error::NodeError;
use crate::proto::endpoint::{StreamEnds, StreamId};
use crate::proto::path::TrafficClass;
use crate::proto::stream::congestion::CongestionControl;
use crate::proto::stream::{State, Stream, StreamError, StreamStats};
use crate::wire::Addr;

/// A reliable stream to a peer. Clones share it; when the last one is dropped, what was written
/// is still delivered, and the stream is closed in good order.
#[derive(Clone, Debug)]
pub struct NodeStream(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    id: StreamId,
    ends: StreamEnds,
}

impl NodeStream {
    /// A handle for a stream that nobody else holds.
    pub(super) fn new(shared: &Arc<Shared>, core: &mut Core, id: StreamId) -> Option<Self> {
        let ends = core.endpoint.ends(id)?;
        core.streams.entry(id).or_default();
        Some(Self(Arc::new(Handle { shared: shared.clone(), id, ends })))
    }

    /// The peer's address.
    #[must_use]
    pub fn peer(&self) -> Addr {
        self.0.ends.peer
    }

    /// Our port.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.0.ends.local_port
    }

    /// The peer's port.
    #[must_use]
    pub fn remote_port(&self) -> u16 {
        self.0.ends.remote_port
    }

    /// Counters, `None` once the stream is gone.
    #[must_use]
    pub fn stats(&self) -> Option<StreamStats> {
        self.0.shared.look(|core| core.endpoint.stream(self.0.id).map(Stream::stats))
    }

    /// Reads at most `max` bytes. `None`: nothing yet. Empty: the peer has finished.
    ///
    /// # Errors
    /// Why nothing more will come.
    pub fn try_read(&self, max: usize) -> Result<Option<Bytes>, NodeError> {
        self.act(|core, now, id| core.endpoint.read_chunk(now, id, max))
    }

    /// As [`try_read`](Self::try_read), into a buffer; `Some(0)` is the end.
    ///
    /// # Errors
    /// Why nothing more will come.
    pub fn try_read_into(&self, buf: &mut [u8]) -> Result<Option<usize>, NodeError> {
        self.act(|core, now, id| core.endpoint.with_stream(id, |stream| stream.read(now, buf)))
    }

    /// Writes what there is room for; 0: wait for [`poll_writable`](Self::poll_writable).
    ///
    /// # Errors
    /// Why nothing can be written any more.
    pub fn try_write(&self, data: &[u8]) -> Result<usize, NodeError> {
        self.act(|core, now, id| core.endpoint.write(now, id, data))
    }

    /// As [`try_write`](Self::try_write), without copying what is taken.
    ///
    /// # Errors
    /// Why nothing can be written any more.
    pub fn try_write_shared(&self, data: &Bytes) -> Result<usize, NodeError> {
        self.act(|core, _, id| core.endpoint.with_stream(id, |stream| stream.write_shared(data)))
    }

    /// Says what this end sends, for the path policy.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn set_class(&self, class: TrafficClass) -> Result<(), NodeError> {
        self.act(|core, _, id| {
            core.endpoint.set_class(id, class);
            Ok(())
        })
    }

    /// Chooses another congestion control for what this end sends. It starts anew.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn set_congestion(&self, congestion: CongestionControl) -> Result<(), NodeError> {
        self.act(|core, now, id| {
            core.endpoint.with_stream(id, |stream| {
                stream.set_congestion(now, congestion);
                Ok(())
            })
        })
    }

    /// Ready when [`try_read`](Self::try_read) has something to say.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        self.poll(cx, |stream| stream.is_readable(), |waiters, waker| waiters.read = Some(waker))
    }

    /// Ready when [`try_write`](Self::try_write) has room, or something to say.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        self.poll(cx, |stream| stream.is_writable(), |waiters, waker| waiters.write = Some(waker))
    }

    /// Ready when the peer has acknowledged everything written, or the stream is over.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        let id = self.0.id;
        let polled = self.poll(
            cx,
            |stream| stream.is_drained() || stream.is_finished(),
            |waiters, waker| waiters.other.push(waker),
        );
        if polled.is_pending() {
            self.0.shared.look(|core| core.draining.push(id));
        }
        polled
    }

    /// Ready when the stream is over on both sides.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(
            cx,
            |stream| stream.state() == State::Closed,
            |waiters, waker| waiters.other.push(waker),
        )
        .map(|_| ())
    }

    /// Ready when the peer has accepted the stream, or refused it.
    pub(super) fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        let polled = self.poll(
            cx,
            |stream| stream.state() != State::SynSent,
            |waiters, waker| waiters.other.push(waker),
        );
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(self.act(|core, _, id| {
                core.endpoint
                    .stream(id)
                    .map_or(Err(StreamError::Closed), |stream| stream.error().map_or(Ok(()), Err))
            })),
            other => other,
        }
    }

    /// Ends our direction; the peer reads what was written and then the end.
    ///
    /// # Errors
    /// [`NodeError::Unsupported`] toward a Go node, which does not know half-closed streams.
    pub fn finish(&self) -> Result<(), NodeError> {
        self.act(|core, now, id| core.endpoint.with_stream(id, |stream| stream.finish(now)))
    }

    /// Ends both directions, after what was written has been delivered.
    pub fn close(&self) {
        let closed = self.act(|core, now, id| {
            core.endpoint.with_stream(id, |stream| {
                stream.close(now);
                Ok(())
            })
        });
        // A stream that is gone is closed.
        let _ = closed;
    }

    /// Drops the stream at once; the peer sees a reset.
    pub fn abort(&self) {
        self.0.shared.act(|core, now| core.endpoint.abort(now, self.0.id));
    }

    fn act<T>(
        &self,
        verb: impl FnOnce(&mut Core, std::time::Instant, StreamId) -> Result<T, StreamError>,
    ) -> Result<T, NodeError> {
        self.0.shared.act(|core, now| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            verb(core, now, self.0.id).map_err(|error| self.explain(error))
        })
    }

    fn poll(
        &self,
        cx: &mut Context<'_>,
        is_ready: impl FnOnce(&Stream) -> bool,
        wait: impl FnOnce(&mut super::waiting::StreamWaiters, Waker),
    ) -> Poll<Result<(), NodeError>> {
        let id = self.0.id;
        self.0.shared.look(|core| {
            if core.is_closed {
                return Poll::Ready(Err(NodeError::Closed));
            }
            // A stream that is gone has something to say: its error.
            if core.endpoint.stream(id).is_none_or(is_ready) {
                return Poll::Ready(Ok(()));
            }
            wait(core.streams.entry(id).or_default(), cx.waker().clone());
            Poll::Pending
        })
    }

    fn explain(&self, error: StreamError) -> NodeError {
        explain(&self.peer().to_string(), self.remote_port(), error)
    }
}

/// What a stream's error means for the user.
pub(super) fn explain(peer: &str, port: u16, error: StreamError) -> NodeError {
    let peer = peer.to_owned();
    match error {
        StreamError::Refused => NodeError::Refused { peer, port },
        StreamError::TimedOut { .. }
        | StreamError::IdleTimeout { .. }
        | StreamError::PeerUnreachable => {
            NodeError::PeerUnreachable { peer, reason: error.to_string() }
        }
        StreamError::HalfCloseUnsupported => NodeError::Unsupported(format!("{peer}: {error}")),
        _ => NodeError::StreamReset(format!("{peer} port {port}: {error}")),
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.act(|core, now| {
            core.streams.remove(&self.id);
            core.endpoint.release(now, self.id);
        });
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_read_into(buf.initialize_unfilled()) {
                Ok(Some(read)) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(None) => match self.poll_readable(cx) {
                    Poll::Ready(ready) => ready.map_err(io::Error::other)?,
                    Poll::Pending => return Poll::Pending,
                },
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(data) {
                Ok(0) if !data.is_empty() => match self.poll_writable(cx) {
                    Poll::Ready(ready) => ready.map_err(io::Error::other)?,
                    Poll::Pending => return Poll::Pending,
                },
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }

    /// Everything written was acknowledged.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drained(cx).map_err(io::Error::other)
    }

    /// Ends our direction toward one of ours, the whole stream toward a Go node.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.finish() {
            Ok(()) => Poll::Ready(Ok(())),
            Err(NodeError::Unsupported(_)) => {
                self.close();
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(io::Error::other(error))),
        }
    }
}

/// Accepts streams on a port until it is dropped.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    port: u16,
}

impl Listener {
    pub(super) fn bind(shared: &Arc<Shared>, port: u16) -> Result<Self, NodeError> {
        shared.act(|core, _| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            if !core.endpoint.listen(port) {
                return Err(NodeError::PortInUse(port));
            }
            core.acceptors.insert(port, None);
            Ok(())
        })?;
        Ok(Self { shared: shared.clone(), port })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next stream, if one waits.
    ///
    /// # Errors
    /// [`NodeError::Closed`] when the node was closed.
    pub fn try_accept(&self) -> Result<Option<NodeStream>, NodeError> {
        self.shared.act(|core, _| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            let id = core.endpoint.accept(self.port);
            Ok(id.and_then(|id| NodeStream::new(&self.shared, core, id)))
        })
    }

    /// As [`try_accept`](Self::try_accept), waiting.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<NodeStream, NodeError>> {
        match self.try_accept() {
            Ok(Some(stream)) => return Poll::Ready(Ok(stream)),
            Ok(None) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        self.shared.look(|core| core.acceptors.insert(self.port, Some(cx.waker().clone())));
        // One may have come between the look and the wait.
        match self.try_accept() {
            Ok(Some(stream)) => Poll::Ready(Ok(stream)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits for the next stream.
    ///
    /// # Errors
    /// [`NodeError::Closed`] when the node was closed.
    pub async fn accept(&self) -> Result<NodeStream, NodeError> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.act(|core, now| {
            core.acceptors.remove(&self.port);
            core.endpoint.unlisten(now, self.port);
        });
    }
}

/// Ready when every stream of the node has been acknowledged, or is over.
pub(super) fn poll_all_drained(shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
    shared.look(|core| {
        let Core { endpoint, streams, draining, .. } = core;
        let mut is_drained = true;
        for id in streams.keys().copied().collect::<Vec<_>>() {
            let is_busy = endpoint.stream(id).is_some_and(|s| !s.is_drained() && !s.is_finished());
            if is_busy && let Some(waiters) = streams.get_mut(&id) {
                is_drained = false;
                waiters.other.push(cx.waker().clone());
                draining.push(id);
            }
        }
        if is_drained { Poll::Ready(()) } else { Poll::Pending }
    })
}
