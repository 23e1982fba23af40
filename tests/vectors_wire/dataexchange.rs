use bytes::Bytes;
use pilot_agent::wire::frames::data::{self, DataFrame, DataFrameDecoder, Tag};
use pilot_agent::wire::frames::data_reply::DataReply;
use pilot_agent::wire::frames::file_stream::{CHUNK_SIZE, FileStep, FileStream};
use serde_json::Value;

use super::{array, bytes, number, text, vectors};

#[test]
fn data_exchange_frames_decode_and_encode_like_the_reference() {
    let mut decoder = DataFrameDecoder::default();
    for vector in vectors("dataexchange") {
        let frame = bytes(&vector, "frame_hex");
        let expected = expected(&vector);
        let mut again = Vec::new();
        expected.encode(&mut again).unwrap();
        assert_eq!(hex::encode(again), hex::encode(&frame), "{vector}");
        // Header and payload in two segments, as nodes of February 2026 send them.
        let (head, tail) = frame.split_at(8);
        decoder.feed(Bytes::copy_from_slice(head));
        decoder.feed(Bytes::copy_from_slice(tail));
        assert_eq!(decoder.next_frame(), Ok(Some(expected)), "{vector}");
        assert_eq!(decoder.next_frame(), Ok(None));
    }
}

#[test]
fn answers_decode_and_encode_like_the_reference() {
    let replies: Vec<_> =
        vectors("dataexchange").into_iter().filter(|v| v["name"] == "reply").collect();
    assert_eq!(replies.len(), 4);
    for vector in replies {
        let reply = DataReply::parse(text(&vector, "text")).unwrap();
        let mut frame = Vec::new();
        reply.to_frame().encode(&mut frame).unwrap();
        assert_eq!(frame, bytes(&vector, "frame_hex"), "{vector}");
    }
}

fn expected(vector: &Value) -> DataFrame {
    let payload = |field: &str| Bytes::from(bytes(vector, field));
    let inner = || Bytes::copy_from_slice(text(vector, "inner_payload").as_bytes());
    match text(vector, "name") {
        "TEXT" => DataFrame::Text(payload("payload_hex")),
        "BINARY" => DataFrame::Binary(payload("payload_hex")),
        "JSON" => DataFrame::Json(payload("payload_hex")),
        "FILE" => DataFrame::File {
            name: text(vector, "filename").to_owned(),
            data: payload("payload_hex"),
        },
        "reply" => DataFrame::Text(Bytes::copy_from_slice(text(vector, "text").as_bytes())),
        "TRACE_v1_18" => DataFrame::Trace {
            inner: number(vector, "inner_type"),
            sent_at_ns: text(vector, "sent_at_ns").parse().unwrap(),
            payload: inner(),
        },
        "TAGGED_v1_18" => {
            let header: Value = serde_json::from_str(text(vector, "header_json")).unwrap();
            let tag = Tag::new(text(&header, "message_id").to_owned(), None).unwrap();
            assert_eq!(number::<u32>(vector, "inner_type"), data::TEXT);
            DataFrame::Tagged { tag, inner: data::TEXT, payload: inner() }
        }
        name => {
            let step = name.strip_prefix("FILESTREAM_").and_then(|s| s.strip_suffix("_v1_18"));
            let step = step.unwrap_or_else(|| panic!("unknown vector {name}"));
            // The id is the same in all of them: half of the hash that INIT announces.
            let transfer =
                array(&serde_json::json!({"id": "4b17e8140e3bea7d98e839cad59f082e"}), "id");
            DataFrame::FileStream(FileStream { transfer, step: file_step(step, vector) })
        }
    }
}

fn file_step(name: &str, vector: &Value) -> FileStep {
    match name {
        "INIT" => {
            assert_eq!(number::<u32>(vector, "chunk_size"), CHUNK_SIZE);
            FileStep::Init {
                size: number(vector, "size"),
                sha256: array(vector, "sha256_hex"),
                chunk_size: CHUNK_SIZE,
                name: text(vector, "filename").to_owned(),
            }
        }
        "INIT_ACK" => FileStep::InitAck { offset: number(vector, "resume_offset") },
        "CHUNK" => FileStep::Chunk {
            offset: number(vector, "offset"),
            data: bytes(vector, "data_hex").into(),
        },
        "ACK" => FileStep::Ack { offset: number(vector, "offset") },
        "DONE" => FileStep::Done,
        "COMPLETE_ok" => FileStep::Complete { status: 0, message: String::new() },
        "COMPLETE_fail" => {
            FileStep::Complete { status: 1, message: text(vector, "message").to_owned() }
        }
        "ABORT" => FileStep::Abort { message: text(vector, "message").to_owned() },
        other => panic!("unknown step {other}"),
    }
}
