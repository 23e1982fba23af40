//! Peers of an endpoint: their records, the key exchange with them, and their turn to send.

use std::time::Instant;

use super::peer::{LoosePacket, Peer, PeerRecord};
use super::{Endpoint, EndpointEvent, MAX_UNVERIFIED_PEERS, TICK, TimerKey};
use crate::proto::path::{Sent, Via};
use crate::proto::stream::StreamError;
use crate::proto::tunnel::{Tunnel, TunnelEvent};
use crate::wire::NodeId;
use crate::wire::beacon::BeaconMessage;

/// Addresses in a peer's own network that are tried.
const MAX_LAN_ADDRS: usize = 4;

impl Endpoint {
    /// Gives the record of a peer, wanted or not. A key exchange that waited for it goes on.
    pub fn set_peer(&mut self, now: Instant, node: NodeId, record: &PeerRecord) {
        if node == self.node() {
            return;
        }
        self.ensure_peer(now, node);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if !peer.has_record {
            peer.has_record = true;
            self.unverified -= 1;
        }
        peer.record_wanted = false;
        peer.is_native |= record.is_native;
        peer.is_trusted = record.is_trusted;
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        if record.is_native && !peer.is_foreign {
            peer.path.set_native(&conditions);
        }
        peer.path.set_relay_only(record.relay_only);
        // Behind the same NAT: its addresses there may well be in our network.
        let outside = record.endpoint.map(|endpoint| endpoint.ip());
        let is_near = self.network.candidates.iter().any(|own| Some(own.addr.ip()) == outside);
        let near = record.lan_addrs.iter().take(MAX_LAN_ADDRS);
        let near = near.filter(|_| is_near && record.is_native);
        for addr in record.endpoint.iter().chain(near) {
            peer.path.suggest((*addr).into(), &conditions);
        }
        peer.tunnel.set_peer_key(now, record.public_key);
        self.after_tunnel(now, node);
        // There may be a way to it now.
        self.queue_peer(node);
    }

    /// Admits a known peer to a private node, or no longer: then its streams are reset, and the
    /// time in which it may answer a stream of ours is over.
    pub fn set_trusted(&mut self, now: Instant, node: NodeId, is_trusted: bool) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.is_trusted = is_trusted;
        if is_trusted {
            return;
        }
        peer.dialled_at = None;
        if self.config.is_private {
            self.abort_streams(now, node);
        }
    }

    /// The registry does not know this peer: its streams fail, and it is forgotten.
    pub fn reject_peer(&mut self, now: Instant, node: NodeId, why: &StreamError) {
        self.fail_streams(now, node, why, u32::MAX);
        if self.peers.get(&node).is_some_and(|peer| peer.streams == 0) {
            self.forget_peer(node);
        } else if let Some(peer) = self.peers.get_mut(&node) {
            peer.record_wanted = false;
            peer.tunnel.peer_key_unavailable(now);
        }
    }

    /// Starts agreeing keys with a peer whose record was given, unless that is done.
    pub fn warm_up(&mut self, now: Instant, node: NodeId) {
        self.start_tunnel(now, node);
    }

    /// Whether keys are agreed with the peer.
    #[must_use]
    pub fn is_ready(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.tunnel.is_ready())
    }

    /// State of a peer.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// All peers, in no order.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer))
    }

    /// Replaces our keys toward every peer with a tunnel. Streams go on.
    pub fn rekey(&mut self, now: Instant) {
        let nodes: Vec<NodeId> =
            self.peers.iter().filter(|(_, p)| p.tunnel.is_ready()).map(|(n, _)| *n).collect();
        for node in nodes {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.tunnel.rekey(now);
            }
            self.after_tunnel(now, node);
        }
    }

    pub(super) fn peer_timeout(&mut self, now: Instant, node: NodeId) {
        let keepalive = self.config.keepalive;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.tunnel.handle_timeout(now);
        if peer.tunnel.is_ready() {
            let conditions = self.network.conditions(self.beacon, &self.config, peer);
            let actions = peer.path.handle_timeout(now, &conditions);
            if let Some(mtu) = &mut peer.path_mtu {
                mtu.handle_timeout(now, peer.last_received);
            }
            let wants_keepalive = peer.keepalive_at(keepalive).is_some_and(|at| at <= now);
            if wants_keepalive {
                // Not when it leaves: until then it would be due again, for ever.
                peer.last_sent = Some(now);
            }
            self.act_on_paths(now, node, actions);
            if wants_keepalive {
                self.keep_alive(now, node);
            }
            self.drive_path_mtu(now, node);
        }
        self.after_tunnel(now, node);
    }

    /// Peers begin here: with the record from the registry, or with a key exchange out of the blue.
    /// Returns `false` if there are too many of the latter kind.
    pub(super) fn ensure_peer(&mut self, now: Instant, node: NodeId) -> bool {
        if self.peers.contains_key(&node) {
            return true;
        }
        if self.unverified >= MAX_UNVERIFIED_PEERS {
            self.stats.dropped_limited += 1;
            return false;
        }
        self.unverified += 1;
        let tunnel = Tunnel::new(node, self.config.tunnel.clone(), &mut self.rng);
        let mut peer = Peer::new(now, tunnel);
        peer.policy = self.network.policy_of(node);
        self.peers.insert(node, peer);
        true
    }

    pub(super) fn forget_peer(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.remove(&node)
            && !peer.has_record
        {
            self.unverified -= 1;
        }
    }

    pub(super) fn start_tunnel(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.last_used = now;
        if peer.tunnel.is_ready() {
            return;
        }
        peer.tunnel.start(now);
        self.after_tunnel(now, node);
    }

    /// Carries out what a tunnel wants after anything was done to it.
    pub(super) fn after_tunnel(&mut self, now: Instant, node: NodeId) {
        self.send_exchange(now, node);
        while let Some(event) = self.peers.get_mut(&node).and_then(|p| p.tunnel.poll_event()) {
            self.on_tunnel_event(now, node, event);
        }
        // An event may have queued a frame.
        self.send_exchange(now, node);
        self.after_path(now, node);
        self.arm_peer(now, node);
    }

    /// Sets a peer's timer to the earliest that it waits for.
    pub(super) fn arm_peer(&mut self, now: Instant, node: NodeId) {
        let keepalive = self.config.keepalive;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        let deadline = [
            peer.tunnel.poll_timeout(),
            peer.path.poll_timeout(&conditions).filter(|_| peer.tunnel.is_ready()),
            peer.keepalive_at(keepalive),
            peer.path_mtu.as_ref().and_then(|mtu| mtu.poll_timeout()),
        ];
        // Never at once: whatever could be done now has been done, and a deadline that nothing
        // moves must not become a busy loop.
        let earliest = deadline.into_iter().flatten().min().map(|at| at.max(now + TICK));
        self.timers.arm(TimerKey::Peer(node), &mut peer.armed, earliest);
    }

    fn on_tunnel_event(&mut self, now: Instant, node: NodeId, event: TunnelEvent) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        match event {
            TunnelEvent::NeedPeerKey => {
                if !peer.record_wanted {
                    peer.record_wanted = true;
                    self.events.push_back(EndpointEvent::NeedPeer(node));
                }
            }
            TunnelEvent::Established => {
                peer.generation += 1;
                peer.answers_probes = false;
                let conditions = self.network.conditions(self.beacon, &self.config, peer);
                peer.path.on_established(now, &conditions);
                self.forget_path_mtu(node);
                self.events.push_back(EndpointEvent::PeerReady(node));
                self.queue_peer(node);
            }
            TunnelEvent::PeerRestarted => {
                peer.generation += 1;
                let generation = peer.generation;
                // It may be another program now.
                peer.answers_probes = false;
                let conditions = self.network.conditions(self.beacon, &self.config, peer);
                peer.path.on_established(now, &conditions);
                self.forget_path_mtu(node);
                self.keep_dialing(node, generation);
                self.fail_streams(now, node, &StreamError::PeerRestarted, generation);
                self.queue_peer(node);
                self.events.push_back(EndpointEvent::PeerRestarted(node));
            }
            TunnelEvent::Rekeyed => self.queue_peer(node),
            TunnelEvent::IdentityMismatch { presented } => {
                self.events.push_back(EndpointEvent::IdentityMismatch { node, presented });
            }
            TunnelEvent::GaveUp => {
                let why = StreamError::PeerUnreachable;
                self.fail_streams(now, node, &why, u32::MAX);
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.waiting.clear();
                    peer.path.on_unreachable();
                }
                self.events.push_back(EndpointEvent::PeerUnreachable(node));
                let is_stranger =
                    self.peers.get(&node).is_some_and(|p| !p.has_record && p.streams == 0);
                if is_stranger {
                    self.forget_peer(node);
                }
            }
        }
    }

    /// Sends the key exchange frames that a peer's tunnel has made.
    fn send_exchange(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let mut wants_punch = false;
        while let Some(frame) = peer.tunnel.poll_handshake(now, &self.local) {
            let conditions = self.network.conditions(self.beacon, &self.config, peer);
            let (targets, punches) = peer.path.exchange_targets(frame.may_copy, &conditions);
            wants_punch |= punches;
            for via in targets {
                let frames = Sent {
                    frames: u32::from(!frame.may_copy),
                    bytes: frame.bytes.len(),
                    is_use: false,
                    expects_answer: false,
                };
                peer.path.on_sent(now, via, frames);
                match (via, self.beacon) {
                    (Via::Direct(to), _) => self.outbox.push_back((to, frame.bytes.clone())),
                    (Via::Relay, Some(beacon)) => {
                        let (sender, frame) = (self.local.node(), &frame.bytes);
                        let message = BeaconMessage::Relay { sender, destination: node, frame };
                        let mut wrapped = Vec::new();
                        message.encode(&mut wrapped);
                        self.outbox.push_back((beacon.into(), wrapped));
                    }
                    (Via::Relay, None) => {}
                }
            }
        }
        if wants_punch {
            self.request_punch(node);
        }
    }

    pub(super) fn request_punch(&mut self, target: NodeId) {
        let requester = self.node();
        self.send_to_beacon(&BeaconMessage::PunchRequest { requester, target, grant: None });
    }

    pub(super) fn send_to_beacon(&mut self, message: &BeaconMessage<'_>) {
        if let Some(beacon) = self.beacon {
            let mut datagram = Vec::new();
            message.encode(&mut datagram);
            self.outbox.push_back((beacon.into(), datagram));
        }
    }

    pub(super) fn queue_packet(&mut self, node: NodeId, packet: LoosePacket) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        let queued = peer.queue(packet);
        if queued {
            self.queue_peer(node);
        } else {
            self.stats.dropped_limited += 1;
        }
        queued
    }

    /// Gives a peer its turn to send.
    pub(super) fn queue_peer(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.tunnel.is_ready()
        {
            self.turns.enter(node, &mut peer.turn);
        }
    }
}
