//! Frames in streams: sequences of them, cut anywhere.

use bytes::Bytes;
use pilot_agent::wire::WireError;
use pilot_agent::wire::frames::data::{DataFrame, DataFrameDecoder, Tag};
use pilot_agent::wire::frames::event::{Event, EventDecoder};
use pilot_agent::wire::frames::file_stream::{FileStep, FileStream};
use pilot_agent::wire::frames::message::{
    Headers, Incoming, MessageDecoder, MessageFrame, MessageKind,
};
use proptest::prelude::*;

use super::content;

fn bytes() -> impl Strategy<Value = Bytes> {
    content().prop_map(Bytes::from)
}

fn file_step() -> impl Strategy<Value = FileStep> {
    let init = (any::<u64>(), any::<[u8; 32]>(), any::<u32>(), any::<String>());
    prop_oneof![
        init.prop_map(|(size, sha256, chunk_size, name)| FileStep::Init {
            size,
            sha256,
            chunk_size,
            name
        }),
        any::<u64>().prop_map(|offset| FileStep::InitAck { offset }),
        (any::<u64>(), bytes()).prop_map(|(offset, data)| FileStep::Chunk { offset, data }),
        any::<u64>().prop_map(|offset| FileStep::Ack { offset }),
        Just(FileStep::Done),
        any::<(u8, String)>().prop_map(|(status, message)| FileStep::Complete { status, message }),
        any::<String>().prop_map(|message| FileStep::Abort { message }),
    ]
}

fn data_frame() -> impl Strategy<Value = DataFrame> {
    let id = "[A-Za-z0-9._:-]{1,128}";
    let tag = (id, prop::option::of(id)).prop_map(|(id, reply)| Tag::new(id, reply).unwrap());
    prop_oneof![
        bytes().prop_map(DataFrame::Text),
        bytes().prop_map(DataFrame::Binary),
        bytes().prop_map(DataFrame::Json),
        (any::<String>(), bytes()).prop_map(|(name, data)| DataFrame::File { name, data }),
        (any::<(u32, u64)>(), bytes()).prop_map(|((inner, sent_at_ns), payload)| {
            DataFrame::Trace { inner, sent_at_ns, payload }
        }),
        (any::<[u8; 16]>(), file_step())
            .prop_map(|(transfer, step)| DataFrame::FileStream(FileStream { transfer, step })),
        (tag, any::<u32>(), bytes()).prop_map(|(tag, inner, payload)| DataFrame::Tagged {
            tag,
            inner,
            payload
        }),
        (11..u32::MAX, bytes()).prop_map(|(kind, payload)| DataFrame::Unknown { kind, payload }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    (bytes(), bytes()).prop_map(|(topic, payload)| Event { topic, payload })
}

fn message() -> impl Strategy<Value = MessageFrame> {
    let pairs = prop::collection::vec(("[^\0]{1,40}", any::<String>()), 0..4);
    let headers = pairs.prop_map(|pairs| {
        Headers::from_pairs(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .unwrap()
    });
    (any::<u8>(), any::<u16>(), any::<u64>(), headers, bytes()).prop_map(
        |(kind, flags, id, headers, payload)| MessageFrame {
            kind: MessageKind::from_code(kind),
            flags,
            id,
            headers,
            payload,
        },
    )
}

/// Everything that comes out of `stream`, fed in pieces whose sizes repeat `cuts`.
fn decode<D, T>(
    stream: &[u8],
    cuts: &[usize],
    mut decoder: D,
    feed: fn(&mut D, Bytes),
    next: fn(&mut D) -> Result<Option<T>, WireError>,
) -> Vec<T> {
    let mut out = Vec::new();
    let mut rest = stream;
    for cut in cuts.iter().cycle() {
        let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
        rest = tail;
        feed(&mut decoder, Bytes::copy_from_slice(chunk));
        out.extend(std::iter::from_fn(|| next(&mut decoder).unwrap()));
        if rest.is_empty() {
            break;
        }
    }
    out
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..100_usize, 1..8)
}

proptest! {
    #[test]
    fn data_frames_survive_any_cutting(
        frames in prop::collection::vec(data_frame(), 0..5), cuts in cuts(),
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            frame.encode(&mut stream).unwrap();
        }
        let (feed, next) = (DataFrameDecoder::feed, DataFrameDecoder::next_frame);
        prop_assert_eq!(decode(&stream, &cuts, DataFrameDecoder::default(), feed, next), frames);
    }

    #[test]
    fn events_survive_any_cutting(
        events in prop::collection::vec(event(), 0..5), cuts in cuts(),
    ) {
        let mut stream = Vec::new();
        for event in &events {
            event.encode(&mut stream).unwrap();
        }
        let (feed, next) = (EventDecoder::feed, EventDecoder::next_event);
        prop_assert_eq!(decode(&stream, &cuts, EventDecoder::default(), feed, next), events);
    }

    /// Those that fit come out whole, the others as their heads, and none is lost.
    #[test]
    fn messages_survive_any_cutting_and_large_neighbours(
        frames in prop::collection::vec(message(), 0..5), cuts in cuts(), limit in 0..200_usize,
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            frame.encode(&mut stream).unwrap();
        }
        let (feed, next) = (MessageDecoder::feed, MessageDecoder::next_frame);
        let out = decode(&stream, &cuts, MessageDecoder::new(limit), feed, next);
        prop_assert_eq!(out.len(), frames.len());
        for (incoming, frame) in out.iter().zip(frames) {
            let fits = !frame.kind.carries_user_payload() || frame.payload.len() <= limit;
            match incoming {
                Incoming::Frame(found) => prop_assert!(fits && *found == frame),
                Incoming::TooLarge(head) => prop_assert!(!fits && head.id == frame.id),
            }
        }
    }
}
