//! Messages and requests between nodes of ours (port 1100), specified in
//! `docs/message-protocol.md`.
//!
//! Frames stand back to back on a stream: a [head](MessageHead), headers, payload. The first in
//! each direction is HELLO, which names the sending process ([`Hello::epoch`]): a message that is sent
//! again on a new stream keeps its id, and the receiver knows it by (node, epoch, id).

use bytes::Bytes;

use super::gather::Gather;
pub use super::message_head::{
    ErrorCode, HEAD_LEN, Headers, MAX_HEADERS, MessageHead, MessageKind, PayloadKind,
};
use crate::wire::WireError;
use crate::wire::cursor::Reader;

/// Most payload bytes of MESSAGE, REQUEST and REPLY, unless the decoder is given another limit.
pub const MAX_PAYLOAD: usize = 64 << 20;
/// Most payload bytes of the other kinds.
pub const MAX_CONTROL_PAYLOAD: usize = 4 << 10;
/// The version that [`Hello`] announces.
pub const VERSION: u16 = 1;

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageFrame {
    /// What it is.
    pub kind: MessageKind,
    /// See [`PayloadKind`] and [`ErrorCode`].
    pub flags: u16,
    /// Which message or request it is, or is about.
    pub id: u64,
    /// Pairs of text.
    pub headers: Headers,
    /// The content.
    pub payload: Bytes,
}

impl MessageFrame {
    /// The first frame of a stream.
    #[must_use]
    pub fn hello(hello: Hello) -> Self {
        Self::control(MessageKind::Hello, 0, 0, Bytes::copy_from_slice(&hello.encode()))
    }

    /// A MESSAGE, REQUEST or REPLY.
    #[must_use]
    pub fn user(
        kind: MessageKind,
        id: u64,
        payload_kind: PayloadKind,
        headers: Headers,
        payload: Bytes,
    ) -> Self {
        Self { kind, flags: payload_kind.to_flags(), id, headers, payload }
    }

    /// "The message `id` is in the inbox."
    #[must_use]
    pub fn ack(id: u64) -> Self {
        Self::control(MessageKind::Ack, 0, id, Bytes::new())
    }

    /// "`id` failed", with a text for people, which is cut at [`MAX_CONTROL_PAYLOAD`].
    #[must_use]
    pub fn error(id: u64, code: ErrorCode, text: &str) -> Self {
        // A character has at most four bytes, so one of the last four places is a boundary.
        let cut = (0..4).find_map(|back| text.get(..MAX_CONTROL_PAYLOAD - back)).unwrap_or(text);
        let text = Bytes::copy_from_slice(cut.as_bytes());
        Self::control(MessageKind::Error, code.to_flags(), id, text)
    }

    /// "I do not wait for the reply to `id` any more."
    #[must_use]
    pub fn cancel(id: u64) -> Self {
        Self::control(MessageKind::Cancel, 0, id, Bytes::new())
    }

    fn control(kind: MessageKind, flags: u16, id: u64, payload: Bytes) -> Self {
        Self { kind, flags, id, headers: Headers::default(), payload }
    }

    /// How the sender gave the payload of a MESSAGE, REQUEST or REPLY.
    #[must_use]
    pub fn payload_kind(&self) -> PayloadKind {
        PayloadKind::from_flags(self.flags)
    }

    /// Why, in an ERROR.
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        ErrorCode::from_flags(self.flags)
    }

    /// The length of the whole frame.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEAD_LEN + self.headers.as_bytes().len() + self.payload.len()
    }

    /// Appends head and headers; the payload is to follow them, and need not be copied.
    ///
    /// # Errors
    /// The payload is longer than a u32 can say.
    pub fn encode_head(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (len, limit) = (self.payload.len(), u32::MAX as usize);
        let head = MessageHead {
            kind: self.kind,
            flags: self.flags,
            id: self.id,
            headers_len: u16::try_from(self.headers.as_bytes().len()).unwrap_or(u16::MAX),
            payload_len: u32::try_from(len).map_err(|_| WireError::TooLong {
                what: "message payload",
                len,
                limit,
            })?,
        };
        out.extend_from_slice(&head.encode());
        out.extend_from_slice(self.headers.as_bytes());
        Ok(())
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// As [`Self::encode_head`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.encode_head(out)?;
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

/// The payload of HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Random, drawn once by each node process: ids are unique only within it.
    pub epoch: u64,
    /// The highest version that the sender speaks; both use the lower of the two.
    pub version: u16,
}

impl Hello {
    /// Bytes of the payload.
    pub const LEN: usize = 10;

    /// A greeting of this implementation.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { epoch, version: VERSION }
    }

    /// Decodes the payload of HELLO; later versions may append to it.
    ///
    /// # Errors
    /// Truncated, or version 0.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("hello", payload);
        let hello = Self { epoch: r.u64()?, version: r.u16()? };
        if hello.version == 0 {
            return Err(WireError::Invalid { what: "message protocol version" });
        }
        Ok(hello)
    }

    /// Encodes the payload.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.epoch.to_be_bytes());
        out[8..].copy_from_slice(&self.version.to_be_bytes());
        out
    }
}

/// What a decoder finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A frame.
    Frame(MessageFrame),
    /// The head of a user's frame that exceeds the limit. Its content will be thrown away as it
    /// arrives; answer with [`ErrorCode::TooLarge`] and go on.
    TooLarge(MessageHead),
}

/// Takes frames out of a stream.
#[derive(Debug)]
pub struct MessageDecoder {
    gather: Gather,
    max_payload: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Head,
    Body(MessageHead),
    Skip(usize),
    Failed(WireError),
}

impl MessageDecoder {
    /// A decoder that takes payloads up to `max_payload` bytes.
    #[must_use]
    pub fn new(max_payload: usize) -> Self {
        Self { gather: Gather::default(), max_payload, state: State::Head }
    }

    /// Adds received bytes. A frame that lies within one chunk is not copied, which also means that
    /// its payload keeps the chunk alive.
    pub fn feed(&mut self, chunk: Bytes) {
        self.gather.feed(chunk);
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// The stream is not of this protocol. Reset it.
    pub fn next_frame(&mut self) -> Result<Option<Incoming>, WireError> {
        let result = self.try_next();
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// Bytes received that do not make a frame yet. At the end of the stream, more than 0 (or
    /// [`Self::is_within_frame`]) means that it ended too early.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.gather.buffered()
    }

    /// Whether a frame has begun and not ended.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.buffered() > 0 || !matches!(self.state, State::Head)
    }

    fn try_next(&mut self) -> Result<Option<Incoming>, WireError> {
        loop {
            match self.state {
                State::Head => {
                    let Some(bytes) = self.gather.take_array::<HEAD_LEN>() else {
                        return Ok(None);
                    };
                    let head = MessageHead::parse(&bytes)?;
                    let (headers, payload) = lengths(&head);
                    if head.kind.carries_user_payload() && payload > self.max_payload {
                        self.state = State::Skip(headers.saturating_add(payload));
                        return Ok(Some(Incoming::TooLarge(head)));
                    }
                    if !head.kind.carries_user_payload() {
                        WireError::check_len("control payload", payload, MAX_CONTROL_PAYLOAD)?;
                    }
                    self.state = State::Body(head);
                }
                State::Body(head) => {
                    let (headers_len, payload_len) = lengths(&head);
                    let Some(mut body) = self.gather.take(headers_len + payload_len) else {
                        return Ok(None);
                    };
                    let headers = Headers::parse(body.split_to(headers_len))?;
                    let MessageHead { kind, flags, id, .. } = head;
                    self.state = State::Head;
                    let frame = MessageFrame { kind, flags, id, headers, payload: body };
                    return Ok(Some(Incoming::Frame(frame)));
                }
                State::Skip(left) => {
                    let left = left - self.gather.skip(left);
                    if left > 0 {
                        self.state = State::Skip(left);
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Failed(ref error) => return Err(error.clone()),
            }
        }
    }
}

impl Default for MessageDecoder {
    fn default() -> Self {
        Self::new(MAX_PAYLOAD)
    }
}

fn lengths(head: &MessageHead) -> (usize, usize) {
    let payload = usize::try_from(head.payload_len).unwrap_or(usize::MAX);
    (usize::from(head.headers_len), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64, payload: &'static [u8]) -> MessageFrame {
        let headers = Headers::from_pairs([("k", "v")]).unwrap();
        let payload = Bytes::from_static(payload);
        MessageFrame::user(MessageKind::Message, id, PayloadKind::Text, headers, payload)
    }

    fn stream(frames: &[MessageFrame]) -> Bytes {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
        out.into()
    }

    #[test]
    fn frames_come_out_of_any_pieces() {
        let hello = MessageFrame::hello(Hello::new(0x0102_0304_0506_0708));
        let frames = [hello, message(1, b"one"), MessageFrame::ack(1), message(2, b"")];
        let bytes = stream(&frames);
        for piece in 1..=bytes.len() {
            let mut decoder = MessageDecoder::default();
            let mut out = Vec::new();
            for chunk in bytes.chunks(piece) {
                decoder.feed(Bytes::copy_from_slice(chunk));
                while let Some(Incoming::Frame(frame)) = decoder.next_frame().unwrap() {
                    out.push(frame);
                }
            }
            assert_eq!(out, frames, "pieces of {piece}");
            assert!(!decoder.is_within_frame());
        }
    }

    #[test]
    fn a_frame_within_one_chunk_is_not_copied() {
        let bytes = stream(&[message(1, b"payload")]);
        let mut decoder = MessageDecoder::default();
        decoder.feed(bytes.clone());
        let Some(Incoming::Frame(frame)) = decoder.next_frame().unwrap() else { panic!() };
        assert!(bytes.as_ptr_range().contains(&frame.payload.as_ptr()));
    }

    #[test]
    fn a_message_too_large_is_reported_and_skipped() {
        let bytes = stream(&[message(1, b"too large"), message(2, b"good")]);
        let mut decoder = MessageDecoder::new(4);
        let mut ids = Vec::new();
        for chunk in bytes.chunks(5) {
            decoder.feed(Bytes::copy_from_slice(chunk));
            while let Some(incoming) = decoder.next_frame().unwrap() {
                ids.push(match incoming {
                    Incoming::Frame(frame) => (frame.id, true),
                    Incoming::TooLarge(head) => (head.id, false),
                });
            }
        }
        assert_eq!(ids, [(1, false), (2, true)]);
    }

    #[test]
    fn a_control_frame_that_is_too_large_ends_the_stream() {
        let mut ack = MessageFrame::ack(1);
        ack.payload = vec![0; MAX_CONTROL_PAYLOAD + 1].into();
        let mut decoder = MessageDecoder::default();
        decoder.feed(stream(&[ack]));
        for _ in 0..2 {
            assert!(matches!(decoder.next_frame(), Err(WireError::TooLong { .. })));
        }
    }

    #[test]
    fn error_texts_are_cut_at_a_character() {
        let text = "ü".repeat(MAX_CONTROL_PAYLOAD);
        let frame = MessageFrame::error(9, ErrorCode::HandlerFailed, &text[..]);
        assert_eq!(frame.payload.len(), MAX_CONTROL_PAYLOAD);
        let frame = MessageFrame::error(9, ErrorCode::TooBusy, &format!("x{text}"));
        assert_eq!(frame.payload.len(), MAX_CONTROL_PAYLOAD - 1);
        assert_eq!(frame.error_code(), ErrorCode::TooBusy);
    }

    #[test]
    fn hello_of_a_later_version_may_be_longer() {
        let mut payload = Hello { epoch: 7, version: 9 }.encode().to_vec();
        payload.push(0xff);
        assert_eq!(Hello::parse(&payload), Ok(Hello { epoch: 7, version: 9 }));
        assert!(Hello::parse(&payload[..9]).is_err());
        assert!(Hello::parse(&[0; 10]).is_err());
    }
}
