use pilot_agent::wire::NodeId;
use pilot_agent::wire::handshake::{HandshakeKind, HandshakeMessage, sign_string};

use super::{array, number, text, vectors};

#[test]
fn handshake_messages_decode_and_encode_like_the_reference() {
    for vector in vectors("handshake") {
        let json = text(&vector, "json");
        let message = HandshakeMessage::parse(json.as_bytes()).unwrap();
        let kind = match text(&vector, "type") {
            "handshake_request" => HandshakeKind::Request,
            "handshake_accept" => HandshakeKind::Accept,
            "handshake_reject" => HandshakeKind::Reject,
            "handshake_revoke" => HandshakeKind::Revoke,
            other => panic!("unknown type {other}"),
        };
        assert_eq!(message.kind, kind);
        assert_eq!(message.node_id, NodeId(number(&vector, "from_node")));
        assert!(message.public_key.is_some() && message.signature.is_some());
        assert_eq!(message.encode().unwrap(), json.as_bytes());
        assert_eq!(message.replay_key(), array(&vector, "replay_key_sha256_hex"));
        let receiver = NodeId(number(&vector, "to_node"));
        assert_eq!(sign_string(message.node_id, receiver), text(&vector, "signed_string"));
        assert!(message.is_fresh(message.timestamp));
    }
}
