//! Path MTU discovery between our own nodes: when to probe, what a probe is, and what its result
//! means for a peer's streams. The rules themselves are in [`pmtud`](crate::proto::pmtud), the
//! wire format in `docs/path-mtu.md`.
//!
//! Only a peer whose stream options said that it answers is ever probed, so no Go node is; and
//! only while full segments go to it, so an idle peer costs nothing.

use std::time::Instant;

use super::peer::LoosePacket;
use super::{Endpoint, StreamId};
use crate::proto::path::Via;
use crate::proto::pmtud::{LEAST, PathMtu, Probe};
use crate::proto::stream::{Dialect, Stream};
use crate::wire::beacon::RELAY_HEADER_LEN;
use crate::wire::packet::HEADER_LEN;
use crate::wire::tunnel::SEALED_OVERHEAD;
use crate::wire::{Addr, Flags, Header, NodeId, Packet, Seq};

/// Where probes go, and where answers come from; nothing else has this port in control packets.
const PORT: u16 = 1;
/// How a probe begins; zeros follow.
const MAGIC: &[u8] = b"pathmtu.v1";
/// Timeouts in a row after which a stream may doubt even base.
const DOUBT_BASE_AFTER: u32 = 3;

/// Bytes of a datagram that are not a segment's payload.
pub(super) fn overhead(via: Via) -> u16 {
    let relay = match via {
        Via::Direct(_) => 0,
        Via::Relay => RELAY_HEADER_LEN,
    };
    (relay + SEALED_OVERHEAD + HEADER_LEN) as u16
}

/// Whether the stream's peer said that it answers probes.
fn is_probeable(stream: &Stream) -> bool {
    matches!(stream.dialect(), Some(Dialect::Native(options)) if options.path_probes)
}

impl Endpoint {
    /// A stream's options are known now: so is whether its peer answers probes.
    pub(super) fn learn_probeable(&mut self, id: StreamId) {
        if let Some(slot) = self.streams.get(id.slot).filter(|slot| slot.serial == id.serial)
            && let Some(peer) = self.peers.get_mut(&slot.peer)
        {
            peer.answers_probes |= is_probeable(&slot.stream);
        }
    }

    /// Forgets what was learned, if it was about another path than `route`.
    pub(super) fn follow_path(&mut self, node: NodeId, route: Via) {
        let moved = |peer: &super::Peer| peer.path_mtu.as_ref().is_some_and(|m| m.via() != route);
        if self.peers.get(&node).is_some_and(moved) {
            self.forget_path_mtu(node);
        }
    }

    /// Back to what every path carries.
    pub(super) fn forget_path_mtu(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.path_mtu = None;
        }
        self.apply_path_mtu(node);
    }

    /// A run of datagrams of `size` bytes goes out: if they are as large as they may be, larger
    /// ones would help.
    pub(super) fn on_run(&mut self, now: Instant, node: NodeId, route: Via, size: usize) {
        let (base, streams) = (self.base_datagram(), &self.streams);
        let limit = self.config.stream.payload_limit;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let full = usize::from(peer.max_payload.unwrap_or(self.config.stream.max_payload));
        if !peer.answers_probes || size < full + usize::from(overhead(route)) {
            return;
        }
        let to = match route {
            Via::Direct(to) => Some(to.addr),
            Via::Relay => self.beacon,
        };
        let Some(to) = to else { return };
        let mtu = peer.path_mtu.get_or_insert_with(|| {
            Box::new(PathMtu::new(route, to, base, limit + overhead(route)))
        });
        let rtt = || {
            let of_peer = streams.iter().filter(|(_, slot)| slot.peer == node);
            of_peer.filter_map(|(_, slot)| slot.stream.stats().srtt).min()
        };
        if mtu.on_use(now, rtt) {
            self.drive_path_mtu(now, node);
        }
    }

    /// A stream's retransmission timer has gone off. Losses of large segments may mean that the
    /// path became narrower without a word.
    pub(super) fn on_stall(&mut self, now: Instant, id: StreamId) {
        let Some(slot) = self.streams.get(id.slot).filter(|slot| slot.serial == id.serial) else {
            return;
        };
        let node = slot.peer;
        let Some((repeats, bytes)) = slot.stream.stalled() else { return };
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(mtu) = peer.path_mtu.as_mut() else {
            if repeats >= DOUBT_BASE_AFTER
                && let Some(route) = self.route(node)
            {
                // As if it had been used: the search begins, and with it the tests of base.
                let full = usize::from(self.config.stream.max_payload + overhead(route));
                self.on_run(now, node, route, full);
            }
            return;
        };
        let largest = mtu.size() - overhead(mtu.via());
        let harmless = if mtu.size() > self.config.stream.max_payload + overhead(Via::Relay) {
            self.config.stream.max_payload
        } else {
            LEAST - overhead(mtu.via())
        };
        // What is larger was cut when the path carried more, and says nothing of it now.
        if (harmless + 1..=largest).contains(&u16::try_from(bytes).unwrap_or(u16::MAX)) {
            mtu.on_stall(now, repeats);
            self.drive_path_mtu(now, node);
        }
    }

    /// The driver says that the system refused the last run of [`poll_transmit`] as too large.
    ///
    /// [`poll_transmit`]: Endpoint::poll_transmit
    pub fn handle_refused(&mut self, now: Instant, segment_size: usize) {
        let Some(node) = self.last_run else { return };
        let Ok(size) = u16::try_from(segment_size) else { return };
        if let Some(mtu) = self.peers.get_mut(&node).and_then(|peer| peer.path_mtu.as_mut()) {
            mtu.on_refused(now, size);
            self.drive_path_mtu(now, node);
        }
    }

    /// Sends the probes that are due, puts a new result into effect, and sets the timer.
    pub(super) fn drive_path_mtu(&mut self, now: Instant, node: NodeId) {
        while let Some(mtu) = self.peers.get_mut(&node).and_then(|peer| peer.path_mtu.as_mut())
            && let Some(probe) = mtu.poll_probe(now)
        {
            let via = mtu.via();
            self.send_mtu_probe(node, via, probe);
        }
        self.apply_path_mtu(node);
        self.arm_peer(now, node);
    }

    /// Is this packet about the path's MTU? Then it has been dealt with.
    pub(super) fn handle_mtu_packet(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        via: Via,
    ) -> bool {
        let header = &packet.header;
        let node = header.src.node;
        if header.flags.contains(Flags::ACK) {
            if header.src_port != PORT {
                return false;
            }
            if let Some(mtu) = self.peers.get_mut(&node).and_then(|peer| peer.path_mtu.as_mut()) {
                mtu.on_answer(now, header.seq.0);
                self.drive_path_mtu(now, node);
            }
            return true;
        }
        if header.dst_port != PORT || !packet.payload.starts_with(MAGIC) {
            return false;
        }
        let reply = Header {
            flags: Flags::ACK,
            src_port: PORT,
            seq: header.seq,
            ..self.control_header(Addr::global(node))
        };
        let way = Some(via).filter(|via| self.may_answer(node, *via));
        self.queue_packet(node, LoosePacket { header: reply, payload: Vec::new(), via: way });
        true
    }

    fn send_mtu_probe(&mut self, node: NodeId, via: Via, probe: Probe) {
        let header = Header {
            dst_port: PORT,
            seq: Seq(probe.id),
            ..self.control_header(Addr::global(node))
        };
        let mut payload = MAGIC.to_vec();
        payload.resize(usize::from(probe.size - overhead(via)), 0);
        self.queue_packet(node, LoosePacket { header, payload, via: Some(via) });
    }

    /// Whether a packet is a probe, which the path may well lose for its size.
    pub(super) fn is_mtu_probe(header: &Header) -> bool {
        header.dst_port == PORT && !header.flags.contains(Flags::ACK)
    }

    /// Gives a peer's streams the size of segments that its path carries now.
    fn apply_path_mtu(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let payload =
            peer.path_mtu.as_ref().filter(|mtu| !mtu.is_base()).map(|mtu| {
                (mtu.size() - overhead(mtu.via())).min(self.config.stream.payload_limit)
            });
        if payload == peer.max_payload {
            return;
        }
        peer.max_payload = payload;
        if let Some(via) = peer.told_route {
            peer.path.forget_loss(via);
        }
        let payload = payload.unwrap_or(self.config.stream.max_payload);
        let of_peer = self.streams.iter_mut().filter(|(_, slot)| slot.peer == node);
        let mut touched = Vec::new();
        for (index, slot) in of_peer {
            slot.stream.set_max_payload(payload);
            touched.push(StreamId { slot: index, serial: slot.serial });
        }
        touched.into_iter().for_each(|id| self.touch(id));
    }

    /// Bytes of a datagram that every path carries.
    fn base_datagram(&self) -> u16 {
        self.config.stream.max_payload + overhead(Via::Relay)
    }
}
