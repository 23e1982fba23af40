//! Packets outside streams: datagrams, ping and pong, keep-alive, path probe.

use std::time::{Duration, Instant};

use rand::Rng;

use super::peer::{LoosePacket, PendingPing};
use super::{Endpoint, EndpointEvent};
use crate::proto::path::Via;
use crate::proto::stream::Outgoing;
use crate::wire::{Addr, Flags, Header, NodeId, Packet, Protocol, Seq};

/// How long a peer that a private node dialled may open streams to it.
pub(super) const REPLY_WINDOW: Duration = Duration::from_secs(300);
/// What release 1.18.0 puts in a probe of the direct path.
const PROBE: &[u8] = b"pathprobe.v1";
/// Probes of a Go node at once.
const FOREIGN_PROBES: usize = 4;
/// Pings of one peer that may wait at once.
const MAX_PINGS: usize = 256;
/// A ping that is not answered for this long is forgotten.
const PING_LIFETIME: Duration = Duration::from_secs(60);
/// Most payload bytes of a datagram: what fits the smallest IPv6 packet, relayed and sealed.
pub const MAX_DATAGRAM: usize = 1_152;

/// The number of the probe of a Go node's direct path that a packet answers.
pub(super) fn answered_probe(packet: &Packet<'_>) -> Option<u32> {
    let is_answer = packet.header.protocol == Protocol::Control
        && packet.header.flags.contains(Flags::ACK)
        && packet.payload == PROBE;
    is_answer.then_some(packet.header.seq.0)
}

impl Endpoint {
    /// Sends a datagram: once, unordered, perhaps lost. `false` if it was dropped here because too
    /// many wait for keys already, or the peer is unknown.
    pub fn send_datagram(
        &mut self,
        now: Instant,
        to: Addr,
        src_port: u16,
        port: u16,
        payload: &[u8],
    ) -> bool {
        let header = Header {
            protocol: Protocol::Datagram,
            src_port,
            dst_port: port,
            ..self.control_header(to)
        };
        let packet = LoosePacket { header, payload: payload.to_vec(), via: None };
        if !self.queue_packet(to.node, packet) {
            return false;
        }
        self.start_tunnel(now, to.node);
        true
    }

    /// Asks a peer for a sign of life; the answer is an [`EndpointEvent::Pong`] with the returned
    /// token. `None` if the peer is unknown or too many pings wait.
    pub fn ping(&mut self, now: Instant, node: NodeId) -> Option<u64> {
        let token = self.next_token;
        self.next_token += 1;
        let src_port = self.ephemeral_port();
        let header = Header { src_port, ..self.control_header(Addr::global(node)) };
        let seq = Seq::from_offset(token);
        let packet = LoosePacket {
            header: Header { seq, ..header },
            payload: token.to_be_bytes().to_vec(),
            via: None,
        };
        let peer = self.peers.get_mut(&node)?;
        peer.pings.retain(|ping| now < ping.sent + PING_LIFETIME);
        if peer.pings.len() >= MAX_PINGS {
            return None;
        }
        peer.pings.push(PendingPing { token, seq: seq.0, sent: now });
        if !self.queue_packet(node, packet) {
            return None;
        }
        self.start_tunnel(now, node);
        Some(token)
    }

    pub(super) fn handle_control_packet(&mut self, now: Instant, packet: &Packet<'_>, via: Via) {
        let header = &packet.header;
        let node = header.src.node;
        let is_done = self.handle_mtu_packet(now, packet, via)
            || self.handle_path_packet(now, packet, via)
            || self.handle_punch_packet(now, packet);
        if is_done {
            return;
        }
        if header.flags.contains(Flags::ACK) {
            // Never answered, else two nodes could go on for ever.
            self.handle_pong(now, packet, via);
            return;
        }
        if header.dst_port != 0 || packet.payload.is_empty() {
            return;
        }
        let reply = Header {
            flags: Flags::ACK,
            src: header.dst,
            dst: header.src,
            src_port: 0,
            dst_port: header.src_port,
            seq: header.seq,
            ack: header.seq.add(1),
            ..self.control_header(header.src)
        };
        // A probe asks about one path: answer on the path it came by.
        let way = Some(via).filter(|via| packet.payload == PROBE && self.may_answer(node, *via));
        let payload = packet.payload.to_vec();
        self.queue_packet(node, LoosePacket { header: reply, payload, via: way });
    }

    fn handle_pong(&mut self, now: Instant, packet: &Packet<'_>, via: Via) {
        let node = packet.header.src.node;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let seq = packet.header.seq.0;
        if let Some(at) = peer.pings.iter().position(|ping| ping.seq == seq) {
            let ping = peer.pings.swap_remove(at);
            let rtt = now.saturating_duration_since(ping.sent);
            peer.rtt = Some(rtt);
            self.events.push_back(EndpointEvent::Pong { token: ping.token, node, rtt, via });
        }
    }

    /// As release 1.18.0 sends it: no ports, no payload, no destination.
    pub(super) fn keep_alive(&mut self, now: Instant, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            // It counts as sent: if it cannot leave now, another one at once would not either.
            peer.last_sent = Some(now);
        }
        let header = self.control_header(Addr::default());
        self.queue_packet(node, LoosePacket { header, payload: Vec::new(), via: None });
    }

    /// Asks a Go node whether the direct way leads there. It answers by the way that it uses itself,
    /// and comes to the direct one when some frames have come by it.
    pub(super) fn probe_foreign(&mut self, node: NodeId, via: Via) {
        let id = self.rng.next_u32() | 1;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.path.on_foreign_probe(id);
        }
        for _ in 0..FOREIGN_PROBES {
            let header = Header { seq: Seq(id), ..self.control_header(Addr::global(node)) };
            let payload = PROBE.to_vec();
            self.queue_packet(node, LoosePacket { header, payload, via: Some(via) });
        }
    }

    /// Resets a stream that a packet wanted or believed in.
    pub(super) fn send_reset(&mut self, packet: &Packet<'_>) {
        let (header, segment) = (&packet.header, Outgoing::refusal());
        let reply = Header {
            flags: segment.flags,
            protocol: Protocol::Stream,
            src_port: header.dst_port,
            dst_port: header.src_port,
            ..self.control_header(header.src)
        };
        let packet = LoosePacket { header: reply, payload: Vec::new(), via: None };
        self.queue_packet(header.src.node, packet);
    }

    pub(super) fn control_header(&self, to: Addr) -> Header {
        Header {
            flags: Flags::NONE,
            protocol: Protocol::Control,
            src: Addr { network: to.network, node: self.node() },
            dst: to,
            src_port: 0,
            dst_port: 0,
            seq: Seq(0),
            ack: Seq(0),
            window: 0,
        }
    }
}
