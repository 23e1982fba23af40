//! Messages and requests for callers that are no task of the runtime, and come in great numbers.
//!
//! The usual case (a peer of ours whose address is known) needs no future: it is written at once,
//! its outcome goes to a [`Sink`], and its time limit is one of the messenger's deadlines. What is
//! left is told by [`Progress::Goes`] and done the long way, by [`Messages`].

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::Node;
use super::error::NodeError;
use super::messages::{Messages, Verdict, Waiting, to_content};
use super::types::{Message, Payload, PeerRef, Request};
pub use super::waiting::Sink;
use super::waiting::Waiter;
use crate::proto::messenger::Outcome;
use crate::wire::Addr;

/// A message or request under way.
#[derive(Debug)]
pub struct Begun {
    pub(super) is_request: bool,
    /// Names it at the peer, for sending it again.
    pub(super) id: Option<u64>,
    pub(super) addr: Addr,
    pub(super) after: Duration,
    pub(super) deadline: Instant,
    /// Why it has to be tried again.
    pub(super) failed: Option<NodeError>,
}

impl Begun {
    pub(super) fn nothing(is_request: bool, after: Duration) -> Self {
        let deadline = Instant::now() + after;
        Self { is_request, id: None, addr: Addr::default(), after, deadline, failed: None }
    }

    pub(super) const fn what(&self) -> &'static str {
        if self.is_request { "request" } else { "send" }
    }
}

/// What an outcome means for who [began](Messages::begin) it.
#[derive(Debug)]
pub enum Progress {
    /// It is over. What a message is answered with means nothing.
    Over(Result<(Addr, Payload), NodeError>),
    /// [Go on](Messages::go_on) with it.
    Goes(Begun),
}

impl Messages {
    /// Begins what is usual, without a task to wait: `sink` gets the outcome under the number that
    /// is returned. `None`: it takes more than usual. The flag says that
    /// [`Node::send_gathered`](super::Node::send_gathered) must be called.
    pub(super) fn begin(
        &self,
        peer: &PeerRef,
        payload: &Payload,
        is_request: bool,
        after: Duration,
        sink: Arc<dyn Sink>,
    ) -> Result<Option<(u64, Begun, bool)>, NodeError> {
        let Some(target) = self.resolver.cached(peer).filter(|target| target.is_native) else {
            return Ok(None);
        };
        let content = to_content(payload.clone())?;
        let (ticket, gathers) = self.shared.act_for_loop(|core, now| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            let (messenger, endpoint) = (&mut core.messenger, &mut core.endpoint);
            let ticket = if is_request {
                messenger.request(now, endpoint, target.addr, content, None)
            } else {
                messenger.send(now, endpoint, target.addr, content, None)
            };
            messenger.set_deadline(ticket.number, now + after);
            core.outcomes.insert(ticket.number, Waiter::Sink(sink));
            Ok((ticket, now))
        });
        let (ticket, now) = ticket?;
        let deadline = Instant::from_std(now + after);
        let (addr, id) = (target.addr, Some(ticket.id));
        let begun = Begun { is_request, id, addr, after, deadline, failed: None };
        Ok(Some((ticket.number, begun, gathers)))
    }

    /// Takes the outcome of what was begun; `None` means that the node was closed.
    pub(super) fn conclude(
        &self,
        peer: &PeerRef,
        mut begun: Begun,
        outcome: Option<Outcome>,
    ) -> Progress {
        match self.judge(peer, &begun, outcome) {
            Verdict::Done(Ok(Some(answer))) => Progress::Over(Ok(answer)),
            Verdict::Done(Err(error)) => {
                Progress::Over(Err(self.resolver.blame_privacy(peer, error)))
            }
            Verdict::Done(Ok(None)) => Progress::Goes(begun),
            Verdict::Again(error) => {
                begun.failed = Some(error);
                Progress::Goes(begun)
            }
        }
    }

    /// What takes more than usual: the peer must be looked up again, or is a Go node.
    pub(super) async fn go_on(
        &self,
        peer: &PeerRef,
        payload: Payload,
        begun: Begun,
    ) -> Result<(Addr, Payload), NodeError> {
        if begun.is_request {
            return self.request_on(peer, payload, begun).await;
        }
        let addr = begun.addr;
        self.send_on(peer, payload, begun).await.map(|()| (addr, Payload::default()))
    }

    /// Nobody waits for it any more.
    pub(super) fn withdraw(&self, number: u64) {
        drop(Waiting { shared: &self.shared, number: Some(number) });
    }
}

impl Node {
    /// Begins a message or a request; `sink` gets the outcome under the number that is returned,
    /// for [`conclude`](Self::conclude). `None`: this one needs [`send`](Self::send) or
    /// [`request`](Self::request). If the flag is set, call
    /// [`send_gathered`](Self::send_gathered) soon.
    ///
    /// # Errors
    /// The payload is too large, or the node is closed.
    pub fn begin(
        &self,
        peer: &PeerRef,
        payload: &Payload,
        is_request: bool,
        timeout: Duration,
        sink: Arc<dyn Sink>,
    ) -> Result<Option<(u64, Begun, bool)>, NodeError> {
        self.inner.messages.begin(peer, payload, is_request, timeout, sink)
    }

    /// Says what an outcome means.
    pub fn conclude(&self, peer: &PeerRef, begun: Begun, outcome: Option<Outcome>) -> Progress {
        self.inner.messages.conclude(peer, begun, outcome)
    }

    /// Goes on with what is not over.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn go_on(
        &self,
        peer: &PeerRef,
        payload: Payload,
        begun: Begun,
    ) -> Result<(Addr, Payload), NodeError> {
        self.inner.messages.go_on(peer, payload, begun).await
    }

    /// Nobody waits any more for what was begun under this number.
    pub fn withdraw(&self, number: u64) {
        self.inner.messages.withdraw(number);
    }

    /// At most `limit` messages that wait, none if there are none.
    ///
    /// # Errors
    /// [`NodeError::Closed`].
    pub fn try_messages(&self, limit: usize) -> Result<Vec<Message>, NodeError> {
        let taken = self.inner.shared.act_gathering(|core, now| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            let mut taken = Vec::new();
            while taken.len() < limit {
                if let Some(foreign) = core.inbox.take_foreign() {
                    taken.push(Err(foreign));
                } else if let Some(own) = core.messenger.take_message(now, &mut core.endpoint) {
                    taken.push(Ok(own));
                } else {
                    break;
                }
            }
            Ok(taken)
        })?;
        let messages = taken.into_iter().map(|taken| match taken {
            Ok(message) => self.inner.messages.message(message),
            Err(foreign) => foreign,
        });
        Ok(messages.collect())
    }

    /// As [`try_messages`](Self::try_messages), waiting.
    pub fn poll_messages(
        &self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Vec<Message>, NodeError>> {
        self.poll_inbox(cx, |node| node.try_messages(limit), |inbox| &mut inbox.message)
    }

    /// At most `limit` requests that wait; none unless [`set_serving`](Self::set_serving) is on.
    ///
    /// # Errors
    /// [`NodeError::Closed`].
    pub fn try_requests(&self, limit: usize) -> Result<Vec<Request>, NodeError> {
        let taken = self.inner.shared.act_gathering(|core, now| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            let mut taken = Vec::new();
            while taken.len() < limit
                && let Some(request) = core.messenger.take_request(now, &mut core.endpoint)
            {
                taken.push(request);
            }
            Ok(taken)
        })?;
        let requests = taken.into_iter();
        Ok(requests.map(|request| self.inner.messages.incoming_request(request)).collect())
    }

    /// As [`try_requests`](Self::try_requests), waiting.
    pub fn poll_requests(
        &self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Vec<Request>, NodeError>> {
        self.poll_inbox(cx, |node| node.try_requests(limit), |inbox| &mut inbox.request)
    }

    fn poll_inbox<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl Fn(&Self) -> Result<Vec<T>, NodeError>,
        waiters: impl FnOnce(&mut super::waiting::Inbox) -> &mut Vec<std::task::Waker>,
    ) -> Poll<Result<Vec<T>, NodeError>> {
        let is_ready = |taken: &Result<Vec<T>, _>| taken.as_ref().map_or(true, |t| !t.is_empty());
        let taken = take(self);
        if is_ready(&taken) {
            return Poll::Ready(taken);
        }
        self.inner.shared.look(|core| {
            let waiters = waiters(&mut core.inbox);
            if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
        });
        // Something may have come between the look and the wait.
        let taken = take(self);
        if is_ready(&taken) { Poll::Ready(taken) } else { Poll::Pending }
    }

    /// As [`reply`](Self::reply), for an event loop that answers many in one go: if the flag is
    /// set, call [`send_gathered`](Self::send_gathered) soon.
    ///
    /// # Errors
    /// The reply is too large, or the node is closed.
    pub fn reply_gathering(
        &self,
        ticket: u64,
        result: Result<Payload, String>,
    ) -> Result<bool, NodeError> {
        let result = match result.map(to_content) {
            Ok(Ok(content)) => Ok(content),
            Ok(Err(error)) => return Err(error),
            Err(text) => Err(text),
        };
        let (replied, gathers) = self.inner.shared.act_for_loop(|core, now| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            core.messenger.reply(now, &mut core.endpoint, ticket, result);
            Ok(())
        });
        replied.map(|()| gathers)
    }
}
