use bytes::Bytes;
use pilot_agent::wire::frames::event::{Event, EventDecoder};

use super::{bytes, text, vectors};

#[test]
fn events_decode_and_encode_like_the_reference() {
    let mut decoder = EventDecoder::default();
    for vector in vectors("eventstream") {
        let frame = bytes(&vector, "frame_hex");
        let expected = Event {
            topic: Bytes::copy_from_slice(text(&vector, "topic").as_bytes()),
            payload: bytes(&vector, "payload_hex").into(),
        };
        let mut again = Vec::new();
        expected.encode(&mut again).unwrap();
        assert_eq!(again, frame);
        // In two pieces, on one connection, as the reference writes them.
        let (head, tail) = frame.split_at(frame.len() / 2);
        decoder.feed(Bytes::copy_from_slice(head));
        assert_eq!(decoder.next_event(), Ok(None));
        decoder.feed(Bytes::copy_from_slice(tail));
        assert_eq!(decoder.next_event(), Ok(Some(expected)));
    }
}
