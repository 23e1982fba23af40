//! Event stream (port 1002): publish and subscribe, without acknowledgement or history.
//!
//! ```text
//! topic length u16 | topic | payload length u32 | payload
//! ```
//! The first event on a connection subscribes to its topic (`*`: to all) and its payload means
//! nothing; every later one is published to the subscribers of exactly its topic and of `*`.

use bytes::Bytes;

use super::gather::Gather;
use crate::wire::WireError;

/// Most bytes of a topic.
pub const MAX_TOPIC: usize = 1024;
/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// The topic that subscribes to all others.
pub const EVERYTHING: &[u8] = b"*";

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What it is about. Usually text, but nobody checks.
    pub topic: Bytes,
    /// Anything.
    pub payload: Bytes,
}

impl Event {
    /// Appends all of the frame but the payload, which is to follow it.
    ///
    /// # Errors
    /// Topic or payload exceed their limit.
    pub fn encode_head(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        WireError::check_len("event topic", self.topic.len(), MAX_TOPIC)?;
        WireError::check_len("event payload", self.payload.len(), MAX_PAYLOAD)?;
        #[expect(clippy::cast_possible_truncation, reason = "both were just checked")]
        let (topic_len, payload_len) = (self.topic.len() as u16, self.payload.len() as u32);
        out.extend_from_slice(&topic_len.to_be_bytes());
        out.extend_from_slice(&self.topic);
        out.extend_from_slice(&payload_len.to_be_bytes());
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

/// Takes events out of a stream.
#[derive(Debug, Default)]
pub struct EventDecoder {
    gather: Gather,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    TopicLength,
    Topic(usize),
    Payload(Bytes, usize),
    Failed(WireError),
}

impl EventDecoder {
    /// Adds received bytes.
    pub fn feed(&mut self, chunk: Bytes) {
        self.gather.feed(chunk);
    }

    /// The next complete event.
    ///
    /// # Errors
    /// A length exceeds its limit. Close the connection.
    pub fn next_event(&mut self) -> Result<Option<Event>, WireError> {
        loop {
            match &mut self.state {
                State::TopicLength => {
                    let Some(bytes) = self.gather.take_array() else { return Ok(None) };
                    let len = usize::from(u16::from_be_bytes(bytes));
                    self.state = match WireError::check_len("event topic", len, MAX_TOPIC) {
                        Ok(()) => State::Topic(len),
                        Err(error) => State::Failed(error),
                    };
                }
                State::Topic(len) => {
                    // Taken together with the length that follows it.
                    let Some(mut topic) = self.gather.take(*len + 4) else { return Ok(None) };
                    let payload_len = topic.split_off(*len);
                    let len = payload_len.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    self.state = match WireError::check_len("event payload", len, MAX_PAYLOAD) {
                        Ok(()) => State::Payload(topic, len),
                        Err(error) => State::Failed(error),
                    };
                }
                State::Payload(topic, len) => {
                    let Some(payload) = self.gather.take(*len) else { return Ok(None) };
                    let topic = std::mem::take(topic);
                    self.state = State::TopicLength;
                    return Ok(Some(Event { topic, payload }));
                }
                State::Failed(error) => return Err(error.clone()),
            }
        }
    }

    /// Bytes received that do not make an event yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.gather.buffered()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_too_long_fails_before_it_arrives_and_stays_failed() {
        let mut decoder = EventDecoder::default();
        decoder.feed(Bytes::from_static(&[0x04, 0x01]));
        for _ in 0..2 {
            assert!(matches!(decoder.next_event(), Err(WireError::TooLong { len: 1025, .. })));
        }
    }

    #[test]
    fn a_payload_too_long_fails_before_it_arrives() {
        let mut decoder = EventDecoder::default();
        decoder.feed(Bytes::from_static(&[0, 1, b'*', 1, 0, 0, 1]));
        assert!(matches!(decoder.next_event(), Err(WireError::TooLong { .. })));
    }
}
