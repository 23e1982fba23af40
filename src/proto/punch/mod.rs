//! Punching through a symmetric NAT, by many ports and luck.
//!
//! A symmetric NAT shows another port to each destination, so nobody can tell a peer where to send
//! to. If the peer's own NAT shows one port to everybody, there is a way still. The side behind
//! the symmetric NAT, the **opener**, sends from many sockets to the peer's one address: each gets
//! a port outside, open for that address only. The other side, the **prober**, sends to ports of
//! the opener's address until it meets one of them. If the beacon's view of a few of the sockets
//! tells how the NAT chooses ports, it tries the next ones first, and succeeds at once; if not, it
//! tries ports at random: 256 open ones of 64,512 are met within 1,024 probes in 98 of 100 cases.
//!
//! ```text
//! prober                          relay                          opener
//!   want (my NAT, my address) ------------------------------------> opens 256 sockets
//!                                                 beacon <--------- four of them: "what is my port?"
//!   <------------------------------- plan (my address, likely ports)
//!   probes, sealed: 125 a second -->                  <------------ openers, from every socket
//! ```
//! The opener may ask first: it says `want`, and the prober answers with its own.
//!
//! # What bounds it
//! One attempt at a time; seldom with the same peer (`history`); 2,048 probes, 20 seconds. All
//! is agreed inside the tunnel. Openers say nothing; probes are sealed, and whoever gets one has
//! to prove the path as any other. So a peer that lies about its address makes us send 12 kB a
//! second for 16 seconds to somebody else, once in a minute.
//!
//! Two symmetric NATs would need 256 times as many probes: such peers stay on the relay.

mod history;
mod opener;
mod ports;
mod predict;
mod prober;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::nat::{Behavior, NatKind};
use super::path::{Remote, SocketId};
use crate::wire::NodeId;
use crate::wire::punch::{PunchMessage, StopReason};
use history::Histories;
use opener::Opener;
use prober::Prober;

/// Paths over sockets other than the main one at once; with more, no others are looked for.
const MAX_KEPT: usize = 64;
/// Sockets that are asked for.
const SOCKETS: u16 = 256;
/// A wish is told at these times after the first, as the relay may lose it; then it has failed.
const WISHES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1_500)];
/// When a wish that nobody answers has failed. The answer may need 256 sockets first.
const WISH_FOR: Duration = Duration::from_secs(5);

/// What [`Puncher`] wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PunchAction {
    /// Open this many sockets, and tell [`Puncher::on_sockets`].
    OpenSockets(SocketId, u16),
    /// Close this many.
    CloseSockets(SocketId, u16),
    /// Ask the beacon where this socket is outside, and tell [`Puncher::on_observed`].
    Discover(SocketId),
    /// Send a frame that says nothing.
    Open(Remote),
    /// Send a sealed frame: whoever gets it knows that the path works one way.
    Probe(Remote),
    /// Tell the peer, inside the tunnel.
    Tell(PunchMessage),
    /// This socket has met the peer: it stays, until [`Puncher::release`].
    Keep(SocketId),
    /// An attempt has ended.
    Ended(StopReason),
}

/// What we know of our own place.
#[derive(Clone, Copy, Debug)]
pub struct OwnPlace {
    /// Our NAT.
    pub nat: NatKind,
    /// Where the beacon sees our main socket.
    pub outside: Option<SocketAddr>,
}

/// What a side can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Opener,
    Prober,
}

impl Side {
    fn of(nat: NatKind) -> Option<Self> {
        match nat.mapping {
            Behavior::AddressDependent | Behavior::AddressAndPortDependent => Some(Self::Opener),
            Behavior::EndpointIndependent | Behavior::Open => Some(Self::Prober),
            Behavior::Unknown => None,
        }
    }
}

/// All attempts of a node, which are made one at a time.
#[derive(Debug)]
pub struct Puncher {
    current: Option<Current>,
    next_socket: u16,
    /// Sockets that carry a path: their names are taken.
    kept: Vec<SocketId>,
    histories: Histories,
    actions: VecDeque<(NodeId, PunchAction)>,
}

#[derive(Debug)]
struct Current {
    node: NodeId,
    attempt: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// We have told the peer that we want it.
    Wishing {
        wish: PunchMessage,
        since: Instant,
        told: usize,
    },
    Opening(Opener),
    Probing(Prober),
}

/// Lets a state machine put its actions where those of all peers wait.
struct Sink<'a> {
    node: NodeId,
    actions: &'a mut VecDeque<(NodeId, PunchAction)>,
}

impl Extend<PunchAction> for Sink<'_> {
    fn extend<I: IntoIterator<Item = PunchAction>>(&mut self, actions: I) {
        self.actions.extend(actions.into_iter().map(|action| (self.node, action)));
    }
}

impl Default for Puncher {
    fn default() -> Self {
        Self {
            current: None,
            next_socket: 1,
            kept: Vec::new(),
            histories: Histories::default(),
            actions: VecDeque::new(),
        }
    }
}

impl Puncher {
    /// A peer is in use, and everything simpler has failed. Does nothing if it is not worth it now.
    pub fn wish(&mut self, now: Instant, node: NodeId, own: OwnPlace, rng: &mut impl Rng) {
        if self.current.is_some() || !self.histories.may_ask(now, node) {
            return;
        }
        self.tell_wish(now, node, rng.random(), own);
    }

    /// Whether [`wish`](Self::wish) would do anything.
    #[must_use]
    pub fn may_wish(&self, now: Instant, node: NodeId) -> bool {
        self.current.is_none() && self.histories.may_ask(now, node)
    }

    /// A message came from a peer, inside the tunnel.
    pub fn on_message(
        &mut self,
        now: Instant,
        node: NodeId,
        message: PunchMessage,
        own: OwnPlace,
        rng: &mut impl Rng,
    ) {
        match message {
            PunchMessage::Want { attempt, mapping, outside, .. } => {
                self.on_want(now, node, attempt, (mapping, outside), own);
            }
            PunchMessage::Plan { attempt, ip, predicted } => {
                if Side::of(own.nat) == Some(Side::Prober)
                    && is_public_place(ip)
                    && let Some(current) = self.current.as_mut().filter(|c| c.node == node)
                    && matches!(current.phase, Phase::Wishing { .. })
                {
                    current.attempt = attempt;
                    current.phase = Phase::Probing(Prober::new(now, ip, &predicted, rng));
                    self.handle_timeout(now);
                }
            }
            PunchMessage::Stop { attempt, reason } => {
                let Some(current) = &mut self.current else { return };
                if current.node != node || current.attempt != attempt {
                    return;
                }
                match (&mut current.phase, reason) {
                    (Phase::Probing(prober), StopReason::Done) => prober.conclude(now),
                    _ => self.end(now, reason),
                }
            }
        }
    }

    /// The driver has opened sockets: their ports on this machine, in order.
    pub fn on_sockets(&mut self, now: Instant, first: SocketId, ports: &[u16]) {
        let Some(Current { node, phase: Phase::Opening(opener), .. }) = &mut self.current else {
            return;
        };
        let mut sink = Sink { node: *node, actions: &mut self.actions };
        if opener.first() == first && !opener.on_sockets(now, ports, &mut sink) {
            self.give_up(now, StopReason::Failed);
        }
    }

    /// The beacon says where a socket other than the main one is outside.
    pub fn on_observed(&mut self, now: Instant, socket: SocketId, outside: SocketAddr) {
        if let Some(Current { phase: Phase::Opening(opener), .. }) = &mut self.current {
            opener.on_observed(now, socket, outside);
        }
    }

    /// A frame that says nothing came from there.
    pub fn on_opener(&mut self, from: Remote) {
        if let Some(Current { phase: Phase::Probing(prober), .. }) = &mut self.current
            && from.socket == SocketId::MAIN
        {
            prober.on_opener(from.addr);
        }
    }

    /// An authenticated frame of a peer came directly.
    pub fn on_frame(&mut self, now: Instant, node: NodeId, from: Remote) {
        let Some(current) = self.current.as_ref().filter(|current| current.node == node) else {
            return;
        };
        let attempt = current.attempt;
        match &current.phase {
            // An ordinary frame from where it always was.
            Phase::Wishing { .. } => return,
            Phase::Probing(prober) if prober.target() != from.addr.ip() => return,
            Phase::Probing(_) => {}
            Phase::Opening(opener) if opener.index(from.socket).is_some() => {
                self.kept.push(from.socket);
                self.act(node, PunchAction::Keep(from.socket));
            }
            // It may have met the main socket's port, too.
            Phase::Opening(opener) if opener.peer() != from.addr => return,
            Phase::Opening(_) => {}
        }
        let done = StopReason::Done;
        self.tell(node, PunchMessage::Stop { attempt, reason: done });
        self.end(now, done);
    }

    /// Whether an attempt with this peer is under way.
    #[must_use]
    pub fn is_with(&self, node: NodeId) -> bool {
        self.current.as_ref().is_some_and(|current| current.node == node)
    }

    /// A path over this socket is no more.
    pub fn release(&mut self, node: NodeId, socket: SocketId) {
        self.kept.retain(|kept| *kept != socket);
        self.act(node, PunchAction::CloseSockets(socket, 1));
    }

    /// Another network: what was learned does not hold there, and what is under way is in vain.
    pub fn on_network_change(&mut self, now: Instant) {
        self.give_up(now, StopReason::Failed);
        self.histories.forget();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.current.as_ref().map(|current| match &current.phase {
            Phase::Wishing { since, told, .. } => {
                *since + WISHES.get(*told).copied().unwrap_or(WISH_FOR)
            }
            Phase::Opening(opener) => opener.next_due(),
            Phase::Probing(prober) => prober.next_due(),
        })
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let Some(Current { node, phase, .. }) = &mut self.current else { return };
        let mut sink = Sink { node: *node, actions: &mut self.actions };
        let goes_on = match phase {
            Phase::Wishing { wish, told, .. } => {
                let goes_on = *told < WISHES.len();
                if goes_on {
                    *told += 1;
                    sink.extend([PunchAction::Tell(wish.clone())]);
                }
                goes_on
            }
            Phase::Opening(opener) => opener.handle_timeout(now, &mut sink),
            Phase::Probing(prober) => prober.handle_timeout(now, &mut sink),
        };
        if !goes_on {
            self.give_up(now, StopReason::Failed);
        }
    }

    /// What is to be done, and whom it is about.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<(NodeId, PunchAction)> {
        self.actions.pop_front()
    }

    fn on_want(
        &mut self,
        now: Instant,
        node: NodeId,
        attempt: u32,
        (mapping, outside): (u8, Option<SocketAddr>),
        own: OwnPlace,
    ) {
        let theirs = NatKind { mapping: behavior(mapping), ..NatKind::default() };
        let refuse = |reason| PunchMessage::Stop { attempt, reason };
        let both = (Side::of(own.nat), Side::of(theirs));
        let is_current = self.current.as_ref().is_some_and(|current| current.node == node);
        let is_wished = is_current
            && matches!(&self.current, Some(Current { phase: Phase::Wishing { .. }, .. }));
        if is_current && !is_wished {
            // It is under way: they have told us twice.
            return;
        }
        match both {
            (Some(Side::Opener), Some(Side::Prober)) => {
                let Some(peer) = outside.filter(|at| is_apart(*at, own.outside)) else {
                    return self.tell(node, refuse(StopReason::Hopeless));
                };
                if self.kept.len() >= MAX_KEPT || !is_wished && !self.may_follow(now, node) {
                    return self.tell(node, refuse(StopReason::Busy));
                }
                let first = self.free_names();
                let own_ip = own.outside.map(|at| at.ip());
                let opener = Opener::new(now, attempt, peer, own_ip, first);
                self.current = Some(Current { node, attempt, phase: Phase::Opening(opener) });
                self.act(node, PunchAction::OpenSockets(first, SOCKETS));
            }
            (Some(Side::Prober), Some(Side::Opener)) => {
                if !is_wished && !self.may_follow(now, node) {
                    return self.tell(node, refuse(StopReason::Busy));
                }
                // They lead; they need to know where we are.
                self.tell_wish(now, node, attempt, own);
            }
            _ => self.tell(node, refuse(StopReason::Hopeless)),
        }
    }

    /// Whether we may do what a peer wishes.
    fn may_follow(&mut self, now: Instant, node: NodeId) -> bool {
        self.current.is_none() && self.histories.take_wish(now, node)
    }

    fn tell_wish(&mut self, now: Instant, node: NodeId, attempt: u32, own: OwnPlace) {
        let is_useful = match Side::of(own.nat) {
            Some(Side::Opener) => true,
            Some(Side::Prober) => own.outside.is_some(),
            None => false,
        };
        if !is_useful {
            return;
        }
        let wish = PunchMessage::Want {
            attempt,
            mapping: number(own.nat.mapping),
            filtering: number(own.nat.filtering),
            outside: own.outside,
        };
        self.tell(node, wish.clone());
        let phase = Phase::Wishing { wish, since: now, told: 0 };
        self.current = Some(Current { node, attempt, phase });
    }

    /// Ends the attempt, if there is one, and lets the peer know.
    fn give_up(&mut self, now: Instant, reason: StopReason) {
        if let Some(Current { node, attempt, .. }) = self.current {
            self.tell(node, PunchMessage::Stop { attempt, reason });
            self.end(now, reason);
        }
    }

    fn end(&mut self, now: Instant, reason: StopReason) {
        let Some(Current { node, phase, .. }) = self.current.take() else { return };
        self.histories.on_end(now, node, reason);
        if let Phase::Opening(opener) = phase {
            self.close_all_but_kept(node, opener.first());
        }
        self.act(node, PunchAction::Ended(reason));
    }

    fn close_all_but_kept(&mut self, node: NodeId, first: SocketId) {
        let end = first.0 + SOCKETS;
        let kept = self.kept.iter().map(|kept| kept.0).find(|kept| (first.0..end).contains(kept));
        let ranges = match kept {
            Some(kept) => [(first.0, kept), (kept + 1, end)],
            None => [(first.0, end), (end, end)],
        };
        for (from, to) in ranges.into_iter().filter(|(from, to)| from < to) {
            self.act(node, PunchAction::CloseSockets(SocketId(from), to - from));
        }
    }

    /// Names of sockets that are not in use.
    fn free_names(&mut self) -> SocketId {
        loop {
            let first = self.next_socket;
            let end = first + SOCKETS;
            self.next_socket = if end > u16::MAX - SOCKETS { 1 } else { end };
            if !self.kept.iter().any(|kept| (first..end).contains(&kept.0)) {
                return SocketId(first);
            }
        }
    }

    fn tell(&mut self, node: NodeId, message: PunchMessage) {
        self.act(node, PunchAction::Tell(message));
    }

    fn act(&mut self, node: NodeId, action: PunchAction) {
        self.actions.push_back((node, action));
    }
}

/// Whether the peer is behind another address than we are, which must be one that frames can be
/// sent to.
fn is_apart(peer: SocketAddr, own: Option<SocketAddr>) -> bool {
    let own_ip = own.map(|own| own.ip());
    peer.port() != 0 && is_public_place(peer.ip()) && own_ip.is_none_or(|own| own != peer.ip())
}

/// Whether one machine, and not this one, may have this address.
fn is_public_place(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast)
}

fn number(behavior: Behavior) -> u8 {
    match behavior {
        Behavior::Unknown => 0,
        Behavior::Open => 1,
        Behavior::EndpointIndependent => 2,
        Behavior::AddressDependent => 3,
        Behavior::AddressAndPortDependent => 4,
    }
}

fn behavior(number: u8) -> Behavior {
    match number {
        1 => Behavior::Open,
        2 => Behavior::EndpointIndependent,
        3 => Behavior::AddressDependent,
        4 => Behavior::AddressAndPortDependent,
        _ => Behavior::Unknown,
    }
}
