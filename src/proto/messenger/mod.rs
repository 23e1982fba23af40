//! Messages and requests between nodes of ours: sans-IO, over the streams of an
//! [`Endpoint`], in the envelope of `docs/message-protocol.md`.
//!
//! - A **lane** is a stream to the message port. Small messages to a peer share one, so that many
//!   of them travel in one packet; a large one takes a lane of its own, so that it holds up nobody
//!   and a loss in it delays nobody else.
//! - Each class of traffic has lanes of its own, so that each can take paths of its own.
//! - A message keeps its id when it must be sent again on a new lane, and the receiver remembers
//!   what it has taken: it reaches the application once, also when the acknowledgement was lost.
//! - It is acknowledged when it is in the receiver's inbox. When the inbox is full, its lanes are
//!   not read, so nothing is acknowledged that could be lost, and senders feel it.
//! - A request is acknowledged by its reply. The receiver keeps replies for a while, in case the
//!   lane broke before they arrived.
//!
//! Everything happens within the turn in which a packet arrives: an acknowledgement leaves with
//! the same batch of datagrams, without any task being woken.

mod history;
mod incoming;
mod lane;
mod outgoing;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::endpoint::{Endpoint, StreamId};
use super::path::TrafficClass;
use super::stream::{StreamError, StreamEvent};
use crate::wire::frames::message::{ErrorCode, Headers, PayloadKind};
use crate::wire::{Addr, NodeId, ports};
use history::History;
use incoming::PendingRequest;
use lane::Lane;
use outgoing::Outgoing;

/// Lanes that one peer may have open to us; each may hold an unfinished frame in memory.
const MAX_INBOUND_LANES: usize = 256;

/// Settings of a messenger.
#[derive(Clone, Debug)]
pub struct MessengerConfig {
    /// The port that lanes go to.
    pub port: u16,
    /// Largest payload taken, in bytes.
    pub max_payload: usize,
    /// Bytes that wait for the application before lanes are not read any more.
    pub inbox_limit: usize,
    /// Frames up to this size share a lane.
    pub shared_up_to: usize,
    /// Lanes for large frames, for each peer; more frames take turns.
    pub max_lanes: usize,
    /// An own lane that carried nothing for this long is closed.
    pub lane_idle: Duration,
    /// Requests wait this long for a handler to be set before they are refused.
    pub handler_grace: Duration,
}

impl Default for MessengerConfig {
    fn default() -> Self {
        Self {
            port: ports::MESSAGE,
            max_payload: 64 << 20,
            inbox_limit: 256 << 20,
            shared_up_to: 16 << 10,
            max_lanes: 64,
            lane_idle: Duration::from_secs(60),
            handler_grace: Duration::from_secs(1),
        }
    }
}

/// A payload and what travels with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// What the bytes are.
    pub kind: PayloadKind,
    /// Small texts beside it.
    pub headers: Headers,
    /// The bytes.
    pub data: Bytes,
    /// How it may travel; the receiver does not learn it.
    pub class: TrafficClass,
}

impl Content {
    /// What it takes of the inbox: also an empty one costs something.
    fn cost(&self) -> usize {
        const OVERHEAD: usize = 256;
        OVERHEAD + self.headers.as_bytes().len() + self.data.len()
    }
}

/// A message in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// Who sent it.
    pub from: Addr,
    /// Its id, unique for this sender's process.
    pub id: u64,
    /// What it says.
    pub content: Content,
}

/// A request in the inbox; answer it with [`Messenger::reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxRequest {
    /// Names it in [`Messenger::reply`].
    pub ticket: u64,
    /// Who asks.
    pub from: Addr,
    /// What it asks.
    pub content: Content,
}

/// What has become of something that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is in the peer's inbox.
    Delivered,
    /// The request was answered.
    Replied(Content),
    /// The peer says no.
    Rejected {
        /// Why.
        code: ErrorCode,
        /// In its words.
        text: String,
    },
    /// The peer has no message service: it is a Go node.
    NotSpoken,
    /// The peer could not be reached. Sending again with the same id is safe.
    Unreachable(StreamError),
    /// Nothing came before the [deadline](Messenger::set_deadline); a request was withdrawn.
    TimedOut,
}

/// Names something that was sent, and its id, for sending it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// Names it here.
    pub number: u64,
    /// Names it at the peer.
    pub id: u64,
}

/// What we know of one peer.
#[derive(Debug, Default)]
struct PeerState {
    next_id: u64,
    /// For each class of traffic the lane of small frames.
    shared: BTreeMap<TrafficClass, StreamId>,
    own_lanes: Vec<StreamId>,
    inbound_lanes: usize,
    history: History,
    /// Ids that are not answered yet, those held back included.
    open_ids: BTreeSet<u64>,
    /// Numbers of what may not go out yet: the receiver's memory of ids is bounded.
    held: VecDeque<u64>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Messenger {
    config: MessengerConfig,
    epoch: u64,
    peers: HashMap<NodeId, PeerState>,
    lanes: HashMap<StreamId, Lane>,
    next_ticket: u64,
    outgoing: HashMap<u64, Outgoing>,
    by_id: HashMap<(NodeId, u64), u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    outcomes: VecDeque<(u64, Outcome)>,
    messages: VecDeque<InboxMessage>,
    requests: VecDeque<(Instant, InboxRequest)>,
    unanswered: HashMap<u64, PendingRequest>,
    inbox_bytes: usize,
    /// Lanes that are not read because the inbox is full.
    paused: Vec<StreamId>,
    is_serving: bool,
    next_check: Option<Instant>,
}

impl Messenger {
    /// A messenger whose process is named by `epoch` (random).
    #[must_use]
    pub fn new(config: MessengerConfig, epoch: u64) -> Self {
        Self {
            config,
            epoch,
            peers: HashMap::new(),
            lanes: HashMap::new(),
            next_ticket: 1,
            outgoing: HashMap::new(),
            by_id: HashMap::new(),
            deadlines: BTreeSet::new(),
            outcomes: VecDeque::new(),
            messages: VecDeque::new(),
            requests: VecDeque::new(),
            unanswered: HashMap::new(),
            inbox_bytes: 0,
            paused: Vec::new(),
            is_serving: false,
            next_check: None,
        }
    }

    /// Whether requests are answered here. Without it they wait for
    /// [`MessengerConfig::handler_grace`] and are then refused.
    pub fn set_serving(&mut self, is_serving: bool) {
        self.is_serving = is_serving;
    }

    /// Whether a message waits.
    #[must_use]
    pub fn has_message(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Whether a request waits and may be taken.
    #[must_use]
    pub fn has_request(&self) -> bool {
        self.is_serving && !self.requests.is_empty()
    }

    /// Takes the next message.
    pub fn take_message(&mut self, now: Instant, endpoint: &mut Endpoint) -> Option<InboxMessage> {
        let message = self.messages.pop_front()?;
        self.consumed(now, endpoint, message.content.cost());
        Some(message)
    }

    /// Takes the next request.
    pub fn take_request(&mut self, now: Instant, endpoint: &mut Endpoint) -> Option<InboxRequest> {
        if !self.is_serving {
            return None;
        }
        let (_, request) = self.requests.pop_front()?;
        self.consumed(now, endpoint, request.content.cost());
        Some(request)
    }

    /// The next outcome of something sent, by the number of its ticket.
    #[must_use]
    pub fn poll_outcome(&mut self) -> Option<(u64, Outcome)> {
        self.outcomes.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        [self.next_check, deadline].into_iter().flatten().min()
    }

    /// Sends again what waits for that, refuses requests that nobody handles, and closes lanes
    /// that idle.
    pub fn handle_timeout(&mut self, now: Instant, endpoint: &mut Endpoint) {
        self.give_up(now, endpoint);
        if self.next_check.is_none_or(|at| now < at) {
            return;
        }
        self.next_check = None;
        self.retry_due(now, endpoint);
        self.refuse_unhandled(now, endpoint);
        self.close_idle_lanes(now, endpoint);
    }

    /// Takes an event of a stream; `false` if the stream is not one of its lanes.
    pub fn handle_stream(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        id: StreamId,
        event: StreamEvent,
    ) -> bool {
        if !self.lanes.contains_key(&id) {
            return false;
        }
        match event {
            StreamEvent::Connected => {}
            StreamEvent::Writable => self.flush_lane(now, endpoint, id),
            StreamEvent::Readable => self.read_lane(now, endpoint, id),
            StreamEvent::Closed(why) => {
                // What arrived before the end counts.
                self.read_lane(now, endpoint, id);
                self.drop_lane(now, endpoint, id, why);
            }
        }
        self.release_held(now, endpoint);
        true
    }

    /// Accepts lanes; `false` if `port` is not the message port.
    pub fn handle_incoming(&mut self, now: Instant, endpoint: &mut Endpoint, port: u16) -> bool {
        if port != self.config.port {
            return false;
        }
        while let Some(id) = endpoint.accept(port) {
            let Some(ends) = endpoint.ends(id) else { continue };
            let inbound = &mut self.peers.entry(ends.peer.node).or_default().inbound_lanes;
            if *inbound >= MAX_INBOUND_LANES {
                endpoint.abort(now, id);
                endpoint.release(now, id);
                continue;
            }
            *inbound += 1;
            self.lanes.insert(id, Lane::new(now, ends.peer, false, self.config.max_payload));
            self.greet(now, endpoint, id);
            self.read_lane(now, endpoint, id);
        }
        true
    }

    /// Forgets everything; nothing more is taken or sent.
    pub fn close(&mut self) {
        *self = Self::new(self.config.clone(), self.epoch);
    }

    /// Makes sure that [`handle_timeout`](Self::handle_timeout) is called no later than `at`.
    fn wake_at(&mut self, at: Instant) {
        self.next_check = Some(self.next_check.map_or(at, |next| next.min(at)));
    }
}
