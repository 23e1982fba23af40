//! The registry's golden vectors and a captured conversation, decoded and encoded again.

use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use pilot_agent::wire::NodeId;
use pilot_agent::wire::registry::framing::{BINARY_PREAMBLE, encode_with, split_frame};
use pilot_agent::wire::registry::{Base64, ErrorCode, Register, Request, Response, Signature};
use pilot_agent::wire::registry_binary::{
    BinaryRequest, BinaryResponse, LookupReply, ResolveReply,
};
use serde_json::Value;

fn vectors(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{field} in {vector}"))
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(vector, field)).unwrap()
}

fn is_response(json: &str) -> bool {
    let value: Value = serde_json::from_str(json).unwrap();
    let kind = value["type"].as_str().unwrap();
    kind == "error" || kind.ends_with("_ok")
}

/// Decodes `json` and expects to get the same object when it is encoded.
fn round_trip(json: &str) {
    let encoded = if is_response(json) {
        let response = Response::parse(json.as_bytes()).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert_eq!(text(&serde_json::from_str(json).unwrap(), "type"), response.kind());
        serde_json::to_value(response).unwrap()
    } else {
        let request = Request::parse(json.as_bytes()).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert_eq!(text(&serde_json::from_str(json).unwrap(), "type"), request.kind());
        serde_json::to_value(request).unwrap()
    };
    let expected: Value = serde_json::from_str(json).unwrap();
    assert_eq!(encoded, expected);
}

#[test]
fn json_frames_of_the_reference_decode_and_encode() {
    for vector in vectors("registry_json.json") {
        let frame = bytes(&vector, "frame_hex");
        let (body, used) = split_frame(&frame).unwrap().unwrap();
        assert_eq!(used, frame.len());
        assert_eq!(body, text(&vector, "json").as_bytes());
        round_trip(text(&vector, "json"));
        for cut in 0..frame.len() {
            assert_eq!(split_frame(&frame[..cut]).unwrap(), None);
        }
    }
}

#[test]
fn every_captured_message_decodes_and_encodes() {
    let captured = vectors("capture_registry.json");
    assert!(captured.len() > 60);
    for vector in captured {
        let json = text(&vector, "json");
        assert_eq!(json.len() as u64, vector["length"].as_u64().unwrap());
        assert_eq!(is_response(json), text(&vector, "direction") == "response");
        round_trip(json);
    }
}

/// The request that each signature vector stands for; node 1 signs. `None` for operations that
/// no daemon needs and we do not speak.
fn request_for(operation: &str) -> Option<Request> {
    let (me, peer, signature) = (NodeId(1), NodeId(2), None);
    Some(match operation {
        "register (1.18)" => {
            let key = SigningKey::from_bytes(&seed()).verifying_key().to_bytes();
            Request::Register(Register::new(Base64(key), "127.0.0.1:4000"))
        }
        "heartbeat" => Request::Heartbeat { node_id: me, signature },
        "resolve (requester 1, target 2)" => {
            Request::Resolve { node_id: peer, requester_id: me, signature }
        }
        "set_hostname" => Request::SetHostname { node_id: me, hostname: "x".into(), signature },
        "set_visibility" => Request::SetVisibility { node_id: me, public: true, signature },
        "set_tags" => Request::SetTags { node_id: me, tags: vec![], signature },
        "set_task_exec (Feb only)" => {
            Request::SetTaskExec { node_id: me, enabled: true, signature }
        }
        "report_trust" => Request::ReportTrust { node_id: me, peer_id: peer, signature },
        "revoke_trust" => Request::RevokeTrust { node_id: me, peer_id: peer, signature },
        "deregister" => Request::Deregister { node_id: me, signature },
        "punch" => Request::Punch { requester_id: me, node_a: me, node_b: peer, signature },
        "poll_handshakes" => Request::PollHandshakes { node_id: me, signature },
        "request_handshake and port-444 message" => Request::RequestHandshake {
            from_node_id: me,
            to_node_id: peer,
            justification: "hi".into(),
            signature,
        },
        "respond_handshake" => {
            Request::RespondHandshake { node_id: me, peer_id: peer, accept: true, signature }
        }
        "rotate_key" => {
            Request::RotateKey { node_id: me, new_public_key: Base64([0; 32]), signature }
        }
        _ => return None,
    })
}

fn seed() -> [u8; 32] {
    let vectors = vectors("signatures.json");
    bytes(&vectors[0], "ed25519_seed_hex").try_into().unwrap()
}

#[test]
fn signed_strings_and_signatures_are_those_of_the_reference() {
    let key = SigningKey::from_bytes(&seed());
    let mut known = 0;
    for vector in vectors("signatures.json").iter().skip(1) {
        let signed = text(vector, "signed_string");
        let expected = Signature::parse(text(vector, "signature_base64")).unwrap();
        assert_eq!(key.sign(signed.as_bytes()).to_bytes(), expected.0);
        let Some(request) = request_for(text(vector, "operation")) else { continue };
        assert_eq!(request.signed_text().as_deref(), Some(signed));
        let request = request.signed(|text| key.sign(text).to_bytes());
        assert_eq!(request.signature(), Some(&expected));
        known += 1;
    }
    assert_eq!(known, 15, "an operation was renamed");
}

#[test]
fn binary_frames_of_the_reference_decode_and_encode() {
    for vector in vectors("registry_binary.json") {
        let name = text(&vector, "name");
        if name == "connection_preamble" {
            assert_eq!(bytes(&vector, "hex"), BINARY_PREAMBLE);
            continue;
        }
        let frame = bytes(&vector, "frame_hex");
        let (body, _) = split_frame(&frame).unwrap().unwrap();
        let mut encoded = Vec::new();
        if name.ends_with("_request") || name == "json_passthrough" {
            let request = BinaryRequest::parse(body).unwrap();
            check_binary_request(&vector, &request);
            encode_with(&mut encoded, |out| {
                request.encode(out);
                Ok(())
            })
            .unwrap();
        } else {
            let response = BinaryResponse::parse(body).unwrap();
            check_binary_response(&vector, &response);
            encode_with(&mut encoded, |out| response.encode(out)).unwrap();
            for cut in 0..body.len() {
                assert!(BinaryResponse::parse(&body[..cut]).is_err(), "{name} cut at {cut}");
            }
        }
        assert_eq!(hex::encode(encoded), hex::encode(&frame), "{name}");
    }
}

fn check_binary_request(vector: &Value, request: &BinaryRequest<'_>) {
    let id = |field: &str| NodeId(u32::try_from(vector[field].as_u64().unwrap()).unwrap());
    match request {
        BinaryRequest::Json(json) => assert_eq!(*json, text(vector, "json").as_bytes()),
        BinaryRequest::Lookup { node } => assert_eq!(*node, id("node_id")),
        BinaryRequest::Heartbeat { node, signature } => {
            assert_eq!(*node, id("node_id"));
            let key = SigningKey::from_bytes(&seed());
            let text = text(vector, "signed_string");
            assert_eq!(signature.0, key.sign(text.as_bytes()).to_bytes());
        }
        BinaryRequest::Resolve { node, requester, .. } => {
            assert_eq!((*node, *requester), (id("node_id"), id("requester_id")));
        }
    }
}

fn check_binary_response(vector: &Value, response: &BinaryResponse) {
    let strings = |field: &str| -> Vec<String> {
        serde_json::from_value(vector[field].clone()).unwrap_or_default()
    };
    match response {
        BinaryResponse::Heartbeat { unix_time, key_expiry_warning } => {
            assert_eq!(Some(*unix_time), vector["unix_time"].as_u64());
            assert_eq!(Some(*key_expiry_warning), vector["key_expiry_warning"].as_bool());
        }
        BinaryResponse::Lookup(LookupReply {
            node, public, tags, hostname, public_key, ..
        }) => {
            assert_eq!(Some(u64::from(node.0)), vector["node_id"].as_u64());
            assert_eq!(Some(*public), vector["public"].as_bool());
            assert_eq!(*tags, strings("tags"));
            assert_eq!(hostname, vector["hostname"].as_str().unwrap_or_default());
            assert!(public_key.is_some());
        }
        BinaryResponse::Resolve(ResolveReply { real_addr, lan_addrs, key_age_days, .. }) => {
            assert_eq!(real_addr, text(vector, "real_addr"));
            assert_eq!(*lan_addrs, strings("lan_addrs"));
            let days = vector["key_age_days"].as_i64().unwrap();
            assert_eq!(key_age_days.map_or(-1, i64::from), days);
        }
        BinaryResponse::Error(message) => assert_eq!(message, text(vector, "message")),
        BinaryResponse::Json(_) => panic!("no such vector"),
    }
    assert_eq!(ErrorCode::default(), ErrorCode::Other);
}
