//! Frames that real daemons of both generations sent to each other and to a test peer.

use std::collections::HashMap;

use bytes::Bytes;
use pilot_agent::wire::beacon::is_beacon;
use pilot_agent::wire::frames::data::{DataFrame, DataFrameDecoder};
use pilot_agent::wire::handshake::{HandshakeKind, HandshakeMessage};
use pilot_agent::wire::{BeaconMessage, NodeId, Packet, Protocol, TunnelFrame, ports};
use serde_json::Value;

use super::{bytes, file, number, text, vectors};

const SESSIONS: [&str; 2] = ["capture_session_feb", "capture_session_v118"];
const TRACES: [&str; 2] = ["capture_feb_v118", "capture_first_contact_v118_v118"];

/// The name that the captures give a frame.
fn name(datagram: &[u8]) -> &'static str {
    match TunnelFrame::parse(datagram).unwrap() {
        TunnelFrame::Sealed { .. } => "PILS",
        TunnelFrame::Auth(_) => "PILA",
        TunnelFrame::Key(_) => "PILK",
        TunnelFrame::Plain(_) => "PILT",
        TunnelFrame::Punch => "PILP",
    }
}

#[test]
fn every_captured_frame_decodes_and_encodes() {
    for vector in SESSIONS.iter().chain(&TRACES).flat_map(|capture| vectors(capture)) {
        let datagram = bytes(&vector, "frame_hex");
        if let Some(kind) = text(&vector, "frame").strip_prefix("beacon 0x") {
            assert!(is_beacon(&datagram));
            assert_eq!(datagram[0], u8::from_str_radix(kind, 16).unwrap());
            super::beacon::check_encoding(&datagram);
            check_relayed(&datagram, &vector);
        } else {
            assert!(!is_beacon(&datagram));
            assert_eq!(name(&datagram), text(&vector, "frame"));
            super::tunnel::check_encoding(&datagram);
        }
        if vector.get("length").is_some() {
            assert_eq!(datagram.len(), number::<usize>(&vector, "length"));
        }
    }
}

fn check_relayed(datagram: &[u8], vector: &Value) {
    let (sender, destination, frame) = match BeaconMessage::parse(datagram).unwrap() {
        BeaconMessage::Relay { sender, destination, frame } => (sender, Some(destination), frame),
        BeaconMessage::RelayDeliver { sender, frame, .. } => (sender, None, frame),
        _ => return,
    };
    assert_eq!(sender, NodeId(number(vector, "sender")));
    if let Some(destination) = destination {
        assert_eq!(destination, NodeId(number(vector, "destination")));
    }
    assert_eq!(name(frame), text(vector, "inner"));
}

/// The packet of a step that the capture gives in clear, and whether the reference sent it.
fn packet(vector: &Value) -> Option<(Vec<u8>, bool)> {
    let packet = match text(vector, "frame") {
        "PILT" => bytes(vector, "frame_hex")[4..].to_vec(),
        "PILS" => bytes(vector, "plaintext_hex"),
        _ => return None,
    };
    Some((packet, text(vector, "direction").starts_with("reference")))
}

#[test]
fn every_captured_packet_decodes_and_encodes() {
    for vector in SESSIONS.iter().flat_map(|capture| vectors(capture)) {
        let Some((packet, _)) = packet(&vector) else { continue };
        super::packets::check_encoding(&packet);
        if let Some(fields) = vector.get("packet") {
            super::packets::check_fields(&packet, fields);
        }
    }
}

/// What the reference sent to `port`, one entry for each of its connections, in order. The test
/// peer's link loses nothing, so what is below the next byte expected is a repetition.
fn sent_to(capture: &str, port: u16) -> Vec<Vec<u8>> {
    let mut order = Vec::new();
    let mut connections: HashMap<u16, (u32, Vec<u8>)> = HashMap::new();
    for vector in vectors(capture) {
        let Some((packet, true)) = packet(&vector) else { continue };
        let packet = Packet::parse(&packet).unwrap();
        let header = packet.header;
        if header.protocol != Protocol::Stream || header.dst_port != port {
            continue;
        }
        let (next, content) = connections.entry(header.src_port).or_insert_with(|| {
            order.push(header.src_port);
            (1, Vec::new())
        });
        if !packet.payload.is_empty() && header.seq.0 == *next {
            *next += u32::try_from(packet.payload.len()).unwrap();
            content.extend_from_slice(packet.payload);
        }
    }
    order.iter().map(|port| connections.remove(port).unwrap().1).collect()
}

#[test]
fn captured_handshakes_are_requests_of_the_reference() {
    for capture in SESSIONS {
        let reference = NodeId(number(&file(capture), "reference_node_id"));
        let [content] = sent_to(capture, ports::HANDSHAKE).try_into().unwrap();
        let message = HandshakeMessage::parse(&content).unwrap();
        assert_eq!(message.kind, HandshakeKind::Request);
        assert_eq!(message.node_id, reference);
        assert_eq!(message.encode().unwrap(), content);
    }
}

#[test]
fn captured_data_exchange_falls_back_as_described() {
    let kinds: Vec<Vec<&str>> = sent_to("capture_session_v118", ports::DATA_EXCHANGE)
        .into_iter()
        .map(|content| frames(content).iter().map(frame_kind).collect())
        .collect();
    // The answer to the first was ACK UNKNOWN(10); the one to INIT never came.
    assert_eq!(kinds, [vec!["TAGGED", "TEXT"], vec!["FILESTREAM"], vec!["FILE"]]);
    let kinds: Vec<Vec<&str>> = sent_to("capture_session_feb", ports::DATA_EXCHANGE)
        .into_iter()
        .map(|content| frames(content).iter().map(frame_kind).collect())
        .collect();
    assert_eq!(kinds, [vec!["TEXT"], vec!["FILE"]]);
}

fn frames(content: Vec<u8>) -> Vec<DataFrame> {
    let mut decoder = DataFrameDecoder::default();
    decoder.feed(Bytes::from(content));
    let frames = std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
    assert_eq!(decoder.buffered(), 0);
    frames
}

fn frame_kind(frame: &DataFrame) -> &'static str {
    match frame {
        DataFrame::Text(_) => "TEXT",
        DataFrame::File { .. } => "FILE",
        DataFrame::FileStream(_) => "FILESTREAM",
        DataFrame::Tagged { .. } => "TAGGED",
        other => panic!("unexpected {other:?}"),
    }
}
