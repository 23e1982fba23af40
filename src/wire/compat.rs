//! The login of the WebSocket transport: three JSON texts, then every binary frame is a beacon
//! message.
//!
//! ```text
//! server  {"type":"auth_challenge","nonce":"<64 hex digits>","ts":<unix seconds>}
//! client  {"type":"auth_reply","node_id":N,"public_key":"<base64>","sig":"<base64>"}
//! server  {"type":"auth_ok"}
//! ```
//! The signature is by the identity of the node, over [`signed_text`].

use serde::{Deserialize, Serialize};

use super::NodeId;
use super::registry::values::node_id;
use super::registry::{PublicKey, Signature};

/// Where a beacon takes WebSocket connections.
pub const PATH: &str = "/v1/compat";
/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "pilot.v1";
/// Largest frame, either way: the largest UDP datagram fits.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// A login text is never longer.
const MAX_TEXT_BYTES: usize = 1024;
/// Bytes of a nonce, in hex.
const MAX_NONCE_BYTES: usize = 128;

/// A text of the login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LoginText {
    /// Prove who you are.
    AuthChallenge {
        /// Random, in hex.
        nonce: String,
        /// The server's clock, in unix seconds. Old servers send none.
        #[serde(default)]
        ts: u64,
    },
    /// The proof.
    AuthReply {
        /// Who.
        #[serde(with = "node_id")]
        node_id: NodeId,
        /// Its identity; the server compares it with the one that is registered.
        public_key: PublicKey,
        /// Over [`signed_text`].
        sig: Signature,
    },
    /// You are in.
    AuthOk {},
}

impl LoginText {
    /// Decodes a text; `None` if it is none of the login's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let text: Self = serde_json::from_str(text).ok()?;
        let is_sane = match &text {
            Self::AuthChallenge { nonce, .. } => {
                nonce.len() <= MAX_NONCE_BYTES && nonce.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Self::AuthReply { .. } | Self::AuthOk {} => true,
        };
        is_sane.then_some(text)
    }

    /// The text.
    #[must_use]
    pub fn encode(&self) -> String {
        // Neither maps nor anything else that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What the node signs. Without `ts` it is the string of older releases, which servers accept.
#[must_use]
pub fn signed_text(node: NodeId, ts: Option<u64>, nonce: &str) -> String {
    match ts {
        Some(ts) => format!("compat_auth:{node}:{ts}:{nonce}"),
        None => format!("compat_auth:{node}:{nonce}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::registry::Base64;

    #[test]
    fn the_texts_are_those_of_the_protocol() {
        let nonce = "ab".repeat(32);
        let challenge = LoginText::AuthChallenge { nonce: nonce.clone(), ts: 7 };
        let text = format!(r#"{{"type":"auth_challenge","nonce":"{nonce}","ts":7}}"#);
        assert_eq!(challenge.encode(), text);
        assert_eq!(LoginText::AuthOk {}.encode(), r#"{"type":"auth_ok"}"#);
        assert_eq!(signed_text(NodeId(9), Some(7), "ab"), "compat_auth:9:7:ab");
        assert_eq!(signed_text(NodeId(9), None, "ab"), "compat_auth:9:ab");
        let reply = LoginText::AuthReply {
            node_id: NodeId(9),
            public_key: Base64([1; 32]),
            sig: Base64([2; 64]),
        };
        assert!(reply.encode().starts_with(r#"{"type":"auth_reply","node_id":9,"public_key":""#));
    }

    #[test]
    fn a_challenge_cannot_make_a_node_sign_something_else() {
        for nonce in ["x", "ab:heartbeat:1", "", " "] {
            let text = format!(r#"{{"type":"auth_challenge","nonce":"{nonce}","ts":7}}"#);
            assert_eq!(LoginText::parse(&text).is_some(), nonce.is_empty(), "{nonce:?}");
        }
        assert_eq!(LoginText::parse(&" ".repeat(2_000)), None);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_does_not(text in ".*") {
            let _ = LoginText::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(node in 1u32.., key: [u8; 32], nonce in "[0-9a-f]{0,64}", ts: u64) {
            let texts = [
                LoginText::AuthChallenge { nonce, ts },
                LoginText::AuthReply {
                    node_id: NodeId(node),
                    public_key: Base64(key),
                    sig: Base64([7; 64]),
                },
                LoginText::AuthOk {},
            ];
            for text in texts {
                prop_assert_eq!(LoginText::parse(&text.encode()), Some(text.clone()));
            }
        }
    }
}
