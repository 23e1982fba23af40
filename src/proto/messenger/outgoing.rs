//! What was sent and is not answered yet.

use std::time::{Duration, Instant};

use super::{Content, Messenger, Outcome, PeerState, Ticket};
use crate::proto::endpoint::{Endpoint, StreamId};
use crate::proto::path::TrafficClass;
use crate::proto::stream::StreamError;
use crate::wire::Addr;
use crate::wire::frames::message::{MessageFrame, MessageKind};

/// Pause before a frame goes out again whose lane broke repeatedly; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How far a sender runs ahead of its oldest unanswered id; the receiver remembers twice as many.
const MAX_AHEAD: u64 = 8_192;

impl PeerState {
    fn may_send(&self, id: u64) -> bool {
        self.open_ids.first().is_none_or(|oldest| id < oldest + MAX_AHEAD)
    }
}

/// A message or request on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: Addr,
    pub(super) frame: MessageFrame,
    class: TrafficClass,
    pub(super) lane: Option<StreamId>,
    /// Lanes that broke under it.
    attempts: u32,
    retry_at: Option<Instant>,
    deadline: Option<Instant>,
}

impl Messenger {
    /// Sends a message; its outcome comes by [`poll_outcome`](Self::poll_outcome). Give the `id`
    /// of an earlier ticket to send the same message again.
    pub fn send(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        to: Addr,
        content: Content,
        id: Option<u64>,
    ) -> Ticket {
        self.dispatch(now, endpoint, to, MessageKind::Message, content, id)
    }

    /// As [`send`](Self::send), for a request.
    pub fn request(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        to: Addr,
        content: Content,
        id: Option<u64>,
    ) -> Ticket {
        self.dispatch(now, endpoint, to, MessageKind::Request, content, id)
    }

    /// Nobody waits for the outcome any more. A request that the peer has not begun to handle is
    /// withdrawn.
    pub fn cancel(&mut self, now: Instant, endpoint: &mut Endpoint, number: u64) {
        let Some(outgoing) = self.forget(number) else { return };
        self.release_held(now, endpoint);
        if outgoing.frame.kind == MessageKind::Request
            && let Some(lane) = outgoing.lane
        {
            let cancel = MessageFrame::cancel(outgoing.frame.id);
            self.send_on_lane(now, endpoint, lane, &cancel);
        }
    }

    /// Ends the wait with [`Outcome::TimedOut`] at this time, if nothing else has ended it.
    pub fn set_deadline(&mut self, number: u64, at: Instant) {
        let Some(outgoing) = self.outgoing.get_mut(&number) else { return };
        if let Some(before) = outgoing.deadline.replace(at) {
            self.deadlines.remove(&(before, number));
        }
        self.deadlines.insert((at, number));
    }

    /// Ends what was waited for in vain.
    pub(super) fn give_up(&mut self, now: Instant, endpoint: &mut Endpoint) {
        while let Some(&(at, number)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            self.cancel(now, endpoint, number);
            self.outcomes.push_back((number, Outcome::TimedOut));
        }
    }

    fn dispatch(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        to: Addr,
        kind: MessageKind,
        content: Content,
        id: Option<u64>,
    ) -> Ticket {
        let number = self.next_ticket;
        self.next_ticket += 1;
        let peer = self.peers.entry(to.node).or_default();
        let id = id.unwrap_or_else(|| {
            peer.next_id += 1;
            peer.next_id
        });
        let class = content.class;
        let frame = MessageFrame::user(kind, id, content.kind, content.headers, content.data);
        self.by_id.insert((to.node, id), number);
        let outgoing =
            Outgoing { to, frame, class, lane: None, attempts: 0, retry_at: None, deadline: None };
        self.outgoing.insert(number, outgoing);
        peer.open_ids.insert(id);
        if peer.held.is_empty() && peer.may_send(id) {
            self.transmit(now, endpoint, number);
        } else {
            peer.held.push_back(number);
        }
        Ticket { number, id }
    }

    /// Sends what was held back, as far as the receivers can remember it now.
    pub(super) fn release_held(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let mut released = Vec::new();
        for peer in self.peers.values_mut().filter(|peer| !peer.held.is_empty()) {
            while let Some(&number) = peer.held.front() {
                match self.outgoing.get(&number).map(|outgoing| outgoing.frame.id) {
                    Some(id) if !peer.may_send(id) => break,
                    Some(_) => released.push(number),
                    None => {}
                }
                peer.held.pop_front();
            }
        }
        for number in released {
            self.transmit(now, endpoint, number);
        }
    }

    /// Puts a frame on a lane.
    fn transmit(&mut self, now: Instant, endpoint: &mut Endpoint, number: u64) {
        let Some(outgoing) = self.outgoing.get_mut(&number) else { return };
        outgoing.retry_at = None;
        let (to, class, frame) = (outgoing.to, outgoing.class, outgoing.frame.clone());
        match self.lane_for(now, endpoint, to, class, frame.encoded_len()) {
            Ok(lane) => {
                if let Some(outgoing) = self.outgoing.get_mut(&number) {
                    outgoing.lane = Some(lane);
                }
                if let Some(lane) = self.lanes.get_mut(&lane) {
                    lane.in_flight += 1;
                }
                self.send_on_lane(now, endpoint, lane, &frame);
            }
            Err(why) => self.finish(number, Outcome::Unreachable(why)),
        }
    }

    /// Ends the wait for what `frame` of the peer answers.
    pub(super) fn answered(&mut self, from: Addr, id: u64, outcome: Outcome) {
        if let Some(&number) = self.by_id.get(&(from.node, id)) {
            self.finish(number, outcome);
        }
    }

    fn finish(&mut self, number: u64, outcome: Outcome) {
        if self.forget(number).is_some() {
            self.outcomes.push_back((number, outcome));
        }
    }

    fn forget(&mut self, number: u64) -> Option<Outgoing> {
        let outgoing = self.outgoing.remove(&number)?;
        if let Some(at) = outgoing.deadline {
            self.deadlines.remove(&(at, number));
        }
        let key = (outgoing.to.node, outgoing.frame.id);
        if self.by_id.get(&key) == Some(&number) {
            self.by_id.remove(&key);
            if let Some(peer) = self.peers.get_mut(&key.0) {
                peer.open_ids.remove(&key.1);
            }
        }
        if let Some(lane) = outgoing.lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        Some(outgoing)
    }

    /// A lane is gone, and `why`; what it carried goes again, or ends.
    pub(super) fn lane_lost(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        lane: StreamId,
        why: Option<StreamError>,
    ) {
        let mut lost: Vec<u64> = self
            .outgoing
            .iter()
            .filter(|(_, outgoing)| outgoing.lane == Some(lane))
            .map(|(number, _)| *number)
            .collect();
        // In the order in which they were sent.
        lost.sort_unstable();
        for number in lost {
            match why {
                Some(StreamError::Refused) => self.finish(number, Outcome::NotSpoken),
                Some(
                    error @ (StreamError::PeerUnreachable
                    | StreamError::TimedOut { .. }
                    | StreamError::IdleTimeout { .. }),
                ) => self.finish(number, Outcome::Unreachable(error)),
                _ => self.retry_later(now, endpoint, number),
            }
        }
    }

    fn retry_later(&mut self, now: Instant, endpoint: &mut Endpoint, number: u64) {
        let Some(outgoing) = self.outgoing.get_mut(&number) else { return };
        outgoing.lane = None;
        outgoing.attempts += 1;
        if outgoing.attempts == 1 {
            self.transmit(now, endpoint, number);
            return;
        }
        let doublings = (outgoing.attempts - 2).min(8);
        let at = now + (RETRY_FIRST * (1 << doublings)).min(RETRY_MAX);
        outgoing.retry_at = Some(at);
        self.wake_at(at);
    }

    pub(super) fn retry_due(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (number, outgoing) in &self.outgoing {
            match outgoing.retry_at {
                Some(at) if at <= now => due.push(*number),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        due.sort_unstable();
        for number in due {
            self.transmit(now, endpoint, number);
        }
        if let Some(at) = next {
            self.wake_at(at);
        }
    }
}
