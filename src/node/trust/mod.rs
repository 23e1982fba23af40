//! Trust: who may find and reach this node while it is private.
//!
//! | file | what |
//! |---|---|
//! | `book` | the decisions, without I/O |
//! | `store` | the book behind its lock, and its file |
//! | `relay` | requests and answers by way of the registry, for peers that cannot be dialled |
//! | `verbs` | what [`Node`](super::Node) offers of it |
//! | this | carrying the verbs out, and what follows from a decision |
//!
//! Direct messages come and go on stream port 444, see `services::handshake`.

mod book;
#[cfg(test)]
mod book_tests;
mod relay;
mod store;
mod verbs;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info};

use book::Verdict;
pub(super) use store::TrustStore;

use super::core::Shared;
use super::error::NodeError;
use super::resolver::Resolver;
use super::services::handshake;
use super::types::{PeerRef, PendingTrust, TrustAnswer, TrustedPeer};
use crate::net::clock;
use crate::wire::handshake::{HandshakeKind, HandshakeMessage, sign_string};
use crate::wire::registry::Request;
use crate::wire::{Addr, NodeId};

/// How long a message to a peer may take before the registry is used instead.
const DIRECT: Duration = Duration::from_secs(5);
/// How far the time of a message may run ahead of the clock so that no two are alike.
const MAX_LEAD: i64 = 20;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Trust {
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    store: Arc<TrustStore>,
    /// Asks for a look at the registry.
    ring: Notify,
    /// Verbs that wait for an answer.
    waiting: AtomicUsize,
    last_time: AtomicI64,
    /// Whom the registry does not know yet to be trusted.
    unreported: Mutex<BTreeSet<NodeId>>,
}

impl Trust {
    pub(super) fn new(
        shared: Arc<Shared>,
        resolver: Arc<Resolver>,
        store: Arc<TrustStore>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            resolver,
            store,
            ring: Notify::new(),
            waiting: AtomicUsize::new(0),
            last_time: AtomicI64::new(0),
            unreported: Mutex::default(),
        })
    }

    /// Something waits at the registry.
    pub(super) fn ring(&self) {
        self.ring.notify_one();
    }

    /// The node has closed: lets those who wait for an answer see it.
    pub(super) fn wake(&self) {
        self.store.wake();
    }

    pub(super) fn pending(&self) -> Vec<PendingTrust> {
        let mut pending: Vec<PendingTrust> = self.store.look(|book| {
            let entries = book.pending().map(|pending| PendingTrust {
                address: Addr::global(pending.node_id),
                hostname: None,
                public_key: pending.public_key.0,
                justification: pending.justification.clone(),
                received_at: pending.received_at,
            });
            entries.collect()
        });
        for entry in &mut pending {
            entry.hostname = self.resolver.hostname_of(entry.address.node);
        }
        pending
    }

    pub(super) fn trusted(&self) -> Vec<TrustedPeer> {
        let mut trusted: Vec<TrustedPeer> = self.store.look(|book| {
            let entries = book.trusted().map(|trusted| TrustedPeer {
                address: Addr::global(trusted.node_id),
                hostname: None,
                public_key: trusted.public_key.0,
                since: trusted.since,
                mutual: trusted.mutual,
            });
            entries.collect()
        });
        for entry in &mut trusted {
            entry.hostname = self.resolver.hostname_of(entry.address.node);
        }
        trusted
    }

    /// Asks a peer for its trust, and gives it ours when it agrees.
    pub(super) async fn request(
        &self,
        peer: &PeerRef,
        justification: &str,
        after: Duration,
    ) -> Result<TrustAnswer, NodeError> {
        let deadline = Instant::now() + after;
        let late = || NodeError::Timeout { peer: peer.to_string(), what: "request_trust", after };
        let identified = timeout_at(deadline, self.resolver.identify(peer)).await;
        let (node, _) = identified.map_err(|_| late())??;
        let message = self.message(HandshakeKind::Request, node, justification, "");
        message.encode().map_err(|error| NodeError::Invalid(format!("justification: {error}")))?;
        let mut changes = self.store.subscribe();
        if !self.store.change(|book| book.request(clock::unix_now(), node)).await {
            let text = "too many trust requests of this node wait for an answer";
            return Err(NodeError::Invalid(text.to_owned()));
        }
        let _waiting = Waiting::new(&self.waiting);
        let sending = async {
            if let Err(error) = self.send(node, &message).await {
                debug!(%peer, %error, "trust request goes by the registry");
                self.leave_request(node, peer, justification).await?;
                // It may have been answered at once, by a rule or a request of its own.
                self.ring();
            }
            Ok(())
        };
        timeout_at(deadline, sending).await.map_err(|_| late())??;
        loop {
            changes.mark_unchanged();
            let answer = self.store.look(|book| book.answer(node));
            if answer != TrustAnswer::Undecided {
                return Ok(answer);
            }
            if self.shared.look(|core| core.is_closed) {
                return Err(NodeError::Closed);
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return Ok(TrustAnswer::Undecided);
            }
        }
    }

    /// Trusts a peer, whether it has asked or will.
    pub(super) async fn approve(&self, peer: &PeerRef) -> Result<(), NodeError> {
        let (node, key) = self.resolver.identify(peer).await?;
        let approved = self.store.change(|book| book.approve(clock::unix_now(), node, key)).await;
        let was_pending = approved.ok_or_else(|| {
            NodeError::Invalid("this node trusts too many peers; revoke some".to_owned())
        })?;
        self.admit(node);
        if let Err(error) = self.report(node).await {
            debug!(%peer, %error, "trust is reported later");
            self.ring();
        }
        if was_pending {
            self.answer(node, true, "", Way::Relay).await;
        }
        Ok(())
    }

    /// Drops the request of a peer and tells it why.
    pub(super) async fn reject(&self, peer: &PeerRef, reason: &str) -> Result<(), NodeError> {
        let (node, _) = self.resolver.identify(peer).await?;
        let message = self.message(HandshakeKind::Reject, node, "", reason);
        message.encode().map_err(|error| NodeError::Invalid(format!("reason: {error}")))?;
        if !self.store.change(|book| book.reject(node)).await {
            return Err(NodeError::Invalid(format!("{peer} has not asked for trust")));
        }
        self.answer(node, false, reason, Way::Relay).await;
        Ok(())
    }

    /// Trusts a peer no longer. Our side of it holds at once; the peer is told if it can be.
    pub(super) async fn revoke(&self, peer: &PeerRef) -> Result<(), NodeError> {
        let node = match peer {
            PeerRef::Node(node) => *node,
            PeerRef::Hostname(_) => self.resolver.identify(peer).await?.0,
        };
        let was_trusted = self.store.change(|book| book.revoke(node)).await;
        self.unreported().remove(&node);
        self.expel(node);
        // The registry first: when the peer learns of it, nobody lets it in any more.
        let us = self.node();
        let request = Request::RevokeTrust { node_id: us, peer_id: node, signature: None };
        let revoked = self.resolver.registry.call(self.resolver.signed(request)).await;
        let message = self.message(HandshakeKind::Revoke, node, "", "");
        if was_trusted && let Err(error) = self.send(node, &message).await {
            debug!(%peer, %error, "could not tell the peer that trust is revoked");
        }
        // Dialling it opened a way back.
        self.expel(node);
        revoked.map(|_| ()).map_err(|error| self.resolver.explain(error, peer))
    }

    /// Takes a message that came over the tunnel of `peer`; what follows is done before it returns.
    pub(super) async fn receive(&self, peer: NodeId, message: &HandshakeMessage) {
        // The key of the tunnel is the one that the registry and our pins have for the peer.
        let key = self.shared.look(|core| core.endpoint.peer(peer)?.tunnel().peer_key());
        let Some(key) = key else { return };
        let us = self.node();
        let now = clock::unix_now();
        let verdict = self.store.change(|book| book.receive(now, us, peer, &key, message)).await;
        match verdict {
            Ok(verdict) => self.follow(peer, verdict, Way::Direct).await,
            Err(reason) => {
                debug!(peer = %Addr::global(peer), kind = ?message.kind, %reason, "ignored");
            }
        }
    }

    /// Does what a verdict asks for.
    async fn follow(&self, peer: NodeId, verdict: Verdict, way: Way) {
        let address = Addr::global(peer);
        match verdict {
            Verdict::Accept | Verdict::Granted => {
                info!(peer = %address, "trusted");
                self.admit(peer);
                if let Err(error) = self.report(peer).await {
                    debug!(peer = %address, %error, "trust is reported later");
                    self.ring();
                }
                if verdict == Verdict::Accept {
                    self.answer(peer, true, "", way).await;
                }
            }
            Verdict::Revoked => {
                info!(peer = %address, "no longer trusted: it took its trust back");
                self.expel(peer);
            }
            Verdict::Ask => info!(peer = %address, "asks for trust"),
            Verdict::Refused => info!(peer = %address, "refuses trust"),
        }
    }

    /// Tells a peer what became of its request: the way it came, else the other.
    async fn answer(&self, node: NodeId, accept: bool, reason: &str, way: Way) {
        let kind = if accept { HandshakeKind::Accept } else { HandshakeKind::Reject };
        let message = self.message(kind, node, "", reason);
        let is_told = match way {
            Way::Direct => {
                self.send(node, &message).await.is_ok() || self.respond(node, accept).await
            }
            Way::Relay => {
                self.respond(node, accept).await || self.send(node, &message).await.is_ok()
            }
        };
        if !is_told {
            // It will ask again, and then gets the answer at once.
            debug!(peer = %Addr::global(node), "could not be told");
        }
    }

    /// Sends a message to the peer itself.
    async fn send(&self, node: NodeId, message: &HandshakeMessage) -> Result<(), NodeError> {
        let peer = PeerRef::Node(node);
        let sending = handshake::send(&self.shared, &self.resolver, &peer, message);
        timeout(DIRECT, sending).await.unwrap_or_else(|_| {
            let (peer, what) = (peer.to_string(), "trust handshake");
            Err(NodeError::Timeout { peer, what, after: DIRECT })
        })
    }

    fn message(
        &self,
        kind: HandshakeKind,
        to: NodeId,
        justification: &str,
        reason: &str,
    ) -> HandshakeMessage {
        let us = self.node();
        let identity = &self.resolver.identity;
        HandshakeMessage {
            kind,
            node_id: us,
            public_key: Some(identity.public_key()),
            justification: justification.to_owned(),
            signature: Some(identity.sign(sign_string(us, to).as_bytes())),
            reason: reason.to_owned(),
            timestamp: self.next_time(),
        }
    }

    /// A receiver takes two messages of one second for a replay, so each gets its own.
    fn next_time(&self) -> i64 {
        let now = i64::try_from(clock::unix_now()).unwrap_or(i64::MAX);
        let next = |last: i64| Some((last + 1).clamp(now, now.saturating_add(MAX_LEAD)));
        let last = self.last_time.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.ok().and_then(next).unwrap_or(now)
    }

    fn node(&self) -> NodeId {
        self.shared.look(|core| core.endpoint.node())
    }

    /// Lets a peer in, and looks it up anew: it may have become visible.
    fn admit(&self, node: NodeId) {
        self.resolver.expire(node);
        self.shared.act(|core, now| core.endpoint.set_trusted(now, node, true));
    }

    fn expel(&self, node: NodeId) {
        self.resolver.expire(node);
        self.shared.act(|core, now| core.endpoint.set_trusted(now, node, false));
    }
}

/// How a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Direct,
    Relay,
}

/// Counts a verb that waits, however it ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
