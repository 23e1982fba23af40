//! A peer that is not one of ours, by hand: it has a tunnel, answers SYN without options, and
//! acknowledges what arrives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::endpoint::{Endpoint, EndpointConfig, PeerRecord};
use pilot_agent::proto::tunnel::{LocalKeys, Tunnel, TunnelConfig};
use pilot_agent::wire::packet::HEADER_LEN;
use pilot_agent::wire::tunnel::{SEALED_HEADER_LEN, TAG_LEN, TunnelFrame};
use pilot_agent::wire::{Addr, Flags, Header, NodeId, Packet, Protocol, Seq};
use rand::SeedableRng;
use rand::rngs::StdRng;

struct GoNode {
    local: LocalKeys,
    tunnel: Tunnel,
    received: u32,
    to_send: Vec<Vec<u8>>,
    /// Control packets that are more than a keep-alive.
    odd: usize,
    largest: usize,
}

impl GoNode {
    fn handle(&mut self, now: Instant, datagram: &mut [u8]) {
        self.largest = self.largest.max(datagram.len());
        match TunnelFrame::parse(datagram) {
            Ok(TunnelFrame::Auth(auth)) => {
                self.tunnel.handle_key_exchange(now, &self.local, &auth).unwrap();
            }
            Ok(TunnelFrame::Sealed { .. }) => {
                let packet = self.tunnel.open_in_place(now, datagram).unwrap();
                let packet = Packet::parse(packet).unwrap();
                let (header, len) = (packet.header, packet.payload.len());
                self.answer(now, &header, len);
            }
            _ => {}
        }
        while let Some(frame) = self.tunnel.poll_handshake(now, &self.local) {
            self.to_send.push(frame.bytes);
        }
    }

    fn answer(&mut self, now: Instant, header: &Header, len: usize) {
        if header.protocol != Protocol::Stream {
            self.odd += usize::from(len > 0);
            return;
        }
        let (mut flags, mut seq) = (Flags::ACK, Seq(1));
        if header.flags.contains(Flags::SYN) {
            (flags, seq) = (Flags::ACK.with(Flags::SYN), Seq(0));
        } else if header.seq == Seq(1 + self.received) {
            self.received += u32::try_from(len).unwrap();
        }
        let reply = Header {
            flags,
            protocol: Protocol::Stream,
            src: header.dst,
            dst: header.src,
            src_port: header.dst_port,
            dst_port: header.src_port,
            seq,
            ack: Seq(1 + self.received),
            window: 512,
        };
        let mut frame = vec![0; SEALED_HEADER_LEN + HEADER_LEN];
        reply.encode(&mut frame[SEALED_HEADER_LEN..]).unwrap();
        frame.resize(frame.len() + TAG_LEN, 0);
        self.tunnel.seal_in_place(now, &self.local, &mut frame).unwrap();
        self.to_send.push(frame);
    }
}

#[test]
fn a_go_node_is_never_probed_and_gets_no_larger_segments_whatever_the_registry_says() {
    let (mut now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
    let address = "198.51.100.2:4000".parse().unwrap();
    let mut keys = |node| LocalKeys::new(NodeId(node), Arc::new(Identity::generate(&mut rng)));
    let (ours, theirs) = (keys(1), keys(2));
    let mut rng = StdRng::seed_from_u64(2);
    let mut tunnel = Tunnel::new(NodeId(1), Arc::new(TunnelConfig::default()), &mut rng);
    tunnel.set_peer_key(now, ours.identity().public_key());
    let record = PeerRecord {
        public_key: theirs.identity().public_key(),
        endpoint: Some(address),
        is_native: true,
        ..PeerRecord::default()
    };
    let mut go = GoNode { local: theirs, tunnel, received: 0, to_send: vec![], odd: 0, largest: 0 };
    let mut endpoint = Endpoint::new(EndpointConfig::default(), ours, [3; 32]);
    endpoint.set_peer(now, NodeId(2), &record);
    let stream = endpoint.connect(now, Addr::global(NodeId(2)), 9, true).unwrap();
    let (mut written, mut buf) = (0, Vec::new());
    while go.received < 1_000_000 {
        written += endpoint.write(now, stream, &vec![0; 1_000_000 - written]).unwrap();
        while let Some(transmit) = endpoint.poll_transmit(now, &mut buf) {
            buf.chunks_mut(transmit.segment_size).for_each(|data| go.handle(now, data));
        }
        for mut datagram in std::mem::take(&mut go.to_send) {
            endpoint.handle_datagram(now, address, &mut datagram);
        }
        now += Duration::from_millis(10);
        endpoint.handle_timeout(now);
    }
    assert_eq!((go.odd, go.largest), (0, 70 + 1_152));
    assert!(endpoint.peer(NodeId(2)).unwrap().path_mtu().is_none());
}
