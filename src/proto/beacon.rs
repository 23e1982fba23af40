//! The beacon as a state machine: tells nodes their endpoint, introduces them, relays for them.
//!
//! Little that reaches a beacon is authenticated, so its rules keep the harm small:
//!
//! * Everybody is told the endpoint that a discover came from, but only nodes that the registry
//!   beside it knows are noted, for ten minutes after their last word.
//! * A node of ours that speaks from where it was not noted is challenged, and moves as soon as it
//!   has proved itself, a round trip later ([`proof`]). From then on nothing else moves it, unless
//!   it is silent for three minutes.
//! * Others are believed without proof, also by a mere frame, if the new address is the old one (a
//!   NAT that changed the port, a restart) or the one they registered from (roaming: a node
//!   registers anew when its address changes), or else once the old endpoint has been silent for
//!   30 s. So a stranger who says a node's number cannot take its relayed traffic while the node is
//!   there; should he take it later, the node's next discover takes it back, and the traffic was
//!   sealed all along.
//! * Relaying and punching is for noted nodes, from the address they were noted with, toward noted
//!   nodes; and nobody is led to a private node that does not trust the asker. Instead of what it
//!   noted, a beacon that was just started believes the registry, whose addresses TCP has proved.
//! * Nodes with a connection of their own instead of UDP are in [`attached`].
//! * Each address and each node may send only so much, and no node can take the relay from others
//!   ([`limits`]). What goes to whoever asked is at most 15 bytes longer than what came, and
//!   challenges are never longer: a beacon is of no use to flood others.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::wire::NodeId;
use crate::wire::beacon::{BeaconMessage, NOTIFY_HANDSHAKE, NodeList};

pub mod attached;
mod cluster;
mod config;
mod limits;
mod noted;
mod proof;
mod relay;
#[cfg(test)]
mod tests;

pub use cluster::{Foreign, Stranger};
pub use config::{BeaconConfig, BeaconStats};
pub use proof::Claim;

use cluster::{ANNOUNCE_WITHIN, Cluster};
use limits::{Addresses, Capacity, Hints, Proofs};
use noted::{Noted, Table};
use proof::Cookies;
use relay::Speaker;

/// A node is forgotten this long after its last word.
const EXPIRES_AFTER: Duration = Duration::from_secs(600);

/// What a beacon asks the registry beside it.
pub trait Roster {
    /// The address that the node registered from, with the port it claims, 0 if none; `None` if
    /// it is not registered.
    fn registered(&self, node: NodeId) -> Option<SocketAddr>;
    /// The identity that registered as this node.
    fn public_key(&self, node: NodeId) -> Option<[u8; 32]>;
    /// Whether `requester` may learn the endpoint of `target`.
    fn may_punch(&self, requester: NodeId, target: NodeId) -> bool;
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
    /// If the claim [is signed](Claim::is_signed), hand it to [`Beacon::proved`].
    Verify(Box<Claim>),
}

/// The state of a beacon.
#[derive(Debug)]
pub struct Beacon {
    nodes: Table,
    addresses: Addresses,
    capacity: Capacity,
    cookies: Cookies,
    proofs: Proofs,
    hints: Hints,
    cluster: Cluster,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    stats: BeaconStats,
}

impl Beacon {
    /// A beacon that knows nobody. `secret` must be unpredictable.
    #[must_use]
    pub fn new(config: &BeaconConfig, secret: [u8; 32]) -> Self {
        Self {
            nodes: Table::new(config),
            addresses: Addresses::new(config),
            capacity: Capacity::new(config),
            cookies: Cookies::new(secret),
            proofs: Proofs::new(config),
            hints: Hints::new(),
            cluster: Cluster::new(config.id, config.max_nodes),
            outbox: VecDeque::new(),
            stats: BeaconStats::default(),
        }
    }

    /// Takes a datagram from `from`. Its header may be rewritten, for [`Action::Forward`]. Then
    /// drain [`poll_transmit`](Self::poll_transmit).
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
            Ok(BeaconMessage::Prove { node, public_key, cookie, signature }) => {
                let (public_key, cookie, signature) = (*public_key, *cookie, *signature);
                self.prove(now, Claim { node, from, public_key, cookie, signature }, roster)
            }
            Ok(BeaconMessage::PunchRequest { requester, target, .. }) => {
                self.punch(now, from, requester, target, roster)
            }
            Ok(BeaconMessage::Relay { sender, destination, .. }) => {
                self.relay(now, from, (sender, destination), datagram, roster)
            }
            Ok(BeaconMessage::Sync { nodes, .. }) => self.learn(now, from, nodes),
            // Tunnel frames, and messages for nodes.
            Ok(_) | Err(_) => None,
        };
        action.unwrap_or_else(|| {
            self.stats.dropped += 1;
            Action::Ignore
        })
    }

    /// What to do about a claim whose signature holds.
    #[must_use]
    pub fn proved(&mut self, now: Instant, claim: &Claim, roster: &impl Roster) -> Action {
        // Meanwhile the key may have been replaced, and the node forgotten.
        if self.public_key(now, claim.node, roster) != Some(claim.public_key)
            || self.registered(now, claim.node, roster).is_none()
        {
            return Action::Ignore;
        }
        self.stats.proofs += 1;
        match self.nodes.get(now, claim.node).map(|noted| noted.endpoint) {
            Some(endpoint) if endpoint != claim.from => {
                self.stats.moves += u64::from(self.nodes.relocate(claim.node, claim.from));
            }
            Some(_) => {}
            None => self.insert(claim.node, Noted::new(now, claim.from)),
        }
        if let Some(noted) = self.nodes.get_mut(now, claim.node)
            && noted.endpoint == claim.from
        {
            noted.last_heard = now;
            noted.is_proven = true;
        }
        self.observed(claim.from)
    }

    /// The next datagram to send, beyond what an [`Action`] says.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// The datagram that tells `node` that a handshake waits for it at the registry.
    #[must_use]
    pub fn notify(&self, now: Instant, node: NodeId) -> Option<(SocketAddr, Vec<u8>)> {
        let noted = self.nodes.get(now, node)?;
        Some((noted.endpoint, encoded(BeaconMessage::Notify { kind: NOTIFY_HANDSHAKE })))
    }

    /// Names the other beacons of this one's cluster.
    pub fn set_peers(&mut self, peers: impl IntoIterator<Item = SocketAddr>) {
        self.cluster.set_peers(peers.into_iter().map(canonical).collect());
    }

    /// A node to ask the registries of the other beacons about; answer with
    /// [`introduce`](Self::introduce).
    pub fn poll_stranger(&mut self) -> Option<Stranger> {
        self.cluster.poll_stranger()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_strangers(&self) -> bool {
        self.cluster.has_strangers()
    }

    /// What another registry says of a stranger; `None` if none knows it. Then drain
    /// [`poll_transmit`](Self::poll_transmit).
    pub fn introduce(&mut self, now: Instant, stranger: &Stranger, foreign: Option<Foreign>) {
        let Stranger { node, from, proves } = *stranger;
        self.cluster.introduce(now, node, foreign);
        let Some(foreign) = foreign else { return };
        self.note(now, from, node, false, foreign.registered());
        if proves {
            self.challenge(now, from, node);
        }
    }

    /// Forgets who was silent, and tells other beacons who is here; call it every ten seconds, and
    /// drain [`poll_transmit`](Self::poll_transmit).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.nodes.forget_silent(now);
        self.addresses.forget_idle(now);
        self.cluster.forget_old(now);
        if self.cluster.is_alone() {
            return;
        }
        let here = self.nodes.heard_within(now, ANNOUNCE_WITHIN);
        let outbox = &mut self.outbox;
        self.cluster.announce(&here, |to, sync| outbox.push_back((to, sync)));
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> BeaconStats {
        self.stats
    }

    /// Where the node was last heard.
    #[must_use]
    pub fn endpoint(&self, now: Instant, node: NodeId) -> Option<SocketAddr> {
        self.nodes.get(now, node).map(|noted| noted.endpoint)
    }

    fn discover(
        &mut self,
        now: Instant,
        from: SocketAddr,
        node: NodeId,
        is_extended: bool,
        roster: &impl Roster,
    ) -> Option<Action> {
        if !self.admit_request(now, from) {
            return Some(Action::Ignore);
        }
        if attached::node_at(from).is_some_and(|own| own != node) {
            return None;
        }
        match self.registered(now, node, roster) {
            _ if node.0 == 0 => {}
            Some(registered) => self.note(now, from, node, is_extended, registered),
            None => self.cluster.ask_about(now, Stranger { node, from, proves: false }),
        }
        Some(self.observed(from))
    }

    fn observed(&mut self, from: SocketAddr) -> Action {
        self.stats.discovers += 1;
        let reply = encoded(BeaconMessage::DiscoverReply { endpoint: from });
        Action::Send(vec![(from, reply)])
    }

    /// Notes a node that has not proved anything.
    fn note(
        &mut self,
        now: Instant,
        from: SocketAddr,
        node: NodeId,
        is_extended: bool,
        registered: SocketAddr,
    ) {
        let Some(noted) = self.nodes.get_mut(now, node) else {
            // The sweep makes room again; the table is larger than a registry's by default.
            self.insert(node, Noted { is_extended, ..Noted::new(now, from) });
            return;
        };
        if !noted.may_move(now, from, registered) {
            self.stats.refused_moves += 1;
            return;
        }
        if noted.endpoint != from {
            if !self.nodes.relocate(node, from) {
                self.stats.refused_moves += 1;
                return;
            }
            self.stats.moves += 1;
        }
        if let Some(noted) = self.nodes.get_mut(now, node) {
            noted.last_heard = now;
            noted.is_extended = is_extended;
        }
    }

    /// Notes a node, and tells the other beacons at once: they may have frames for it.
    fn insert(&mut self, node: NodeId, noted: Noted) {
        if self.nodes.insert(node, noted) && !self.cluster.is_alone() {
            let outbox = &mut self.outbox;
            self.cluster.announce(&[node], |to, sync| outbox.push_back((to, sync)));
        }
    }

    /// A discover by one of our nodes: an answer to a challenge, or asking for one.
    fn prove(&mut self, now: Instant, claim: Claim, roster: &impl Roster) -> Option<Action> {
        let Claim { node, from, .. } = claim;
        let is_proven = |noted: &Noted| noted.is_proven && noted.endpoint == from;
        let key = self.public_key(now, node, roster);
        if key.is_none() && node.0 != 0 {
            self.cluster.ask_about(now, Stranger { node, from, proves: true });
        }
        if self.nodes.get(now, node).is_some_and(is_proven) || key != Some(claim.public_key) {
            return self.discover(now, from, node, false, roster);
        }
        if self.cookies.knows(now, node, from, &claim.cookie) {
            let is_admitted = self.admit_request(now, from) && self.proofs.admit(now);
            let verify = is_admitted.then(|| Action::Verify(Box::new(claim)));
            return Some(verify.unwrap_or(Action::Ignore));
        }
        let action = self.discover(now, from, node, false, roster);
        if matches!(action, Some(Action::Send(_))) {
            self.challenge(now, from, node);
        }
        action
    }

    fn registered(&self, now: Instant, node: NodeId, roster: &impl Roster) -> Option<SocketAddr> {
        let foreign = || self.cluster.foreign(now, node).map(|foreign| foreign.registered());
        roster.registered(node).or_else(foreign)
    }

    fn public_key(&self, now: Instant, node: NodeId, roster: &impl Roster) -> Option<[u8; 32]> {
        let foreign = || self.cluster.foreign(now, node).map(|foreign| foreign.public_key);
        roster.public_key(node).or_else(foreign)
    }

    fn may_punch(
        &self,
        now: Instant,
        requester: NodeId,
        target: NodeId,
        roster: &impl Roster,
    ) -> bool {
        let is_public = |foreign: Foreign| foreign.endpoint.is_some();
        roster.may_punch(requester, target)
            || self.cluster.foreign(now, target).is_some_and(is_public)
    }

    fn challenge(&mut self, now: Instant, to: SocketAddr, node: NodeId) {
        let cookie = self.cookies.make(now, node, to);
        self.stats.challenges += 1;
        self.outbox.push_back((to, encoded(BeaconMessage::Challenge { cookie: &cookie })));
    }

    fn punch(
        &mut self,
        now: Instant,
        from: SocketAddr,
        requester: NodeId,
        target: NodeId,
        roster: &impl Roster,
    ) -> Option<Action> {
        if !self.admit_request(now, from) {
            return Some(Action::Ignore);
        }
        if !matches!(self.hear(now, from, requester, roster), Speaker::Known | Speaker::Likely) {
            return None;
        }
        let (target_endpoint, _) = self.find(now, target, roster)?;
        if requester == target || !self.may_punch(now, requester, target, roster) {
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

    fn learn(&mut self, now: Instant, from: SocketAddr, nodes: NodeList<'_>) -> Option<Action> {
        self.cluster.has(from).then(|| {
            self.cluster.learn(now, from, nodes);
            Action::Ignore
        })
    }

    fn admit_request(&mut self, now: Instant, from: SocketAddr) -> bool {
        let is_admitted = self.addresses.admit_request(now, from.ip());
        self.stats.limited += u64::from(!is_admitted);
        is_admitted
    }
}

fn encoded(message: BeaconMessage<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    message.encode(&mut out);
    out
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
