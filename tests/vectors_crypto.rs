//! The golden bytes of the protocol notes that concern keys, signatures and sealed frames.

use std::collections::HashMap;

use pilot_agent::crypto::replay::ReplayWindow;
use pilot_agent::crypto::suite::{Suite, agree};
use pilot_agent::crypto::{Identity, OpeningKey, SealingKey, verify};
use pilot_agent::wire::tunnel::{AuthFrame, KeyFrame, TunnelFrame, split_sealed};
use pilot_agent::wire::{NodeId, Packet};
use serde_json::Value;
use x25519_dalek::{PublicKey, StaticSecret};

fn vectors(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_else(|| panic!("no hex text: {value}"))).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn named(list: &[Value]) -> HashMap<&str, &Value> {
    list.iter().map(|v| (v["name"].as_str().unwrap_or_default(), v)).collect()
}

#[test]
fn both_suites_derive_the_golden_keys() {
    let list = vectors(include_str!("vectors/tunnel.json"));
    let keys = named(&list)["keys"];
    for (ours, theirs) in [("a", "b"), ("b", "a")] {
        let secret = StaticSecret::from(array(&keys[format!("{ours}_x25519_private_hex")]));
        let public: [u8; 32] = array(&keys[format!("{ours}_x25519_public_hex")]);
        assert_eq!(PublicKey::from(&secret).to_bytes(), public);
        let shared = agree(&secret, &array(&keys[format!("{theirs}_x25519_public_hex")])).unwrap();
        assert_eq!(*shared, array(&keys["ecdh_shared_hex"]));
        assert_eq!(*Suite::V118.key(&shared), array(&keys["v1_18_aes_key_hex"]));
        assert_eq!(*Suite::Feb2026.key(&shared), array(&keys["feb2026_aes_key_hex"]));
        let identity = Identity::from_seed(&array(&keys[format!("{ours}_ed25519_seed_hex")]));
        assert_eq!(identity.public_key(), array(&keys[format!("{ours}_ed25519_public_hex")]));
    }
}

#[test]
fn key_exchange_frames_are_signed_as_golden() {
    let list = vectors(include_str!("vectors/tunnel.json"));
    let by_name = named(&list);
    let keys = by_name["keys"];
    for side in ["a", "b"] {
        let identity = Identity::from_seed(&array(&keys[format!("{side}_ed25519_seed_hex")]));
        let node =
            NodeId(u32::try_from(keys[format!("{side}_node_id")].as_u64().unwrap()).unwrap());
        let x25519: [u8; 32] = array(&keys[format!("{side}_x25519_public_hex")]);
        let public = identity.public_key();
        let golden = by_name[format!("PILA_from_{side}").as_str()];
        let mut frame = AuthFrame {
            node,
            x25519_public: &x25519,
            ed25519_public: &public,
            signature: &[0; 64],
        };
        assert_eq!(frame.signed_bytes().to_vec(), bytes(&golden["signed_message_hex"]));
        let signature = identity.sign(&frame.signed_bytes());
        frame.signature = &signature;
        assert_eq!(frame.encode().to_vec(), bytes(&golden["frame_hex"]));
        assert!(verify(&public, &frame.signed_bytes(), &signature));
        let key_frame = KeyFrame { node, x25519_public: &x25519 }.encode();
        let golden = by_name[format!("PILK_from_{side}").as_str()];
        assert_eq!(key_frame.to_vec(), bytes(&golden["frame_hex"]));
    }
}

#[test]
fn sealed_frames_of_both_suites_open_and_seal_as_golden() {
    let list = vectors(include_str!("vectors/tunnel.json"));
    let keys = named(&list)["keys"];
    let mut count = 0;
    for golden in &list {
        let (suite, other, key) = match golden["version"].as_str() {
            Some("v1.18.0") => (Suite::V118, Suite::Feb2026, "v1_18_aes_key_hex"),
            Some("feb2026") => (Suite::Feb2026, Suite::V118, "feb2026_aes_key_hex"),
            _ => continue,
        };
        let key = array(&keys[key]);
        let plaintext = bytes(&golden["plaintext_hex"]);
        let mut frame = bytes(&golden["frame_hex"]);
        let (header, sealed) = split_sealed(&mut frame).unwrap();
        assert_eq!(header.counter.to_string(), golden["counter"].as_str().unwrap());
        assert_eq!(suite.additional_data(&header).as_ref(), bytes(&golden["aad_hex"]));
        assert!(OpeningKey::new(other, &key).open(&header, sealed).is_err());
        let opened = OpeningKey::new(suite, &key).open(&header, sealed).unwrap();
        assert_eq!(opened, plaintext);
        let mut again = header.encode().to_vec();
        again.extend_from_slice(&plaintext);
        let tag = SealingKey::new(suite, &key).seal(&header, &mut again[20..]);
        again.extend_from_slice(&tag);
        assert_eq!(again, bytes(&golden["frame_hex"]));
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn the_replay_window_decides_as_golden() {
    for golden in vectors(include_str!("vectors/replay_window.json")) {
        let mut window = ReplayWindow::default();
        let counters = golden["counters"].as_array().unwrap();
        for (counter, accepted) in counters.iter().zip(golden["accepted"].as_array().unwrap()) {
            let decision = window.accept(counter.as_u64().unwrap()).is_ok();
            assert_eq!(Value::Bool(decision), *accepted, "{counter} in {golden}");
        }
    }
}

#[test]
fn every_signature_is_the_golden_one() {
    let list = vectors(include_str!("vectors/signatures.json"));
    let key = named(&list)["key"];
    let identity = Identity::from_seed(&array(&key["ed25519_seed_hex"]));
    assert_eq!(identity.public_key_base64(), key["public_key_base64"].as_str().unwrap());
    let mut count = 0;
    for golden in list.iter().filter(|v| v.get("signature_hex").is_some()) {
        let message = bytes(&golden["signed_hex"]);
        let signature = identity.sign(&message);
        assert_eq!(signature, array(&golden["signature_hex"]), "{}", golden["operation"]);
        if let Some(base64) = golden["signature_base64"].as_str() {
            assert_eq!(identity.sign_base64(&message), base64);
        }
        assert!(verify(&identity.public_key(), &message, &signature));
        count += 1;
    }
    assert!(count >= 10, "only {count} signatures in the file");
}

#[test]
fn a_captured_session_of_release_1_18_decrypts() {
    let text = include_str!("vectors/capture_session_v118.json");
    let file: Value = serde_json::from_str(text).unwrap();
    let key = array(&file["aes_key_hex"]);
    let secret = StaticSecret::from(array(&file["peer_x25519_private_hex"]));
    let opening = OpeningKey::new(Suite::V118, &key);
    let (mut exchanges, mut packets) = (0, 0);
    for step in vectors(text) {
        let mut frame = bytes(&step["frame_hex"]);
        match TunnelFrame::parse(&frame).unwrap() {
            TunnelFrame::Auth(auth) => {
                exchanges += 1;
                assert!(verify(auth.ed25519_public, &auth.signed_bytes(), auth.signature));
                if u64::from(auth.node.0) == file["reference_node_id"].as_u64().unwrap() {
                    let shared = agree(&secret, auth.x25519_public).unwrap();
                    assert_eq!(*Suite::V118.key(&shared), key);
                }
            }
            TunnelFrame::Sealed { .. } => {
                packets += 1;
                let (header, sealed) = split_sealed(&mut frame).unwrap();
                let opened = opening.open(&header, sealed).unwrap();
                assert_eq!(opened, bytes(&step["plaintext_hex"]));
                let packet = Packet::parse(opened).unwrap();
                assert_eq!(packet.src_node(), header.sender);
                if let Some(golden) = step.get("packet") {
                    assert_same(&packet, golden);
                }
            }
            other => panic!("unexpected frame {other:?}"),
        }
    }
    assert!(exchanges >= 2 && packets >= 20, "{exchanges} exchanges, {packets} packets");
}

fn assert_same(packet: &Packet<'_>, golden: &Value) {
    let header = packet.header;
    let number = |name: &str| golden[name].as_u64().unwrap_or_else(|| panic!("{name}: {golden}"));
    let address = |a: pilot_agent::wire::Addr| format!("{}:{}", a.network, a.node.0);
    assert_eq!(header.protocol as u64, number("protocol"));
    assert_eq!(address(header.src), golden["src"].as_str().unwrap());
    assert_eq!(address(header.dst), golden["dst"].as_str().unwrap());
    assert_eq!(u64::from(header.src_port), number("src_port"));
    assert_eq!(u64::from(header.dst_port), number("dst_port"));
    assert_eq!(u64::from(header.seq.0), number("seq"));
    assert_eq!(u64::from(header.ack.0), number("ack"));
    assert_eq!(u64::from(header.window), number("window"));
    assert_eq!(packet.payload, bytes(&golden["payload_hex"]));
    let names = [("SYN", 1u8), ("ACK", 2), ("FIN", 4), ("RST", 8)];
    let flags = golden["flags"].as_str().unwrap();
    let expected: u8 =
        names.iter().filter(|(name, _)| flags.contains(name)).map(|(_, bit)| bit).sum();
    assert_eq!(header.flags.0, expected, "{flags}");
}
