//! Datagrams over a WebSocket: one binary frame each. The same for both ends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::frame_queue::FrameQueue;
use crate::wire::compat::MAX_FRAME_BYTES;

/// The other end must take what is sent within this.
const WRITE: Duration = Duration::from_secs(20);
/// Frames handed over at once.
const BATCH: usize = 64;

/// How the end of a connection is noticed.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// Ping this often, if at all.
    pub ping_every: Option<Duration>,
    /// The connection is dead when nothing came for this long.
    pub silence: Duration,
}

/// Both limits are the protocol's: nothing larger can be a datagram.
#[must_use]
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
}

/// A WebSocket after its handshake, of which `read` bytes too many were read.
pub async fn after_handshake<S>(stream: S, read: Vec<u8>, role: Role) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    WebSocketStream::from_partially_read(stream, read, role, Some(config())).await
}

/// Carries datagrams until the connection ends: those of `queue` out, and what comes to `receive`,
/// in batches. An empty batch is a sign of life without datagrams.
///
/// # Errors
/// Why it ended, unless the other end closed it.
pub async fn carry<S>(
    socket: &mut WebSocketStream<S>,
    queue: &FrameQueue,
    keepalive: Keepalive,
    mut receive: impl FnMut(&mut Vec<Bytes>),
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let writing = async {
        let period = keepalive.ping_every.unwrap_or(Duration::from_secs(3600));
        let mut pings = interval_at(Instant::now() + period, period);
        loop {
            let writing = tokio::select! {
                frames = queue.take() => timeout(WRITE, async {
                    for frame in frames {
                        sink.feed(Message::Binary(frame)).await?;
                    }
                    sink.flush().await
                }).await,
                _ = pings.tick(), if keepalive.ping_every.is_some() => {
                    timeout(WRITE, sink.send(Message::Ping(Bytes::new()))).await
                }
            };
            writing.map_err(|_| timed_out())??;
        }
    };
    let reading = async {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let mut next =
                timeout(keepalive.silence, stream.next()).await.map_err(|_| timed_out())?;
            loop {
                match next {
                    Some(Ok(Message::Binary(frame))) => batch.push(frame),
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                }
                if batch.len() >= BATCH {
                    break;
                }
                match stream.next().now_or_never() {
                    Some(more) => next = more,
                    None => break,
                }
            }
            receive(&mut batch);
            batch.clear();
            tokio::task::consume_budget().await;
        }
    };
    tokio::select! {
        ended = reading => ended,
        failed = writing => failed,
    }
}

fn timed_out() -> Error {
    Error::Io(std::io::ErrorKind::TimedOut.into())
}
