//! The node's verbs about trust.

use std::time::Duration;

use crate::node::Node;
use crate::node::error::NodeError;
use crate::node::types::{PeerRef, PendingTrust, TrustAnswer, TrustedPeer};

impl Node {
    /// Asks a peer for its trust, and gives it this node's when it agrees. Waits for the answer of
    /// the peer's owner for at most `timeout`; an answer that comes later counts as well.
    ///
    /// # Errors
    /// The peer is unknown, or neither it nor the registry takes the request.
    pub async fn request_trust(
        &self,
        peer: &PeerRef,
        justification: &str,
        timeout: Duration,
    ) -> Result<TrustAnswer, NodeError> {
        self.inner.trust.request(peer, justification, timeout).await
    }

    /// Requests for trust that wait for [`approve`](Self::approve) or [`reject`](Self::reject).
    #[must_use]
    pub fn pending_trust(&self) -> Vec<PendingTrust> {
        self.inner.trust.pending()
    }

    /// Trusts a peer, whether it has asked already or will ask: it may find and reach this node
    /// although it is private.
    ///
    /// # Errors
    /// The peer is unknown, or its key is not the pinned one.
    pub async fn approve(&self, peer: &PeerRef) -> Result<(), NodeError> {
        self.inner.trust.approve(peer).await
    }

    /// Drops a peer's request for trust, and tells it why.
    ///
    /// # Errors
    /// The peer is unknown, or has not asked.
    pub async fn reject(&self, peer: &PeerRef, reason: &str) -> Result<(), NodeError> {
        self.inner.trust.reject(peer, reason).await
    }

    /// Trusts a peer no longer, and tells it. If this node is private, the peer's streams end.
    ///
    /// # Errors
    /// The registry could not be told. This node does not trust the peer any more all the same.
    pub async fn revoke(&self, peer: &PeerRef) -> Result<(), NodeError> {
        self.inner.trust.revoke(peer).await
    }

    /// Whom this node trusts.
    #[must_use]
    pub fn trusted(&self) -> Vec<TrustedPeer> {
        self.inner.trust.trusted()
    }
}
