//! What the node knows of the network it is in, and what its user wants of paths.

use std::time::{Duration, Instant};

use super::{Endpoint, StreamId};
use crate::proto::nat::NatKind;
use crate::proto::path::{Candidate, PathPolicy, PathReport, TrafficClass};
use crate::wire::NodeId;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct OwnNetwork {
    pub(super) candidates: Vec<Candidate>,
    pub(super) nat: NatKind,
    mapping_lifetime: Option<Duration>,
    is_udp_blocked: bool,
    policy: PathPolicy,
}

impl Endpoint {
    /// Replaces what peers are told of our addresses, best first.
    pub fn set_candidates(&mut self, _now: Instant, candidates: Vec<Candidate>) {
        self.network.candidates = candidates;
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
    pub fn set_udp_blocked(&mut self, _now: Instant, is_blocked: bool) {
        self.network.is_udp_blocked = is_blocked;
    }

    /// Addresses of this machine have changed, or it slept: every path must be proved anew.
    pub fn handle_network_change(&mut self, now: Instant) {
        self.forget_punching(now);
        self.discover();
    }

    /// Sets which paths may be used: with one peer, or with all that have no policy of their own.
    pub fn set_policy(&mut self, node: Option<NodeId>, policy: PathPolicy) {
        if node.is_none() {
            self.network.policy = policy;
        }
    }

    /// Sets what a stream is, for the policy.
    pub fn set_class(&mut self, _id: StreamId, _class: TrafficClass) {}

    /// All paths to a peer that are known, the one in use first.
    #[must_use]
    pub fn path_report(&self, _node: NodeId) -> Vec<PathReport> {
        Vec::new()
    }
}
