//! Datagrams and texts.

use std::net::{IpAddr, SocketAddr as Endpoint};

use pilot_agent::wire::beacon::{NodeList, PunchGrant};
use pilot_agent::wire::handshake::{HandshakeKind, HandshakeMessage, MAX_LEN};
use pilot_agent::wire::options::StreamOptions;
use pilot_agent::wire::packet::HEADER_LEN;
use pilot_agent::wire::sack::MAX_BLOCKS;
use pilot_agent::wire::stun::{BindingRequest, BindingSuccess, PADDED_LEN, StunMessage, is_stun};
use pilot_agent::wire::tunnel::{AuthFrame, KeyFrame, SealedHeader, TAG_LEN, split_sealed};
use pilot_agent::wire::{
    Addr, BeaconMessage, Flags, Header, Packet, Protocol, SackBlock, SackBlocks, Seq, SocketAddr,
    TunnelFrame, WireError,
};
use proptest::prelude::*;

use super::{addr, content, node};

fn header() -> impl Strategy<Value = Header> {
    let protocol =
        prop_oneof![Just(Protocol::Stream), Just(Protocol::Datagram), Just(Protocol::Control)];
    let numbers = (any::<u16>(), any::<u16>(), any::<u32>(), any::<u32>(), any::<u16>());
    (0..16_u8, protocol, addr(), addr(), numbers).prop_map(
        |(flags, protocol, src, dst, (src_port, dst_port, seq, ack, window))| Header {
            flags: Flags(flags),
            protocol,
            src,
            dst,
            src_port,
            dst_port,
            seq: Seq(seq),
            ack: Seq(ack),
            window,
        },
    )
}

fn encoded(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN];
    packet.extend_from_slice(payload);
    header.encode(&mut packet).unwrap();
    packet
}

/// Endpoints as they come out of a datagram: IPv4 is never spelled as IPv6.
fn endpoint() -> impl Strategy<Value = Endpoint> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| Endpoint::new(ip.to_canonical(), port))
}

proptest! {
    #[test]
    fn stun_messages_survive(
        transaction: [u8; 12],
        change_ip: bool,
        change_port: bool,
        response_port: Option<u16>,
        mapped in (any::<IpAddr>(), any::<u16>()),
        other in proptest::option::of((any::<IpAddr>(), any::<u16>())),
    ) {
        let request = BindingRequest { transaction, change_ip, change_port, response_port };
        let bytes = request.encode();
        prop_assert!(is_stun(&bytes));
        prop_assert_eq!(bytes.len(), PADDED_LEN);
        prop_assert_eq!(StunMessage::parse(&bytes), Ok(StunMessage::Request(request)));
        for len in 0..bytes.len() {
            prop_assert!(StunMessage::parse(&bytes[..len]).is_err());
        }
        let (mapped, other) = (Endpoint::from(mapped), other.map(Endpoint::from));
        let success = BindingSuccess { transaction, mapped, other };
        let bytes = success.encode();
        prop_assert!(bytes.len() <= PADDED_LEN);
        prop_assert_eq!(StunMessage::parse(&bytes), Ok(StunMessage::Success(success)));
    }

    #[test]
    fn addresses_survive_text_and_bytes(addr in addr(), port: u16) {
        prop_assert_eq!(Addr::from_bytes(addr.to_bytes()), addr);
        prop_assert_eq!(addr.to_string().parse(), Ok(addr));
        prop_assert_eq!(addr.to_string().to_lowercase().parse(), Ok(addr));
        let socket = SocketAddr::new(addr, port);
        prop_assert_eq!(socket.to_string().parse(), Ok(socket));
    }

    #[test]
    fn packets_survive_the_wire(header in header(), payload in content(), extra in content()) {
        let mut bytes = encoded(&header, &payload);
        prop_assert_eq!(Packet::parse(&bytes), Ok(Packet { header, payload: &payload }));
        bytes.extend_from_slice(&extra);
        prop_assert_eq!(Packet::parse(&bytes), Ok(Packet { header, payload: &payload }));
    }

    /// CRC-32 finds every burst up to 32 bits, so one changed byte cannot pass.
    #[test]
    fn a_changed_byte_is_never_accepted(
        header in header(), payload in content(), at: prop::sample::Index, change in 1..=255_u8,
    ) {
        let mut bytes = encoded(&header, &payload);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(Packet::parse(&bytes).is_err());
    }

    #[test]
    fn a_cut_packet_is_truncated(
        header in header(), payload in content(), at: prop::sample::Index,
    ) {
        let bytes = encoded(&header, &payload);
        let cut = Packet::parse(&bytes[..at.index(bytes.len())]);
        prop_assert!(matches!(cut, Err(WireError::Truncated { .. })), "{:?}", cut);
    }

    #[test]
    fn acknowledgements_survive_the_wire(
        edges in prop::collection::vec(any::<(u32, u32)>(), 1..=MAX_BLOCKS), extra in content(),
    ) {
        let mut blocks = SackBlocks::default();
        for (left, right) in edges {
            let has_room = blocks.push(SackBlock { left: Seq(left), right: Seq(right) });
            prop_assert!(has_room);
        }
        let mut bytes = Vec::new();
        blocks.encode(&mut bytes);
        prop_assert_eq!(SackBlocks::parse(&bytes), Some(blocks));
        bytes.extend_from_slice(&extra);
        prop_assert_eq!(SackBlocks::parse(&bytes), Some(blocks));
    }

    #[test]
    fn stream_options_survive_the_wire(
        window_shift in 0..=14_u8, max_payload in 1..=u16::MAX,
        half_close: bool, path_probes: bool,
    ) {
        let options = StreamOptions { window_shift, max_payload, half_close, path_probes };
        let mut bytes = Vec::new();
        options.encode(&mut bytes);
        prop_assert_eq!(StreamOptions::parse(&bytes), Ok(Some(options)));
    }

    #[test]
    fn sealed_frames_survive_the_wire_and_split_in_place(
        sender in node(), nonce_prefix: [u8; 4], counter: u64, content in content(),
    ) {
        let mut sealed = content;
        sealed.extend_from_slice(&[0x5a; TAG_LEN]);
        let header = SealedHeader { sender, nonce_prefix, counter };
        let mut bytes = Vec::new();
        TunnelFrame::Sealed { header, sealed: &sealed }.encode(&mut bytes);
        prop_assert_eq!(
            TunnelFrame::parse(&bytes),
            Ok(TunnelFrame::Sealed { header, sealed: &sealed })
        );
        prop_assert_eq!(split_sealed(&mut bytes), Ok((header, sealed.as_mut_slice())));
    }

    #[test]
    fn key_exchanges_survive_the_wire(
        node in node(), x25519: [u8; 32], ed25519: [u8; 32], signature: [u8; 64],
    ) {
        let auth = AuthFrame {
            node,
            x25519_public: &x25519,
            ed25519_public: &ed25519,
            signature: &signature,
        };
        let bytes = auth.encode();
        prop_assert_eq!(TunnelFrame::parse(&bytes), Ok(TunnelFrame::Auth(auth)));
        let key = KeyFrame { node, x25519_public: &x25519 };
        let bytes = key.encode();
        prop_assert_eq!(TunnelFrame::parse(&bytes), Ok(TunnelFrame::Key(key)));
    }

    #[test]
    fn beacon_messages_survive_the_wire(
        nodes in (node(), node()), endpoint in endpoint(), frame in content(),
        ids in prop::collection::vec(any::<[u8; 4]>(), 0..50),
        key: Option<[u8; 32]>, grant: Option<(u64, [u8; 64])>, number: u32, kind: u8, flag: bool,
        proof: ([u8; 32], [u8; 16], [u8; 64]),
    ) {
        let (public_key, cookie, signature) = (&proof.0, &proof.1, &proof.2);
        let ((sender, target), frame) = (nodes, frame.as_slice());
        let grant =
            grant.as_ref().map(|(expiry, signature)| PunchGrant { expiry: *expiry, signature });
        let destination = flag.then_some(target);
        for message in [
            BeaconMessage::Discover { node: sender, public_key: key.as_ref(), extended: flag },
            BeaconMessage::DiscoverReply { endpoint },
            BeaconMessage::PunchRequest { requester: sender, target, grant },
            BeaconMessage::PunchCommand { endpoint },
            BeaconMessage::Relay { sender, destination: target, frame },
            BeaconMessage::RelayDeliver { sender, destination, frame },
            BeaconMessage::Sync { beacon: number, nodes: NodeList::new(&ids).unwrap() },
            BeaconMessage::Notify { kind },
            BeaconMessage::Challenge { cookie },
            BeaconMessage::Prove { node: sender, public_key, cookie, signature },
        ] {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            prop_assert_eq!(BeaconMessage::parse(&bytes), Ok(message));
        }
    }

    #[test]
    fn handshakes_survive_the_wire(
        kind in prop::sample::select(vec![
            HandshakeKind::Request,
            HandshakeKind::Accept,
            HandshakeKind::Reject,
            HandshakeKind::Revoke,
        ]),
        node_id in node(), public_key: Option<[u8; 32]>, signature: Option<[u8; 64]>,
        justification: String, reason: String, timestamp: i64,
    ) {
        let message = HandshakeMessage {
            kind, node_id, public_key, justification, signature, reason, timestamp,
        };
        match message.encode() {
            Ok(json) => prop_assert_eq!(HandshakeMessage::parse(&json), Ok(message)),
            Err(WireError::TooLong { len, .. }) => prop_assert!(len > MAX_LEN),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
