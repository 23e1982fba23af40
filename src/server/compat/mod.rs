//! The WebSocket side of the beacon: for nodes in networks that block UDP.
//!
//! | file | what |
//! |---|---|
//! | `http` | the request for an upgrade, and the answers to other requests |
//! | `login` | the node proves that it is the one that is registered |
//! | `hub` | which nodes are connected, and what waits for them |

mod http;
mod hub;
mod login;

pub(super) use hub::Hub;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tracing::debug;

use super::relay_runs::RelayRuns;
use super::state::State;
use crate::net::frame_queue::FrameQueue;
use crate::net::websocket::{Keepalive, after_handshake, carry};
use crate::wire::NodeId;

/// Nodes ping every 30 s, so this is three of them lost.
const KEEPALIVE: Keepalive = Keepalive { ping_every: None, silence: Duration::from_secs(90) };
/// A client must take the reason for its dismissal within this.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves a client that speaks HTTP, of whose request `read` was read already.
///
/// # Errors
/// The connection failed.
pub(super) async fn serve<S>(
    state: Arc<State>,
    mut stream: S,
    from: SocketAddr,
    read: Vec<u8>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(rest) = http::upgrade(&mut stream, read).await? else { return Ok(()) };
    let mut socket = after_handshake(stream, rest, Role::Server).await;
    let key_of = |node| state.directory().public_key(node);
    let node = match login::challenge(&mut socket, key_of).await {
        Ok(node) => node,
        Err(refusal) => {
            debug!(%from, reason = refusal.reason(), "login refused");
            dismiss(&mut socket, CloseCode::Policy, refusal.reason()).await;
            return Ok(());
        }
    };
    let session = state.hub.enter(node, || state.beacon_attach(node));
    let served = async {
        login::welcome(&mut socket).await?;
        exchange(&state, &mut socket, node, from, &session.queue).await
    };
    let ended = tokio::select! {
        ended = served => Some(ended),
        () = session.replaced.notified() => None,
    };
    state.hub.leave(&session, || state.beacon_detach(node));
    match ended {
        Some(ended) => ended.map_err(io::Error::other),
        None => {
            dismiss(&mut socket, CloseCode::Policy, "replaced by another connection").await;
            Ok(())
        }
    }
}

async fn exchange<S>(
    state: &State,
    socket: &mut WebSocketStream<S>,
    node: NodeId,
    from: SocketAddr,
    queue: &FrameQueue,
) -> Result<(), tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut runs = RelayRuns::default();
    carry(socket, queue, KEEPALIVE, |frames| {
        if frames.is_empty() {
            state.beacon_touch(node);
        }
        for frame in frames.drain(..) {
            state.attached_datagram(&mut runs, node, from, &mut Vec::from(frame));
        }
        runs.flush(&state.socket);
    })
    .await
}

async fn dismiss<S>(socket: &mut WebSocketStream<S>, code: CloseCode, reason: &'static str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let close = socket.close(Some(CloseFrame { code, reason: reason.into() }));
    // Best effort: the client may be gone.
    let _ = tokio::time::timeout(GOODBYE, close).await;
}
