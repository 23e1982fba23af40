//! What is told about nodes, and to whom.

use std::net::SocketAddr;

use super::record::Node;
use super::{Directory, Refusal, refuse};
use crate::proto::beacon::Roster;
use crate::wire::registry::{AgentInfo, ErrorCode, Found, NodeInfo, Resolved, Response};
use crate::wire::{Addr, NodeId};

/// Most agents in one reply.
const MAX_FOUND: usize = 100;
const SECS_PER_DAY: u64 = 24 * 3600;

impl Directory {
    pub(super) fn lookup(&self, from: SocketAddr, id: NodeId) -> Result<Response, Refusal> {
        let node = self.known(id)?;
        let record = &node.record;
        Ok(Response::LookupOk(NodeInfo {
            node_id: id,
            address: node.addr().to_string(),
            networks: vec![0],
            public_key: Some(record.public_key),
            public: record.public,
            hostname: record.hostname.clone(),
            tags: record.tags.clone(),
            capabilities: record.capabilities.clone(),
            task_exec: record.task_exec,
            real_addr: if record.public { text_for(node, from) } else { String::new() },
            version: record.version.clone(),
            relay_only: record.relay_only,
            polo_score: None,
        }))
    }

    pub(super) fn resolve(
        &self,
        now: u64,
        from: SocketAddr,
        id: NodeId,
        requester: NodeId,
    ) -> Result<Response, Refusal> {
        let node = self.reachable(now, id, requester)?;
        let record = &node.record;
        let key_age_days = now.saturating_sub(record.key_since) / SECS_PER_DAY;
        Ok(Response::ResolveOk(Resolved {
            node_id: id,
            real_addr: text_for(node, from),
            lan_addrs: record.lan_addrs.clone(),
            relay_only: record.relay_only,
            key_age_days: i64::try_from(key_age_days).ok(),
            public_key: Some(record.public_key),
            version: record.version.clone(),
            hostname: record.hostname.clone(),
        }))
    }

    /// `requester` is authenticated.
    pub(super) fn resolve_hostname(
        &self,
        now: u64,
        from: SocketAddr,
        hostname: &str,
        requester: Option<NodeId>,
    ) -> Result<Response, Refusal> {
        let Some(node) = self.by_hostname.get(hostname).and_then(|id| self.registered(*id)) else {
            return refuse(ErrorCode::NotFound, format!("hostname {hostname:?}: not found"));
        };
        let record = &node.record;
        let mut found = Found {
            node_id: record.id,
            address: node.addr().to_string(),
            public: record.public,
            hostname: record.hostname.clone(),
            ..Found::default()
        };
        if self.may_reach(node, requester) {
            check_online(node, now)?;
            found.real_addr = text_for(node, from);
            found.lan_addrs.clone_from(&record.lan_addrs);
            found.relay_only = record.relay_only;
            found.public_key = Some(record.public_key);
            found.version.clone_from(&record.version);
        }
        Ok(Response::ResolveHostnameOk(found))
    }

    pub(super) fn punch(
        &self,
        now: u64,
        from: SocketAddr,
        requester: NodeId,
        a: NodeId,
        b: NodeId,
    ) -> Result<Response, Refusal> {
        if requester != a && requester != b {
            return refuse(ErrorCode::Invalid, "invalid punch: requester must be one of the two");
        }
        let (node_a, node_b) =
            (self.reachable(now, a, requester)?, self.reachable(now, b, requester)?);
        Ok(Response::PunchOk {
            node_a: a,
            node_a_addr: text_for(node_a, from),
            node_b: b,
            node_b_addr: text_for(node_b, from),
        })
    }

    pub(super) fn find(&self, now: u64, from: SocketAddr, query: &str, limit: u32) -> Response {
        let limit = usize::try_from(limit).unwrap_or(MAX_FOUND).min(MAX_FOUND);
        let is_online =
            |id: NodeId| self.registered(id).is_some_and(|node| node.offline_since(now).is_none());
        let ranked = self.index.search(query, limit, is_online);
        let agents = ranked.into_iter().filter_map(|(id, score)| {
            let node = self.registered(id)?;
            let record = &node.record;
            Some(AgentInfo {
                node_id: id,
                address: node.addr().to_string(),
                hostname: record.hostname.clone(),
                capabilities: record.capabilities.clone(),
                tags: record.tags.clone(),
                score,
                version: record.version.clone(),
                real_addr: text_for(node, from),
                public_key: Some(record.public_key),
            })
        });
        Response::FindOk { agents: agents.collect() }
    }

    /// The node, if `requester` may have its endpoint and it is there.
    fn reachable(&self, now: u64, id: NodeId, requester: NodeId) -> Result<&Node, Refusal> {
        let node = self.known(id)?;
        if !self.may_reach(node, Some(requester)) {
            let text = format!(
                "cannot resolve {}: it is private and has not approved you; send it a trust request",
                Addr::global(id)
            );
            return refuse(ErrorCode::Private, text);
        }
        check_online(node, now)?;
        Ok(node)
    }

    fn may_reach(&self, node: &Node, requester: Option<NodeId>) -> bool {
        let id = node.record.id;
        let is_friend = |requester| requester == id || self.trust.trusts(id, requester);
        node.record.public || requester.is_some_and(is_friend)
    }

    fn known(&self, id: NodeId) -> Result<&Node, Refusal> {
        match self.registered(id) {
            Some(node) => Ok(node),
            None => refuse(ErrorCode::NotFound, format!("node {}: not found", Addr::global(id))),
        }
    }
}

impl Roster for Directory {
    fn registered(&self, node: NodeId) -> Option<SocketAddr> {
        let record = &self.registered(node)?.record;
        record.offline_since.is_none().then_some(record.endpoint)
    }

    fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.registered(node).map(|node| node.record.public_key.0)
    }

    fn may_punch(&self, requester: NodeId, target: NodeId) -> bool {
        self.registered(target).is_some_and(|node| self.may_reach(node, Some(requester)))
    }
}

fn check_online(node: &Node, now: u64) -> Result<(), Refusal> {
    let Some(since) = node.offline_since(now) else { return Ok(()) };
    let secs = now.saturating_sub(since);
    refuse(ErrorCode::Offline, format!("cannot reach {}: offline for {secs} s", node.addr()))
}

fn text_for(node: &Node, viewer: SocketAddr) -> String {
    node.endpoint_for(viewer.ip()).to_string()
}
