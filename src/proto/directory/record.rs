//! What is known of a node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::OFFLINE_AFTER_SECS;
use super::limits::Allowance;
use crate::wire::registry::PublicKey;
use crate::wire::registry::values::node_id;
use crate::wire::{Addr, NodeId};

/// What of a node outlives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id, for as long as the record exists.
    #[serde(with = "node_id")]
    pub id: NodeId,
    /// Its identity.
    pub public_key: PublicKey,
    /// When that key came, unix seconds.
    pub key_since: u64,
    /// Where its UDP socket is: the source of its connection, with the port it claims.
    pub endpoint: SocketAddr,
    /// The whole endpoint that it claims.
    #[serde(default)]
    pub claimed: Option<SocketAddr>,
    /// Endpoints in its own network.
    #[serde(default)]
    pub lan_addrs: Vec<String>,
    /// Only a beacon reaches it, and nobody else is told its endpoint; the port may be 0.
    #[serde(default)]
    pub relay_only: bool,
    /// What it says it is.
    #[serde(default)]
    pub version: String,
    /// Its unique name, or nothing.
    #[serde(default)]
    pub hostname: String,
    /// Strangers may have its endpoint.
    #[serde(default)]
    pub public: bool,
    /// It executes tasks.
    #[serde(default)]
    pub task_exec: bool,
    /// Labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What it says it can do.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Since when it has been known to be offline, unix seconds.
    #[serde(default)]
    pub offline_since: Option<u64>,
    /// It deregistered: the id is kept for its key, the rest is gone.
    #[serde(default)]
    pub has_left: bool,
}

/// A node, with what is forgotten at a restart.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) record: NodeRecord,
    /// Unix seconds of the last sign of life.
    pub(super) last_seen: u64,
    pub(super) allowance: Allowance,
}

impl Node {
    /// Since when the node is offline at `now`, if it is.
    pub(super) fn offline_since(&self, now: u64) -> Option<u64> {
        let gone = self.last_seen.saturating_add(OFFLINE_AFTER_SECS);
        self.record.offline_since.or_else(|| (now > gone).then_some(gone))
    }

    pub(super) fn addr(&self) -> Addr {
        Addr::global(self.record.id)
    }

    /// The endpoint, as one at `viewer` reaches it; 0.0.0.0:0 if only a beacon does.
    ///
    /// A node on this very host is connected from loopback, which nobody elsewhere can use; then
    /// the address that it claims is the better one. Only this host's own nodes can cause that.
    pub(super) fn endpoint_for(&self, viewer: IpAddr) -> SocketAddr {
        let NodeRecord { endpoint, claimed, .. } = &self.record;
        if self.record.relay_only {
            return SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        }
        match claimed {
            Some(claimed)
                if endpoint.ip().is_loopback()
                    && !viewer.to_canonical().is_loopback()
                    && !claimed.ip().is_loopback()
                    && !claimed.ip().is_unspecified() =>
            {
                *claimed
            }
            _ => *endpoint,
        }
    }
}
