//! What peers send: messages, requests, and answers to ours.

use std::time::Instant;

use bytes::Bytes;

use super::history::Answer;
use super::{Content, InboxMessage, InboxRequest, Messenger, Outcome};
use crate::proto::endpoint::{Endpoint, StreamId};
use crate::proto::path::TrafficClass;
use crate::wire::Addr;
use crate::wire::frames::message::{
    ErrorCode, Headers, MessageFrame, MessageHead, MessageKind, PayloadKind,
};

/// Requests that may wait to be answered; more are told that we are busy.
const MAX_UNANSWERED: usize = 65_536;

/// Payloads below this size are copied out of the chunk they arrived in.
const COPIED_BELOW: usize = 4 << 10;

/// A request that the application has, or will get.
#[derive(Debug)]
pub(super) struct PendingRequest {
    from: Addr,
    epoch: u64,
    id: u64,
    /// Where it came from last; the reply goes there.
    lane: StreamId,
}

impl Messenger {
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        lane: StreamId,
        from: Addr,
        epoch: u64,
        frame: MessageFrame,
    ) {
        let id = frame.id;
        match frame.kind {
            MessageKind::Message => {
                let history = &mut self.peers.entry(from.node).or_default().history;
                if history.epoch(epoch).note(id) {
                    let content = content(frame);
                    self.inbox_bytes += content.cost();
                    self.messages.push_back(InboxMessage { from, id, content });
                }
                self.send_on_lane(now, endpoint, lane, &MessageFrame::ack(id));
            }
            MessageKind::Request => {
                self.take_in_request(now, endpoint, lane, from, epoch, frame);
            }
            MessageKind::Ack => self.answered(from, id, Outcome::Delivered),
            MessageKind::Reply => self.answered(from, id, Outcome::Replied(content(frame))),
            MessageKind::Error => {
                let code = frame.error_code();
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                self.answered(from, id, Outcome::Rejected { code, text });
            }
            MessageKind::Cancel => self.withdraw(now, endpoint, from, epoch, id),
            // Of a later version: the sender can't expect an answer.
            MessageKind::Hello | MessageKind::Unknown(_) => {}
        }
    }

    fn take_in_request(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        lane: StreamId,
        from: Addr,
        epoch: u64,
        frame: MessageFrame,
    ) {
        let id = frame.id;
        let is_full = self.unanswered.len() >= MAX_UNANSWERED;
        let history = self.peers.entry(from.node).or_default().history.epoch(epoch);
        if !history.note(id) {
            let reply = match history.answer(id) {
                Some(Answer::Done(reply)) => reply.clone(),
                Some(Answer::Pending(ticket)) => {
                    if let Some(pending) = self.unanswered.get_mut(ticket) {
                        pending.lane = lane;
                    }
                    return;
                }
                None => MessageFrame::error(
                    id,
                    ErrorCode::HandlerFailed,
                    "the request was handled, but its reply is not kept any more",
                ),
            };
            self.send_on_lane(now, endpoint, lane, &reply);
            return;
        }
        if is_full {
            let busy = MessageFrame::error(id, ErrorCode::TooBusy, "too many requests wait here");
            self.send_on_lane(now, endpoint, lane, &busy);
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        history.set_pending(id, ticket);
        self.unanswered.insert(ticket, PendingRequest { from, epoch, id, lane });
        let content = content(frame);
        self.inbox_bytes += content.cost();
        self.requests.push_back((now, InboxRequest { ticket, from, content }));
        if !self.is_serving {
            self.wake_at(now + self.config.handler_grace);
        }
    }

    /// Answers a request; `Err` tells the requester that its handling failed, and why. Nothing
    /// happens if the request was withdrawn or answered before.
    pub fn reply(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        ticket: u64,
        result: Result<Content, String>,
    ) {
        let Some(pending) = self.unanswered.get(&ticket) else { return };
        let id = pending.id;
        let frame = match result {
            Ok(Content { kind, headers, data, .. }) => {
                MessageFrame::user(MessageKind::Reply, id, kind, headers, data)
            }
            Err(text) => MessageFrame::error(id, ErrorCode::HandlerFailed, &text),
        };
        self.conclude(now, endpoint, ticket, frame);
    }

    fn conclude(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        ticket: u64,
        frame: MessageFrame,
    ) {
        let Some(PendingRequest { from, epoch, id, lane }) = self.unanswered.remove(&ticket) else {
            return;
        };
        let history = &mut self.peers.entry(from.node).or_default().history;
        history.epoch(epoch).set_done(now, id, frame.clone());
        // A large reply takes the lane that it came by: the requester chose one for its size. If
        // that lane is gone, the requester asks again and finds the reply in the history.
        self.send_on_lane(now, endpoint, lane, &frame);
    }

    /// The requester does not want the answer any more. If the application has the request
    /// already, its answer is thrown away.
    fn withdraw(&mut self, now: Instant, endpoint: &mut Endpoint, from: Addr, epoch: u64, id: u64) {
        let history = self.peers.entry(from.node).or_default().history.epoch(epoch);
        let Some(&Answer::Pending(ticket)) = history.answer(id) else { return };
        history.forget(id);
        self.unanswered.remove(&ticket);
        if let Some(at) = self.requests.iter().position(|(_, r)| r.ticket == ticket)
            && let Some((_, request)) = self.requests.remove(at)
        {
            self.consumed(now, endpoint, request.content.cost());
        }
    }

    pub(super) fn refuse_too_large(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        lane: StreamId,
        head: &MessageHead,
    ) {
        let text = format!(
            "payload of {} bytes exceeds this node's limit of {} bytes",
            head.payload_len, self.config.max_payload
        );
        if head.kind == MessageKind::Reply {
            // It answers a request of ours.
            let Some(from) = self.lanes.get(&lane).map(|lane| lane.peer) else { return };
            let outcome = Outcome::Rejected { code: ErrorCode::TooLarge, text };
            self.answered(from, head.id, outcome);
        } else {
            let error = MessageFrame::error(head.id, ErrorCode::TooLarge, &text);
            self.send_on_lane(now, endpoint, lane, &error);
        }
    }

    pub(super) fn refuse_unhandled(&mut self, now: Instant, endpoint: &mut Endpoint) {
        let grace = self.config.handler_grace;
        while !self.is_serving
            && let Some((since, _)) = self.requests.front()
        {
            if now < *since + grace {
                let at = *since + grace;
                self.wake_at(at);
                return;
            }
            let Some((_, request)) = self.requests.pop_front() else { return };
            self.consumed(now, endpoint, request.content.cost());
            let id = self.unanswered.get(&request.ticket).map_or(0, |pending| pending.id);
            let text = "this node has no request handler";
            let error = MessageFrame::error(id, ErrorCode::NoHandler, text);
            self.conclude(now, endpoint, request.ticket, error);
        }
    }

    /// The application took this much; lanes that were held back go on.
    pub(super) fn consumed(&mut self, now: Instant, endpoint: &mut Endpoint, bytes: usize) {
        self.inbox_bytes -= bytes;
        if self.inbox_bytes < self.config.inbox_limit {
            for lane in std::mem::take(&mut self.paused) {
                self.read_lane(now, endpoint, lane);
            }
        }
    }
}

fn content(frame: MessageFrame) -> Content {
    let kind: PayloadKind = frame.payload_kind();
    let headers: Headers = frame.headers;
    // A small payload must not keep the whole chunk alive that it arrived in.
    let is_small = frame.payload.len() < COPIED_BELOW;
    let data = if is_small { Bytes::copy_from_slice(&frame.payload) } else { frame.payload };
    Content { kind, headers, data, class: TrafficClass::Normal }
}
