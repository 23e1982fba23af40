//! The beacon as a state machine: tells nodes their endpoint, introduces them, relays for them.
//!
//! Nothing that reaches a beacon is authenticated, so its rules keep the harm small:
//!
//! * Everybody is told the endpoint that a discover came from, but only nodes that the registry
//!   beside it knows are noted, for ten minutes after their last word.
//! * A noted node moves to another endpoint if the new address is its old one (a NAT that changed
//!   the port, a restart) or the one it registered from (roaming: a node registers anew when its
//!   address changes), or else once the old endpoint has been silent for 30 s. So a stranger who
//!   says a node's number cannot take its relayed traffic while the node is there; should he take
//!   it later, the node's next discover takes it back, and the traffic was sealed all along.
//! * Relaying and punching is for noted nodes, from the address they were noted with, toward noted
//!   nodes; and nobody is led to a private node that does not trust the asker. Instead of what it
//!   noted, a beacon that was just started believes the registry, whose addresses TCP has proved.
//! * Nodes with a connection of their own instead of UDP are in [`attached`].
//! * What goes to whoever asked is at most 15 bytes longer than what came, and each address may
//!   send only so much: a beacon is of no use to flood others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::wire::NodeId;
use crate::wire::beacon::{
    BeaconMessage, DELIVER_HEADER_LEN, NOTIFY_HANDSHAKE, RELAY_HEADER_LEN, deliver_header,
};

pub mod attached;
#[cfg(test)]
mod tests;

/// A node is forgotten this long after its last word.
const EXPIRES_AFTER: Duration = Duration::from_secs(600);
/// An endpoint silent for this long may be replaced by one at another address.
const SILENT_AFTER: Duration = Duration::from_secs(30);

/// What a beacon asks the registry beside it.
pub trait Roster {
    /// The address that the node registered from, with the port it claims, 0 if none; `None` if
    /// it is not registered.
    fn registered(&self, node: NodeId) -> Option<SocketAddr>;
    /// Whether `requester` may learn the endpoint of `target`.
    fn may_punch(&self, requester: NodeId, target: NodeId) -> bool;
}

/// What a [`Beacon`] allows.
#[derive(Debug, Clone, PartialEq)]
pub struct BeaconConfig {
    /// Nodes noted at once. Default 100,000, about 100 bytes each.
    pub max_nodes: usize,
    /// Relayed datagrams a second from one address, after a burst of as many as a quarter second
    /// has; loopback is not limited. Default 100,000, which is a gigabit a second.
    pub relays_per_sec: u32,
    /// Discovers and punches a second from one address, after a burst of two seconds' worth;
    /// loopback is not limited. Default 50.
    pub requests_per_sec: u32,
    /// Addresses whose rate is watched at once. Default 65,536.
    pub max_sources: usize,
}

impl Default for BeaconConfig {
    fn default() -> Self {
        Self {
            max_nodes: 100_000,
            relays_per_sec: 100_000,
            requests_per_sec: 50,
            max_sources: 65_536,
        }
    }
}

/// What to do about a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Ignore,
    /// Send these.
    Send(Vec<(SocketAddr, Vec<u8>)>),
    /// Send the datagram on, from byte `start`; its header has been rewritten in place.
    Forward {
        /// Where to.
        to: SocketAddr,
        /// The first byte to send.
        start: usize,
    },
}

/// What a beacon did; plain counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BeaconStats {
    /// Discovers that were answered.
    pub discovers: u64,
    /// Pairs of nodes that were introduced.
    pub punches: u64,
    /// Datagrams passed on.
    pub relayed: u64,
    /// Datagrams dropped: malformed, not allowed, or for a node that is not noted.
    pub dropped: u64,
    /// Datagrams dropped because their address sent too many.
    pub limited: u64,
    /// Changes of endpoint that were not believed.
    pub refused_moves: u64,
}

/// The state of a beacon.
#[derive(Debug)]
pub struct Beacon {
    config: BeaconConfig,
    nodes: HashMap<NodeId, Noted>,
    sources: HashMap<IpAddr, Source>,
    stats: BeaconStats,
}

#[derive(Debug)]
struct Noted {
    endpoint: SocketAddr,
    last_heard: Instant,
    /// It understands deliveries that name the destination.
    is_extended: bool,
}

/// When an address will have paid for what it sent (GCRA): never further ahead than the burst.
#[derive(Debug, Clone, Copy)]
struct Source {
    relays: Instant,
    requests: Instant,
}

impl Beacon {
    /// A beacon that knows nobody.
    #[must_use]
    pub fn new(config: BeaconConfig) -> Self {
        Self {
            config,
            nodes: HashMap::new(),
            sources: HashMap::new(),
            stats: BeaconStats::default(),
        }
    }

    /// Takes a datagram from `from`. Its header may be rewritten, for [`Action::Forward`].
    #[must_use]
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
        roster: &impl Roster,
    ) -> Action {
        let from = canonical(from);
        let action = match BeaconMessage::parse(datagram) {
            Ok(BeaconMessage::Discover { node, extended, .. }) => {
                self.discover(now, from, node, extended, roster)
            }
            Ok(BeaconMessage::PunchRequest { requester, target, .. }) => {
                self.punch(now, from, requester, target, roster)
            }
            Ok(BeaconMessage::Relay { sender, destination, .. }) => {
                self.relay(now, from, (sender, destination), datagram, roster)
            }
            // Tunnel frames, messages for nodes, and gossip: there are no other beacons here.
            Ok(_) | Err(_) => None,
        };
        action.unwrap_or_else(|| {
            self.stats.dropped += 1;
            Action::Ignore
        })
    }

    /// The datagram that tells `node` that a handshake waits for it at the registry.
    #[must_use]
    pub fn notify(&self, now: Instant, node: NodeId) -> Option<(SocketAddr, Vec<u8>)> {
        let noted = self.noted(now, node)?;
        Some((noted.endpoint, encoded(BeaconMessage::Notify { kind: NOTIFY_HANDSHAKE })))
    }

    /// Forgets who was silent; call it every minute or so.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.nodes
            .retain(|_, noted| now.saturating_duration_since(noted.last_heard) < EXPIRES_AFTER);
        self.sources.retain(|_, source| source.relays > now || source.requests > now);
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> BeaconStats {
        self.stats
    }

    /// Where the node was last heard.
    #[must_use]
    pub fn endpoint(&self, now: Instant, node: NodeId) -> Option<SocketAddr> {
        self.noted(now, node).map(|noted| noted.endpoint)
    }

    fn discover(
        &mut self,
        now: Instant,
        from: SocketAddr,
        node: NodeId,
        is_extended: bool,
        roster: &impl Roster,
    ) -> Option<Action> {
        if !self.admit_request(now, from.ip()) {
            return Some(Action::Ignore);
        }
        if attached::node_at(from).is_some_and(|own| own != node) {
            return None;
        }
        if let Some(registered) = roster.registered(node)
            && node.0 != 0
        {
            self.note(now, from, node, is_extended, registered);
        }
        self.stats.discovers += 1;
        let reply = encoded(BeaconMessage::DiscoverReply { endpoint: from });
        Some(Action::Send(vec![(from, reply)]))
    }

    fn note(
        &mut self,
        now: Instant,
        from: SocketAddr,
        node: NodeId,
        is_extended: bool,
        registered: SocketAddr,
    ) {
        let is_registered_there = registered.ip().to_canonical() == from.ip();
        let noted = Noted { endpoint: from, last_heard: now, is_extended };
        let has_room = self.nodes.len() < self.config.max_nodes;
        match self.nodes.get_mut(&node) {
            Some(old) => {
                let is_attached = attached::node_at(old.endpoint).is_some();
                let is_believed = old.endpoint.ip() == from.ip()
                    || is_registered_there && (!is_attached || registered.port() != 0)
                    || !is_attached
                        && now.saturating_duration_since(old.last_heard) >= SILENT_AFTER;
                if is_believed {
                    *old = noted;
                } else {
                    self.stats.refused_moves += 1;
                }
            }
            None if has_room => {
                self.nodes.insert(node, noted);
            }
            // The sweep makes room again; the table is larger than a registry's by default.
            None => {}
        }
    }

    fn punch(
        &mut self,
        now: Instant,
        from: SocketAddr,
        requester: NodeId,
        target: NodeId,
        roster: &impl Roster,
    ) -> Option<Action> {
        if !self.admit_request(now, from.ip()) {
            return Some(Action::Ignore);
        }
        self.heard(now, from, requester, roster)?;
        let (target_endpoint, _) = self.find(now, target, roster)?;
        if requester == target || !roster.may_punch(requester, target) {
            return None;
        }
        let is_attached = |endpoint| attached::node_at(endpoint).is_some();
        if is_attached(from) || is_attached(target_endpoint) {
            return Some(Action::Ignore);
        }
        self.stats.punches += 1;
        let punch = |endpoint| encoded(BeaconMessage::PunchCommand { endpoint });
        Some(Action::Send(vec![(from, punch(target_endpoint)), (target_endpoint, punch(from))]))
    }

    fn relay(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (sender, destination): (NodeId, NodeId),
        datagram: &mut [u8],
        roster: &impl Roster,
    ) -> Option<Action> {
        if !self.admit_relay(now, from.ip()) {
            return Some(Action::Ignore);
        }
        self.heard(now, from, sender, roster)?;
        let (to, is_extended) = self.find(now, destination, roster)?;
        let start = rewrite_header(datagram, sender, destination, is_extended)?;
        self.stats.relayed += 1;
        Some(Action::Forward { to, start })
    }

    /// Checks that `node` may speak from `from`: it is noted at that address, or not yet noted
    /// and registered from there. It lives.
    fn heard(
        &mut self,
        now: Instant,
        from: SocketAddr,
        node: NodeId,
        roster: &impl Roster,
    ) -> Option<()> {
        if self.noted(now, node).is_none() {
            let registered = roster.registered(node)?;
            if registered.ip().to_canonical() != from.ip() {
                return None;
            }
            self.nodes.remove(&node);
            self.note(now, from, node, false, registered);
        }
        let noted = self.nodes.get_mut(&node)?;
        if noted.endpoint.ip() != from.ip() {
            return None;
        }
        noted.last_heard = now;
        Some(())
    }

    /// Where to reach `node`, and whether it understands deliveries with a destination. A node
    /// that is not noted, because this beacon was just started, may be where it registered.
    fn find(&self, now: Instant, node: NodeId, roster: &impl Roster) -> Option<(SocketAddr, bool)> {
        match self.noted(now, node) {
            Some(noted) => Some((noted.endpoint, noted.is_extended)),
            None => {
                let endpoint = canonical(roster.registered(node)?);
                (endpoint.port() != 0).then_some((endpoint, false))
            }
        }
    }

    fn noted(&self, now: Instant, node: NodeId) -> Option<&Noted> {
        let noted = self.nodes.get(&node)?;
        (now.saturating_duration_since(noted.last_heard) < EXPIRES_AFTER).then_some(noted)
    }

    fn admit_request(&mut self, now: Instant, ip: IpAddr) -> bool {
        let per_sec = self.config.requests_per_sec.max(1);
        let burst = Duration::from_secs(2);
        self.admit(now, ip, per_sec, burst, |source| &mut source.requests)
    }

    fn admit_relay(&mut self, now: Instant, ip: IpAddr) -> bool {
        let per_sec = self.config.relays_per_sec.max(1);
        let burst = Duration::from_millis(250);
        self.admit(now, ip, per_sec, burst, |source| &mut source.relays)
    }

    fn admit(
        &mut self,
        now: Instant,
        ip: IpAddr,
        per_sec: u32,
        burst: Duration,
        which: impl Fn(&mut Source) -> &mut Instant,
    ) -> bool {
        if ip.is_loopback() {
            return true;
        }
        if self.sources.len() >= self.config.max_sources && !self.sources.contains_key(&ip) {
            self.sources.retain(|_, source| source.relays > now || source.requests > now);
            if self.sources.len() >= self.config.max_sources {
                self.stats.limited += 1;
                return false;
            }
        }
        let source = self.sources.entry(ip).or_insert(Source { relays: now, requests: now });
        let paid_at = which(source);
        if *paid_at > now + burst {
            self.stats.limited += 1;
            return false;
        }
        *paid_at = (*paid_at).max(now) + Duration::from_secs(1) / per_sec;
        true
    }
}

/// Turns the header of a relay request into that of a delivery, and says where it begins.
///
/// ```text
/// 0x05 | sender | destination | frame      as received
/// 0x09 | sender | destination | frame      to a node that understands it
///          0x06 | sender      | frame      to any other
/// ```
fn rewrite_header(
    datagram: &mut [u8],
    sender: NodeId,
    destination: NodeId,
    is_extended: bool,
) -> Option<usize> {
    if is_extended {
        let destination = Some(destination);
        let header = encoded(BeaconMessage::RelayDeliver { sender, destination, frame: &[] });
        datagram.get_mut(..header.len())?.copy_from_slice(&header);
        return Some(0);
    }
    let start = RELAY_HEADER_LEN - DELIVER_HEADER_LEN;
    datagram.get_mut(start..RELAY_HEADER_LEN)?.copy_from_slice(&deliver_header(sender));
    Some(start)
}

fn encoded(message: BeaconMessage<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    message.encode(&mut out);
    out
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
