use std::net::{IpAddr, SocketAddr as Endpoint};

use pilot_agent::wire::beacon::{
    NOTIFY_HANDSHAKE, NodeList, PunchGrant, deliver_header, is_beacon, punch_grant_string,
    relay_header, split_delivery,
};
use pilot_agent::wire::{BeaconMessage, NodeId};
use serde_json::Value;

use super::{array, bytes, number, text, vectors};

/// Decodes a message and encodes it again.
pub(super) fn check_encoding(datagram: &[u8]) {
    assert!(is_beacon(datagram));
    let message = BeaconMessage::parse(datagram).unwrap();
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(again, datagram);
}

fn node(vector: &Value, field: &str) -> NodeId {
    NodeId(number(vector, field))
}

fn endpoint(vector: &Value) -> Endpoint {
    let ip: IpAddr = text(vector, "ip").parse().unwrap();
    Endpoint::new(ip, number(vector, "port"))
}

#[test]
fn beacon_messages_decode_and_encode_like_the_reference() {
    for vector in vectors("beacon") {
        let mut datagram = bytes(&vector, "hex");
        check_encoding(&datagram);
        match number::<u8>(&vector, "type") {
            3 => check_punch_request(&datagram, &vector),
            7 => check_sync(&datagram, &vector),
            kind @ (1 | 8) => {
                let key = vector.get("public_key_hex").map(|_| array(&vector, "public_key_hex"));
                let expected = BeaconMessage::Discover {
                    node: node(&vector, "node_id"),
                    public_key: key.as_ref(),
                    extended: kind == 8,
                };
                assert_eq!(BeaconMessage::parse(&datagram), Ok(expected));
            }
            2 => {
                let expected = BeaconMessage::DiscoverReply { endpoint: endpoint(&vector) };
                assert_eq!(BeaconMessage::parse(&datagram), Ok(expected));
            }
            4 => {
                let expected = BeaconMessage::PunchCommand { endpoint: endpoint(&vector) };
                assert_eq!(BeaconMessage::parse(&datagram), Ok(expected));
            }
            5 => {
                let (sender, destination) = (node(&vector, "sender"), node(&vector, "dest"));
                let frame = text(&vector, "inner").as_bytes();
                let expected = BeaconMessage::Relay { sender, destination, frame };
                assert_eq!(BeaconMessage::parse(&datagram), Ok(expected));
                assert_eq!(relay_header(sender, destination), datagram[..9]);
            }
            kind @ (6 | 9) => {
                let (sender, frame) = (node(&vector, "sender"), text(&vector, "inner").as_bytes());
                let destination = (kind == 9).then(|| node(&vector, "dest"));
                let expected = BeaconMessage::RelayDeliver { sender, destination, frame };
                assert_eq!(BeaconMessage::parse(&datagram), Ok(expected));
                if kind == 6 {
                    assert_eq!(deliver_header(sender), datagram[..5]);
                }
                let (found, inner) = split_delivery(&mut datagram).unwrap();
                assert_eq!((found, &*inner), (sender, frame));
            }
            10 => {
                let kind = number(&vector, "kind");
                assert_eq!(kind, NOTIFY_HANDSHAKE);
                assert_eq!(BeaconMessage::parse(&datagram), Ok(BeaconMessage::Notify { kind }));
            }
            other => panic!("unknown type {other}"),
        }
    }
}

fn check_punch_request(datagram: &[u8], vector: &Value) {
    let (requester, target) = (node(vector, "requester"), node(vector, "target"));
    // The vectors give no signature of its own: it is what ends the message.
    let signature = datagram.last_chunk().copied();
    let grant = vector.get("expiry").map(|_| number(vector, "expiry")).map(|expiry| {
        assert_eq!(punch_grant_string(requester, target, expiry), text(vector, "signed_string"));
        PunchGrant { expiry, signature: signature.as_ref().unwrap() }
    });
    let expected = BeaconMessage::PunchRequest { requester, target, grant };
    assert_eq!(BeaconMessage::parse(datagram), Ok(expected));
}

fn check_sync(datagram: &[u8], vector: &Value) {
    let nodes: Vec<u32> = serde_json::from_value(vector["nodes"].clone()).unwrap();
    let ids: Vec<_> = nodes.iter().map(|id| id.to_be_bytes()).collect();
    let list = NodeList::new(&ids).unwrap();
    assert!(list.iter().eq(nodes.iter().copied().map(NodeId)));
    let expected = BeaconMessage::Sync { beacon: number(vector, "beacon_id"), nodes: list };
    assert_eq!(BeaconMessage::parse(datagram), Ok(expected));
}
