//! Bad networks on demand, for programs that are to be tested in one.
//!
//! A simulation stands between a node and its UDP sockets, and does to datagrams what a bad
//! network does: it loses, delays, doubles and reorders them, limits their rate, or lets none
//! through. What a simulated network does to the Nth datagram follows from the seed.
//!
//! It does nothing to the connection with the registry, nor to what goes over a WebSocket.

mod simulator;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use linkem::{LinkParams, Loss};

use self::simulator::{Setting, Target};
use super::core::Shared;
use super::resolver::Resolver;
use super::{Node, NodeError, PeerRef};

pub(super) use self::simulator::Simulator;

/// Longest delay; what is on its way is held in memory.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// What does not get through at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// No datagram, as in a network without UDP.
    Udp,
    /// No datagram between the two nodes themselves: the relay is left.
    Direct,
}

/// Which datagrams, from the node's point of view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// Those it sends and those it receives.
    #[default]
    Both,
    /// Those it sends.
    Outgoing,
    /// Those it receives.
    Incoming,
}

impl Direction {
    fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

/// A bad network.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BadNetwork {
    /// What happens to a datagram in each direction. Its MTU is of UDP payload.
    pub link: LinkParams,
    /// What does not get through.
    pub block: Option<Block>,
    /// Which datagrams meet it.
    pub direction: Direction,
    /// Only the datagrams exchanged with this peer meet it, also those by way of the relay.
    pub peer: Option<PeerRef>,
}

impl BadNetwork {
    fn validate(&self) -> Result<(), NodeError> {
        let LinkParams { delay, jitter, loss, duplicate, reorder, corrupt, .. } = self.link;
        let (enter, leave, inside) = match loss {
            Loss::Bernoulli(share) => (share, 0.0, share),
            Loss::Bursts { enter, leave, loss } => (enter, leave, loss),
        };
        let shares = [
            ("loss", enter),
            ("loss", leave),
            ("loss", inside),
            ("duplicate", duplicate),
            ("reorder", reorder),
            ("corrupt", corrupt),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return nonsense(name, share, "a share from 0 to 1");
            }
        }
        for (name, time) in [("delay", delay), ("jitter", jitter)] {
            if time > MAX_DELAY {
                return nonsense(name, time.as_secs_f64(), "at most 60 seconds");
            }
        }
        match self.link {
            LinkParams { rate: Some(0), .. } => nonsense("rate", 0, "at least 8 bits a second"),
            LinkParams { mtu: Some(0), .. } => nonsense("mtu", 0, "at least 1 byte"),
            _ => Ok(()),
        }
    }
}

fn nonsense(name: &str, value: impl fmt::Display, what: &str) -> Result<(), NodeError> {
    Err(NodeError::Invalid(format!("{name} is {what}, not {value}")))
}

/// What has happened to datagrams in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkCounters {
    /// Met the simulation.
    pub sent: u64,
    /// Got through, copies included.
    pub delivered: u64,
    /// Lost.
    pub lost: u64,
    /// Found no room in the queue in front of a limited rate.
    pub dropped: u64,
    /// Larger than the MTU.
    pub too_big: u64,
    /// Of a kind that is blocked.
    pub blocked: u64,
    /// Doubled.
    pub duplicated: u64,
    /// Held back while others overtook them.
    pub reordered: u64,
}

/// The same for both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SimulationCounters {
    /// From the node.
    pub outgoing: LinkCounters,
    /// To the node.
    pub incoming: LinkCounters,
}

impl Node {
    /// Puts a bad network between this node and its sockets, until
    /// [`stop`](Simulation::stop). Dropping the handle does not end it. A datagram passes all
    /// simulations that are meant for it.
    ///
    /// For a peer whose hostname was not looked up yet nothing happens before
    /// [`Simulation::aim`].
    ///
    /// # Errors
    /// A value makes no sense, or the node is closed.
    pub fn simulate(&self, network: BadNetwork) -> Result<Simulation, NodeError> {
        network.validate()?;
        let BadNetwork { link, block, direction, peer } = network;
        let inner = &self.inner;
        let target = match &peer {
            None => Target::Everybody,
            Some(PeerRef::Node(node)) => Target::Peer(*node),
            Some(name) => inner
                .resolver
                .cached(name)
                .map_or(Target::Unknown, |known| Target::Peer(known.addr.node)),
        };
        let setting = Setting { link, block, direction };
        let id = inner.shared.act(|core, now| {
            if core.is_closed {
                return Err(NodeError::Closed);
            }
            Ok(core.simulator.get_or_insert_default().start(now, setting, target))
        })?;
        Ok(Simulation {
            id,
            unaimed: peer.filter(|_| target == Target::Unknown),
            shared: Arc::downgrade(&inner.shared),
            resolver: Arc::downgrade(&inner.resolver),
            last: Mutex::default(),
        })
    }
}

/// A bad network that a node is in.
#[derive(Debug)]
pub struct Simulation {
    id: u64,
    unaimed: Option<PeerRef>,
    // A handle that somebody keeps does not keep the node.
    shared: Weak<Shared>,
    resolver: Weak<Resolver>,
    last: Mutex<SimulationCounters>,
}

impl Simulation {
    /// Looks up the hostname of the peer that it is meant for. Nothing to do for any other.
    ///
    /// # Errors
    /// What [`Node::resolve`] says.
    pub async fn aim(&self) -> Result<(), NodeError> {
        let Some(peer) = &self.unaimed else { return Ok(()) };
        let resolver = self.resolver.upgrade().ok_or(NodeError::Closed)?;
        let target = Target::Peer(resolver.resolve(peer).await?.addr.node);
        let shared = self.shared.upgrade().ok_or(NodeError::Closed)?;
        shared.look(|core| {
            if let Some(simulator) = &mut core.simulator {
                simulator.aim(self.id, target);
            }
        });
        Ok(())
    }

    /// Whether the peer's hostname is to be looked up by [`aim`](Self::aim).
    #[must_use]
    pub fn needs_aim(&self) -> bool {
        self.unaimed.is_some()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> SimulationCounters {
        let current = self.shared.upgrade().and_then(|shared| {
            shared.look(|core| core.simulator.as_ref().and_then(|all| all.counters(self.id)))
        });
        self.note(current)
    }

    /// Ends it: datagrams on their way arrive at once. More calls do nothing.
    pub fn stop(&self) -> SimulationCounters {
        let last = self.shared.upgrade().and_then(|shared| {
            shared.act(|core, now| core.simulator.as_mut().and_then(|all| all.stop(now, self.id)))
        });
        self.note(last)
    }

    fn note(&self, counters: Option<SimulationCounters>) -> SimulationCounters {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = counters {
            *last = counters;
        }
        *last
    }
}
