//! Answers of data exchange. Every frame gets one, and a sender waits for it before its next.
//!
//! ```text
//! ACK <TYPE> <n> bytes            stored; n counts payload bytes, of a FILE those of the file
//! ERR <TYPE> save failed: <text>  not stored
//! ACK UNKNOWN(<type>) <n> bytes   a type that the receiver does not know, and did not store
//! ```
//! They are TEXT frames, but for a TRACE that is timed by a JSON one ([`TraceReply`]). A TAGGED frame
//! is answered as the frame inside it. `ACK UNKNOWN(..)` makes a sender of release 1.18 fall back
//! from TAGGED to TEXT and from FILESTREAM to FILE.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::data::{BINARY, DataFrame, FILE, JSON, TEXT};
use crate::wire::WireError;

/// The answer to a frame, or its content when decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataReply {
    /// The receiver has it.
    Ack {
        /// `TEXT`, `FILE`, and so on.
        kind: String,
        /// How much it counted.
        bytes: u64,
    },
    /// The receiver does not know the type and dropped the frame.
    Unknown {
        /// The type.
        kind: u32,
        /// The whole payload's length.
        bytes: u64,
    },
    /// The receiver could not store it.
    Failed {
        /// `TEXT`, `FILE`, and so on.
        kind: String,
        /// Why.
        reason: String,
    },
}

impl DataReply {
    /// The answer to a frame that was stored, or is of an unknown type.
    #[must_use]
    pub fn to(frame: &DataFrame) -> Self {
        match frame {
            DataFrame::Text(payload) => Self::ack(TEXT, payload.len()),
            DataFrame::Binary(payload) => Self::ack(BINARY, payload.len()),
            DataFrame::Json(payload) => Self::ack(JSON, payload.len()),
            DataFrame::File { data, .. } => Self::ack(FILE, data.len()),
            DataFrame::Trace { inner, payload, .. } | DataFrame::Tagged { inner, payload, .. } => {
                Self::ack(*inner, payload.len())
            }
            DataFrame::Unknown { kind, payload } => Self::ack(*kind, payload.len()),
            // Only a node without FILESTREAM answers it like this; the rest is a dialogue.
            DataFrame::FileStream(_) => {
                let mut encoded = Vec::new();
                let tail = frame.encode_head(&mut encoded).map_or(0, |tail| tail.len());
                Self::ack(frame.kind(), encoded.len().saturating_sub(8) + tail)
            }
        }
    }

    /// The answer to a frame of type `kind` that could not be stored.
    #[must_use]
    pub fn failed(kind: u32, reason: impl Into<String>) -> Self {
        let name = kind_name(kind).map_or_else(|| format!("UNKNOWN({kind})"), str::to_owned);
        Self::Failed { kind: name, reason: reason.into() }
    }

    /// Decodes the text of an answer.
    ///
    /// # Errors
    /// It is none of the three.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        const INVALID: WireError = WireError::Invalid { what: "data exchange answer" };
        let (verb, rest) = text.split_once(' ').ok_or(INVALID)?;
        let (kind, rest) = rest.split_once(' ').ok_or(INVALID)?;
        if verb == "ERR" {
            let reason = rest.strip_prefix("save failed: ").unwrap_or(rest);
            return Ok(Self::Failed { kind: kind.to_owned(), reason: reason.to_owned() });
        }
        let count = rest.strip_suffix(" bytes").and_then(|n| n.parse().ok());
        let (true, Some(bytes)) = (verb == "ACK", count) else { return Err(INVALID) };
        match kind.strip_prefix("UNKNOWN(").and_then(|k| k.strip_suffix(')')) {
            Some(number) => Ok(Self::Unknown { kind: number.parse().map_err(|_| INVALID)?, bytes }),
            None => Ok(Self::Ack { kind: kind.to_owned(), bytes }),
        }
    }

    /// The frame that carries the answer.
    #[must_use]
    pub fn to_frame(&self) -> DataFrame {
        DataFrame::Text(Bytes::from(self.to_string()))
    }

    fn ack(kind: u32, len: usize) -> Self {
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        match kind_name(kind) {
            Some(name) => Self::Ack { kind: name.to_owned(), bytes },
            None => Self::Unknown { kind, bytes },
        }
    }
}

impl std::fmt::Display for DataReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ack { kind, bytes } => write!(f, "ACK {kind} {bytes} bytes"),
            Self::Unknown { kind, bytes } => write!(f, "ACK UNKNOWN({kind}) {bytes} bytes"),
            Self::Failed { kind, reason } => write!(f, "ERR {kind} save failed: {reason}"),
        }
    }
}

/// The JSON answer to a TRACE frame; times are Unix time in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceReply {
    /// When the answer was sent.
    pub ack_sent_at_ns: u64,
    /// When the frame was stored.
    pub inbox_written_at_ns: u64,
    /// The answer that the frame inside would have got.
    pub inner_ack: String,
    /// When the frame arrived.
    pub received_at_ns: u64,
    /// When the sender says it sent the frame.
    pub sent_at_ns: u64,
}

impl TraceReply {
    /// The frame that carries the answer.
    #[must_use]
    pub fn to_frame(&self) -> DataFrame {
        DataFrame::Json(serde_json::to_vec(self).unwrap_or_default().into())
    }
}

fn kind_name(kind: u32) -> Option<&'static str> {
    match kind {
        TEXT => Some("TEXT"),
        BINARY => Some("BINARY"),
        JSON => Some("JSON"),
        FILE => Some("FILE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::Tag;
    use super::super::file_stream::{FileStep, FileStream};
    use super::*;

    #[test]
    fn a_tagged_frame_is_answered_as_the_frame_inside() {
        let tag = Tag::new("1".into(), None).unwrap();
        let payload = Bytes::from_static(b"hello!");
        let frame = DataFrame::Tagged { tag, inner: TEXT, payload };
        assert_eq!(DataReply::to(&frame).to_string(), "ACK TEXT 6 bytes");
    }

    #[test]
    fn an_unknown_type_is_answered_with_its_whole_length() {
        let frame = DataFrame::Unknown { kind: 99, payload: Bytes::from_static(b"abc") };
        assert_eq!(DataReply::to(&frame).to_string(), "ACK UNKNOWN(99) 3 bytes");
        let step = FileStep::Ack { offset: 1 };
        let frame = DataFrame::FileStream(FileStream { transfer: [0; 16], step });
        assert_eq!(DataReply::to(&frame).to_string(), "ACK UNKNOWN(7) 25 bytes");
    }

    #[test]
    fn answers_survive_their_text() {
        for reply in [
            DataReply::Ack { kind: "FILE".into(), bytes: 12 },
            DataReply::Unknown { kind: 10, bytes: 62 },
            DataReply::failed(FILE, "no space left on device"),
            DataReply::failed(99, "unsupported frame type 99"),
        ] {
            assert_eq!(DataReply::parse(&reply.to_string()), Ok(reply));
        }
        for bad in [
            "",
            "ACK",
            "ACK TEXT",
            "ACK TEXT x bytes",
            "NAK TEXT 1 bytes",
            "ACK UNKNOWN(x) 1 bytes",
        ] {
            assert!(DataReply::parse(bad).is_err(), "{bad}");
        }
    }
}
