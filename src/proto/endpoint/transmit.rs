//! From streams and queues to runs of sealed datagrams.
//!
//! A run is up to [`MAX_RUN`] bytes of datagrams of one size to one address: the kernel sends it
//! with one system call (GSO). Streams of a peer take [`turns`](super::turns) by bytes, and so do
//! peers, run by run: what begins to be sent, such as a small request, is in the next run, however
//! much others have to send.

use std::time::Instant;

use super::peer::Peer;
use super::streams::StreamSlot;
use super::{Endpoint, StreamId, TimerKey, Transmit};
use crate::proto::path::{Remote, Via};
use crate::proto::tunnel::LocalKeys;
use crate::wire::beacon::{self, RELAY_HEADER_LEN};
use crate::wire::packet::HEADER_LEN;
use crate::wire::tunnel::{SEALED_HEADER_LEN, TAG_LEN};
use crate::wire::{Addr, Header, NodeId, Protocol};

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
        let route = self.route(node)?;
        if let Some(transmit) = self.loose_datagram(now, node, route, buf) {
            return Some(transmit);
        }
        let destination = self.destination(route)?;
        self.follow_path(node, route);
        let mut run = Run { buf, route, destination, size: 0, count: 0, is_held: false };
        while let Filling::Rested(id) = self.fill(now, node, &mut run)? {
            // What it sent may have set a timer, or ended it.
            self.settle_stream(id);
        }
        let Run { buf, size, .. } = run;
        if buf.is_empty() {
            return None;
        }
        let peer = self.peers.get_mut(&node)?;
        peer.bytes_sent += buf.len() as u64;
        peer.last_sent = Some(now);
        peer.last_used = now;
        self.expect_answer(now, node, route);
        self.on_run(now, node, route, size);
        if route == Via::Relay {
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
            if !stream_datagram(now, &self.local, peer, slot, run.route, run.buf) {
                if slot.stream.is_held() {
                    peer.turns.hold(id, &mut slot.turn);
                    run.is_held = true;
                } else {
                    peer.turns.rest(&mut slot.turn);
                }
                return Some(Filling::Rested(id));
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

    /// Lets the path notice when what was sent is not answered.
    fn expect_answer(&mut self, now: Instant, node: NodeId, route: Via) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let was_waiting = peer.path.poll_timeout(self.beacon.is_some());
        peer.path.on_sent(now, route);
        if was_waiting.is_none() {
            self.after_tunnel(now, node);
        }
    }

    /// The next packet outside streams, as a run of its own.
    fn loose_datagram(
        &mut self,
        now: Instant,
        node: NodeId,
        route: Via,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let peer = self.peers.get_mut(&node)?;
        let packet = peer.waiting.pop_front()?;
        let route = packet.direct_to.map_or(route, Via::Direct);
        let packet_at = head_room(route);
        buf.resize(packet_at + HEADER_LEN, 0);
        buf.extend_from_slice(&packet.payload);
        packet.header.encode(&mut buf[packet_at..]).ok()?;
        buf.resize(buf.len() + TAG_LEN, 0);
        let frame = &mut buf[packet_at - SEALED_HEADER_LEN..];
        peer.tunnel.seal_in_place(now, &self.local, frame).ok()?;
        peer.bytes_sent += buf.len() as u64;
        peer.last_sent = Some(now);
        wrap(&self.local, node, route, buf);
        let destination = self.destination(route)?;
        if packet.is_question() {
            self.expect_answer(now, node, route);
        }
        if route == Via::Relay && packet.is_use() {
            self.on_relayed(now, node);
        }
        Some(Transmit { destination, segment_size: buf.len() })
    }

    fn destination(&self, route: Via) -> Option<Remote> {
        match route {
            Via::Direct(to) => Some(to),
            Via::Relay => self.beacon.map(Remote::from),
        }
    }
}

/// Appends the next segment of a stream as a sealed datagram; `false` if it has none.
fn stream_datagram(
    now: Instant,
    local: &LocalKeys,
    peer: &mut Peer,
    slot: &mut StreamSlot,
    route: Via,
    buf: &mut Vec<u8>,
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
