//! The embedding of [`path`](crate::proto::path): its packets, its actions, and what follows when
//! a peer's frames go another way.

use std::time::{Duration, Instant};

use rand::Rng;

use super::peer::LoosePacket;
use super::{Endpoint, EndpointEvent, StreamId};
use crate::proto::path::wire::{
    CANDIDATES_PORT, CandidateList, PROBE_PORT, PROBE_ROOM, encode_observed,
};
use crate::proto::path::{PathAction, Via};
use crate::proto::stream::Dialect;
use crate::wire::{Addr, Flags, Header, NodeId, Packet, Seq};

/// Pauses between discovers that paths ask for: the first, and the longest.
const DISCOVER_PAUSE: Duration = Duration::from_millis(500);
const MOST_DISCOVER_PAUSE: Duration = Duration::from_secs(15);

impl Endpoint {
    /// Does what a peer's paths ask for.
    pub(super) fn act_on_paths(&mut self, now: Instant, node: NodeId, actions: Vec<PathAction>) {
        for action in actions {
            match action {
                PathAction::Probe(via) => self.probe_path(now, node, via),
                PathAction::Punch => self.request_punch(node),
                PathAction::Discover => self.rediscover(now),
                PathAction::Tell => self.tell_candidates(node),
            }
        }
    }

    /// Tells driver and streams if the frames of a peer go another way now.
    pub(super) fn after_path(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        let route = peer.path.route(&conditions);
        let from = peer.told_route;
        if !peer.tunnel.is_ready() {
            return;
        }
        let has_lost = peer.path.take_lost();
        let is_proven = route.is_some_and(|via| peer.path.allowance(via) == usize::MAX);
        let lets_wait = route == Some(Via::Relay) || !is_proven;
        if peer.has_waiting_streams && !lets_wait {
            peer.has_waiting_streams = false;
            self.wake_streams(node);
        }
        if route == from {
            if has_lost {
                self.resend(now, node);
            }
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.told_route = route;
        let Some(to) = route else { return };
        self.events.push_back(EndpointEvent::PathChanged { node, from, to });
        match (from, to) {
            (Some(Via::Direct(_)), Via::Relay) => self.stats.paths_lost += 1,
            (Some(Via::Relay), Via::Direct(_)) => self.stats.paths_upgraded += 1,
            _ => {}
        }
        self.follow_path(node, to);
        self.redirect_streams(now, node, from, has_lost);
        self.queue_peer(node);
    }

    /// A peer's streams go another way than `from`.
    fn redirect_streams(&mut self, now: Instant, node: NodeId, from: Option<Via>, has_lost: bool) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let (before, after) = (from.and_then(|via| peer.path.rtt(via)), peer.path.active_rtt());
        let is_similar = match (before, after) {
            _ if from == Some(Via::Relay) || peer.told_route == Some(Via::Relay) => false,
            (Some(before), Some(after)) => before.abs_diff(after) < before.min(after) / 2,
            _ => false,
        };
        if from.is_none() || !peer.path.is_native() {
            return;
        }
        peer.srtt = after.or(peer.srtt);
        if !is_similar {
            for (_, slot) in self.streams.iter_mut().filter(|(_, slot)| slot.peer == node) {
                slot.stream.on_path_change(now, after);
            }
        }
        if has_lost {
            self.resend(now, node);
        } else {
            self.wake_streams(node);
        }
    }

    /// What is in flight to a peer is lost.
    fn resend(&mut self, now: Instant, node: NodeId) {
        for (_, slot) in self.streams.iter_mut().filter(|(_, slot)| slot.peer == node) {
            slot.stream.on_path_death(now);
        }
        self.wake_streams(node);
    }

    /// A peer's streams get their turn, and their timers are set anew.
    pub(super) fn wake_streams(&mut self, node: NodeId) {
        let of_peer = self.streams.iter().filter(|(_, slot)| slot.peer == node);
        let ids = of_peer.map(|(index, slot)| StreamId { slot: index, serial: slot.serial });
        let ids: Vec<StreamId> = ids.collect();
        ids.into_iter().for_each(|id| self.touch(id));
    }

    /// Is this packet about paths? Then it has been dealt with.
    pub(super) fn handle_path_packet(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        via: Via,
    ) -> bool {
        let header = &packet.header;
        let node = header.src.node;
        let is_answer = header.flags.contains(Flags::ACK);
        let port = if is_answer { header.src_port } else { header.dst_port };
        if port != PROBE_PORT && port != CANDIDATES_PORT {
            return false;
        }
        let Some(peer) = self.peers.get_mut(&node) else { return true };
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        if !peer.path.is_native() {
            peer.path.set_native(&conditions);
            peer.path.on_established(now, &conditions);
        }
        peer.is_foreign = false;
        let was_known = peer.path.has_spoken();
        match (port, is_answer) {
            (PROBE_PORT, false) => self.answer_probe(node, packet, via),
            (PROBE_PORT, true) => {
                let answer = (header.seq.0, header.ack.0);
                if peer.path.on_answer(now, via, answer, &conditions) {
                    self.stats.probes_answered += 1;
                }
            }
            (_, false) => {
                let Ok(list) = CandidateList::parse(packet.payload) else { return true };
                self.stats.candidates_received += list.candidates.len() as u64;
                peer.path.on_candidates(now, header.seq.0, &list.candidates, &conditions);
                let reply = Header {
                    flags: Flags::ACK,
                    src_port: CANDIDATES_PORT,
                    seq: header.seq,
                    ..self.control_header(Addr::global(node))
                };
                let reply = LoosePacket { header: reply, payload: Vec::new(), via: None };
                self.queue_packet(node, reply);
            }
            (_, true) => {
                if header.seq.0 == self.network.list {
                    peer.path.on_told();
                }
            }
        }
        if !was_known && let Some(peer) = self.peers.get_mut(&node) {
            peer.path.tell(now);
        }
        self.after_path(now, node);
        self.queue_peer(node);
        self.arm_peer(now, node);
        true
    }

    /// Whether what came this way may be answered there: who wants to be hidden answers nothing.
    pub(super) fn may_answer(&self, node: NodeId, via: Via) -> bool {
        let Some(peer) = self.peers.get(&node) else { return false };
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        match via {
            Via::Direct(from) => conditions.allows(from),
            Via::Relay => conditions.has_relay,
        }
    }

    /// A stream's retransmission timer has gone off.
    pub(super) fn doubt_path(&mut self, now: Instant, id: StreamId) {
        let slot = self.streams.get(id.slot).filter(|slot| slot.serial == id.serial);
        let Some(node) = slot.map(|slot| slot.peer) else { return };
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.path.on_stall(now);
            self.arm_peer(now, node);
        }
    }

    /// A stream's options are known now: without any, the peer is a Go node.
    pub(super) fn learn_kind(&mut self, id: StreamId) {
        if let Some(slot) = self.streams.get(id.slot).filter(|slot| slot.serial == id.serial)
            && slot.stream.dialect() == Some(Dialect::Go)
            && let Some(peer) = self.peers.get_mut(&slot.peer)
            && !peer.path.has_spoken()
        {
            peer.is_foreign = true;
            peer.path.set_foreign();
        }
    }

    fn answer_probe(&mut self, node: NodeId, packet: &Packet<'_>, via: Via) {
        if !self.may_answer(node, via) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let received = peer.path.on_probed(via);
        let payload = match via {
            Via::Direct(from) if packet.payload.len() >= PROBE_ROOM => encode_observed(from.addr),
            _ => Vec::new(),
        };
        let reply = Header {
            flags: Flags::ACK,
            src_port: PROBE_PORT,
            seq: packet.header.seq,
            ack: Seq(received),
            ..self.control_header(Addr::global(node))
        };
        self.queue_packet(node, LoosePacket { header: reply, payload, via: Some(via) });
    }

    fn probe_path(&mut self, now: Instant, node: NodeId, via: Via) {
        let id = self.rng.next_u32();
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if !peer.path.is_native() {
            self.probe_foreign(node, via);
            return;
        }
        let room = if peer.path.has_spoken() { PROBE_ROOM } else { 0 };
        let sent = peer.path.on_probe(now, via, id);
        self.stats.probes_sent += 1;
        let header = Header {
            dst_port: PROBE_PORT,
            seq: Seq(id),
            ack: Seq(sent),
            ..self.control_header(Addr::global(node))
        };
        self.queue_packet(node, LoosePacket { header, payload: vec![0; room], via: Some(via) });
    }

    fn tell_candidates(&mut self, node: NodeId) {
        let header = Header {
            dst_port: CANDIDATES_PORT,
            seq: Seq(self.network.list),
            ..self.control_header(Addr::global(node))
        };
        let payload = CandidateList::encode(self.network.nat, &self.network.candidates);
        self.queue_packet(node, LoosePacket { header, payload, via: None });
    }

    /// Tells the beacon where we are, for all peers together not too often.
    fn rediscover(&mut self, now: Instant) {
        let count = match self.network.discovered {
            Some((at, count)) => {
                let pause = DISCOVER_PAUSE * (1 << count.min(5));
                if now < at + pause.min(MOST_DISCOVER_PAUSE) {
                    return;
                }
                if now > at + MOST_DISCOVER_PAUSE * 2 { 0 } else { count + 1 }
            }
            None => 0,
        };
        self.network.discovered = Some((now, count));
        self.discover();
    }
}
