//! What a node tells of itself, its peers, and the agents that the registry knows.

use super::core::Core;
use super::{AgentInfo, Node, NodeError, NodeInfo, PathKind, PeerInfo};
use crate::net::clock;
use crate::proto::endpoint::Peer;
use crate::proto::path::Via;
use crate::proto::pmtud::PathMtu;
use crate::wire::registry::{Request, Response};
use crate::wire::{Addr, NodeId};

impl Node {
    /// What it knows of itself.
    #[must_use]
    pub fn info(&self) -> NodeInfo {
        let inner = &self.inner;
        let profile = inner.membership.profile.try_read().ok();
        let public = profile.as_ref().map_or(inner.config.public, |profile| profile.is_public);
        let capabilities =
            profile.map_or_else(|| inner.config.capabilities.clone(), |p| p.capabilities.clone());
        let hosts_rendezvous = inner.membership.is_hosting();
        let registered = inner.membership.is_registered();
        inner.shared.look(|core| {
            let endpoint = &core.endpoint;
            NodeInfo {
                address: Addr::global(endpoint.node()),
                hostname: inner.config.hostname.clone(),
                public_key: inner.public_key,
                local_addr: inner.shared.udp.local_addr(),
                observed_addr: *core.observed.borrow(),
                transport: if core.detour.is_on() { "websocket" } else { "udp" },
                nat: endpoint.nat(),
                mapping_lifetime: endpoint.mapping_lifetime(),
                candidates: endpoint.candidates().to_vec(),
                rendezvous: inner.spec.to_string(),
                hosts_rendezvous,
                registered,
                public,
                capabilities,
                uptime: clock::now().saturating_duration_since(inner.started),
                peers: endpoint.peers().count(),
                streams: endpoint.stream_count(),
                counters: counters(core),
            }
        })
    }

    /// The peers it has, or is making, a tunnel with.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let inner = &self.inner;
        let mut peers: Vec<PeerInfo> = inner.shared.look(|core| {
            let endpoint = &core.endpoint;
            let info = |(node, peer): (NodeId, &Peer)| {
                let route = endpoint.route(node);
                let (bytes_sent, bytes_received) = peer.traffic();
                PeerInfo {
                    address: Addr::global(node),
                    hostname: None,
                    public_key: peer.tunnel().peer_key(),
                    encrypted: peer.tunnel().is_ready(),
                    path: path_kind(route),
                    endpoint: match route {
                        Some(Via::Relay) => endpoint.beacon(),
                        _ => peer.path().direct().map(|remote| remote.addr),
                    },
                    rtt: peer.rtt(),
                    path_mtu: peer.path_mtu().map(PathMtu::size),
                    streams: peer.streams(),
                    bytes_sent,
                    bytes_received,
                }
            };
            endpoint.peers().map(info).collect()
        });
        for peer in &mut peers {
            peer.hostname = inner.resolver.hostname_of(peer.address.node);
        }
        peers.sort_by_key(|peer| peer.address);
        peers
    }

    /// Agents that can do what `query` says, best first.
    ///
    /// # Errors
    /// The registry does not answer, or does not know the request.
    pub async fn find(&self, query: &str, limit: usize) -> Result<Vec<AgentInfo>, NodeError> {
        let membership = &self.inner.membership;
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let request = Request::Find { query: query.to_owned(), limit };
        let response = membership.registry.call(request).await;
        match response.map_err(|error| membership.explain(error))? {
            Response::FindOk { agents } => Ok(agents
                .into_iter()
                .map(|agent| AgentInfo {
                    address: Addr::global(agent.node_id),
                    hostname: Some(agent.hostname).filter(|name| !name.is_empty()),
                    capabilities: agent.capabilities,
                    score: agent.score,
                })
                .collect()),
            other => Err(membership.nonsense(&other)),
        }
    }
}

fn counters(core: &Core) -> Vec<(&'static str, u64)> {
    let (stats, paths) = (core.endpoint.stats(), core.watchers.counters);
    vec![
        ("datagrams_sent", stats.datagrams_sent),
        ("datagrams_received", stats.datagrams_received),
        ("bytes_sent", stats.bytes_sent),
        ("bytes_received", stats.bytes_received),
        ("dropped_malformed", stats.dropped_malformed),
        ("dropped_unauthenticated", stats.dropped_unauthenticated),
        ("dropped_invalid", stats.dropped_invalid),
        ("dropped_limited", stats.dropped_limited),
        ("streams_opened", stats.streams_opened),
        ("paths_upgraded", paths.upgraded),
        ("paths_lost", paths.lost),
        ("paths_moved", paths.moved),
    ]
}

fn path_kind(route: Option<Via>) -> PathKind {
    match route {
        Some(Via::Relay) => PathKind::Relay,
        _ => PathKind::Direct,
    }
}
