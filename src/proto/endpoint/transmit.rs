//! From streams and queues to runs of sealed datagrams.
//!
//! A run is up to [`MAX_RUN`] bytes of datagrams of one size to one address: the kernel sends it
//! with one system call (GSO). Streams of a peer take turns of [`QUANTUM`] segments, peers take
//! turns of one run, so a bulk stream holds up a small request by one turn at most.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Endpoint, StreamId, Transmit};
use crate::proto::path::Via;
use crate::wire::beacon::{self, RELAY_HEADER_LEN};
use crate::wire::packet::HEADER_LEN;
use crate::wire::tunnel::{SEALED_HEADER_LEN, TAG_LEN};
use crate::wire::{Addr, Header, NodeId, Protocol};

/// Bytes of a run; the kernel takes no more than 64 KiB at once.
const MAX_RUN: usize = 60_000;
/// Datagrams of a run.
const MAX_DATAGRAMS: usize = 44;
/// Segments that a stream sends before the next one has its turn.
const QUANTUM: usize = 16;

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
        while let Some(node) = self.ready_peers.pop_front() {
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            peer.is_queued = false;
            let transmit = self.peer_run(now, node, buf);
            let has_more = self
                .peers
                .get(&node)
                .is_some_and(|peer| !peer.ready.is_empty() || !peer.waiting.is_empty());
            if has_more && transmit.is_some() {
                self.queue_peer(node);
            }
            if transmit.is_some() {
                self.last_run = Some(node);
                return transmit;
            }
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
        let (mut size, mut count, mut turn) = (0, 0, 0);
        while count < MAX_DATAGRAMS && buf.len() + size <= MAX_RUN {
            let Some(&id) = self.peers.get(&node)?.ready.front() else { break };
            let start = buf.len();
            if !self.stream_datagram(now, id, route, buf) {
                self.peers.get_mut(&node)?.ready.pop_front();
                if let Some(slot) = self.slot_mut(id) {
                    slot.is_ready = false;
                }
                // What it sent may have set a timer, or ended it.
                self.settle_stream(id);
                turn = 0;
                continue;
            }
            count += 1;
            turn += 1;
            let len = buf.len() - start;
            if size == 0 {
                size = len;
            } else if len > size {
                self.carry = Some((destination, buf.split_off(start)));
                break;
            }
            if turn >= QUANTUM {
                self.peers.get_mut(&node)?.ready.rotate_left(1);
                turn = 0;
            }
            if len < size {
                break;
            }
        }
        if buf.is_empty() {
            return None;
        }
        let sent = buf.len() as u64;
        let peer = self.peers.get_mut(&node)?;
        peer.bytes_sent += sent;
        peer.last_sent = Some(now);
        peer.last_used = now;
        self.expect_answer(now, node, route);
        self.on_run(now, node, route, size);
        Some(Transmit { destination, segment_size: size })
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

    /// Appends the next segment of a stream as a sealed datagram; `false` if it has none.
    fn stream_datagram(
        &mut self,
        now: Instant,
        id: StreamId,
        route: Via,
        buf: &mut Vec<u8>,
    ) -> bool {
        let Some(slot) = self.streams.get_mut(id.slot).filter(|slot| slot.serial == id.serial)
        else {
            return false;
        };
        let Some(peer) = self.peers.get_mut(&slot.peer) else { return false };
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
            src: Addr { network: slot.network, node: self.local.node() },
            dst: Addr { network: slot.network, node: slot.peer },
            src_port: slot.local_port,
            dst_port: slot.remote_port,
            seq: segment.seq,
            ack: segment.ack,
            window: segment.window,
        };
        let node = slot.peer;
        let sealed = header.encode(&mut buf[packet_at..]).is_ok() && {
            buf.resize(buf.len() + TAG_LEN, 0);
            let frame = &mut buf[packet_at - SEALED_HEADER_LEN..];
            peer.tunnel.seal_in_place(now, &self.local, frame).is_ok()
        };
        if !sealed {
            buf.truncate(start);
            return false;
        }
        self.wrap(node, route, &mut buf[start..]);
        true
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
        self.wrap(node, route, buf);
        let destination = self.destination(route)?;
        if packet.is_question() {
            self.expect_answer(now, node, route);
        }
        Some(Transmit { destination, segment_size: buf.len() })
    }

    fn destination(&self, route: Via) -> Option<SocketAddr> {
        match route {
            Via::Direct(to) => Some(to),
            Via::Relay => self.beacon,
        }
    }

    /// Fills in the relay header that [`head_room`] left space for.
    fn wrap(&self, node: NodeId, route: Via, datagram: &mut [u8]) {
        if let (Via::Relay, Some(head)) = (route, datagram.first_chunk_mut::<RELAY_HEADER_LEN>()) {
            *head = beacon::relay_header(self.local.node(), node);
        }
    }
}

/// Bytes before the packet.
fn head_room(route: Via) -> usize {
    match route {
        Via::Direct(_) => SEALED_HEADER_LEN,
        Via::Relay => RELAY_HEADER_LEN + SEALED_HEADER_LEN,
    }
}
