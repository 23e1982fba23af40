//! Streams of an endpoint: open, accept, read, write, close, forget.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;

use super::peer::Peer;
use super::turns::{Senders, Turn};
use super::{ConnectError, Endpoint, EndpointEvent, StreamId, TimerKey};
use crate::proto::path::TrafficClass;
use crate::proto::stream::{Macroflow, Segment, State, Stream, StreamError, StreamEvent};
use crate::wire::sack::looks_like_sack;
use crate::wire::{Addr, Flags, NodeId, Packet, Seq, ports};

/// Where ephemeral ports begin.
pub(super) const FIRST_EPHEMERAL: u16 = 49_152;

/// Data without a stream is not reset for this long if its SYN may still come.
const EARLY_DATA_GRACE: Duration = Duration::from_secs(3);

/// Where answers to a private node come to.
const ANSWER_PORTS: [u16; 3] = [ports::HANDSHAKE, ports::DATA_EXCHANGE, ports::MESSAGE];

/// A stream and what the endpoint needs around it.
#[derive(Debug)]
pub(super) struct StreamSlot {
    pub(super) serial: u64,
    pub(super) stream: Stream,
    pub(super) peer: NodeId,
    /// The network of the address that was dialled, or that the peer dialled.
    pub(super) network: u16,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) generation: u32,
    pub(super) class: TrafficClass,
    pub(super) is_dirty: bool,
    pub(super) turn: Turn,
    /// Nobody holds it any more: forget it once it has ended.
    pub(super) is_released: bool,
    pub(super) armed: Option<Instant>,
}

impl Senders<StreamId> for Slab<StreamSlot> {
    fn turn(&mut self, id: StreamId) -> Option<&mut Turn> {
        self.get_mut(id.slot).filter(|slot| slot.serial == id.serial).map(|slot| &mut slot.turn)
    }
}

/// Streams that wait to be accepted on a port.
#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) backlog: VecDeque<StreamId>,
}

/// The two ends of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamEnds {
    /// The peer's address.
    pub peer: Addr,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl Endpoint {
    /// Opens a stream to `port` of a peer whose record was given. Never fails for lack of network:
    /// the stream itself reports what becomes of it.
    ///
    /// # Errors
    /// No such peer, or no free port toward it.
    pub fn connect(
        &mut self,
        now: Instant,
        to: Addr,
        port: u16,
        nodelay: bool,
    ) -> Result<StreamId, ConnectError> {
        let node = to.node;
        let peer = self.peers.get_mut(&node).ok_or(ConnectError::UnknownPeer)?;
        if peer.streams >= self.config.max_streams_per_peer {
            return Err(ConnectError::TooManyStreams);
        }
        peer.dialled_at = Some(now);
        let local_port = self.free_port(node, port).ok_or(ConnectError::TooManyStreams)?;
        let mut stream = Stream::connect(now, self.config.stream.clone());
        stream.set_nodelay(now, nodelay);
        if let Some(rtt) = self.peers.get(&node).and_then(Peer::expected_rtt) {
            stream.expect_rtt(rtt);
        }
        let id = self.insert(now, node, to.network, local_port, port, stream);
        self.start_tunnel(now, node);
        self.touch(id);
        Ok(id)
    }

    /// Starts accepting streams on `port`; `false` if somebody does already.
    pub fn listen(&mut self, port: u16) -> bool {
        if self.listeners.contains_key(&port) {
            return false;
        }
        self.listeners.insert(port, Listener::default());
        true
    }

    /// Stops accepting; streams that wait are reset.
    pub fn unlisten(&mut self, now: Instant, port: u16) {
        for id in self.listeners.remove(&port).unwrap_or_default().backlog {
            self.abort(now, id);
            self.release(now, id);
        }
    }

    /// Takes the next stream that waits on `port`.
    pub fn accept(&mut self, port: u16) -> Option<StreamId> {
        self.listeners.get_mut(&port)?.backlog.pop_front()
    }

    /// A port of ours that is free for datagrams and pings.
    pub fn ephemeral_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL);
        port
    }

    /// The stream, unless it is gone.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(id.slot).filter(|slot| slot.serial == id.serial).map(|slot| &slot.stream)
    }

    /// Its two ends, unless it is gone.
    #[must_use]
    pub fn ends(&self, id: StreamId) -> Option<StreamEnds> {
        let slot = self.streams.get(id.slot).filter(|slot| slot.serial == id.serial)?;
        Some(StreamEnds {
            peer: Addr { network: slot.network, node: slot.peer },
            local_port: slot.local_port,
            remote_port: slot.remote_port,
        })
    }

    /// All streams, those that linger included, in no order.
    pub fn stream_ids(&self) -> impl Iterator<Item = StreamId> {
        self.streams.iter().map(|(slot, stream)| StreamId { slot, serial: stream.serial })
    }

    /// How many streams there are, those that linger included.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Does something to a stream, then whatever follows from it.
    ///
    /// # Errors
    /// [`StreamError::Closed`] if the stream is gone, or what `verb` returns.
    pub fn with_stream<T>(
        &mut self,
        id: StreamId,
        verb: impl FnOnce(&mut Stream) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        let slot = self.slot_mut(id).ok_or(StreamError::Closed)?;
        let result = verb(&mut slot.stream);
        self.touch(id);
        result
    }

    /// Writes; `Ok(0)` means that the buffer is full.
    ///
    /// # Errors
    /// Why nothing can be written any more.
    pub fn write(&mut self, now: Instant, id: StreamId, data: &[u8]) -> Result<usize, StreamError> {
        self.with_stream(id, |stream| stream.write(now, data))
    }

    /// Reads at most `max` bytes; `None` means not yet, empty means the end.
    ///
    /// # Errors
    /// Why nothing more will come.
    pub fn read_chunk(
        &mut self,
        now: Instant,
        id: StreamId,
        max: usize,
    ) -> Result<Option<Bytes>, StreamError> {
        self.with_stream(id, |stream| stream.read_chunk(now, max))
    }

    /// Resets the stream.
    pub fn abort(&mut self, now: Instant, id: StreamId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.stream.abort(now);
            self.touch(id);
        }
    }

    /// Nobody holds the stream any more: it closes in good order by itself and is then forgotten.
    pub fn release(&mut self, now: Instant, id: StreamId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.is_released = true;
            slot.stream.close(now);
            self.touch(id);
        }
    }

    /// Takes the streams that a peer has not answered yet over into `generation`: its new process
    /// gets all of them with the next SYN.
    pub(super) fn keep_dialing(&mut self, node: NodeId, generation: u32) {
        for (_, slot) in &mut self.streams {
            if slot.peer == node && slot.stream.state() == State::SynSent {
                slot.generation = generation;
            }
        }
    }

    /// Fails the streams with a peer that are older than `generation`.
    pub(super) fn fail_streams(
        &mut self,
        now: Instant,
        node: NodeId,
        why: &StreamError,
        generation: u32,
    ) {
        let doomed: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, slot)| slot.peer == node && slot.generation < generation)
            .map(|(slot_index, slot)| StreamId { slot: slot_index, serial: slot.serial })
            .collect();
        for id in doomed {
            if let Some(slot) = self.slot_mut(id) {
                slot.stream.fail(now, *why);
                self.touch(id);
            }
        }
    }

    /// Resets every stream with a peer.
    pub(super) fn abort_streams(&mut self, now: Instant, node: NodeId) {
        let streams = self.streams.iter().filter(|(_, slot)| slot.peer == node);
        let ids: Vec<StreamId> =
            streams.map(|(index, slot)| StreamId { slot: index, serial: slot.serial }).collect();
        for id in ids {
            self.abort(now, id);
        }
    }

    /// Takes a stream packet that opened.
    pub(super) fn handle_stream_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let header = &packet.header;
        let (node, local, remote) = (header.src.node, header.dst_port, header.src_port);
        let segment = Segment {
            flags: header.flags,
            seq: header.seq,
            ack: header.ack,
            window: header.window,
            payload: packet.payload,
        };
        let opens = header.flags.contains(Flags::SYN) && !header.flags.contains(Flags::ACK);
        if let Some(&id) = self.demux.get(&(node, local, remote)) {
            let Some(slot) = self.slot_mut(id) else { return };
            let is_over = matches!(slot.stream.state(), State::TimeWait | State::Closed);
            if !(opens && is_over) {
                slot.stream.handle_segment(now, &segment);
                let srtt = slot.stream.srtt();
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.srtt = srtt.or(peer.srtt);
                }
                self.touch(id);
                return;
            }
            // The peer begins anew with the same ports.
            self.remove(id);
        }
        if !opens {
            self.handle_orphan(now, packet);
            return;
        }
        if !self.admits(now, node, Some(local)) {
            self.stats.dropped_limited += 1;
            return;
        }
        let backlog = self.config.accept_backlog;
        let max_streams = self.config.max_streams_per_peer;
        let has_room = self.listeners.get(&local).is_some_and(|l| l.backlog.len() < backlog)
            && self.peers.get(&node).is_some_and(|peer| peer.streams < max_streams);
        if !has_room {
            self.send_reset(packet);
            return;
        }
        self.orphans.remove(&(node, local, remote));
        let mut stream = Stream::accept(now, self.config.stream.clone(), &segment);
        if let Some(rtt) = self.peers.get(&node).and_then(Peer::expected_rtt) {
            stream.expect_rtt(rtt);
        }
        let id = self.insert(now, node, header.dst.network, local, remote, stream);
        self.learn_probeable(id);
        self.learn_kind(id);
        if let Some(listener) = self.listeners.get_mut(&local) {
            listener.backlog.push_back(id);
        }
        self.events.push_back(EndpointEvent::Incoming(local));
        self.touch(id);
    }

    /// A segment of a stream that we don't have: it ended here long ago, or its SYN is late.
    fn handle_orphan(&mut self, now: Instant, packet: &Packet<'_>) {
        let header = &packet.header;
        // An RST is never answered, and a late acknowledgement or FIN needs no answer.
        let is_data = !header.flags.contains(Flags::RST)
            && !packet.payload.is_empty()
            && !looks_like_sack(packet.payload);
        if !is_data {
            return;
        }
        let key = (header.src.node, header.dst_port, header.src_port);
        // Data that acknowledges nothing of ours may be early data whose SYN was lost.
        let may_be_early = header.ack == Seq(1);
        if self.orphans.age(now, key) >= EARLY_DATA_GRACE || !may_be_early {
            self.send_reset(packet);
        }
    }

    /// Whether this node takes streams to `port`, or datagrams (`None`), from `node`. A stranger
    /// whom a private node dialled may answer for a while, on the ports that answers come to.
    pub(super) fn admits(&self, now: Instant, node: NodeId, port: Option<u16>) -> bool {
        if !self.config.is_private {
            return true;
        }
        let Some(peer) = self.peers.get(&node) else { return false };
        let may_answer = peer.dialled_at.is_some_and(|at| now < at + super::control::REPLY_WINDOW);
        peer.is_trusted || may_answer && port.is_none_or(|port| ANSWER_PORTS.contains(&port))
    }

    /// Notes that something was done to a stream; [`settle`](Self::settle) does the rest.
    pub(super) fn touch(&mut self, id: StreamId) {
        if let Some(slot) = self.slot_mut(id)
            && !slot.is_dirty
        {
            slot.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Brings events, turns and timers in line with the streams that were touched.
    pub(super) fn settle(&mut self) {
        while let Some(id) = self.dirty.pop() {
            self.settle_stream(id);
            let Some(slot) = self.streams.get_mut(id.slot).filter(|s| s.serial == id.serial) else {
                continue;
            };
            slot.is_dirty = false;
            let node = slot.peer;
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            // Who waits in line is looked after there.
            if !slot.turn.is_held() || slot.stream.is_urgent() {
                peer.turns.enter(id, &mut slot.turn);
            }
            self.queue_peer(node);
        }
    }

    /// Collects a stream's events, arms its timer, and forgets it if it is over.
    pub(super) fn settle_stream(&mut self, id: StreamId) {
        let Some(slot) = self.streams.get_mut(id.slot).filter(|slot| slot.serial == id.serial)
        else {
            return;
        };
        let mut connected = false;
        while let Some(event) = slot.stream.poll_event() {
            connected |= event == StreamEvent::Connected;
            self.events.push_back(EndpointEvent::Stream(id, event));
        }
        if slot.is_released && slot.stream.is_finished() {
            self.remove(id);
            return;
        }
        self.timers.arm(TimerKey::Stream(id), &mut slot.armed, slot.stream.poll_timeout());
        if connected {
            self.learn_probeable(id);
            self.learn_kind(id);
        }
    }

    pub(super) fn slot_mut(&mut self, id: StreamId) -> Option<&mut StreamSlot> {
        self.streams.get_mut(id.slot).filter(|slot| slot.serial == id.serial)
    }

    fn insert(
        &mut self,
        now: Instant,
        peer: NodeId,
        network: u16,
        local_port: u16,
        remote_port: u16,
        mut stream: Stream,
    ) -> StreamId {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.stats.streams_opened += 1;
        let mut generation = 0;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.streams += 1;
            generation = peer.generation;
            if let Some(bytes) = peer.max_payload {
                stream.set_max_payload(bytes);
            }
            let config = &self.config.stream;
            if Macroflow::is_for(config.congestion) {
                let new = || Macroflow::new(now, config.congestion, config.max_payload);
                stream.share(now, peer.flow.get_or_insert_with(new));
            }
        }
        let slot = self.streams.insert(StreamSlot {
            serial,
            stream,
            peer,
            network,
            local_port,
            remote_port,
            generation,
            class: TrafficClass::default(),
            is_dirty: false,
            turn: Turn::default(),
            is_released: false,
            armed: None,
        });
        let id = StreamId { slot, serial };
        self.demux.insert((peer, local_port, remote_port), id);
        id
    }

    /// Forgets a stream. Its id stays in queues, where the serial number gives it away as stale.
    fn remove(&mut self, id: StreamId) {
        if self.slot_mut(id).is_none() {
            return;
        }
        let slot = self.streams.remove(id.slot);
        self.demux.remove(&(slot.peer, slot.local_port, slot.remote_port));
        if let Some(peer) = self.peers.get_mut(&slot.peer) {
            peer.streams -= 1;
        }
        // What it had in flight is room for others.
        self.queue_peer(slot.peer);
    }

    fn free_port(&mut self, node: NodeId, remote_port: u16) -> Option<u16> {
        for _ in FIRST_EPHEMERAL..=u16::MAX {
            let port = self.ephemeral_port();
            if !self.demux.contains_key(&(node, port, remote_port)) {
                return Some(port);
            }
        }
        None
    }
}
