//! What the node knows of the network it is in, and what its user wants of paths.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Endpoint, EndpointConfig, Peer, StreamId};
use crate::proto::nat::NatKind;
use crate::proto::path::{Candidate, Conditions, PathPolicy, PathReport, TrafficClass};
use crate::wire::NodeId;

/// How long a NAT keeps a mapping, as long as nobody has measured it: as little as any that is
/// still of use.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(20);
/// Bounds on what was measured.
const LEAST_LIFETIME: Duration = Duration::from_secs(8);
const MOST_LIFETIME: Duration = Duration::from_secs(120);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct OwnNetwork {
    pub(super) candidates: Vec<Candidate>,
    /// Counts the lists of candidates.
    pub(super) list: u32,
    pub(super) nat: NatKind,
    mapping_lifetime: Option<Duration>,
    is_udp_blocked: bool,
    policy: PathPolicy,
    /// Of single peers, also of those that are not known yet or have been forgotten.
    policies: HashMap<NodeId, PathPolicy>,
    /// The last discover that a path asked for, and how many there were of late.
    pub(super) discovered: Option<(Instant, u32)>,
}

impl OwnNetwork {
    /// What a peer has that becomes known now.
    pub(super) fn policy_of(&self, node: NodeId) -> Option<Box<PathPolicy>> {
        self.policies.get(&node).copied().map(Box::new)
    }

    /// What the user wants with a peer.
    pub(super) fn policy<'a>(&'a self, peer: &'a Peer) -> &'a PathPolicy {
        peer.policy.as_deref().unwrap_or(&self.policy)
    }

    /// What holds for the paths to a peer.
    pub(super) fn conditions(
        &self,
        beacon: Option<SocketAddr>,
        config: &EndpointConfig,
        peer: &Peer,
    ) -> Conditions {
        let policy = self.policy(peer);
        let lifetime = self.mapping_lifetime.unwrap_or(UNKNOWN_LIFETIME);
        let lifetime = lifetime.clamp(LEAST_LIFETIME, MOST_LIFETIME);
        let keepalive = (lifetime * 3 / 4).min(config.keepalive);
        Conditions {
            has_relay: beacon.is_some() && policy.relay,
            has_direct: policy.direct && !self.is_udp_blocked,
            lan_only: policy.lan_only,
            keepalive: keepalive - peer.early(keepalive),
            lifetime,
            has_streams: peer.streams > 0,
        }
    }
}

impl Endpoint {
    /// Replaces what peers are told of our addresses, best first.
    pub fn set_candidates(&mut self, now: Instant, candidates: Vec<Candidate>) {
        if self.network.candidates == candidates {
            return;
        }
        self.network.candidates = candidates;
        self.tell_everybody(now);
    }

    /// Our addresses, as they were given.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.network.candidates
    }

    /// What kind of NAT we are behind.
    pub fn set_nat(&mut self, nat: NatKind) {
        self.network.nat = nat;
    }

    /// The same, as it was told.
    #[must_use]
    pub fn nat(&self) -> NatKind {
        self.network.nat
    }

    /// How long the NAT keeps a mapping that nobody uses.
    pub fn set_mapping_lifetime(&mut self, lifetime: Duration) {
        self.network.mapping_lifetime = Some(lifetime);
    }

    /// The same, as it was told.
    #[must_use]
    pub fn mapping_lifetime(&self) -> Option<Duration> {
        self.network.mapping_lifetime
    }

    /// While UDP is blocked no direct path is tried, and the driver carries what is for the beacon
    /// by other means.
    pub fn set_udp_blocked(&mut self, now: Instant, is_blocked: bool) {
        if std::mem::replace(&mut self.network.is_udp_blocked, is_blocked) != is_blocked {
            self.apply_conditions(None);
            self.handle_network_change(now);
        }
    }

    /// Addresses of this machine have changed, or it slept: every path must be proved anew.
    pub fn handle_network_change(&mut self, now: Instant) {
        self.forget_punching(now);
        self.discover();
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            let conditions = self.network.conditions(self.beacon, &self.config, peer);
            peer.path.on_network_change(now, &conditions);
            self.after_path(now, node);
            self.arm_peer(now, node);
        }
    }

    /// Sets which paths may be used: with one peer, or with all that have no policy of their own.
    pub fn set_policy(&mut self, node: Option<NodeId>, policy: PathPolicy) {
        match node {
            None => self.network.policy = policy,
            Some(node) => {
                self.network.policies.insert(node, policy);
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.policy = Some(Box::new(policy));
                }
            }
        }
        self.apply_conditions(node);
    }

    /// Sets what a stream is, for the policy.
    pub fn set_class(&mut self, id: StreamId, class: TrafficClass) {
        if let Some(slot) = self.slot_mut(id) {
            slot.class = class;
            self.touch(id);
        }
    }

    /// All paths to a peer that are known, the one in use first.
    #[must_use]
    pub fn path_report(&self, node: NodeId) -> Vec<PathReport> {
        let Some(peer) = self.peers.get(&node) else { return Vec::new() };
        let conditions = self.network.conditions(self.beacon, &self.config, peer);
        let mut reports = peer.path.report(&conditions);
        for report in &mut reports {
            report.mtu = peer.path_mtu().filter(|mtu| mtu.via() == report.via).map(|m| m.size());
        }
        reports
    }

    /// The conditions have changed, for one peer or for all.
    fn apply_conditions(&mut self, node: Option<NodeId>) {
        let nodes: Vec<NodeId> = match node {
            Some(node) => vec![node],
            None => self.peers.keys().copied().collect(),
        };
        for node in nodes {
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            let conditions = self.network.conditions(self.beacon, &self.config, peer);
            peer.path.apply(&conditions);
            peer.has_waiting_streams = false;
            self.wake_streams(node);
        }
    }

    /// Peers in use are told our candidates at once, the others when they are used again.
    fn tell_everybody(&mut self, now: Instant) {
        self.network.list = self.network.list.wrapping_add(1);
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.path.tell(now);
                self.arm_peer(now, node);
            }
        }
    }
}
