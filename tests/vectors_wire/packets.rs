use pilot_agent::wire::packet::HEADER_LEN;
use pilot_agent::wire::{Addr, Flags, Header, NodeId, Packet, Protocol, Seq, WireError};
use serde_json::Value;

use super::{bytes, number, text, vectors};

/// `0:0000.0000.0001` in packets.json, `0:1` in the captures.
fn addr(vector: &Value, field: &str) -> Addr {
    let value = text(vector, field);
    match value.split_once(':').map(|(network, node)| (network.parse(), node.parse())) {
        Some((Ok(network), Ok(node))) => Addr { network, node: NodeId(node) },
        _ => value.parse().unwrap(),
    }
}

fn protocol(vector: &Value) -> Protocol {
    match number::<u8>(vector, "protocol") {
        1 => Protocol::Stream,
        2 => Protocol::Datagram,
        3 => Protocol::Control,
        other => panic!("protocol {other}"),
    }
}

fn flags(vector: &Value) -> Flags {
    let Some(names) = vector["flags"].as_str() else { return Flags(number(vector, "flags")) };
    names.split(['+', '|', ',']).filter(|name| !name.is_empty()).fold(Flags::NONE, |set, name| {
        set.with(match name {
            "SYN" => Flags::SYN,
            "0" => Flags::NONE,
            "ACK" => Flags::ACK,
            "FIN" => Flags::FIN,
            "RST" => Flags::RST,
            other => panic!("flag {other}"),
        })
    })
}

/// Compares all fields that the vectors spell out, then encodes again.
pub(super) fn check_fields(packet: &[u8], expected: &Value) {
    let parsed = Packet::parse(packet).unwrap_or_else(|e| panic!("{expected}: {e}"));
    let header = Header {
        flags: flags(expected),
        protocol: protocol(expected),
        src: addr(expected, "src"),
        dst: addr(expected, "dst"),
        src_port: number(expected, "src_port"),
        dst_port: number(expected, "dst_port"),
        seq: Seq(number(expected, "seq")),
        ack: Seq(number(expected, "ack")),
        window: number(expected, "window"),
    };
    let payload = bytes(expected, "payload_hex");
    assert_eq!(parsed, Packet { header, payload: &payload }, "{expected}");
    check_encoding(packet);
}

/// Decodes a packet and encodes it again.
pub(super) fn check_encoding(packet: &[u8]) {
    let parsed = Packet::parse(packet).unwrap();
    let mut again = vec![0xaa; HEADER_LEN];
    again.extend_from_slice(parsed.payload);
    parsed.header.encode(&mut again).unwrap();
    assert_eq!(again, packet);
}

#[test]
fn packets_decode_and_encode_like_the_reference() {
    for vector in vectors("packets") {
        let packet = bytes(&vector, "packet_hex");
        match text(&vector, "name") {
            // What the older generation takes and release 1.18 refuses, as we do.
            "version_2" => {
                let refused = Err(WireError::Invalid { what: "packet version" });
                assert_eq!(Packet::parse(&packet), refused);
                assert_eq!(vector["ok"], true);
            }
            // All bits set: a version and a protocol that nobody speaks.
            "all_fields_max" => {
                let refused = Err(WireError::Invalid { what: "packet version" });
                assert_eq!(Packet::parse(&packet), refused);
                assert_eq!(vector["ok"], true);
            }
            "bad_checksum" => assert_eq!(Packet::parse(&packet), Err(WireError::Checksum)),
            "truncated_payload" | "too_short" => {
                assert!(matches!(Packet::parse(&packet), Err(WireError::Truncated { .. })));
            }
            "trailing_bytes" => {
                let parsed = Packet::parse(&packet).unwrap();
                assert_eq!(parsed.payload, b"hello");
                assert_eq!(Packet::parse(&packet[..HEADER_LEN + 5]).unwrap(), parsed);
            }
            name => {
                assert_eq!(vector["ok"], true, "{name}");
                check_fields(&packet, &vector);
                assert_eq!(packet[30..34], bytes(&vector, "checksum_hex"), "{name}");
            }
        }
    }
}
