//! Layouts only: what is inside a sealed frame is the business of `tests/vectors_crypto.rs`.

use pilot_agent::wire::tunnel::{
    AUTH_LEN, AuthFrame, KEY_LEN, KeyFrame, PUNCH, SEALED_OVERHEAD, auth_signed_bytes, split_sealed,
};
use pilot_agent::wire::{NodeId, TunnelFrame};
use serde_json::Value;

use super::{array, bytes, number, text, vectors};

/// Decodes a frame and encodes it again.
pub(super) fn check_encoding(datagram: &[u8]) {
    let frame = TunnelFrame::parse(datagram).unwrap();
    let mut again = Vec::new();
    frame.encode(&mut again);
    assert_eq!(again, datagram);
}

#[test]
fn tunnel_frames_decode_and_encode_like_the_reference() {
    let list = vectors("tunnel");
    let keys = list.iter().find(|vector| vector["name"] == "keys").unwrap();
    for vector in list.iter().filter(|vector| vector["name"] != "keys") {
        let mut datagram = bytes(vector, "frame_hex");
        check_encoding(&datagram);
        match text(vector, "name") {
            "PILK_from_a" => check_key(&datagram, keys, "a"),
            "PILK_from_b" => check_key(&datagram, keys, "b"),
            "PILA_from_a" => check_auth(&datagram, keys, "a", vector),
            "PILA_from_b" => check_auth(&datagram, keys, "b", vector),
            "PILP_punch" => assert_eq!(datagram, PUNCH),
            "PILT_plaintext" => super::packets::check_encoding(&datagram[4..]),
            sealed if sealed.starts_with("PILS_") => check_sealed(&mut datagram, vector),
            other => panic!("unknown vector {other}"),
        }
    }
}

fn check_key(datagram: &[u8], keys: &Value, who: &str) {
    let node = NodeId(number(keys, &format!("{who}_node_id")));
    let x25519 = array(keys, &format!("{who}_x25519_public_hex"));
    let frame = KeyFrame { node, x25519_public: &x25519 };
    assert_eq!(TunnelFrame::parse(datagram), Ok(TunnelFrame::Key(frame)));
    assert_eq!(datagram.len(), KEY_LEN);
}

fn check_auth(datagram: &[u8], keys: &Value, who: &str, vector: &Value) {
    let node = NodeId(number(keys, &format!("{who}_node_id")));
    let x25519 = array(keys, &format!("{who}_x25519_public_hex"));
    let frame = AuthFrame {
        node,
        x25519_public: &x25519,
        ed25519_public: &array(keys, &format!("{who}_ed25519_public_hex")),
        signature: &array(vector, "signature_hex"),
    };
    assert_eq!(TunnelFrame::parse(datagram), Ok(TunnelFrame::Auth(frame)));
    assert_eq!(datagram.len(), AUTH_LEN);
    assert_eq!(auth_signed_bytes(node, &x25519), array(vector, "signed_message_hex"));
    assert_eq!(frame.signed_bytes(), auth_signed_bytes(node, &x25519));
}

fn check_sealed(datagram: &mut [u8], vector: &Value) {
    let packet_len = bytes(vector, "plaintext_hex").len();
    assert_eq!(datagram.len(), SEALED_OVERHEAD + packet_len);
    let copy = datagram.to_vec();
    let (header, sealed) = split_sealed(datagram).unwrap();
    assert_eq!(header.nonce_prefix, array(vector, "nonce_prefix_hex"));
    assert_eq!(header.counter, text(vector, "counter").parse::<u64>().unwrap());
    if vector["version"] == "v1.18.0" {
        assert_eq!(header.aad(), array(vector, "aad_hex"));
    }
    assert_eq!(TunnelFrame::parse(&copy), Ok(TunnelFrame::Sealed { header, sealed }));
    assert_eq!(header.encode(), copy[..20]);
}
