//! Trust handshake (port 444): one JSON object a connection; the answer is another connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::sessions::{self, Limits};
use crate::node::core::Shared;
use crate::node::error::NodeError;
use crate::node::resolver::Resolver;
use crate::node::stream::{Listener, NodeStream};
use crate::node::trust::Trust;
use crate::node::types::PeerRef;
use crate::proto::path::TrafficClass;
use crate::wire::handshake::{HandshakeMessage, MAX_RECEIVED_LEN};
use crate::wire::ports;

/// How long a message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
const SESSIONS: Limits = Limits { total: 64, per_peer: 4 };

/// Serves the handshake until the node closes.
pub(super) async fn serve(listener: Listener, trust: Arc<Trust>) {
    sessions::serve(listener, SESSIONS, |stream| session(stream, trust.clone())).await;
}

async fn session(stream: NodeStream, trust: Arc<Trust>) -> Result<(), NodeError> {
    let peer = stream.peer();
    let received = tokio::time::timeout(PATIENCE, receive(&stream)).await;
    let message = received.map_err(|_| NodeError::Timeout {
        peer: peer.to_string(),
        what: "trust handshake",
        after: PATIENCE,
    })??;
    stream.close();
    trust.receive(peer.node, &message).await;
    Ok(())
}

/// Collects the object. Peers of release 1.18 need it in one segment; we don't.
async fn receive(stream: &NodeStream) -> Result<HandshakeMessage, NodeError> {
    let malformed = |why: &dyn std::fmt::Display| NodeError::Protocol(why.to_string());
    let mut text = Vec::new();
    loop {
        let Some(chunk) = stream.try_read(MAX_RECEIVED_LEN + 1 - text.len())? else {
            poll_fn(|cx| stream.poll_readable(cx)).await?;
            continue;
        };
        text.extend_from_slice(&chunk);
        if text.len() > MAX_RECEIVED_LEN || chunk.is_empty() || is_whole(&text) {
            return HandshakeMessage::parse(&text).map_err(|error| malformed(&error));
        }
    }
}

/// Whether more bytes could not make a difference, except to be malformed.
fn is_whole(text: &[u8]) -> bool {
    if text.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return true;
    }
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => true,
        Some(Err(error)) => !error.is_eof(),
        None => false,
    }
}

/// Sends a message; returns when the peer's node has acknowledged it. The caller bounds the time.
pub(in crate::node) async fn send(
    shared: &Arc<Shared>,
    resolver: &Resolver,
    peer: &PeerRef,
    message: &HandshakeMessage,
) -> Result<(), NodeError> {
    let text = message.encode().map_err(|error| NodeError::Invalid(error.to_string()))?;
    let (class, port) = (TrafficClass::Normal, ports::HANDSHAKE);
    let stream = crate::node::open(shared, resolver, class, peer, port, true).await?;
    // One write of a fresh stream is one segment, as receivers of release 1.18 need it.
    super::echo::write_all(&stream, &text).await?;
    poll_fn(|cx| stream.poll_drained(cx)).await?;
    stream.close();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn an_object_is_whole_at_its_last_brace() {
        let text = br#" {"type":"handshake_request","node_id":1,"reason":"}"}"#;
        for end in 0..text.len() {
            assert!(!is_whole(&text[..end]), "{end}");
        }
        assert!(is_whole(text));
        for wrong in ["}", "[", "GET"] {
            assert!(is_whole(wrong.as_bytes()), "no need to wait for what cannot become right");
        }
    }
}
