//! Messages of data exchange.

use std::future::poll_fn;

use bytes::Bytes;
use pilot_agent::node::{NodeConfig, NodeError, PayloadKind};
use pilot_agent::wire::frames::data::{BINARY, DataFrame, FILE, JSON, TEXT, TRACE, Tag};
use pilot_agent::wire::frames::data_reply::TraceReply;

use super::network::{DATA, LIMIT, Network, Wire, encoded, frame, message, peer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_arrives_and_is_acknowledged_in_any_segmentation() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let tag =
        |reply_to: Option<&str>| Tag::new("id-1".to_owned(), reply_to.map(str::to_owned)).unwrap();
    let tagged = |inner, payload, reply_to| DataFrame::Tagged {
        tag: tag(reply_to),
        inner,
        payload: Bytes::from_static(payload),
    };
    let cases = [
        (frame(TEXT, "grüße".as_bytes()), "ACK TEXT 7 bytes", PayloadKind::Text, vec![]),
        (frame(TEXT, b"\xff"), "ACK TEXT 1 bytes", PayloadKind::Bytes, vec![]),
        (frame(TEXT, b""), "ACK TEXT 0 bytes", PayloadKind::Text, vec![]),
        (frame(BINARY, &[0, 1]), "ACK BINARY 2 bytes", PayloadKind::Bytes, vec![]),
        (frame(JSON, b"{}"), "ACK JSON 2 bytes", PayloadKind::Json, vec![]),
        (
            tagged(TEXT, b"hello!", None),
            "ACK TEXT 6 bytes",
            PayloadKind::Text,
            vec![("message_id", "id-1")],
        ),
        (
            tagged(JSON, b"[]", Some("q.7")),
            "ACK JSON 2 bytes",
            PayloadKind::Json,
            vec![("message_id", "id-1"), ("reply_to", "q.7")],
        ),
    ];
    for pieces in [1, 3, 8, 1_000] {
        let mut wire = Wire::open(&a, "b", DATA).await;
        for (frame, ack, kind, headers) in &cases {
            wire.write_in_pieces(&encoded(frame), pieces).await;
            assert_eq!(wire.answer().await, *ack);
            // Acknowledged means that it is there already.
            let message = b.try_message().unwrap().expect("in the inbox");
            assert_eq!((message.sender, message.payload.kind), (a.address(), *kind));
            assert_eq!(message.sender_hostname.as_deref(), Some("a"));
            assert!(message.file.is_none());
            let got = message.payload.headers.iter();
            assert!(got.map(|(k, v)| (k.as_str(), v.as_str())).eq(headers.iter().copied()));
        }
    }
    let large: Vec<u8> = (0..=255).cycle().take(5 << 20).collect();
    let mut wire = Wire::open(&a, "b", DATA).await;
    assert_eq!(wire.ask(&frame(BINARY, &large)).await, "ACK BINARY 5242880 bytes");
    assert!(message(&b).await.payload.data == large);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_is_refused_and_the_session_goes_on() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let mut wire = Wire::open(&a, "b", DATA).await;
    let answer = wire.ask(&frame(99, b"abc")).await;
    assert_eq!(answer, "ERR UNKNOWN(99) save failed: unsupported frame type 99");
    let tag = Tag::new("x".to_owned(), None).unwrap();
    let tagged = DataFrame::Tagged { tag, inner: 5, payload: Bytes::new() };
    assert!(wire.ask(&tagged).await.starts_with("ERR UNKNOWN(5) save failed"));
    assert!(b.try_message().unwrap().is_none());

    let trace = DataFrame::Trace { inner: TEXT, sent_at_ns: 7, payload: Bytes::from_static(b"hi") };
    wire.send(&trace).await;
    let Some(DataFrame::Json(json)) = wire.receive().await else { panic!("a trace reply") };
    let reply: TraceReply = serde_json::from_slice(&json).unwrap();
    assert_eq!((reply.sent_at_ns, reply.inner_ack.as_str()), (7, "ACK TEXT 2 bytes"));
    assert!(reply.received_at_ns > 7 && reply.ack_sent_at_ns >= reply.received_at_ns);
    assert_eq!(message(&b).await.payload.data, "hi");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_end_their_session_only() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let mut witness = Wire::open(&a, "b", DATA).await;
    let bad_tag = |json: &str| {
        let mut payload = u16::try_from(json.len()).unwrap().to_be_bytes().to_vec();
        payload.extend_from_slice(json.as_bytes());
        payload.extend_from_slice(&TEXT.to_be_bytes());
        encoded(&frame(10, &payload))
    };
    let too_long = [TEXT.to_be_bytes(), (65_u32 << 20).to_be_bytes()].concat();
    for bad in [
        bad_tag("{}"),
        bad_tag(r#"{"message_id":"a b"}"#),
        bad_tag("not json"),
        encoded(&frame(10, &[0xff, 0xff])),
        encoded(&frame(FILE, &[0, 9, b'x'])),
        encoded(&frame(FILE, &[0, 1, 0xff])),
        encoded(&frame(TRACE, &[0])),
        encoded(&frame(7, &[99; 20])),
        encoded(&frame(7, &[])),
        too_long,
    ] {
        let mut wire = Wire::open(&a, "b", DATA).await;
        wire.write(&bad).await;
        assert_eq!(wire.receive().await, None, "{bad:?}");
    }
    // Cut off in the middle.
    let wire = Wire::open(&a, "b", DATA).await;
    wire.write(&encoded(&frame(TEXT, b"never whole"))[..12]).await;
    wire.stream.close();
    assert_eq!(witness.ask(&frame(TEXT, b"still here")).await, "ACK TEXT 10 bytes");
    assert_eq!(message(&b).await.payload.data, "still here");
    assert!(b.try_message().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_inbox_holds_senders_back_until_it_is_read() {
    let network = Network::new().await;
    let config = NodeConfig { inbox_limit: 100_000, ..network.config("b") };
    let (a, b) = (network.node("a").await, pilot_agent::node::Node::start(config).await.unwrap());
    let mut wire = Wire::open(&a, "b", DATA).await;
    let big = frame(BINARY, &[7; 60_000]);
    assert_eq!(wire.ask(&big).await, "ACK BINARY 60000 bytes");
    wire.send(&big).await;
    wire.send(&big).await;
    // Another session shows that the node has looked at what came before.
    let mut other = Wire::open(&a, "b", DATA).await;
    assert_eq!(other.ask(&frame(BINARY, b"small")).await, "ACK BINARY 5 bytes");
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(100), wire.receive());
    assert!(waiting.await.is_err(), "no answer before there is room");
    for _ in 0..4 {
        message(&b).await;
    }
    for _ in 0..2 {
        assert_eq!(wire.answer().await, "ACK BINARY 60000 bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_gets_so_many_sessions_and_others_still_get_theirs() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let c = network.node("c").await;
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut wire = Wire::open(&a, "b", DATA).await;
        assert_eq!(wire.ask(&frame(TEXT, b"")).await, "ACK TEXT 0 bytes");
        held.push(wire);
    }
    // The reset may even overtake the news that the stream is open.
    let refused = match a.open_stream(&peer("b"), DATA, true, LIMIT).await {
        Ok(stream) => poll_fn(|cx| stream.poll_readable(cx)).await.map(|()| stream.try_read(1)),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(NodeError::StreamReset(_)) | Ok(Err(_))), "{refused:?}");
    let mut wire = Wire::open(&c, "b", DATA).await;
    assert_eq!(wire.ask(&frame(TEXT, b"me")).await, "ACK TEXT 2 bytes");
    drop((held, b));
    c.send(&peer("a"), Default::default(), LIMIT).await.unwrap();
}
