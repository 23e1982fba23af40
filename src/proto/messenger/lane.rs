//! One stream to or from the message port, and its codec.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::{Messenger, PeerState};
use crate::proto::endpoint::{Endpoint, StreamId};
use crate::proto::path::TrafficClass;
use crate::proto::stream::StreamError;
use crate::wire::Addr;
use crate::wire::frames::message::{Hello, Incoming, MessageDecoder, MessageFrame, MessageKind};

/// Bytes taken from a stream at once.
const READ_SIZE: usize = 256 << 10;
/// Payloads from this size on are not copied into one buffer with their head.
const APART_FROM: usize = 4 << 10;

/// State of a lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) peer: Addr,
    pub(super) class: TrafficClass,
    /// We opened it, so we may put new frames on it.
    pub(super) is_own: bool,
    /// The peer's process, once it said HELLO.
    pub(super) epoch: Option<u64>,
    decoder: MessageDecoder,
    out: VecDeque<Bytes>,
    /// Messages and requests of ours on it that are not answered yet.
    pub(super) in_flight: usize,
    pub(super) last_used: Instant,
}

impl Lane {
    pub(super) fn new(now: Instant, peer: Addr, is_own: bool, max_payload: usize) -> Self {
        Self {
            peer,
            class: TrafficClass::Normal,
            is_own,
            epoch: None,
            decoder: MessageDecoder::new(max_payload),
            out: VecDeque::new(),
            in_flight: 0,
            last_used: now,
        }
    }

    /// Whether a large frame may go on it without waiting for another.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.in_flight == 0
    }

    fn push(&mut self, frame: &MessageFrame) {
        let mut head = Vec::with_capacity(frame.encoded_len().min(APART_FROM));
        if frame.payload.len() < APART_FROM {
            if frame.encode(&mut head).is_ok() {
                self.out.push_back(head.into());
            }
        } else if frame.encode_head(&mut head).is_ok() {
            self.out.push_back(head.into());
            self.out.push_back(frame.payload.clone());
        }
    }
}

impl Messenger {
    /// A lane for a frame of `len` bytes: an existing one, or a new one.
    pub(super) fn lane_for(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        to: Addr,
        class: TrafficClass,
        len: usize,
    ) -> Result<StreamId, StreamError> {
        let is_small = len <= self.config.shared_up_to;
        let peer: &mut PeerState = self.peers.entry(to.node).or_default();
        if is_small {
            if let Some(shared) = peer.shared.get(&class) {
                return Ok(*shared);
            }
        } else {
            let shared = peer.shared.get(&class);
            let is_one = |id: &&StreamId| {
                Some(*id) != shared && self.lanes.get(id).is_some_and(|lane| lane.class == class)
            };
            let lanes = peer.own_lanes.iter().filter(is_one);
            let count = lanes.clone().count();
            let idlest = lanes.min_by_key(|id| self.lanes.get(id).map(|lane| lane.in_flight));
            if let Some(&id) = idlest
                && (count >= self.config.max_lanes
                    || self.lanes.get(&id).is_some_and(Lane::is_idle))
            {
                return Ok(id);
            }
        }
        let port = self.config.port;
        let id = endpoint.connect(now, to, port, true).map_err(|_| StreamError::PeerUnreachable)?;
        peer.own_lanes.push(id);
        if is_small {
            peer.shared.insert(class, id);
        }
        endpoint.set_class(id, class);
        let lane = Lane { class, ..Lane::new(now, to, true, self.config.max_payload) };
        self.lanes.insert(id, lane);
        self.wake_at(now + self.config.lane_idle);
        self.greet(now, endpoint, id);
        Ok(id)
    }

    /// The first frame in each direction.
    pub(super) fn greet(&mut self, now: Instant, endpoint: &mut Endpoint, id: StreamId) {
        // Nearly everything here is answered by a frame. A stream that is gone needs nothing.
        let _ = endpoint.with_stream(id, |stream| {
            stream.set_answers_soon(true);
            Ok(())
        });
        let hello = MessageFrame::hello(Hello::new(self.epoch));
        self.send_on_lane(now, endpoint, id, &hello);
    }

    /// Queues a frame; it leaves as the stream has room.
    pub(super) fn send_on_lane(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        id: StreamId,
        frame: &MessageFrame,
    ) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.push(frame);
        lane.last_used = now;
        self.flush_lane(now, endpoint, id);
    }

    pub(super) fn flush_lane(&mut self, now: Instant, endpoint: &mut Endpoint, id: StreamId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        while let Some(front) = lane.out.front_mut() {
            match endpoint.write(now, id, front) {
                Ok(0) if !front.is_empty() => return,
                Ok(written) => {
                    front.advance(written);
                    if front.is_empty() {
                        lane.out.pop_front();
                    }
                }
                // The stream tells why by its Closed event.
                Err(_) => return,
            }
        }
    }

    /// Takes what has arrived, unless the inbox is full.
    pub(super) fn read_lane(&mut self, now: Instant, endpoint: &mut Endpoint, id: StreamId) {
        loop {
            if self.inbox_bytes >= self.config.inbox_limit {
                if !self.paused.contains(&id) {
                    self.paused.push(id);
                }
                return;
            }
            if !self.lanes.contains_key(&id) {
                return;
            }
            match endpoint.read_chunk(now, id, READ_SIZE) {
                Ok(Some(chunk)) if chunk.is_empty() => {
                    self.drop_lane(now, endpoint, id, None);
                    return;
                }
                Ok(Some(chunk)) => {
                    let Some(lane) = self.lanes.get_mut(&id) else { return };
                    lane.last_used = now;
                    lane.decoder.feed(chunk);
                    self.take_frames(now, endpoint, id);
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn take_frames(&mut self, now: Instant, endpoint: &mut Endpoint, id: StreamId) {
        while let Some(lane) = self.lanes.get_mut(&id) {
            match lane.decoder.next_frame() {
                Ok(Some(Incoming::Frame(frame))) => {
                    if frame.kind == MessageKind::Hello {
                        match Hello::parse(&frame.payload) {
                            Ok(hello) => lane.epoch = Some(hello.epoch),
                            Err(_) => return self.break_lane(now, endpoint, id),
                        }
                    } else if let Some(epoch) = lane.epoch {
                        let from = lane.peer;
                        self.handle_frame(now, endpoint, id, from, epoch, frame);
                    } else {
                        return self.break_lane(now, endpoint, id);
                    }
                }
                Ok(Some(Incoming::TooLarge(head))) => {
                    self.refuse_too_large(now, endpoint, id, &head);
                }
                Ok(None) => return,
                Err(_) => return self.break_lane(now, endpoint, id),
            }
        }
    }

    /// The peer broke the protocol.
    fn break_lane(&mut self, now: Instant, endpoint: &mut Endpoint, id: StreamId) {
        endpoint.abort(now, id);
        self.drop_lane(now, endpoint, id, Some(StreamError::Aborted));
    }

    /// A lane is over: what was on its way goes on another.
    pub(super) fn drop_lane(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        id: StreamId,
        why: Option<StreamError>,
    ) {
        let Some(lane) = self.lanes.remove(&id) else { return };
        self.paused.retain(|paused| *paused != id);
        endpoint.release(now, id);
        if let Some(peer) = self.peers.get_mut(&lane.peer.node) {
            peer.own_lanes.retain(|own| *own != id);
            peer.inbound_lanes -= usize::from(!lane.is_own);
            peer.shared.retain(|_, shared| *shared != id);
        }
        self.lane_lost(now, endpoint, id, why);
    }

    pub(super) fn close_idle_lanes(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let limit = self.config.lane_idle;
        let mut idle = Vec::new();
        let mut next: Option<Instant> = None;
        for (id, lane) in self.lanes.iter().filter(|(_, lane)| lane.is_own) {
            let end = lane.last_used + limit;
            if end <= now && lane.is_idle() {
                idle.push(*id);
            } else {
                let at = end.max(now + limit / 8);
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        for id in idle {
            self.drop_lane(now, endpoint, id, None);
        }
        if let Some(at) = next {
            self.wake_at(at);
        }
    }
}
