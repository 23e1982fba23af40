//! Trust requests and answers, kept for nodes that cannot be dialled.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Directory, Effect, Refusal, refuse};
use crate::wire::registry::{ErrorCode, HandshakeReply, HandshakeRequest, Response};
use crate::wire::{Addr, NodeId};

/// Most requests, and most replies, that wait for one node.
const MAX_WAITING: usize = 100;
/// Most requesters whose requests a node has read but not answered.
const MAX_UNANSWERED: usize = 256;
const MAX_JUSTIFICATION_BYTES: usize = 1024;

/// What waits for a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inbox {
    requests: VecDeque<HandshakeRequest>,
    replies: VecDeque<HandshakeReply>,
    /// Ids of those whose requests were read; an answer is only taken to one of them.
    unanswered: VecDeque<u32>,
}

impl Inbox {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.replies.is_empty() && self.unanswered.is_empty()
    }

    /// Forgets the request of `peer`; whether there was one.
    fn take_request(&mut self, peer: NodeId) -> bool {
        let before = self.unanswered.len() + self.requests.len();
        self.unanswered.retain(|&id| id != peer.0);
        self.requests.retain(|request| request.from_node_id != peer);
        self.unanswered.len() + self.requests.len() < before
    }
}

impl Directory {
    pub(super) fn request_handshake(
        &mut self,
        now: u64,
        from: NodeId,
        to: NodeId,
        justification: String,
    ) -> Result<Response, Refusal> {
        if self.registered(to).is_none() || from == to {
            return refuse(ErrorCode::NotFound, format!("node {}: not found", Addr::global(to)));
        }
        if justification.len() > MAX_JUSTIFICATION_BYTES {
            let text = format!("justification too long: limit {MAX_JUSTIFICATION_BYTES} bytes");
            return refuse(ErrorCode::Invalid, text);
        }
        let inbox = self.inboxes.entry(to).or_default();
        if inbox.requests.iter().any(|request| request.from_node_id == from) {
            return refuse(ErrorCode::Already, "already requested; it waits to be read");
        }
        if inbox.requests.len() >= MAX_WAITING {
            let text = format!("too many requests wait for {}", Addr::global(to));
            return refuse(ErrorCode::Limited, text);
        }
        inbox.requests.push_back(HandshakeRequest {
            from_node_id: from,
            justification,
            timestamp: now,
        });
        self.keep_inbox(to);
        self.effects.push(Effect::Notify(to));
        Ok(Response::RequestHandshakeOk { status: "delivered".into() })
    }

    pub(super) fn poll_handshakes(&mut self, id: NodeId) -> Response {
        let (mut requests, mut responses) = (Vec::new(), Vec::new());
        if let Some(inbox) = self.inboxes.get_mut(&id) {
            requests.extend(inbox.requests.drain(..));
            responses.extend(inbox.replies.drain(..));
            for request in &requests {
                inbox.unanswered.retain(|&peer| peer != request.from_node_id.0);
                inbox.unanswered.push_back(request.from_node_id.0);
            }
            while inbox.unanswered.len() > MAX_UNANSWERED {
                inbox.unanswered.pop_front();
            }
            if !requests.is_empty() || !responses.is_empty() {
                self.keep_inbox(id);
            }
        }
        Response::PollHandshakesOk { requests, responses }
    }

    pub(super) fn respond_handshake(
        &mut self,
        now: u64,
        id: NodeId,
        peer: NodeId,
        accept: bool,
    ) -> Result<Response, Refusal> {
        if !self.inboxes.get_mut(&id).is_some_and(|inbox| inbox.take_request(peer)) {
            let text = format!("cannot respond: no request of {} is pending", Addr::global(peer));
            return refuse(ErrorCode::NotFound, text);
        }
        self.keep_inbox(id);
        if accept {
            // One asked and the other agreed: that is the word of both.
            self.add_trust(id, peer)?;
            self.add_trust(peer, id)?;
        }
        let inbox = self.inboxes.entry(peer).or_default();
        inbox.replies.push_back(HandshakeReply { from_node_id: id, accept, timestamp: now });
        if inbox.replies.len() > MAX_WAITING {
            inbox.replies.pop_front();
        }
        self.keep_inbox(peer);
        self.effects.push(Effect::Notify(peer));
        Ok(Response::RespondHandshakeOk { accept, peer_id: peer })
    }

    fn keep_inbox(&mut self, id: NodeId) {
        let inbox = self.inboxes.get(&id).cloned().unwrap_or_default();
        if inbox.is_empty() {
            self.inboxes.remove(&id);
        }
        self.effects.push(Effect::PutInbox { node: id, inbox });
    }
}
