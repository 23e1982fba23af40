//! What the fuzz targets do with arbitrary bytes: decode, and check what must hold of whatever
//! came out. A panic is a finding.
//!
//! `cargo test` runs the same functions: over the corpus (`tests/fuzz_corpus.rs`) and over random
//! bytes (`tests/properties_wire`). That is why they live in a file of their own, which both
//! include.

use bytes::Bytes;
use pilot_agent::wire::beacon::split_delivery;
use pilot_agent::wire::compat::LoginText;
use pilot_agent::wire::frames::data::DataFrameDecoder;
use pilot_agent::wire::frames::data_reply::DataReply;
use pilot_agent::wire::frames::event::EventDecoder;
use pilot_agent::wire::frames::message::{Headers, Hello, Incoming, MessageDecoder, MessageFrame};
use pilot_agent::wire::handshake::HandshakeMessage;
use pilot_agent::wire::options::StreamOptions;
use pilot_agent::wire::packet::HEADER_LEN;
use pilot_agent::wire::punch::PunchMessage;
use pilot_agent::wire::registry::framing::{encode_with, split_frame};
use pilot_agent::wire::registry::{Request, Response};
use pilot_agent::wire::registry_binary::{BinaryRequest, BinaryResponse};
use pilot_agent::wire::stun::{StunMessage, is_stun};
use pilot_agent::wire::tunnel::split_sealed;
use pilot_agent::wire::{
    Addr, BeaconMessage, Packet, SackBlocks, SocketAddr, TunnelFrame, WireError,
};

/// What a fuzzer calls.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus directory.
pub const TARGETS: &[(&str, Target)] = &[
    ("addr", addr),
    ("beacon", beacon),
    ("compat", compat),
    ("data_frames", data_frames),
    ("event_frames", event_frames),
    ("handshake", handshake),
    ("message_frames", message_frames),
    ("options", options),
    ("packet", packet),
    ("punch", punch),
    ("registry_binary", registry_binary),
    ("registry_json", registry_json),
    ("sack", sack),
    ("stun", stun),
    ("tunnel", tunnel),
];

/// Text of addresses and socket addresses.
pub fn addr(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(addr) = text.parse::<Addr>() {
        assert_eq!(addr.to_string().parse(), Ok(addr));
        assert_eq!(Addr::from_bytes(addr.to_bytes()), addr);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        assert_eq!(socket.to_string().parse(), Ok(socket));
    }
}

/// Beacon messages.
pub fn beacon(data: &[u8]) {
    let parsed = BeaconMessage::parse(data).ok();
    let mut datagram = data.to_vec();
    match (split_delivery(&mut datagram), parsed) {
        (Ok((sender, inner)), Some(BeaconMessage::RelayDeliver { sender: from, frame, .. })) => {
            assert_eq!((sender, &*inner), (from, frame));
        }
        (Ok(_), other) => panic!("split, but parsed as {other:?}"),
        (Err(_), parsed) => assert!(!matches!(parsed, Some(BeaconMessage::RelayDeliver { .. }))),
    }
    if let Some(message) = parsed {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(BeaconMessage::parse(&again), Ok(message));
    }
}

/// Texts of the WebSocket's login.
pub fn compat(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(text) = LoginText::parse(text) {
        assert_eq!(LoginText::parse(&text.encode()), Some(text));
    }
}

/// Messages about punching.
pub fn punch(data: &[u8]) {
    if let Ok(message) = PunchMessage::parse(data) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(PunchMessage::parse(&again), Ok(message));
    }
}

/// Data exchange frames, and the text of their answers.
pub fn data_frames(data: &[u8]) {
    let decode = |data: &[u8], piece| {
        let mut decoder = DataFrameDecoder::default();
        decode(data, piece, &mut decoder, DataFrameDecoder::feed, DataFrameDecoder::next_frame)
    };
    for frame in same_in_pieces(data, decode) {
        let mut again = Vec::new();
        frame.encode(&mut again).unwrap();
        let reply = DataReply::to(&frame);
        assert_eq!(DataReply::parse(&reply.to_string()), Ok(reply));
        assert_eq!(decode(&again, again.len()), (vec![frame], None));
    }
    if let Ok(Ok(reply)) = std::str::from_utf8(data).map(DataReply::parse) {
        assert_eq!(DataReply::parse(&reply.to_string()), Ok(reply));
    }
}

/// Event stream frames.
pub fn event_frames(data: &[u8]) {
    let decode = |data: &[u8], piece| {
        let mut decoder = EventDecoder::default();
        decode(data, piece, &mut decoder, EventDecoder::feed, EventDecoder::next_event)
    };
    for event in same_in_pieces(data, decode) {
        let mut again = Vec::new();
        event.encode(&mut again).unwrap();
        assert_eq!(decode(&again, again.len()), (vec![event], None));
    }
}

/// Handshake messages.
pub fn handshake(data: &[u8]) {
    let Ok(message) = HandshakeMessage::parse(data) else { return };
    let json = match message.encode() {
        Ok(json) => json,
        Err(error) => return assert!(matches!(error, WireError::TooLong { .. })),
    };
    let again = HandshakeMessage::parse(&json).unwrap();
    assert_eq!(again.replay_key(), message.replay_key());
    assert_eq!(again, message);
}

/// Message frames, with a limit low enough to be exceeded; headers and greeting by themselves.
pub fn message_frames(data: &[u8]) {
    let decode = |data: &[u8], piece| {
        let mut decoder = MessageDecoder::new(64);
        decode(data, piece, &mut decoder, MessageDecoder::feed, MessageDecoder::next_frame)
    };
    for incoming in same_in_pieces(data, decode) {
        let Incoming::Frame(frame) = &incoming else { continue };
        let mut again = Vec::new();
        frame.encode(&mut again).unwrap();
        assert_eq!(again.len(), MessageFrame::encoded_len(frame));
        assert_eq!(decode(&again, again.len()), (vec![incoming], None));
    }
    if let Ok(headers) = Headers::parse(Bytes::copy_from_slice(data)) {
        assert_eq!(Headers::from_pairs(headers.iter()), Ok(headers));
    }
    if let Ok(hello) = Hello::parse(data) {
        assert_eq!(Hello::parse(&hello.encode()), Ok(hello));
    }
}

/// Options of a stream.
pub fn options(data: &[u8]) {
    if let Ok(Some(options)) = StreamOptions::parse(data) {
        let mut again = Vec::new();
        options.encode(&mut again);
        assert_eq!(StreamOptions::parse(&again), Ok(Some(options)));
    }
}

/// Packets; bytes that are none are made one by a right checksum.
pub fn packet(data: &[u8]) {
    check_packet(data);
    let Some((head, payload)) = data.split_at_checked(HEADER_LEN) else { return };
    let mut datagram = head.to_vec();
    datagram[0] = 0x10 | datagram[0] & 0x0f;
    datagram[1] = datagram[1] % 3 + 1;
    let payload = &payload[..payload.len().min(usize::from(u16::MAX))];
    datagram[2..4].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    datagram[30..34].fill(0);
    datagram.extend_from_slice(payload);
    let crc = crc32fast::hash(&datagram);
    datagram[30..34].copy_from_slice(&crc.to_be_bytes());
    assert!(check_packet(&datagram));
}

/// Frames of the registry's binary protocol.
pub fn registry_binary(data: &[u8]) {
    if let Ok(request) = BinaryRequest::parse(data) {
        let mut again = Vec::new();
        request.encode(&mut again);
        assert_eq!(BinaryRequest::parse(&again), Ok(request));
    }
    if let Ok(response) = BinaryResponse::parse(data) {
        let mut again = Vec::new();
        response.encode(&mut again).unwrap();
        assert_eq!(BinaryResponse::parse(&again), Ok(response));
    }
}

/// Frames of the registry's JSON protocol, with and without their length.
pub fn registry_json(data: &[u8]) {
    check_registry_json(data);
    if let Ok(Some((body, used))) = split_frame(data) {
        assert_eq!(used, body.len() + 4);
        check_registry_json(body);
        let mut again = Vec::new();
        encode_with(&mut again, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
        .unwrap();
        assert_eq!(again, data[..used]);
    }
}

/// Selective acknowledgements.
pub fn sack(data: &[u8]) {
    if let Some(blocks) = SackBlocks::parse(data) {
        let mut again = Vec::new();
        blocks.encode(&mut again);
        assert_eq!(again, data[..again.len()]);
    }
}

/// STUN messages.
pub fn stun(data: &[u8]) {
    let parsed = StunMessage::parse(data).ok();
    let again = match parsed {
        Some(StunMessage::Request(request)) => request.encode(),
        Some(StunMessage::Success(success)) => success.encode(),
        None => return,
    };
    assert!(is_stun(data) && is_stun(&again));
    assert_eq!(StunMessage::parse(&again).ok(), parsed);
}

/// Tunnel frames.
pub fn tunnel(data: &[u8]) {
    let parsed = TunnelFrame::parse(data).ok();
    let mut datagram = data.to_vec();
    match (split_sealed(&mut datagram), parsed) {
        (Ok((header, inner)), Some(TunnelFrame::Sealed { header: found, sealed })) => {
            assert_eq!((header, &*inner), (found, sealed));
        }
        (Ok(_), other) => panic!("split, but parsed as {other:?}"),
        (Err(_), parsed) => assert!(!matches!(parsed, Some(TunnelFrame::Sealed { .. }))),
    }
    if let Some(frame) = parsed {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, data[..again.len()]);
        assert_eq!(TunnelFrame::parse(&again), Ok(frame));
    }
}

fn check_packet(data: &[u8]) -> bool {
    let Ok(packet) = Packet::parse(data) else { return false };
    let mut again = vec![0; HEADER_LEN];
    again.extend_from_slice(packet.payload);
    packet.header.encode(&mut again).unwrap();
    assert_eq!(again, data[..again.len()]);
    true
}

fn check_registry_json(body: &[u8]) {
    if let Ok(request) = Request::parse(body) {
        let mut frame = Vec::new();
        if request.encode(&mut frame).is_ok() {
            let again = Request::parse(&frame[4..]).unwrap();
            assert_eq!(again.signed_text(), request.signed_text());
            assert_eq!(again, request);
        }
    }
    if let Ok(response) = Response::parse(body) {
        let mut frame = Vec::new();
        if response.encode(&mut frame).is_ok() {
            // Scores are floating point numbers, whose last digit JSON may change.
            assert_eq!(Response::parse(&frame[4..]).unwrap().kind(), response.kind());
        }
    }
}

type Decoded<T> = (Vec<T>, Option<WireError>);

/// Feeds `data` in pieces, taking all frames after each, until the end or an error.
fn decode<D, T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    piece: usize,
    decoder: &mut D,
    feed: fn(&mut D, Bytes),
    next: fn(&mut D) -> Result<Option<T>, WireError>,
) -> Decoded<T> {
    let mut frames = Vec::new();
    for chunk in data.chunks(piece.max(1)) {
        feed(decoder, Bytes::copy_from_slice(chunk));
        loop {
            match next(decoder) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(next(decoder), Err(error.clone()), "an error must last");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

/// The frames in `data`, after a check that they do not depend on how it is cut.
fn same_in_pieces<T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    decode: impl Fn(&[u8], usize) -> Decoded<T>,
) -> Vec<T> {
    let whole = decode(data, data.len());
    let piece = data.last().map_or(1, |byte| usize::from(byte % 32) + 1);
    assert_eq!(decode(data, piece), whole, "in pieces of {piece}");
    whole.0
}
