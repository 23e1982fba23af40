//! Trust by way of the registry: reports, requests left for peers that cannot be dialled, answers.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::{Trust, Way};
use crate::net::clock;
use crate::net::registry_client::RegistryError;
use crate::node::error::NodeError;
use crate::node::types::PeerRef;
use crate::wire::registry::{ErrorCode, Request, Response};
use crate::wire::{Addr, NodeId};

/// Time between looks while an answer is awaited, as at release 1.18; the beacon's ring may be lost.
const EAGER: Duration = Duration::from_secs(2);
/// Least time between looks: rings are not authenticated.
const GAP: Duration = Duration::from_millis(100);
/// Answers under way at once.
const MAX_ANSWERS: usize = 16;

impl Trust {
    /// Looks for requests and answers at the registry, and keeps it informed, until it is aborted.
    pub(in crate::node) async fn keep(self: Arc<Self>, heartbeat: Duration) {
        let mut link = self.resolver.registry.link();
        let mut answers = JoinSet::new();
        self.report_again();
        loop {
            self.poll(&mut answers).await;
            let is_informed = self.report_all().await;
            let is_eager = self.waiting.load(Ordering::Relaxed) > 0 || !is_informed;
            let pause = if is_eager { heartbeat.min(EAGER) } else { heartbeat };
            tokio::time::sleep(GAP).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.ring.notified() => {}
                changed = link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // A registry that came back may have lost what it knew.
                    self.report_again();
                }
            }
            while answers.try_join_next().is_some() {}
        }
    }

    fn report_again(&self) {
        let trusted: Vec<NodeId> =
            self.store.look(|book| book.trusted().map(|trusted| trusted.node_id).collect());
        self.unreported().extend(trusted);
    }

    pub(super) fn unreported(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.unreported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn poll(self: &Arc<Self>, answers: &mut JoinSet<()>) {
        let request = Request::PollHandshakes { node_id: self.node(), signature: None };
        let polled = self.resolver.registry.call(self.resolver.signed(request)).await;
        let Ok(Response::PollHandshakesOk { requests, responses }) = polled else { return };
        for request in requests {
            let from = request.from_node_id;
            let Ok((_, key)) = self.resolver.identify(&PeerRef::Node(from)).await else {
                // Not registered any more, or not the one we know by this address.
                debug!(peer = %Addr::global(from), "trust request without a usable key");
                continue;
            };
            let now = clock::unix_now();
            let verdict = self
                .store
                .change(|book| book.on_request(now, from, key, &request.justification))
                .await;
            match verdict {
                Ok(verdict) => {
                    while answers.len() >= MAX_ANSWERS {
                        answers.join_next().await;
                    }
                    let trust = self.clone();
                    answers.spawn(async move { trust.follow(from, verdict, Way::Relay).await });
                }
                Err(reason) => debug!(peer = %Addr::global(from), %reason, "request ignored"),
            }
        }
        for response in responses {
            let from = response.from_node_id;
            let Ok((_, key)) = self.resolver.identify(&PeerRef::Node(from)).await else { continue };
            let answer = if response.accept { Ok(()) } else { Err("") };
            let now = clock::unix_now();
            let verdict = self.store.change(|book| book.on_answer(now, from, key, answer)).await;
            match verdict {
                Ok(verdict) => self.follow(from, verdict, Way::Relay).await,
                Err(reason) => debug!(peer = %Addr::global(from), %reason, "answer ignored"),
            }
        }
    }

    /// Whether the registry knows everything now.
    async fn report_all(&self) -> bool {
        loop {
            let next = self.unreported().first().copied();
            let Some(node) = next else { return true };
            if self.report(node).await.is_err() {
                return false;
            }
        }
    }

    /// Tells the registry that we trust a peer, so that it gives the peer our endpoint. Fails if
    /// that is worth another attempt, which the look at the registry makes.
    pub(super) async fn report(&self, peer: NodeId) -> Result<(), RegistryError> {
        self.unreported().insert(peer);
        let request = Request::ReportTrust { node_id: self.node(), peer_id: peer, signature: None };
        let reported = self.resolver.registry.call(self.resolver.signed(request)).await;
        match reported {
            Ok(_) => {}
            // A registry that says no will not say yes later, unless it has only forgotten us.
            Err(RegistryError::Refused { code, text, .. }) if code != ErrorCode::NotRegistered => {
                warn!(peer = %Addr::global(peer), text, "the registry does not note the trust");
            }
            Err(error) => return Err(error),
        }
        self.unreported().remove(&peer);
        Ok(())
    }

    /// Leaves a request at the registry.
    pub(super) async fn leave_request(
        &self,
        node: NodeId,
        peer: &PeerRef,
        justification: &str,
    ) -> Result<(), NodeError> {
        let request = Request::RequestHandshake {
            from_node_id: self.node(),
            to_node_id: node,
            justification: justification.to_owned(),
            signature: None,
        };
        match self.resolver.registry.call(self.resolver.signed(request)).await {
            // An earlier one waits still.
            Ok(_) | Err(RegistryError::Refused { code: ErrorCode::Already, .. }) => Ok(()),
            Err(error) => Err(self.resolver.explain(error, peer)),
        }
    }

    /// Leaves an answer at the registry; `false` if it knows of no request.
    pub(super) async fn respond(&self, node: NodeId, accept: bool) -> bool {
        let request = Request::RespondHandshake {
            node_id: self.node(),
            peer_id: node,
            accept,
            signature: None,
        };
        self.resolver.registry.call(self.resolver.signed(request)).await.is_ok()
    }
}
