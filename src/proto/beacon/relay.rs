//! Passing frames on: from whom, to where.

use std::net::SocketAddr;
use std::time::Instant;

use super::cluster::ANNOUNCE_WITHIN;
use super::noted::Noted;
use super::{Action, Beacon, Roster, attached, canonical, encoded};
use crate::wire::NodeId;
use crate::wire::beacon::{
    BeaconMessage, CHALLENGE_LEN, DELIVER_HEADER_LEN, RELAY_HEADER_LEN, deliver_header,
};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The node, where it was noted.
    Known,
    /// The node, as far as anybody can tell; it should prove that.
    Likely,
    /// Perhaps the node, somewhere else.
    Doubtful,
    /// No node.
    Nobody,
}

impl Beacon {
    pub(super) fn relay(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (sender, destination): (NodeId, NodeId),
        datagram: &mut [u8],
        roster: &impl Roster,
    ) -> Option<Action> {
        if !self.addresses.admit_relay(now, from.ip()) {
            self.stats.limited += 1;
            return Some(Action::Ignore);
        }
        // Another beacon has looked at the sender, and must not get the frame back.
        let is_passed_on = self.cluster.has(from);
        if !is_passed_on {
            let speaker = self.hear(now, from, sender, roster);
            if matches!(speaker, Speaker::Likely | Speaker::Doubtful)
                && datagram.len() >= CHALLENGE_LEN
                && attached::node_at(from).is_none()
                && self.hints.admit(now, from)
                && self.admit_request(now, from)
            {
                self.challenge(now, from, sender);
            }
            if !matches!(speaker, Speaker::Known | Speaker::Likely) {
                return None;
            }
        }
        let is_recent = |noted: &Noted| now.duration_since(noted.last_heard) <= ANNOUNCE_WITHIN;
        let is_here = self.nodes.get(now, destination).is_some_and(is_recent);
        let elsewhere = self.cluster.find(now, destination).filter(|_| !is_here && !is_passed_on);
        let forward = match elsewhere {
            Some(to) => Action::Forward { to, start: 0 },
            None => {
                let (to, is_extended) = self.find(now, destination, roster)?;
                let start = rewrite_header(datagram, sender, destination, is_extended)?;
                Action::Forward { to, start }
            }
        };
        if let Some(noted) = self.nodes.get_mut(now, sender)
            && !is_passed_on
            && !from.ip().is_loopback()
            && !self.capacity.admit(now, &mut noted.usage, datagram.len())
        {
            self.stats.limited += 1;
            return Some(Action::Ignore);
        }
        self.stats.relayed += 1;
        Some(forward)
    }

    /// Who it is that says to be `node`. If it can only be the node, it lives, and is at `from`.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        from: SocketAddr,
        node: NodeId,
        roster: &impl Roster,
    ) -> Speaker {
        if let Some(noted) = self.nodes.get_mut(now, node) {
            if noted.endpoint.ip() != from.ip() {
                return Speaker::Doubtful;
            }
            noted.last_heard = now;
            if noted.endpoint == from {
                return Speaker::Known;
            }
            if !noted.is_proven {
                self.nodes.relocate(node, from);
                self.stats.moves += 1;
            }
            return Speaker::Likely;
        }
        match self.registered(now, node, roster) {
            Some(registered) if registered.ip().to_canonical() == from.ip() => {
                self.insert(node, Noted::new(now, from));
                Speaker::Likely
            }
            Some(_) => Speaker::Doubtful,
            None => Speaker::Nobody,
        }
    }

    /// Where to reach `node`, and whether it understands deliveries with a destination. A node
    /// that is not noted, because this beacon was just started, may be where it registered.
    pub(super) fn find(
        &self,
        now: Instant,
        node: NodeId,
        roster: &impl Roster,
    ) -> Option<(SocketAddr, bool)> {
        match self.nodes.get(now, node) {
            Some(noted) => Some((noted.endpoint, noted.is_extended)),
            None => {
                let endpoint = canonical(self.registered(now, node, roster)?);
                (endpoint.port() != 0).then_some((endpoint, false))
            }
        }
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
