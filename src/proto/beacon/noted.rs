//! Where nodes are, and when to believe that one has moved.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::limits::Usage;
use super::{BeaconConfig, EXPIRES_AFTER, attached};
use crate::proto::subscriber::subscriber;
use crate::wire::NodeId;

/// An endpoint silent for this long may be replaced by one at another address.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(30);
/// The same for one whose node has shown that it can prove itself: three heartbeats.
pub(super) const PROVEN_SILENT_AFTER: Duration = Duration::from_secs(180);

/// Where a node is.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) endpoint: SocketAddr,
    pub(super) last_heard: Instant,
    /// It understands deliveries that name the destination.
    pub(super) is_extended: bool,
    /// Its identity has signed for this endpoint.
    pub(super) is_proven: bool,
    pub(super) usage: Usage,
}

impl Noted {
    pub(super) fn new(now: Instant, endpoint: SocketAddr) -> Self {
        Self {
            endpoint,
            last_heard: now,
            is_extended: false,
            is_proven: false,
            usage: Usage::new(now),
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_heard) < EXPIRES_AFTER
    }

    /// Whether to believe, without proof, that the node is now at `from`.
    pub(super) fn may_move(&self, now: Instant, from: SocketAddr, registered: SocketAddr) -> bool {
        let is_registered_there = registered.ip().to_canonical() == from.ip();
        if attached::node_at(self.endpoint).is_some() {
            return self.endpoint == from || is_registered_there && registered.port() != 0;
        }
        let silence = now.saturating_duration_since(self.last_heard);
        if self.is_proven {
            return self.endpoint == from || silence >= PROVEN_SILENT_AFTER;
        }
        self.endpoint.ip() == from.ip() || is_registered_there || silence >= SILENT_AFTER
    }
}

/// The nodes that were noted; bounded, as a whole and by address.
#[derive(Debug)]
pub(super) struct Table {
    nodes: HashMap<NodeId, Noted>,
    per_address: HashMap<IpAddr, usize>,
    max: usize,
    max_per_address: usize,
}

impl Table {
    pub(super) fn new(config: &BeaconConfig) -> Self {
        Self {
            nodes: HashMap::new(),
            per_address: HashMap::new(),
            max: config.max_nodes,
            max_per_address: config.max_nodes_per_address,
        }
    }

    /// The node, unless it was silent for too long.
    pub(super) fn get(&self, now: Instant, node: NodeId) -> Option<&Noted> {
        self.nodes.get(&node).filter(|noted| noted.is_live(now))
    }

    pub(super) fn get_mut(&mut self, now: Instant, node: NodeId) -> Option<&mut Noted> {
        self.nodes.get_mut(&node).filter(|noted| noted.is_live(now))
    }

    /// Notes the node if there is room.
    pub(super) fn insert(&mut self, node: NodeId, noted: Noted) -> bool {
        self.remove(node);
        // Connections are few and bounded, so there is room for them in any case.
        let has_room = self.nodes.len() < self.max || attached::node_at(noted.endpoint).is_some();
        if !has_room || !self.count(noted.endpoint.ip()) {
            return false;
        }
        self.nodes.insert(node, noted);
        true
    }

    /// Forgets the node if that is where it is.
    pub(super) fn remove_from(&mut self, endpoint: SocketAddr, node: NodeId) {
        if self.nodes.get(&node).is_some_and(|noted| noted.endpoint == endpoint) {
            self.remove(node);
        }
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        if let Some(old) = self.nodes.remove(&node) {
            self.discount(old.endpoint.ip());
        }
    }

    /// Moves a node that is there; nothing is proved about the new endpoint. `false` if its new address has too many.
    pub(super) fn relocate(&mut self, node: NodeId, to: SocketAddr) -> bool {
        let Some(from) = self.nodes.get(&node).map(|noted| noted.endpoint) else { return false };
        if subscriber(from.ip()) != subscriber(to.ip()) {
            if !self.count(to.ip()) {
                return false;
            }
            self.discount(from.ip());
        }
        if let Some(noted) = self.nodes.get_mut(&node) {
            noted.endpoint = to;
            noted.is_proven = false;
        }
        true
    }

    pub(super) fn forget_silent(&mut self, now: Instant) {
        let silent = |(&node, noted): (&NodeId, &Noted)| (!noted.is_live(now)).then_some(node);
        let silent: Vec<NodeId> = self.nodes.iter().filter_map(silent).collect();
        silent.into_iter().for_each(|node| self.remove(node));
    }

    /// The nodes that were heard not longer than this ago.
    pub(super) fn heard_within(&self, now: Instant, age: Duration) -> Vec<NodeId> {
        let is_recent = |noted: &Noted| now.saturating_duration_since(noted.last_heard) <= age;
        self.nodes.iter().filter(|(_, noted)| is_recent(noted)).map(|(&node, _)| node).collect()
    }

    fn count(&mut self, ip: IpAddr) -> bool {
        if ip.is_loopback() {
            return true;
        }
        let count = self.per_address.entry(subscriber(ip)).or_insert(0);
        if *count >= self.max_per_address {
            return false;
        }
        *count += 1;
        true
    }

    fn discount(&mut self, ip: IpAddr) {
        let ip = subscriber(ip);
        match self.per_address.get_mut(&ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.per_address.remove(&ip);
            }
        }
    }
}
