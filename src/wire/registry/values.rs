//! Field types that JSON has no form for, and the leniency of the Go peers towards fields.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::wire::NodeId;

/// `N` bytes, written as base64 text (standard alphabet, padded).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base64<const N: usize>(pub [u8; N]);

/// An Ed25519 public key: 44 characters.
pub type PublicKey = Base64<32>;

/// An Ed25519 signature: 88 characters.
pub type Signature = Base64<64>;

impl<const N: usize> Base64<N> {
    /// Decodes text; `None` if it is not base64 of exactly `N` bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Without this a long text would be decoded before its length is refused.
        if text.len() > N.div_ceil(3) * 4 {
            return None;
        }
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl<const N: usize> fmt::Display for Base64<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Base64<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Base64<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Base64<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("not base64 of {N} bytes")))
    }
}

/// For `#[serde(with)]`: a node id. What is no u32 reads as 0, as both Go generations do; 0 is
/// nobody's id, so such a request fails as "not found".
pub(crate) mod node_id {
    use super::{Deserialize, Deserializer, NodeId, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(id: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
        id.0.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<NodeId, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(NodeId(value.as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(0)))
    }
}

/// `null` (a Go nil slice or map) reads as the default.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An absent, null or empty text reads as `None`: Go writes "" for a key or signature it lacks.
pub(super) fn non_empty<'de, D, const N: usize>(
    deserializer: D,
) -> Result<Option<Base64<N>>, D::Error>
where
    D: Deserializer<'de>,
{
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => Base64::parse(&text)
            .map(Some)
            .ok_or_else(|| de::Error::custom(format!("not base64 of {N} bytes"))),
    }
}

pub(super) fn is_false(value: &bool) -> bool {
    !*value
}
