//! Who is at the other end of a WebSocket: challenge and reply.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::crypto::verify;
use crate::net::clock;
use crate::wire::NodeId;
use crate::wire::compat::{LoginText, signed_text};

/// A reply may take this long; then its challenge is void.
const REPLY: Duration = Duration::from_secs(30);

/// Why a client is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// It left, or did not answer in time.
    Silent,
    /// What it said is no reply.
    Malformed,
    /// It must register first.
    Unknown,
    /// The registered key, or the signature, is another one.
    Signature,
    /// This machine has no randomness.
    Internal,
}

impl Refusal {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Silent => "no auth_reply within 30 s",
            Self::Malformed => "auth_reply expected",
            Self::Unknown => "node not found: register first",
            Self::Signature => "signature verification failed",
            Self::Internal => "internal error",
        }
    }
}

/// Challenges the client, and returns the node that it proved to be.
pub(super) async fn challenge<S>(
    socket: &mut WebSocketStream<S>,
    key_of: impl FnOnce(NodeId) -> Option<[u8; 32]>,
) -> Result<NodeId, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| Refusal::Internal)?;
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let ts = clock::unix_now();
    let text = LoginText::AuthChallenge { nonce: nonce.clone(), ts };
    let exchange = async {
        socket.send(Message::text(text.encode())).await.ok()?;
        loop {
            match socket.next().await?.ok()? {
                Message::Text(text) => return Some(text),
                Message::Ping(_) | Message::Pong(_) => {}
                _ => return None,
            }
        }
    };
    let Ok(Some(reply)) = timeout(REPLY, exchange).await else { return Err(Refusal::Silent) };
    check(&reply, ts, &nonce, key_of)
}

fn check(
    reply: &str,
    ts: u64,
    nonce: &str,
    key_of: impl FnOnce(NodeId) -> Option<[u8; 32]>,
) -> Result<NodeId, Refusal> {
    let Some(LoginText::AuthReply { node_id, public_key, sig }) = LoginText::parse(reply) else {
        return Err(Refusal::Malformed);
    };
    let registered = key_of(node_id).ok_or(Refusal::Unknown)?;
    // Older releases leave the time out.
    let is_signed = [Some(ts), None].iter().any(|ts| {
        let text = signed_text(node_id, *ts, nonce);
        verify(&registered, text.as_bytes(), &sig.0)
    });
    if public_key.0 != registered || !is_signed {
        return Err(Refusal::Signature);
    }
    Ok(node_id)
}

/// Tells the client that it is in.
pub(super) async fn welcome<S>(socket: &mut WebSocketStream<S>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let welcome = socket.send(Message::text(LoginText::AuthOk {}.encode()));
    timeout(REPLY, welcome).await.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Identity;
    use crate::wire::registry::Base64;

    const NODE: NodeId = NodeId(70_000);
    const NONCE: &str = "0123456789abcdef";

    fn reply(identity: &Identity, signed: &str) -> String {
        let (public_key, sig) = (identity.public_key(), identity.sign(signed.as_bytes()));
        let (public_key, sig) = (Base64(public_key), Base64(sig));
        LoginText::AuthReply { node_id: NODE, public_key, sig }.encode()
    }

    #[test]
    fn the_registered_key_and_its_signature_are_demanded() {
        let (alice, eve) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let judge =
            |reply: &str| check(reply, 5, NONCE, |node| (node == NODE).then(|| alice.public_key()));
        for ts in [Some(5), None] {
            assert_eq!(judge(&reply(&alice, &signed_text(NODE, ts, NONCE))), Ok(NODE));
        }
        let bad = [
            reply(&eve, &signed_text(NODE, Some(5), NONCE)),
            reply(&alice, &signed_text(NODE, Some(6), NONCE)),
            reply(&alice, &signed_text(NODE, Some(5), "00")),
            reply(&alice, &signed_text(NodeId(1), Some(5), NONCE)),
        ];
        for reply in bad {
            assert_eq!(judge(&reply), Err(Refusal::Signature));
        }
        let other = reply(&alice, "x").replace("70000", "70001");
        assert_eq!(judge(&other), Err(Refusal::Unknown));
        assert_eq!(judge("{}"), Err(Refusal::Malformed));
    }
}
