//! Who trusts whom, by their own signed word.
//!
//! Old registries make a pair of one side's report, so that whoever reports trust in a private
//! node learns its endpoint. Here a report is one direction: a private node's endpoint goes to
//! those whom it trusts itself. Release 1.18.0 reports from both sides, so nothing is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::{Directory, Effect, Refusal, refuse};
use crate::wire::NodeId;
use crate::wire::registry::{ErrorCode, Response};

/// Most nodes that one node can trust.
const MAX_TRUSTED: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct TrustTable {
    trusted: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl TrustTable {
    /// Whether `node` says that it trusts `peer`.
    pub(super) fn trusts(&self, node: NodeId, peer: NodeId) -> bool {
        self.trusted.get(&node).is_some_and(|peers| peers.contains(&peer))
    }

    pub(super) fn is_mutual(&self, a: NodeId, b: NodeId) -> bool {
        self.trusts(a, b) && self.trusts(b, a)
    }

    /// True if it was new.
    pub(super) fn insert(&mut self, node: NodeId, peer: NodeId) -> Result<bool, Refusal> {
        let peers = self.trusted.entry(node).or_default();
        if peers.len() >= MAX_TRUSTED && !peers.contains(&peer) {
            let text = format!("too many trusted nodes: the limit is {MAX_TRUSTED}");
            return refuse(ErrorCode::Limited, text);
        }
        Ok(peers.insert(peer))
    }

    /// True if it was there.
    pub(super) fn remove(&mut self, node: NodeId, peer: NodeId) -> bool {
        let Some(peers) = self.trusted.get_mut(&node) else { return false };
        let was_there = peers.remove(&peer);
        if peers.is_empty() {
            self.trusted.remove(&node);
        }
        was_there
    }

    /// Forgets whom `node` trusts, and who trusts it: the pairs that were there.
    pub(super) fn remove_all(&mut self, node: NodeId) -> Vec<(NodeId, NodeId)> {
        let own = self.trusted.remove(&node).unwrap_or_default();
        let mut pairs: Vec<_> = own.into_iter().map(|peer| (node, peer)).collect();
        self.trusted.retain(|&other, peers| {
            if peers.remove(&node) {
                pairs.push((other, node));
            }
            !peers.is_empty()
        });
        pairs
    }
}

impl Directory {
    pub(super) fn report_trust(&mut self, id: NodeId, peer: NodeId) -> Result<Response, Refusal> {
        if id == peer {
            return refuse(ErrorCode::Invalid, "invalid peer_id: a node cannot trust itself");
        }
        // The peer need not be registered: after a lost database, who reports first is chance.
        self.add_trust(id, peer)?;
        Ok(Response::ReportTrustOk {})
    }

    /// Ends it in both directions: it was the pair that either side could rely on.
    pub(super) fn revoke_trust(&mut self, id: NodeId, peer: NodeId) -> Response {
        for (node, peer) in [(id, peer), (peer, id)] {
            if self.trust.remove(node, peer) {
                self.effects.push(Effect::RemoveTrust { node, peer });
                self.is_durable = true;
            }
        }
        Response::RevokeTrustOk {}
    }

    pub(super) fn add_trust(&mut self, node: NodeId, peer: NodeId) -> Result<(), Refusal> {
        if self.trust.insert(node, peer)? {
            self.effects.push(Effect::PutTrust { node, peer });
            self.is_durable = true;
        }
        Ok(())
    }
}
