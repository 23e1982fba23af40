//! Trust handshake (stream port 444): one JSON object a connection.
//!
//! The receiver takes what the first segment holds for the whole object, so a message must fit
//! one segment: [`MAX_LEN`]. It is not answered on its connection; the answer is a message on a
//! new connection in the other direction.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{NodeId, WireError};

/// Most bytes of a message that we send: one segment of any peer.
pub const MAX_LEN: usize = 1152;
/// Most bytes of a message that we read; nodes of February 2026 send up to so many.
pub const MAX_RECEIVED_LEN: usize = 4096;
/// How old a message may be, in seconds.
pub const MAX_AGE_SECS: u64 = 300;
/// How far ahead of our clock a message may be, in seconds.
pub const MAX_AHEAD_SECS: u64 = 30;

/// What a message wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum HandshakeKind {
    /// "Trust me."
    #[serde(rename = "handshake_request")]
    Request,
    /// "I do."
    #[serde(rename = "handshake_accept")]
    Accept,
    /// "I will not."
    #[serde(rename = "handshake_reject")]
    Reject,
    /// "No longer."
    #[serde(rename = "handshake_revoke")]
    Revoke,
}

/// One message. The order of the fields is that of the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandshakeMessage {
    /// What it wants.
    #[serde(rename = "type")]
    pub kind: HandshakeKind,
    /// The sender; must be the node that the tunnel authenticated.
    pub node_id: NodeId,
    /// The sender's identity, by its own word; compare it with the registered one.
    #[serde(default, with = "base64_array")]
    pub public_key: Option<[u8; 32]>,
    /// Why, in free text of the sender; requests only.
    #[serde(default)]
    pub justification: String,
    /// Signature over [`sign_string`]. It covers neither kind nor time: take messages only
    /// through a tunnel.
    #[serde(default, with = "base64_array")]
    pub signature: Option<[u8; 64]>,
    /// Why not; rejections and revocations.
    #[serde(default)]
    pub reason: String,
    /// When it was made, Unix time in seconds.
    pub timestamp: i64,
}

/// What the sender's identity signs, the same for every kind.
#[must_use]
pub fn sign_string(sender: NodeId, receiver: NodeId) -> String {
    format!("handshake:{sender}:{receiver}")
}

impl HandshakeMessage {
    /// Decodes a message.
    ///
    /// # Errors
    /// Longer than [`MAX_RECEIVED_LEN`], or not such an object.
    pub fn parse(json: &[u8]) -> Result<Self, WireError> {
        WireError::check_len("handshake message", json.len(), MAX_RECEIVED_LEN)?;
        serde_json::from_slice(json).map_err(|_| WireError::Invalid { what: "handshake message" })
    }

    /// The message as it goes out.
    ///
    /// # Errors
    /// Longer than [`MAX_LEN`]: shorten the justification or the reason.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let json = self.to_json();
        WireError::check_len("handshake message", json.len(), MAX_LEN)?;
        Ok(json)
    }

    /// What to remember in order to see a replay: the hash of the message in our own spelling, so
    /// that different white space does not make a second message of it.
    #[must_use]
    pub fn replay_key(&self) -> [u8; 32] {
        Sha256::digest(self.to_json()).into()
    }

    /// Whether `now`, Unix time in seconds, is near enough to the message's time.
    #[must_use]
    pub fn is_fresh(&self, now: i64) -> bool {
        let age = now.saturating_sub(self.timestamp);
        age <= MAX_AGE_SECS.cast_signed() && age >= -MAX_AHEAD_SECS.cast_signed()
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Byte arrays as base64 text; the empty text is none.
mod base64_array {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::wire::registry::Base64;

    pub(super) fn serialize<S: Serializer, const N: usize>(
        value: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => Base64(*bytes).serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(None),
            text => match Base64::parse(text) {
                Some(Base64(bytes)) => Ok(Some(bytes)),
                None => Err(D::Error::custom(format!("not base64 of {N} bytes"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"{"type":"handshake_request","node_id":1,"timestamp":1000}"#;

    #[test]
    fn fields_a_sender_leaves_out_are_empty() {
        let message = HandshakeMessage::parse(MINIMAL.as_bytes()).unwrap();
        assert_eq!((message.public_key, message.signature), (None, None));
        assert_eq!((message.justification.as_str(), message.reason.as_str()), ("", ""));
    }

    #[test]
    fn white_space_does_not_make_another_message() {
        let spaced = MINIMAL.replace(',', " ,\n");
        let keys =
            [MINIMAL, &spaced].map(|m| HandshakeMessage::parse(m.as_bytes()).unwrap().replay_key());
        assert_eq!(keys[0], keys[1]);
    }

    #[test]
    fn freshness_has_a_past_and_a_future() {
        let message = HandshakeMessage::parse(MINIMAL.as_bytes()).unwrap();
        for (now, fresh) in [(969, false), (970, true), (1000, true), (1300, true), (1301, false)] {
            assert_eq!(message.is_fresh(now), fresh, "{now}");
        }
        assert!(!HandshakeMessage { timestamp: i64::MIN, ..message }.is_fresh(i64::MAX));
    }

    #[test]
    fn malformed_messages_are_errors() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"type":"handshake_request","node_id":-1,"timestamp":1}"#,
            r#"{"type":"hello","node_id":1,"timestamp":1}"#,
            r#"{"type":"handshake_request","node_id":1,"timestamp":1,"public_key":"AAAA"}"#,
            r#"{"type":"handshake_request","node_id":1,"timestamp":1} trailing"#,
        ] {
            assert!(HandshakeMessage::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = vec![b' '; MAX_RECEIVED_LEN + 1];
        assert!(matches!(HandshakeMessage::parse(&long), Err(WireError::TooLong { .. })));
    }

    #[test]
    fn a_message_that_needs_two_segments_is_not_sent() {
        let mut message = HandshakeMessage::parse(MINIMAL.as_bytes()).unwrap();
        message.justification = "x".repeat(MAX_LEN);
        assert!(matches!(message.encode(), Err(WireError::TooLong { .. })));
    }
}
