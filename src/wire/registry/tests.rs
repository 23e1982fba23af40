use proptest::prelude::*;

use super::framing::{MAX_FRAME_BYTES, encode_with, split_frame};
use super::*;
use crate::wire::registry_binary::{BinaryRequest, BinaryResponse};
use crate::wire::{NodeId, WireError};

#[test]
fn a_length_over_the_limit_is_refused_before_the_body_arrives() {
    let error = split_frame(&[0, 0x10, 0, 1]).unwrap_err();
    assert!(matches!(error, WireError::TooLong { len: 1_048_577, .. }), "{error}");
    assert_eq!(split_frame(&[0, 0x10, 0, 0]).unwrap(), None);
}

#[test]
fn a_message_too_long_leaves_the_buffer_as_it_was() {
    let mut out = b"before".to_vec();
    let result = encode_with(&mut out, |out| {
        out.resize(out.len() + MAX_FRAME_BYTES + 1, 0);
        Ok(())
    });
    assert!(result.is_err());
    assert_eq!(out, b"before");
}

#[test]
fn frames_are_cut_one_after_the_other() {
    let mut buffer = Vec::new();
    Request::BeaconList {}.encode(&mut buffer).unwrap();
    Request::Lookup { node_id: NodeId(7) }.encode(&mut buffer).unwrap();
    let (first, used) = split_frame(&buffer).unwrap().unwrap();
    assert_eq!(Request::parse(first).unwrap(), Request::BeaconList {});
    let (second, _) = split_frame(&buffer[used..]).unwrap().unwrap();
    assert_eq!(Request::parse(second).unwrap(), Request::Lookup { node_id: NodeId(7) });
}

#[test]
fn node_ids_that_are_none_read_as_zero() {
    for id in ["-1", "4294967296", "\"7\"", "null", "1.5", "{}"] {
        let body = format!(r#"{{"type":"lookup","node_id":{id}}}"#);
        let request = Request::parse(body.as_bytes()).unwrap();
        assert_eq!(request, Request::Lookup { node_id: NodeId(0) }, "{id}");
    }
    assert_eq!(
        Request::parse(br#"{"type":"lookup"}"#).unwrap(),
        Request::Lookup { node_id: NodeId(0) }
    );
}

#[test]
fn unknown_types_and_fields_are_no_parse_errors() {
    let unknown = Request::parse(br#"{"type":"audit_export","admin_token":"x"}"#).unwrap();
    assert_eq!(unknown, Request::Unknown);
    let extra = Request::parse(br#"{"type":"beacon_list","shard":3}"#).unwrap();
    assert_eq!(extra, Request::BeaconList {});
}

#[test]
fn whatever_has_an_error_is_an_error() {
    for body in [
        r#"{"type":"lookup_ok","error":"no"}"#,
        r#"{"error":"no"}"#,
        r#"{"type":"error","error":"no","code":"from_the_future"}"#,
    ] {
        let response = Response::parse(body.as_bytes()).unwrap();
        assert_eq!(response, Response::error(ErrorCode::Other, "no"), "{body}");
    }
}

#[test]
fn go_nil_slices_and_empty_keys_are_tolerated() {
    let poll = Response::parse(br#"{"type":"poll_handshakes_ok","requests":null}"#).unwrap();
    assert_eq!(poll, Response::PollHandshakesOk { requests: vec![], responses: vec![] });
    let body = br#"{"type":"lookup_ok","node_id":1,"public_key":"","tags":null}"#;
    let Response::LookupOk(info) = Response::parse(body).unwrap() else { panic!() };
    assert_eq!(info.public_key, None);
}

#[test]
fn signing_covers_the_request_and_verifies_from_its_own_fields() {
    let request = Request::SetCapabilities {
        node_id: NodeId(9),
        capabilities: vec!["a".into(), "b c".into()],
        signature: None,
    };
    let mut seen = Vec::new();
    let signed = request.signed(|text| {
        seen = text.to_vec();
        [5; 64]
    });
    let digest = capabilities_digest(&["a".to_owned(), "b c".to_owned()]);
    assert_eq!(seen, format!("set_capabilities:9:{digest}").into_bytes());
    assert_eq!(signed.signature(), Some(&Base64([5; 64])));
    assert_eq!(signed.signer(), Some(NodeId(9)));
    assert_eq!(Request::BeaconList {}.signed(|_| unreachable!()), Request::BeaconList {});
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = split_frame(&bytes);
        let _ = Request::parse(&bytes);
        let _ = Response::parse(&bytes);
        let _ = BinaryRequest::parse(&bytes);
        let _ = BinaryResponse::parse(&bytes);
    }

    #[test]
    fn requests_survive_the_wire(id: u32, peer: u32, text in ".{0,40}", sig: bool) {
        let request = Request::RequestHandshake {
            from_node_id: NodeId(id),
            to_node_id: NodeId(peer),
            justification: text,
            signature: sig.then_some(Base64([7; 64])),
        };
        let mut frame = Vec::new();
        request.encode(&mut frame).unwrap();
        let (body, used) = split_frame(&frame).unwrap().unwrap();
        prop_assert_eq!(used, frame.len());
        prop_assert_eq!(Request::parse(body).unwrap(), request);
    }
}
