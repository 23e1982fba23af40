//! The client's side of the WebSocket to a beacon: connect, and prove who we are.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::dial::{BoxedIo, DialError, Server, Way, authority, dial, race};
use super::websocket::{self, Keepalive};
use crate::crypto::Identity;
use crate::wire::NodeId;
use crate::wire::compat::{LoginText, SUBPROTOCOL, signed_text};
use crate::wire::registry::Base64;

/// For TCP, TLS and proxy together.
const DIAL: Duration = Duration::from_secs(5);
/// For the upgrade and the login together.
const LOGIN: Duration = Duration::from_secs(5);

/// As the protocol has it: a ping every 30 s, which is answered within 10 s.
pub const KEEPALIVE: Keepalive =
    Keepalive { ping_every: Some(Duration::from_secs(30)), silence: Duration::from_secs(40) };

/// Why there is no WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompatError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// What is there takes no WebSocket.
    #[error("{way} does not take a WebSocket: {reason}; is it a rendezvous?")]
    Upgrade {
        /// Where.
        way: String,
        /// What it said.
        reason: String,
    },
    /// It does not let us in.
    #[error("the login at {way} failed: {reason}")]
    Login {
        /// Where.
        way: String,
        /// What it said.
        reason: String,
    },
}

/// A WebSocket on which this node has proved itself.
pub type CompatSocket = WebSocketStream<BoxedIo>;

/// Connects by the first way that works, and logs in as `node`.
///
/// # Errors
/// Why no way works: that of the first.
pub async fn connect(
    server: &Server,
    node: NodeId,
    identity: &Identity,
) -> Result<CompatSocket, CompatError> {
    let attempt = |way: Way| async move {
        let dialed = dial(&way, server.proxies(), DIAL).await?;
        let joining = join(&way, server.compat_path(), dialed.io, node, identity);
        let late = || DialError::TimedOut(LOGIN).into();
        timeout(LOGIN, joining).await.unwrap_or_else(|_| Err(late()))
    };
    race(server.compat_ways(), attempt).await
}

async fn join(
    way: &Way,
    path: &str,
    io: BoxedIo,
    node: NodeId,
    identity: &Identity,
) -> Result<CompatSocket, CompatError> {
    let upgrade = |reason| CompatError::Upgrade { way: way.to_string(), reason };
    let scheme = if way.tls.is_some() { "wss" } else { "ws" };
    let uri = format!("{scheme}://{}{path}", authority(&way.host, way.port));
    let uri = uri.parse().map_err(|_| upgrade(format!("{uri} is no URI")))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    let (mut socket, _) = client_async_with_config(request, io, Some(websocket::config()))
        .await
        .map_err(|error| upgrade(error.to_string()))?;
    let refused = |reason| CompatError::Login { way: way.to_string(), reason };
    let LoginText::AuthChallenge { nonce, ts } = next(&mut socket).await.map_err(refused)? else {
        return Err(refused("it sent no challenge".into()));
    };
    let text = signed_text(node, (ts != 0).then_some(ts), &nonce);
    let reply = LoginText::AuthReply {
        node_id: node,
        public_key: Base64(identity.public_key()),
        sig: Base64(identity.sign(text.as_bytes())),
    };
    let sent = socket.send(Message::text(reply.encode())).await;
    sent.map_err(|error| refused(error.to_string()))?;
    match next(&mut socket).await.map_err(refused)? {
        LoginText::AuthOk {} => Ok(socket),
        other => Err(refused(format!("{other:?} instead of auth_ok"))),
    }
}

async fn next(socket: &mut CompatSocket) -> Result<LoginText, String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return LoginText::parse(&text).ok_or_else(|| "it speaks another protocol".into());
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(Some(frame)))) => return Err(frame.reason.to_string()),
            Some(Ok(_)) => return Err("it speaks another protocol".into()),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("it closed the connection".into()),
        }
    }
}
