//! The embedding of [`punch`](crate::proto::punch): when it is worth trying, its packets, and the
//! sockets that it leaves behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::peer::LoosePacket;
use super::{Endpoint, EndpointEvent, TimerKey};
use crate::proto::nat::Behavior;
use crate::proto::path::{CandidateKind, PathState, Remote, SocketId, Via};
use crate::proto::punch::{OwnPlace, PunchAction, Puncher};
use crate::wire::beacon::BeaconMessage;
use crate::wire::punch::{PunchMessage, StopReason};
use crate::wire::{Addr, Header, NodeId, Packet, tunnel as frames};

/// Where messages about punching go in control packets. One without payload is a probe.
const PORT: u16 = 4;
/// A peer in use is on the relay for this long before anything so costly is tried: whatever is
/// simpler has failed by then.
const RELAYED_FOR: Duration = Duration::from_secs(3);
/// With a pause as long as this, a peer is not in use.
const USE_PAUSE: Duration = Duration::from_secs(10);
/// A peer that we have not used for this long does not make us punch.
const IN_USE: Duration = Duration::from_secs(30);
/// From one look at the sockets that carry paths to the next. A path must be proven by then.
const LOOK_AT_KEPT: Duration = Duration::from_secs(10);

/// What the endpoint keeps for it.
#[derive(Debug, Default)]
pub(super) struct Punching {
    puncher: Puncher,
    /// Whose path each of the additional sockets carries.
    kept: Vec<(NodeId, SocketId)>,
    look_at: Option<Instant>,
    armed: Option<Instant>,
    /// Where the beacon sees the main socket.
    observed: Option<SocketAddr>,
}

/// Since when a peer is on the relay, while it is in use, and when it was used last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    since: Instant,
    last: Instant,
}

impl Endpoint {
    /// Frames of use go to a peer through the relay.
    pub(super) fn on_relayed(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let relayed = match peer.relayed {
            Some(Relayed { since, last }) if now < last + USE_PAUSE => Relayed { since, last: now },
            _ => Relayed { since: now, last: now },
        };
        peer.relayed = Some(relayed);
        if now < relayed.since + RELAYED_FOR || !self.punching.puncher.may_wish(now, node) {
            return;
        }
        if self.may_punch(node) && self.is_hard_to_reach() {
            let own = self.own_place();
            self.punching.puncher.wish(now, node, own, &mut self.rng);
            self.drive_punching(now);
        }
    }

    /// The driver has opened the sockets it was asked for, or as many as it could: their ports on
    /// this machine, in order.
    pub fn handle_sockets(&mut self, now: Instant, first: SocketId, ports: &[u16]) {
        self.punching.puncher.on_sockets(now, first, ports);
        self.drive_punching(now);
    }

    /// The beacon says where one of our sockets is seen.
    pub(super) fn on_observed(&mut self, now: Instant, socket: SocketId, outside: SocketAddr) {
        if socket == SocketId::MAIN {
            self.punching.observed = Some(outside);
            self.events.push_back(EndpointEvent::Observed(outside));
            return;
        }
        self.punching.puncher.on_observed(now, socket, outside);
        self.drive_punching(now);
    }

    /// A punch frame: it says nothing, and may come from anybody.
    pub(super) fn on_punch_frame(&mut self, via: Via) {
        if let Via::Direct(from) = via {
            self.punching.puncher.on_opener(from);
        }
    }

    /// An authenticated frame came directly.
    pub(super) fn on_direct_frame(&mut self, now: Instant, node: NodeId, from: Remote) {
        if self.punching.puncher.is_with(node) {
            self.punching.puncher.on_frame(now, node, from);
            self.drive_punching(now);
        }
    }

    /// Is this packet about punching? Then it has been dealt with.
    pub(super) fn handle_punch_packet(&mut self, now: Instant, packet: &Packet<'_>) -> bool {
        if packet.header.dst_port != PORT {
            return false;
        }
        let node = packet.header.src.node;
        if let Ok(message) = PunchMessage::parse(packet.payload) {
            let is_in_use = self
                .peers
                .get(&node)
                .is_some_and(|peer| peer.streams > 0 || now < peer.last_used + IN_USE);
            if is_in_use && self.may_punch(node) {
                let own = self.own_place();
                self.punching.puncher.on_message(now, node, message, own, &mut self.rng);
                self.drive_punching(now);
            }
        }
        true
    }

    /// Another network: mappings are gone, and other NATs may be there.
    pub(super) fn forget_punching(&mut self, now: Instant) {
        self.punching.puncher.on_network_change(now);
        self.punching.observed = None;
        self.drive_punching(now);
    }

    pub(super) fn punching_timeout(&mut self, now: Instant, at: Instant) {
        if self.punching.armed != Some(at) {
            return;
        }
        self.punching.armed = None;
        self.punching.puncher.handle_timeout(now);
        if self.punching.look_at.is_some_and(|at| at <= now) {
            self.look_at_kept(now);
        }
        self.drive_punching(now);
    }

    /// Does what the plans want, and sets the timer.
    fn drive_punching(&mut self, now: Instant) {
        while let Some((node, action)) = self.punching.puncher.poll_action() {
            self.act_on_punching(now, node, action);
        }
        let deadline = [self.punching.puncher.poll_timeout(), self.punching.look_at];
        let deadline = deadline.into_iter().flatten().min();
        self.timers.arm(TimerKey::Punch, &mut self.punching.armed, deadline);
    }

    fn act_on_punching(&mut self, now: Instant, node: NodeId, action: PunchAction) {
        match action {
            PunchAction::OpenSockets(first, count) => {
                self.events.push_back(EndpointEvent::OpenSockets { first, count });
            }
            PunchAction::CloseSockets(first, count) => {
                self.events.push_back(EndpointEvent::CloseSockets { first, count });
            }
            PunchAction::Discover(socket) => {
                let Some(addr) = self.beacon else { return };
                // Nobody's: else the beacon would take this socket for the node's.
                let node = NodeId::UNSPECIFIED;
                let question = BeaconMessage::Discover { node, public_key: None, extended: false };
                let mut datagram = Vec::new();
                question.encode(&mut datagram);
                self.outbox.push_back((Remote { socket, addr }, datagram));
            }
            PunchAction::Open(to) => self.outbox.push_back((to, frames::PUNCH.to_vec())),
            PunchAction::Probe(to) => self.send_punching(node, Vec::new(), Some(Via::Direct(to))),
            PunchAction::Tell(message) => {
                let mut payload = Vec::new();
                message.encode(&mut payload);
                self.send_punching(node, payload, None);
            }
            PunchAction::Keep(socket) => {
                self.punching.kept.push((node, socket));
                self.punching.look_at.get_or_insert(now + LOOK_AT_KEPT);
            }
            PunchAction::Ended(StopReason::Done) => self.stats.punches += 1,
            PunchAction::Ended(StopReason::Failed) => self.stats.punches_failed += 1,
            PunchAction::Ended(_) => {}
        }
    }

    fn send_punching(&mut self, node: NodeId, payload: Vec<u8>, via: Option<Via>) {
        let header = Header { dst_port: PORT, ..self.control_header(Addr::global(node)) };
        self.queue_packet(node, LoosePacket { header, payload, via });
    }

    /// Gives back sockets over which there is no path any more.
    fn look_at_kept(&mut self, now: Instant) {
        let kept = std::mem::take(&mut self.punching.kept);
        let (carrying, idle): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(node, socket)| self.has_path_over(*node, *socket));
        for (node, socket) in idle {
            self.punching.puncher.release(node, socket);
        }
        self.punching.look_at = (!carrying.is_empty()).then_some(now + LOOK_AT_KEPT);
        self.punching.kept = carrying;
    }

    fn has_path_over(&self, node: NodeId, socket: SocketId) -> bool {
        self.path_report(node).iter().any(|path| {
            matches!(path.via, Via::Direct(to) if to.socket == socket)
                && !matches!(path.state, PathState::Unknown | PathState::Dead)
        })
    }

    /// Whether our kind of NAT may be why there is no direct path: whoever lets everybody in can
    /// be reached without such means.
    fn is_hard_to_reach(&self) -> bool {
        let nat = self.network.nat;
        match nat.mapping {
            Behavior::AddressDependent | Behavior::AddressAndPortDependent => true,
            Behavior::EndpointIndependent | Behavior::Open => {
                !matches!(nat.filtering, Behavior::Open | Behavior::EndpointIndependent)
            }
            Behavior::Unknown => false,
        }
    }

    fn own_place(&self) -> OwnPlace {
        let mut candidates = self.network.candidates.iter();
        let observed = candidates.find(|candidate| candidate.kind == CandidateKind::Observed);
        let outside = observed.map(|candidate| candidate.addr).or(self.punching.observed);
        OwnPlace { nat: self.network.nat, outside }
    }

    /// Whether the peer would understand, and the user wants direct paths to it.
    fn may_punch(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| {
            let conditions = self.network.conditions(self.beacon, &self.config, peer);
            peer.is_native && conditions.has_direct && !conditions.lan_only
        })
    }
}
