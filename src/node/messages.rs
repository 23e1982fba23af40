//! Send and request: our message protocol to nodes of ours, data exchange to Go nodes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::calls::Begun;
use super::core::Shared;
use super::error::NodeError;
use super::resolver::Resolver;
use super::services::data;
use super::types::{Message, Payload, PayloadKind, PeerRef, Request};
use super::waiting::Waiter;
use crate::proto::messenger::{Content, InboxMessage, InboxRequest, Outcome};
use crate::wire::Addr;
use crate::wire::frames::message::{self as frames, ErrorCode, Headers};

/// Pause before an unreachable peer is looked up and tried again, within the timeout.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The two verbs and what they need.
#[derive(Clone, Debug)]
pub(super) struct Messages {
    pub(super) shared: Arc<Shared>,
    pub(super) resolver: Arc<Resolver>,
}

/// What comes after an outcome.
pub(super) enum Verdict {
    /// `None`: the peer does not speak our message protocol.
    Done(Result<Option<(Addr, Payload)>, NodeError>),
    Again(NodeError),
}

/// Withdraws what was sent if nobody waits for it any more.
pub(super) struct Waiting<'a> {
    pub(super) shared: &'a Shared,
    pub(super) number: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.act(|core, now| {
                core.outcomes.remove(&number);
                core.messenger.cancel(now, &mut core.endpoint, number);
            });
        }
    }
}

impl Messages {
    /// Returns when the message is in the peer's inbox.
    pub(super) async fn send(
        &self,
        peer: &PeerRef,
        payload: Payload,
        after: Duration,
    ) -> Result<(), NodeError> {
        let begun = Begun::nothing(false, after);
        self.send_on(peer, payload, begun).await
    }

    pub(super) async fn send_on(
        &self,
        peer: &PeerRef,
        payload: Payload,
        begun: Begun,
    ) -> Result<(), NodeError> {
        let foreign = payload.clone();
        let (after, deadline) = (begun.after, begun.deadline);
        let sent = match self.exchange(peer, payload, begun).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                let sending = data::send(&self.shared, &self.resolver, peer, &foreign);
                within(peer, "send", after, deadline, sending).await
            }
            Err(error) => Err(error),
        };
        sent.map_err(|error| self.resolver.blame_privacy(peer, error))
    }

    /// Returns the reply and who gave it.
    pub(super) async fn request(
        &self,
        peer: &PeerRef,
        payload: Payload,
        after: Duration,
    ) -> Result<(Addr, Payload), NodeError> {
        self.request_on(peer, payload, Begun::nothing(true, after)).await
    }

    pub(super) async fn request_on(
        &self,
        peer: &PeerRef,
        payload: Payload,
        begun: Begun,
    ) -> Result<(Addr, Payload), NodeError> {
        let replied = self.exchange(peer, payload, begun).await;
        replied.map_err(|error| self.resolver.blame_privacy(peer, error))?.ok_or_else(|| {
            NodeError::Unsupported(format!(
                "{peer} is a Go node, which has no request handlers; use send, or open_stream to \
                 a port of its application"
            ))
        })
    }

    /// `None`: the peer does not speak our message protocol.
    async fn exchange(
        &self,
        peer: &PeerRef,
        payload: Payload,
        mut begun: Begun,
    ) -> Result<Option<(Addr, Payload)>, NodeError> {
        let content = to_content(payload)?;
        let Begun { is_request, after, deadline, .. } = begun;
        let what = begun.what();
        let mut last_error = None;
        if let Some(error) = begun.failed.take() {
            last_error = Some(error);
            self.pause(peer, &begun).await?;
        }
        loop {
            let resolving = self.resolver.resolve(peer);
            let target = match within(peer, what, after, deadline, resolving).await {
                Err(NodeError::Timeout { .. }) if last_error.is_some() => {
                    return Err(last_error.take().unwrap_or(NodeError::Closed));
                }
                other => other?,
            };
            if !target.is_native {
                return Ok(None);
            }
            begun.addr = target.addr;
            let (ticket, outcome) = self.shared.act(|core, now| {
                if core.is_closed {
                    return Err(NodeError::Closed);
                }
                let (messenger, endpoint) = (&mut core.messenger, &mut core.endpoint);
                let content = content.clone();
                let ticket = if is_request {
                    messenger.request(now, endpoint, target.addr, content, begun.id)
                } else {
                    messenger.send(now, endpoint, target.addr, content, begun.id)
                };
                let (sender, receiver) = oneshot::channel();
                core.outcomes.insert(ticket.number, Waiter::Task(sender));
                Ok((ticket, receiver))
            })?;
            begun.id = Some(ticket.id);
            let mut waiting = Waiting { shared: &self.shared, number: Some(ticket.number) };
            let Ok(outcome) = timeout_at(deadline, outcome).await else {
                drop(waiting);
                return Err(self.timed_out(peer, target.addr, what, after));
            };
            waiting.number = None;
            match self.judge(peer, &begun, outcome.ok()) {
                Verdict::Done(result) => return result,
                Verdict::Again(error) => {
                    last_error = Some(error);
                    self.pause(peer, &begun).await?;
                }
            }
        }
    }

    /// What an outcome means for the caller.
    pub(super) fn judge(&self, peer: &PeerRef, begun: &Begun, outcome: Option<Outcome>) -> Verdict {
        let addr = begun.addr;
        Verdict::Done(match outcome {
            Some(Outcome::Delivered) => Ok(Some((addr, Payload::default()))),
            Some(Outcome::Replied(content)) => Ok(Some((addr, from_content(content)))),
            Some(Outcome::Rejected { code, text }) => Err(rejected(peer, code, text)),
            Some(Outcome::NotSpoken) => {
                self.resolver.set_foreign(addr.node);
                Ok(None)
            }
            Some(Outcome::Unreachable(error)) => {
                // It may have moved: ask the registry again, and send the same again.
                self.resolver.expire(addr.node);
                return Verdict::Again(NodeError::PeerUnreachable {
                    peer: peer.to_string(),
                    reason: error.to_string(),
                });
            }
            Some(Outcome::TimedOut) => Err(self.timed_out(peer, addr, begun.what(), begun.after)),
            None => Err(NodeError::Closed),
        })
    }

    /// Before an unreachable peer is tried again.
    async fn pause(&self, peer: &PeerRef, begun: &Begun) -> Result<(), NodeError> {
        tokio::time::sleep_until(begun.deadline.min(Instant::now() + RETRY_PAUSE)).await;
        if Instant::now() < begun.deadline {
            return Ok(());
        }
        Err(self.timed_out(peer, begun.addr, begun.what(), begun.after))
    }

    /// Says why nothing came, as far as it is known.
    fn timed_out(
        &self,
        peer: &PeerRef,
        addr: Addr,
        what: &'static str,
        after: Duration,
    ) -> NodeError {
        let (is_ready, impostor) = self.shared.look(|core| {
            (core.endpoint.is_ready(addr.node), core.impostors.get(&addr.node).copied())
        });
        if let Some(presented) = impostor
            && !is_ready
        {
            return impostor_error(peer, &presented);
        }
        if is_ready {
            return NodeError::Timeout { peer: peer.to_string(), what, after };
        }
        NodeError::PeerUnreachable {
            peer: peer.to_string(),
            reason: format!("no answer to the key exchange within {after:?}; is it running?"),
        }
    }
}

/// Someone with another key answers in a peer's place.
pub(super) fn impostor_error(peer: &PeerRef, presented: &[u8; 32]) -> NodeError {
    use std::fmt::Write as _;
    let hex = presented.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    NodeError::IdentityMismatch(format!(
        "whoever answers for {peer} has the key {hex}, which is not the one that is registered or \
         pinned for it; if its identity was replaced on purpose, forget the pinned key"
    ))
}

/// Bounds a wait.
pub(super) async fn within<T>(
    peer: &PeerRef,
    what: &'static str,
    after: Duration,
    deadline: Instant,
    future: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    timeout_at(deadline, future)
        .await
        .unwrap_or_else(|_| Err(NodeError::Timeout { peer: peer.to_string(), what, after }))
}

fn rejected(peer: &PeerRef, code: ErrorCode, text: String) -> NodeError {
    match code {
        ErrorCode::TooLarge => NodeError::Invalid(format!("{peer} refused it: {text}")),
        _ => NodeError::RequestFailed { peer: peer.to_string(), reason: text },
    }
}

pub(super) fn to_content(payload: Payload) -> Result<Content, NodeError> {
    let kind = match payload.kind {
        PayloadKind::Bytes => frames::PayloadKind::Bytes,
        PayloadKind::Text => frames::PayloadKind::Text,
        PayloadKind::Json => frames::PayloadKind::Json,
    };
    if payload.data.len() > frames::MAX_PAYLOAD {
        return Err(NodeError::TooLarge {
            what: "payload",
            size: payload.data.len(),
            limit: frames::MAX_PAYLOAD,
        });
    }
    let pairs = payload.headers.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let headers = Headers::from_pairs(pairs)
        .map_err(|error| NodeError::Invalid(format!("message headers: {error}")))?;
    Ok(Content { kind, headers, data: payload.data, class: payload.class })
}

fn from_content(content: Content) -> Payload {
    let kind = match content.kind {
        frames::PayloadKind::Bytes => PayloadKind::Bytes,
        frames::PayloadKind::Text => PayloadKind::Text,
        frames::PayloadKind::Json => PayloadKind::Json,
    };
    let headers =
        content.headers.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Payload { kind, data: content.data, headers, class: content.class }
}

impl Messages {
    pub(super) fn message(&self, message: InboxMessage) -> Message {
        Message {
            sender: message.from,
            sender_hostname: self.resolver.hostname_of(message.from.node),
            id: message.id,
            payload: from_content(message.content),
            file: None,
        }
    }

    pub(super) fn incoming_request(&self, request: InboxRequest) -> Request {
        Request {
            ticket: request.ticket,
            sender: request.from,
            sender_hostname: self.resolver.hostname_of(request.from.node),
            payload: from_content(request.content),
        }
    }
}
