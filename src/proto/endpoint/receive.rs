//! From a UDP datagram to the tunnel, stream or beacon message that it is for.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Endpoint, EndpointEvent};
use crate::proto::path::{Remote, Via};
use crate::proto::tunnel::TunnelError;
use crate::wire::beacon::{self, BeaconMessage};
use crate::wire::tunnel::{self as frames, TunnelFrame};
use crate::wire::{NodeId, Packet, Protocol};

/// Punch frames sent on a punch command, as release 1.18 does.
const PUNCHES: usize = 3;

impl Endpoint {
    /// Takes a datagram that arrived; it is decrypted in place. Whatever it is, nothing fails:
    /// what is not acceptable is counted and dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: impl Into<Remote>, datagram: &mut [u8]) {
        let from = from.into();
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        if beacon::is_beacon(datagram) {
            self.handle_beacon(now, from, datagram);
        } else {
            self.handle_frame(now, Via::Direct(from), from.addr, datagram);
        }
    }

    fn handle_beacon(&mut self, now: Instant, from: Remote, datagram: &mut [u8]) {
        // Nothing in these messages is authenticated: at least they must come from the beacon.
        if self.beacon != Some(from.addr) {
            self.stats.dropped_malformed += 1;
            return;
        }
        match BeaconMessage::parse(datagram) {
            Ok(BeaconMessage::DiscoverReply { endpoint }) => {
                self.on_observed(now, from.socket, endpoint);
            }
            Ok(BeaconMessage::PunchCommand { endpoint }) => {
                for _ in 0..PUNCHES {
                    self.outbox.push_back((endpoint.into(), frames::PUNCH.to_vec()));
                }
            }
            Ok(BeaconMessage::Notify { kind: beacon::NOTIFY_HANDSHAKE }) => {
                self.events.push_back(EndpointEvent::HandshakeWaiting);
            }
            Ok(BeaconMessage::Challenge { cookie }) => {
                let cookie = *cookie;
                self.prove(now, &cookie);
            }
            Ok(BeaconMessage::RelayDeliver { frame, .. }) => {
                let start = datagram.len() - frame.len();
                if let Some(frame) = datagram.get_mut(start..) {
                    self.handle_frame(now, Via::Relay, from.addr, frame);
                }
            }
            Ok(_) | Err(_) => self.stats.dropped_malformed += 1,
        }
    }

    fn handle_frame(&mut self, now: Instant, via: Via, from: SocketAddr, frame: &mut [u8]) {
        let bytes = frame.len();
        match TunnelFrame::parse(frame) {
            Ok(TunnelFrame::Sealed { header, .. }) => {
                self.handle_sealed(now, via, header.sender, frame);
            }
            Ok(TunnelFrame::Auth(auth)) => {
                let node = auth.node;
                if !self.may_exchange(now, node, from) || !self.ensure_peer(now, node) {
                    return;
                }
                let Some(peer) = self.peers.get_mut(&node) else { return };
                let outcome = peer.tunnel.handle_key_exchange(now, &self.local, &auth);
                self.after_exchange(now, (via, bytes), node, outcome);
            }
            Ok(TunnelFrame::Key(key)) => {
                let node = key.node;
                if !self.may_exchange(now, node, from) {
                    return;
                }
                // Only a peer we know gets an answer: this frame proves nothing.
                let Some(peer) = self.peers.get_mut(&node) else { return };
                let outcome = peer.tunnel.handle_key_request(now, &key);
                self.after_exchange(now, (via, bytes), node, outcome);
            }
            Ok(TunnelFrame::Punch) => self.on_punch_frame(via),
            // Plaintext is never sent and never accepted.
            Ok(TunnelFrame::Plain(_)) | Err(_) => self.stats.dropped_malformed += 1,
        }
    }

    /// Cheap checks before the costly one of a signature.
    fn may_exchange(&mut self, now: Instant, node: NodeId, from: SocketAddr) -> bool {
        if node == self.node() || node == NodeId(0) || node == NodeId::BROADCAST {
            self.stats.dropped_malformed += 1;
            return false;
        }
        let allowed = self.exchange_per_ip.allow(now, from.ip())
            && (self.beacon == Some(from) || self.exchange_per_source.allow(now, from));
        if !allowed {
            self.stats.dropped_limited += 1;
        }
        allowed
    }

    fn after_exchange(
        &mut self,
        now: Instant,
        (via, bytes): (Via, usize),
        node: NodeId,
        outcome: Result<(), TunnelError>,
    ) {
        match outcome {
            Ok(()) => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    let conditions = self.network.conditions(self.beacon, &self.config, peer);
                    match via {
                        Via::Direct(from) => peer.path.on_exchange(from, bytes, &conditions),
                        Via::Relay => peer.path.on_relayed_exchange(now),
                    }
                }
                self.after_tunnel(now, node);
            }
            Err(_) => {
                self.stats.dropped_unauthenticated += 1;
                // A peer that exists only because of this frame goes with it.
                let idle = self.peers.get(&node).is_some_and(|peer| {
                    !peer.has_record && !peer.record_wanted && peer.streams == 0
                });
                if idle {
                    self.forget_peer(node);
                } else {
                    self.after_tunnel(now, node);
                }
            }
        }
    }

    fn handle_sealed(&mut self, now: Instant, via: Via, sender: NodeId, frame: &mut [u8]) {
        let frame_len = frame.len();
        let Some(peer) = self.peers.get_mut(&sender) else {
            self.greet_stranger(now, via, sender);
            return;
        };
        let packet = match peer.tunnel.open_in_place(now, frame) {
            Ok(packet) => packet,
            Err(_) => {
                self.stats.dropped_unauthenticated += 1;
                self.after_tunnel(now, sender);
                return;
            }
        };
        peer.bytes_received += frame_len as u64;
        peer.last_received = Some(now);
        let Ok(packet) = Packet::parse(packet) else {
            self.stats.dropped_invalid += 1;
            return;
        };
        // A peer speaks for itself only; a keep-alive of 1.18 has no destination.
        let to_us = packet.header.dst.node == self.local.node()
            || (packet.header.protocol == Protocol::Control && packet.header.dst.node == NodeId(0));
        if packet.src_node() != sender || !to_us {
            self.stats.dropped_invalid += 1;
            return;
        }
        let answered = super::control::answered_probe(&packet);
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        peer.path.on_authenticated(now, via, frame_len, answered, &conditions);
        if packet.header.protocol != Protocol::Control && !packet.payload.is_empty() {
            peer.path.on_content(now);
        }
        if peer.path.seems_foreign() {
            peer.path.set_foreign();
        }
        let deadlines = [peer.tunnel.poll_timeout(), peer.path.poll_timeout(&conditions)];
        let due = deadlines.into_iter().flatten().min();
        let is_earlier = due.is_some_and(|at| peer.armed.is_none_or(|armed| at < armed));
        let moved = peer.path.route(&conditions) != peer.told_route;
        if peer.tunnel.has_events() || is_earlier || moved {
            self.after_tunnel(now, sender);
        }
        if let Via::Direct(from) = via {
            self.on_direct_frame(now, sender, from);
        }
        match packet.header.protocol {
            Protocol::Stream => self.handle_stream_packet(now, &packet),
            Protocol::Datagram => self.handle_datagram_packet(now, &packet),
            Protocol::Control => self.handle_control_packet(now, &packet, via),
        }
    }

    /// A sealed frame of a node we know nothing of: we have restarted, and it does not know. Our
    /// key exchange tells it. Such frames prove nothing, so their rate is limited.
    fn greet_stranger(&mut self, now: Instant, via: Via, sender: NodeId) {
        self.stats.dropped_unauthenticated += 1;
        if sender == self.node() || sender == NodeId(0) || !self.strangers.allow(now, ()) {
            return;
        }
        if self.ensure_peer(now, sender) {
            if let (Some(peer), Via::Direct(from)) = (self.peers.get_mut(&sender), via) {
                let conditions = self.network.conditions(self.beacon, &self.config, peer);
                peer.path.suggest(from, &conditions);
            }
            self.start_tunnel(now, sender);
        }
    }

    fn handle_datagram_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let header = &packet.header;
        if packet.payload.is_empty() || !self.admits(now, header.src.node, None) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&header.src.node) {
            peer.last_used = now;
        }
        self.events.push_back(EndpointEvent::Datagram {
            from: header.src,
            src_port: header.src_port,
            dst_port: header.dst_port,
            payload: packet.payload.to_vec(),
        });
    }
}
