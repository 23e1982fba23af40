//! Data exchange (port 1001): typed frames, each answered by a text frame on the same connection.
//!
//! ```text
//! frame       type u32 | length u32 | payload
//!
//!  1 TEXT        UTF-8, unchecked
//!  2 BINARY      bytes
//!  3 JSON        text, unchecked
//!  4 FILE        name length u16 | name | file
//!  5 TRACE       inner type u32 | sent time u64, Unix ns | inner payload
//!  7 FILESTREAM  see file_stream
//! 10 TAGGED      header length u16 | JSON header | inner type u32 | inner payload
//! ```
//! Nodes of February 2026 know only 1 to 4. The answers are in [`data_reply`](super::data_reply).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::file_stream::FileStream;
use super::gather::Gather;
use crate::wire::WireError;
use crate::wire::cursor::Reader;

/// Most payload bytes that release 1.18 takes; nodes of February 2026 take a quarter of it.
pub const MAX_PAYLOAD: usize = 64 << 20;
/// Most bytes of the JSON header of a TAGGED frame.
pub const MAX_TAG_HEADER: usize = 1024;
/// Most bytes of a file name that release 1.18 stores.
pub const MAX_FILE_NAME: usize = 255;

/// Type of a TEXT frame.
pub const TEXT: u32 = 1;
/// Type of a BINARY frame.
pub const BINARY: u32 = 2;
/// Type of a JSON frame.
pub const JSON: u32 = 3;
/// Type of a FILE frame.
pub const FILE: u32 = 4;
/// Type of a TRACE frame.
pub const TRACE: u32 = 5;
/// Type of a FILESTREAM frame.
pub const FILE_STREAM: u32 = 7;
/// Type of a TAGGED frame.
pub const TAGGED: u32 = 10;

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataFrame {
    /// Text; nobody checks that it is UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// JSON; nobody checks that either.
    Json(Bytes),
    /// A file in one piece.
    File {
        /// Its name as sent: see [`base_name`] before you use it.
        name: String,
        /// Its content.
        data: Bytes,
    },
    /// A frame whose way is timed; answered by a [`TraceReply`](super::data_reply::TraceReply).
    Trace {
        /// Type of the frame inside.
        inner: u32,
        /// When it was sent, Unix time in nanoseconds.
        sent_at_ns: u64,
        /// Payload of the frame inside.
        payload: Bytes,
    },
    /// A file in pieces.
    FileStream(FileStream),
    /// A frame with an id.
    Tagged {
        /// The id, and that of the message it answers.
        tag: Tag,
        /// Type of the frame inside.
        inner: u32,
        /// Payload of the frame inside.
        payload: Bytes,
    },
    /// A type we do not know; answer it, so that the sender falls back, and do not store it.
    Unknown {
        /// The type.
        kind: u32,
        /// What was in it.
        payload: Bytes,
    },
}

impl DataFrame {
    /// Decodes the payload of a frame of type `kind`.
    ///
    /// # Errors
    /// The payload does not have the layout of its type. Close the connection, as release 1.18.
    pub fn parse(kind: u32, payload: Bytes) -> Result<Self, WireError> {
        let mut r = Reader::new("data frame", &payload);
        match kind {
            TEXT => Ok(Self::Text(payload)),
            BINARY => Ok(Self::Binary(payload)),
            JSON => Ok(Self::Json(payload)),
            FILE => {
                let len = usize::from(r.u16()?);
                let name = utf8("file name", r.bytes(len)?)?;
                Ok(Self::File { name, data: payload.slice_ref(r.rest()) })
            }
            TRACE => {
                let (inner, sent_at_ns) = (r.u32()?, r.u64()?);
                Ok(Self::Trace { inner, sent_at_ns, payload: payload.slice_ref(r.rest()) })
            }
            FILE_STREAM => FileStream::parse(&payload).map(Self::FileStream),
            TAGGED => {
                let len = usize::from(r.u16()?);
                let tag = Tag::parse(r.bytes(len)?)?;
                let inner = r.u32()?;
                Ok(Self::Tagged { tag, inner, payload: payload.slice_ref(r.rest()) })
            }
            kind => Ok(Self::Unknown { kind, payload }),
        }
    }

    /// Appends all of the frame but its last part, which it returns; the last part is to follow.
    /// A writer thus sends a large payload without copying it.
    ///
    /// # Errors
    /// A part exceeds its limit.
    pub fn encode_head(&self, out: &mut Vec<u8>) -> Result<Bytes, WireError> {
        let start = out.len();
        out.extend_from_slice(&self.kind().to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        let tail = match self {
            Self::Text(payload) | Self::Binary(payload) | Self::Json(payload) => payload.clone(),
            Self::Unknown { payload, .. } => payload.clone(),
            Self::File { name, data } => {
                push_u16_prefixed("file name", name.as_bytes(), usize::from(u16::MAX), out)?;
                data.clone()
            }
            Self::Trace { inner, sent_at_ns, payload } => {
                out.extend_from_slice(&inner.to_be_bytes());
                out.extend_from_slice(&sent_at_ns.to_be_bytes());
                payload.clone()
            }
            Self::FileStream(step) => step.encode_head(out)?,
            Self::Tagged { tag, inner, payload } => {
                push_u16_prefixed("tag header", &tag.to_json(), MAX_TAG_HEADER, out)?;
                out.extend_from_slice(&inner.to_be_bytes());
                payload.clone()
            }
        };
        let len = out.len() - start - 8 + tail.len();
        WireError::check_len("data frame", len, u32::MAX as usize)?;
        #[expect(clippy::cast_possible_truncation, reason = "just checked")]
        let field = (len as u32).to_be_bytes();
        if let Some(place) = out.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&field);
        }
        Ok(tail)
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// As [`Self::encode_head`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let tail = self.encode_head(out)?;
        out.extend_from_slice(&tail);
        Ok(())
    }

    /// The type on the wire.
    #[must_use]
    pub fn kind(&self) -> u32 {
        match self {
            Self::Text(_) => TEXT,
            Self::Binary(_) => BINARY,
            Self::Json(_) => JSON,
            Self::File { .. } => FILE,
            Self::Trace { .. } => TRACE,
            Self::FileStream(_) => FILE_STREAM,
            Self::Tagged { .. } => TAGGED,
            Self::Unknown { kind, .. } => *kind,
        }
    }
}

/// The id of a message and of the one it answers, from the header of a TAGGED frame.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tag {
    message_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
}

impl Tag {
    /// A tag of valid ids: 1 to 128 characters out of `A-Z a-z 0-9 - _ . :`.
    ///
    /// # Errors
    /// An id is not valid.
    pub fn new(message_id: String, reply_to: Option<String>) -> Result<Self, WireError> {
        Self { message_id, reply_to }.check()
    }

    /// The message's own id.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// The id of the message that this one answers.
    #[must_use]
    pub fn reply_to(&self) -> Option<&str> {
        self.reply_to.as_deref()
    }

    fn parse(json: &[u8]) -> Result<Self, WireError> {
        WireError::check_len("tag header", json.len(), MAX_TAG_HEADER)?;
        let mut tag: Self =
            serde_json::from_slice(json).map_err(|_| WireError::Invalid { what: "tag header" })?;
        // An empty string is how Go writes "none".
        tag.reply_to.take_if(|id| id.is_empty());
        tag.check()
    }

    fn check(self) -> Result<Self, WireError> {
        let valid = |id: &String| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        };
        if !valid(&self.message_id) || !self.reply_to.as_ref().is_none_or(valid) {
            return Err(WireError::Invalid { what: "message id" });
        }
        Ok(self)
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The name under which a received file may be stored: its last component, so that a sender
/// cannot choose a directory. `None` if nothing usable is left.
#[must_use]
pub fn base_name(name: &str) -> Option<&str> {
    let base = name.rsplit(['/', '\\']).next()?;
    let usable = !matches!(base, "" | "." | "..")
        && base.len() <= MAX_FILE_NAME
        && !base.contains(char::is_control);
    usable.then_some(base)
}

/// Takes frames out of a stream.
#[derive(Debug)]
pub struct DataFrameDecoder {
    gather: Gather,
    max_payload: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Head,
    Payload { kind: u32, len: usize },
    Failed(WireError),
}

impl DataFrameDecoder {
    /// A decoder that takes payloads up to `max_payload` bytes.
    #[must_use]
    pub fn new(max_payload: usize) -> Self {
        Self { gather: Gather::default(), max_payload, state: State::Head }
    }

    /// Adds received bytes.
    pub fn feed(&mut self, chunk: Bytes) {
        self.gather.feed(chunk);
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// A frame is too long or malformed. Close the connection.
    pub fn next_frame(&mut self) -> Result<Option<DataFrame>, WireError> {
        let result = self.try_next();
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// Bytes received that do not make a frame yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.gather.buffered()
    }

    fn try_next(&mut self) -> Result<Option<DataFrame>, WireError> {
        if let State::Head = self.state {
            let Some(head) = self.gather.take_array::<8>() else { return Ok(None) };
            let mut r = Reader::new("data frame", &head);
            let (kind, len) = (r.u32()?, usize::try_from(r.u32()?).unwrap_or(usize::MAX));
            WireError::check_len("data frame", len, self.max_payload)?;
            self.state = State::Payload { kind, len };
        }
        match &self.state {
            State::Payload { kind, len } => {
                let Some(payload) = self.gather.take(*len) else { return Ok(None) };
                let frame = DataFrame::parse(*kind, payload)?;
                self.state = State::Head;
                Ok(Some(frame))
            }
            State::Failed(error) => Err(error.clone()),
            State::Head => Ok(None),
        }
    }
}

impl Default for DataFrameDecoder {
    fn default() -> Self {
        Self::new(MAX_PAYLOAD)
    }
}

pub(super) fn utf8(what: &'static str, bytes: &[u8]) -> Result<String, WireError> {
    let text = std::str::from_utf8(bytes).map_err(|_| WireError::Invalid { what })?;
    Ok(text.to_owned())
}

pub(super) fn push_u16_prefixed(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let too_long = WireError::TooLong { what, len: bytes.len(), limit };
    let len = u16::try_from(bytes.len()).map_err(|_| too_long)?;
    WireError::check_len(what, bytes.len(), limit)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_too_long_fails_before_it_arrives_and_stays_failed() {
        let mut decoder = DataFrameDecoder::new(10);
        decoder.feed(Bytes::from_static(&[0, 0, 0, 1, 0, 0, 0, 11]));
        for _ in 0..2 {
            assert!(matches!(decoder.next_frame(), Err(WireError::TooLong { len: 11, .. })));
        }
    }

    #[test]
    fn a_file_name_longer_than_its_frame_is_truncated() {
        let payload = Bytes::from_static(&[0, 5, b'x']);
        assert!(matches!(DataFrame::parse(FILE, payload), Err(WireError::Truncated { .. })));
    }

    #[test]
    fn tags_have_ids_of_the_agreed_characters() {
        let parse = |json: &str| Tag::parse(json.as_bytes());
        assert!(parse(r#"{"message_id":"a.b:c-d_0","reply_to":"x","more":1}"#).is_ok());
        assert_eq!(parse(r#"{"message_id":"a","reply_to":""}"#).unwrap().reply_to(), None);
        let too_long = format!(r#"{{"message_id":"{}"}}"#, "a".repeat(129));
        for bad in ["", "[]", "{}", r#"{"message_id":""}"#, r#"{"message_id":"a b"}"#, &too_long] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(Tag::new("a".into(), Some(String::new())).is_err());
    }

    #[test]
    fn a_sender_cannot_choose_the_directory() {
        assert_eq!(base_name("../../etc/passwd"), Some("passwd"));
        assert_eq!(base_name(r"C:\temp\a.txt"), Some("a.txt"));
        for bad in ["", "..", "a/..", "a/", "a\0b"] {
            assert_eq!(base_name(bad), None, "{bad:?}");
        }
    }
}
