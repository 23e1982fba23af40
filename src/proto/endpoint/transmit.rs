//! From streams and queues to runs of sealed datagrams.
//!
//! A run is up to [`MAX_RUN`] bytes of datagrams of one size to one address: the kernel sends it
//! with one system call (GSO). Streams of a peer take [`turns`](super::turns) by bytes, and so do
//! peers, run by run: what begins to be sent, such as a small request, is in the next run, however
//! much others have to send.

use std::time::Instant;

use super::path_mtu::overhead;
use super::peer::{LoosePacket, Peer};
use super::streams::StreamSlot;
use super::{Endpoint, StreamId, TICK, TimerKey, Transmit};
use crate::proto::path::{ClassRule, Conditions, Remote, Sent, Via};
use crate::proto::tunnel::LocalKeys;
use crate::wire::beacon::{self, RELAY_HEADER_LEN};
use crate::wire::packet::HEADER_LEN;
use crate::wire::tunnel::{SEALED_HEADER_LEN, SEALED_OVERHEAD, TAG_LEN};
use crate::wire::{Addr, Header, NodeId, Packet, Protocol};

/// Bytes of a run; what the kernel takes at once with the headers of IP and UDP.
const MAX_RUN: usize = 65_535 - 40 - 8;
/// Datagrams of a run; what the kernel takes at once.
const MAX_DATAGRAMS: usize = 64;

/// What became of the run that is being filled.
enum Filling {
    /// It has all it can take, or there is nothing more to send.
    Done,
    /// This stream has nothing more to send.
    Rested(StreamId),
}

/// A run while it is filled.
struct Run<'a> {
    buf: &'a mut Vec<u8>,
    route: Via,
    destination: Remote,
    /// Bytes of a datagram; the last may be shorter.
    size: usize,
    count: usize,
    /// A stream was held back by what the streams of the peer share.
    is_held: bool,
}

impl Endpoint {
    /// Fills `buf` (cleared first) with the next run of datagrams.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.settle();
        buf.clear();
        let transmit = self.next_run(now, buf)?;
        self.stats.bytes_sent += buf.len() as u64;
        self.stats.datagrams_sent += buf.len().div_ceil(transmit.segment_size.max(1)) as u64;
        Some(transmit)
    }

    fn next_run(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        if let Some((destination, datagram)) = self.outbox.pop_front().or_else(|| self.carry.take())
        {
            buf.extend_from_slice(&datagram);
            self.last_run = None;
            return Some(Transmit { destination, segment_size: buf.len() });
        }
        while let Some(node) = self.turns.next(&mut self.peers) {
            let transmit = self.peer_run(now, node, buf);
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            if transmit.is_some() {
                peer.turn.charge(buf.len());
                self.last_run = Some(node);
                return transmit;
            }
            self.turns.rest(&mut peer.turn);
            let resume_at = peer.resume_at();
            self.timers.arm(TimerKey::Pace(node), &mut peer.pace_armed, resume_at);
        }
        None
    }

    /// One peer's turn.
    fn peer_run(&mut self, now: Instant, node: NodeId, buf: &mut Vec<u8>) -> Option<Transmit> {
        if let Some(transmit) = self.loose_datagram(now, node, buf) {
            return Some(transmit);
        }
        let route = self.prepared_route(now, node)?;
        let destination = self.destination(route)?;
        self.follow_path(node, route);
        let peer = self.peers.get_mut(&node)?;
        if peer.path.allowance(route) < MAX_RUN {
            return self.unproven_datagram(now, node, route, buf);
        }
        if let (Some(held), Via::Direct(_)) = (peer.held.take(), route) {
            *buf = held;
            self.on_frames(now, node, route, 1, buf.len(), true);
            return Some(Transmit { destination, segment_size: buf.len() });
        }
        let mut run = Run { buf, route, destination, size: 0, count: 0, is_held: false };
        while let Filling::Rested(id) = self.fill(now, node, &mut run)? {
            // What it sent may have set a timer, or ended it.
            self.settle_stream(id);
        }
        let Run { buf, size, count, .. } = run;
        if buf.is_empty() {
            return None;
        }
        let peer = self.peers.get_mut(&node)?;
        peer.last_used = now;
        // Bare acknowledgements, and what keeps an idle stream alive, are no use of a path.
        let is_use = size > usize::from(overhead(route)) + 1;
        self.on_frames(now, node, route, count, buf.len(), is_use);
        self.on_run(now, node, route, size);
        if is_use && route == Via::Relay {
            self.on_relayed(now, node);
        }
        Some(Transmit { destination, segment_size: size })
    }

    /// Adds datagrams to a run until it is done or a stream has nothing more.
    fn fill(&mut self, now: Instant, node: NodeId, run: &mut Run<'_>) -> Option<Filling> {
        let peer = self.peers.get_mut(&node)?;
        while run.count < MAX_DATAGRAMS && run.buf.len() + run.size <= MAX_RUN {
            let Some(id) = peer.turns.next(&mut self.streams) else {
                if !run.is_held && peer.resume(now, &mut self.streams) {
                    continue;
                }
                break;
            };
            let slot = self.streams.get_mut(id.slot)?;
            let start = run.buf.len();
            let rule = self.network.policy(peer).rule(slot.class);
            if rule == ClassRule::DirectOnly && run.route == Via::Relay {
                peer.has_waiting_streams = true;
                peer.turns.rest(&mut slot.turn);
                return Some(Filling::Rested(id));
            }
            let mut copy = (rule == ClassRule::Duplicate).then(Vec::new);
            if !stream_datagram(now, &self.local, peer, slot, run.route, run.buf, copy.as_mut()) {
                run.is_held |= peer.set_aside(id, slot);
                return Some(Filling::Rested(id));
            }
            if let Some(copy) = copy {
                let conditions = self.network.conditions(self.beacon, &self.config, peer);
                send_copy(peer, &conditions, &copy);
            }
            run.count += 1;
            let len = run.buf.len() - start;
            slot.turn.charge(len);
            if run.size == 0 {
                run.size = len;
            } else if len > run.size {
                self.carry = Some((run.destination, run.buf.split_off(start)));
                break;
            } else if len < run.size {
                break;
            }
        }
        Some(Filling::Done)
    }

    /// The path in use, once it is sure that it can be used.
    fn prepared_route(&mut self, now: Instant, node: NodeId) -> Option<Via> {
        let peer = self.peers.get_mut(&node)?;
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        peer.path.prepare(now, &conditions);
        if peer.path.route(&conditions) != peer.told_route {
            self.after_path(now, node);
            self.arm_peer(now, node);
        }
        self.route(node)
    }

    /// The next segment to a peer that has not yet proved to be where it was heard from: it goes
    /// there if it is small, else through the relay, else it waits for the proof.
    fn unproven_datagram(
        &mut self,
        now: Instant,
        node: NodeId,
        route: Via,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let peer = self.peers.get(&node)?;
        let room = peer.path.allowance(route);
        let has_relay = self.network.conditions(self.beacon, &self.config, peer).has_relay;
        if let Some(held) = &peer.held {
            // It is sealed for the direct way; if that is not to be, the stream sends it again.
            if held.len() > room {
                return None;
            }
            *buf = self.peers.get_mut(&node)?.held.take()?;
            self.on_frames(now, node, route, 1, buf.len(), true);
            return Some(Transmit {
                destination: self.destination(route)?,
                segment_size: buf.len(),
            });
        }
        let mut is_held = false;
        loop {
            let peer = self.peers.get_mut(&node)?;
            let Some(id) = peer.turns.next(&mut self.streams) else {
                if !is_held && peer.resume(now, &mut self.streams) {
                    continue;
                }
                return None;
            };
            let slot = self.streams.get_mut(id.slot)?;
            let rule = self.network.policy(peer).rule(slot.class);
            if rule == ClassRule::DirectOnly {
                // Until it is proved that it is one.
                peer.has_waiting_streams = true;
            } else if stream_datagram(now, &self.local, peer, slot, Via::Relay, buf, None) {
                slot.turn.charge(buf.len());
                peer.last_used = now;
                break;
            }
            if rule == ClassRule::DirectOnly {
                peer.turns.rest(&mut slot.turn);
            } else {
                is_held |= peer.set_aside(id, slot);
            }
            self.settle_stream(id);
        }
        let is_use = buf.len() > usize::from(overhead(Via::Relay)) + 1;
        let fits = buf.len() - RELAY_HEADER_LEN <= room;
        let via = if fits || !has_relay { route } else { Via::Relay };
        if let Via::Direct(_) = via {
            buf.drain(..RELAY_HEADER_LEN);
        }
        if !fits && !has_relay {
            self.peers.get_mut(&node)?.held = Some(std::mem::take(buf));
            return None;
        }
        self.on_frames(now, node, via, 1, buf.len(), is_use);
        Some(Transmit { destination: self.destination(via)?, segment_size: buf.len() })
    }

    /// Frames went out: the path waits for the answer, if there must be one.
    fn on_frames(
        &mut self,
        now: Instant,
        node: NodeId,
        via: Via,
        frames: usize,
        bytes: usize,
        is_use: bool,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.bytes_sent += bytes as u64;
        peer.last_sent = Some(now);
        self.stats.frames_relayed += if via == Via::Relay { frames as u64 } else { 0 };
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        let expects_answer = is_use || !peer.path.is_native();
        peer.path.on_sent(now, via, Sent { frames, bytes, is_use, expects_answer });
        self.arm_path(now, node);
    }

    /// The next packet outside streams, as a run of its own.
    fn loose_datagram(
        &mut self,
        now: Instant,
        node: NodeId,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let packet = self.peers.get(&node)?.waiting.front()?;
        let size = packet.payload.len() + SEALED_OVERHEAD + HEADER_LEN;
        let route = match packet.via {
            Some(via) => via,
            None => {
                let route = self.prepared_route(now, node)?;
                let peer = self.peers.get(&node)?;
                let conditions = self.network.conditions(self.beacon, &self.config, peer);
                match peer.path.allowance(route) {
                    room if room >= size => route,
                    _ if conditions.has_relay => Via::Relay,
                    _ => return None,
                }
            }
        };
        let packet = self.peers.get_mut(&node)?.waiting.pop_front()?;
        let destination = self.destination(route)?;
        let peer = self.peers.get_mut(&node)?;
        let packet_at = head_room(route);
        buf.resize(packet_at + HEADER_LEN, 0);
        buf.extend_from_slice(&packet.payload);
        packet.header.encode(&mut buf[packet_at..]).ok()?;
        buf.resize(buf.len() + TAG_LEN, 0);
        let frame = &mut buf[packet_at - SEALED_HEADER_LEN..];
        peer.tunnel.seal_in_place(now, &self.local, frame).ok()?;
        wrap(&self.local, node, route, buf);
        // What is lost for its size is not to count as loss.
        let (frames, bytes) = (u32::from(!Self::is_mtu_probe(&packet.header)), buf.len());
        peer.bytes_sent += bytes as u64;
        peer.last_sent = Some(now);
        self.stats.frames_relayed += u64::from(route == Via::Relay);
        let expects_answer = packet.is_question();
        let is_use = expects_answer || packet.header.protocol != Protocol::Control;
        peer.path.on_sent(now, route, Sent { frames, bytes, is_use, expects_answer });
        self.arm_path(now, node);
        if is_use && route == Via::Relay {
            self.on_relayed(now, node);
        }
        Some(Transmit { destination, segment_size: buf.len() })
    }

    /// Sets a peer's timer after something was sent to it, if that must be earlier.
    fn arm_path(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        let deadline = peer.path.poll_timeout(&conditions).map(|at| at.max(now + TICK));
        self.timers.arm(TimerKey::Peer(node), &mut peer.armed, deadline);
    }

    fn destination(&self, route: Via) -> Option<Remote> {
        match route {
            Via::Direct(to) => Some(to),
            Via::Relay => self.beacon.map(Remote::from),
        }
    }
}

/// Queues a packet to go another way as well, sealed anew: one frame must not go twice.
fn send_copy(peer: &mut Peer, conditions: &Conditions, packet: &[u8]) {
    if let Some(via) = peer.path.second(conditions)
        && let Ok(Packet { header, payload }) = Packet::parse(packet)
    {
        peer.queue(LoosePacket { header, payload: payload.to_vec(), via: Some(via) });
    }
}

/// Appends the next segment of a stream as a sealed datagram; `false` if it has none. `copy` gets
/// its packet.
fn stream_datagram(
    now: Instant,
    local: &LocalKeys,
    peer: &mut Peer,
    slot: &mut StreamSlot,
    route: Via,
    buf: &mut Vec<u8>,
    copy: Option<&mut Vec<u8>>,
) -> bool {
    let start = buf.len();
    let packet_at = start + head_room(route);
    buf.resize(packet_at + HEADER_LEN, 0);
    let Some(segment) = slot.stream.poll_transmit(now, buf) else {
        buf.truncate(start);
        return false;
    };
    let header = Header {
        flags: segment.flags,
        protocol: Protocol::Stream,
        src: Addr { network: slot.network, node: local.node() },
        dst: Addr { network: slot.network, node: slot.peer },
        src_port: slot.local_port,
        dst_port: slot.remote_port,
        seq: segment.seq,
        ack: segment.ack,
        window: segment.window,
    };
    let sealed = header.encode(&mut buf[packet_at..]).is_ok() && {
        if let Some(copy) = copy {
            copy.extend_from_slice(&buf[packet_at..]);
        }
        buf.resize(buf.len() + TAG_LEN, 0);
        let frame = &mut buf[packet_at - SEALED_HEADER_LEN..];
        peer.tunnel.seal_in_place(now, local, frame).is_ok()
    };
    if !sealed {
        buf.truncate(start);
        return false;
    }
    wrap(local, slot.peer, route, &mut buf[start..]);
    true
}

/// Fills in the relay header that [`head_room`] left space for.
fn wrap(local: &LocalKeys, node: NodeId, route: Via, datagram: &mut [u8]) {
    if let (Via::Relay, Some(head)) = (route, datagram.first_chunk_mut::<RELAY_HEADER_LEN>()) {
        *head = beacon::relay_header(local.node(), node);
    }
}

/// Bytes before the packet.
fn head_room(route: Via) -> usize {
    match route {
        Via::Direct(_) => SEALED_HEADER_LEN,
        Via::Relay => RELAY_HEADER_LEN + SEALED_HEADER_LEN,
    }
}
