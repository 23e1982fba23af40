//! Head and headers of the [message envelope](super::message).
//!
//! ```text
//!  0        1        2                 4                                   12
//! +--------+--------+-----------------+-----------------------------------+
//! |  0xA7  |  kind  |      flags      |                id                 |
//! +--------+--------+-----------------+-----------------------------------+
//! 12                14                16                                  20
//! +-----------------+-----------------+-----------------------------------+
//! |   headers len   |   reserved (0)  |            payload len            |
//! +-----------------+-----------------+-----------------------------------+
//! headers: n x ( key length u8 (1..=255) | key | value length u16 | value )      both UTF-8
//! ```

use bytes::Bytes;

use crate::wire::WireError;
use crate::wire::cursor::Reader;

/// Bytes of a head.
pub const HEAD_LEN: usize = 20;
/// Most bytes of headers.
pub const MAX_HEADERS: usize = 8 << 10;
/// The first byte of each frame. Not ASCII, so that a stray text protocol fails at once.
pub const MAGIC: u8 = 0xa7;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageKind {
    /// First frame of each direction of a stream.
    Hello,
    /// Wants an acknowledgement.
    Message,
    /// The message of this id is in the receiver's inbox.
    Ack,
    /// Wants a reply.
    Request,
    /// Answers the request of this id.
    Reply,
    /// The request or message of this id failed.
    Error,
    /// Nobody waits for the reply to this id any more.
    Cancel,
    /// A kind of a later version: ignore the frame.
    Unknown(u8),
}

impl MessageKind {
    /// The byte on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Message => 2,
            Self::Ack => 3,
            Self::Request => 4,
            Self::Reply => 5,
            Self::Error => 6,
            Self::Cancel => 7,
            Self::Unknown(code) => code,
        }
    }

    /// The kind with this byte.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Hello,
            2 => Self::Message,
            3 => Self::Ack,
            4 => Self::Request,
            5 => Self::Reply,
            6 => Self::Error,
            7 => Self::Cancel,
            other => Self::Unknown(other),
        }
    }

    /// Whether its payload is the user's; those of the others are small.
    #[must_use]
    pub fn carries_user_payload(self) -> bool {
        matches!(self, Self::Message | Self::Request | Self::Reply)
    }
}

/// How the user gave a payload, so that the other side can give it back alike. The low nibble of
/// the flags of MESSAGE, REQUEST and REPLY.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PayloadKind {
    /// Bytes.
    #[default]
    Bytes,
    /// UTF-8, by the sender's word.
    Text,
    /// JSON, by the sender's word.
    Json,
}

impl PayloadKind {
    /// The flags that say so.
    #[must_use]
    pub fn to_flags(self) -> u16 {
        match self {
            Self::Bytes => 0,
            Self::Text => 1,
            Self::Json => 2,
        }
    }

    /// What the flags say; a kind of a later version is bytes to us.
    #[must_use]
    pub fn from_flags(flags: u16) -> Self {
        match flags & 0x0f {
            1 => Self::Text,
            2 => Self::Json,
            _ => Self::Bytes,
        }
    }
}

/// Why a request or message failed. The low byte of the flags of ERROR.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorCode {
    /// The handler raised an error; the payload says which.
    HandlerFailed,
    /// Nobody answers requests there.
    NoHandler,
    /// Too many requests are being handled; try again later.
    TooBusy,
    /// The payload exceeds what the receiver takes.
    TooLarge,
    /// A code of a later version.
    Other(u8),
}

impl ErrorCode {
    /// The flags that say so.
    #[must_use]
    pub fn to_flags(self) -> u16 {
        match self {
            Self::HandlerFailed => 1,
            Self::NoHandler => 2,
            Self::TooBusy => 3,
            Self::TooLarge => 4,
            Self::Other(code) => u16::from(code),
        }
    }

    /// What the flags say.
    #[must_use]
    pub fn from_flags(flags: u16) -> Self {
        match flags.to_be_bytes()[1] {
            1 => Self::HandlerFailed,
            2 => Self::NoHandler,
            3 => Self::TooBusy,
            4 => Self::TooLarge,
            other => Self::Other(other),
        }
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageHead {
    /// What the frame is.
    pub kind: MessageKind,
    /// What they mean depends on the kind; bits without a meaning are 0 and ignored.
    pub flags: u16,
    /// Chosen by the sender of a MESSAGE or REQUEST, repeated by what answers it; 0 in a HELLO.
    pub id: u64,
    /// Bytes of headers.
    pub headers_len: u16,
    /// Bytes of payload.
    pub payload_len: u32,
}

impl MessageHead {
    /// Encodes the head.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        out[0] = MAGIC;
        out[1] = self.kind.code();
        out[2..4].copy_from_slice(&self.flags.to_be_bytes());
        out[4..12].copy_from_slice(&self.id.to_be_bytes());
        out[12..14].copy_from_slice(&self.headers_len.to_be_bytes());
        out[16..].copy_from_slice(&self.payload_len.to_be_bytes());
        out
    }

    /// Decodes a head. The limits of payloads are the decoder's affair.
    ///
    /// # Errors
    /// Truncated, a wrong magic (the stream speaks something else), or headers beyond
    /// [`MAX_HEADERS`].
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("message head", bytes);
        if r.u8()? != MAGIC {
            return Err(WireError::Invalid { what: "message magic" });
        }
        let kind = MessageKind::from_code(r.u8()?);
        let (flags, id, headers_len) = (r.u16()?, r.u64()?, r.u16()?);
        r.u16()?; // reserved
        let payload_len = r.u32()?;
        WireError::check_len("message headers", usize::from(headers_len), MAX_HEADERS)?;
        Ok(Self { kind, flags, id, headers_len, payload_len })
    }
}

/// Pairs of text that travel with a message, such as a trace context. A key may occur more than
/// once; the order is kept.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(Bytes);

impl Headers {
    /// Headers of these pairs.
    ///
    /// # Errors
    /// A key is empty or longer than 255 bytes, or all together exceed [`MAX_HEADERS`].
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, WireError> {
        let mut out = Vec::new();
        for (key, value) in pairs {
            let key_len = match u8::try_from(key.len()) {
                Ok(0) => return Err(WireError::Invalid { what: "message header key" }),
                Ok(len) => len,
                Err(_) => WireError::check_len("message header key", key.len(), 255).map(|()| 0)?,
            };
            WireError::check_len("message headers", value.len(), MAX_HEADERS)?;
            out.push(key_len);
            out.extend_from_slice(key.as_bytes());
            let value_len = u16::try_from(value.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&value_len.to_be_bytes());
            out.extend_from_slice(value.as_bytes());
            WireError::check_len("message headers", out.len(), MAX_HEADERS)?;
        }
        Ok(Self(out.into()))
    }

    /// Checks received headers.
    ///
    /// # Errors
    /// Truncated, an empty key, text that is not UTF-8, or more than [`MAX_HEADERS`].
    pub fn parse(bytes: Bytes) -> Result<Self, WireError> {
        WireError::check_len("message headers", bytes.len(), MAX_HEADERS)?;
        let mut r = Reader::new("message headers", &bytes);
        while r.remaining() > 0 {
            if read_pair(&mut r)?.0.is_empty() {
                return Err(WireError::Invalid { what: "message header key" });
            }
        }
        Ok(Self(bytes))
    }

    /// The value of `key`; the first, if there are several.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(k, value)| (k == key).then_some(value))
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut r = Reader::new("message headers", &self.0);
        // Checked when made, so the error that ends the iteration is the end of the bytes.
        std::iter::from_fn(move || read_pair(&mut r).ok())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As they stand on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn read_pair<'a>(r: &mut Reader<'a>) -> Result<(&'a str, &'a str), WireError> {
    let text = |bytes| {
        std::str::from_utf8(bytes).map_err(|_| WireError::Invalid { what: "message header text" })
    };
    let key_len = usize::from(r.u8()?);
    let key = text(r.bytes(key_len)?)?;
    let value_len = usize::from(r.u16()?);
    Ok((key, text(r.bytes(value_len)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_and_repeated_keys() {
        let pairs = [("traceparent", "00-ab"), ("x", ""), ("x", "2")];
        let headers = Headers::from_pairs(pairs).unwrap();
        assert!(headers.iter().eq(pairs));
        assert_eq!(headers.get("x"), Some(""));
        assert_eq!(headers.get("y"), None);
        let again = Headers::parse(Bytes::copy_from_slice(headers.as_bytes())).unwrap();
        assert_eq!(again, headers);
    }

    #[test]
    fn headers_have_limits() {
        let long = "x".repeat(MAX_HEADERS);
        assert!(Headers::from_pairs([("", "v")]).is_err());
        assert!(Headers::from_pairs([(&long[..256], "v")]).is_err());
        assert!(Headers::from_pairs([("k", &*long)]).is_err());
        assert!(Headers::from_pairs([("k", &long[4..])]).is_ok());
    }

    #[test]
    fn malformed_headers_are_errors() {
        for bad in [&[0, 0, 0][..], &[1], &[1, b'k', 0], &[1, b'k', 0, 1], &[1, 0xff, 0, 0]] {
            assert!(Headers::parse(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_head_survives_the_wire_and_another_protocol_does_not() {
        let head = MessageHead {
            kind: MessageKind::Unknown(0xfe),
            flags: 0x1234,
            id: u64::MAX - 1,
            headers_len: 7,
            payload_len: u32::MAX,
        };
        assert_eq!(MessageHead::parse(&head.encode()), Ok(head));
        assert!(MessageHead::parse(b"GET / HTTP/1.1\r\nHost").is_err());
    }
}
