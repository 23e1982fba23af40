//! Several beacons: each tells the others which nodes it hears (0x07), and a frame for a node that
//! another one hears goes there.
//!
//! Nothing signs these messages; that they come from the address of a beacon that the operator
//! named is all there is. Whoever can forge that address can have frames for nodes that are not
//! here sent to the wrong one of the named beacons, which drops them, and can have frames
//! delivered in the name of any sender, which do not open. So beacons of a cluster should stand
//! where others cannot forge their addresses, and nodes lose no more than frames if they do not.
//!
//! A node may also turn to a beacon beside whose registry it is unknown. Then the registries of the
//! other beacons are asked ([`Stranger`]), and what they answer is believed for a while
//! ([`Foreign`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::wire::NodeId;
use crate::wire::beacon::{BeaconMessage, NodeList};

/// Nodes heard within this are announced: daemons send a discover every 60 s.
pub(super) const ANNOUNCE_WITHIN: Duration = Duration::from_secs(75);
/// An announcement is believed for this long: three are lost before it matters.
const BELIEVED_FOR: Duration = Duration::from_secs(35);
/// Nodes in one announcement, so that it is not fragmented.
const NODES_PER_SYNC: usize = 300;

/// How long an introduction is believed, and how long nobody asks again for an unknown node.
const INTRODUCED_FOR: Duration = Duration::from_secs(600);
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// Strangers that are asked about at once; more must come again.
const MAX_STRANGERS: usize = 256;

/// A node that nobody here knows, and that another registry of the cluster may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stranger {
    /// Who it says it is.
    pub node: NodeId,
    pub(super) from: SocketAddr,
    /// It is one of ours, and can be challenged.
    pub(super) proves: bool,
}

/// What another registry says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// Its identity.
    pub public_key: [u8; 32],
    /// Where it registered from, if it is public.
    pub endpoint: Option<SocketAddr>,
}

impl Foreign {
    /// The same as a registry tells it: a private node is nowhere.
    pub(super) fn registered(&self) -> SocketAddr {
        self.endpoint.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
    }
}

/// What the other beacons told.
#[derive(Debug)]
pub(super) struct Cluster {
    id: u32,
    peers: Vec<SocketAddr>,
    elsewhere: HashMap<NodeId, (SocketAddr, Instant)>,
    introduced: HashMap<NodeId, (Option<Foreign>, Instant)>,
    strangers: VecDeque<Stranger>,
    asked: HashSet<NodeId>,
    max_nodes: usize,
}

impl Cluster {
    pub(super) fn new(id: u32, max_nodes: usize) -> Self {
        Self {
            id,
            peers: Vec::new(),
            elsewhere: HashMap::new(),
            introduced: HashMap::new(),
            strangers: VecDeque::new(),
            asked: HashSet::new(),
            max_nodes,
        }
    }

    pub(super) fn set_peers(&mut self, peers: Vec<SocketAddr>) {
        self.elsewhere.retain(|_, (beacon, _)| peers.contains(beacon));
        self.peers = peers;
    }

    pub(super) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn has(&self, beacon: SocketAddr) -> bool {
        self.peers.contains(&beacon)
    }

    /// The beacon that hears `node`.
    pub(super) fn find(&self, now: Instant, node: NodeId) -> Option<SocketAddr> {
        let (beacon, told) = self.elsewhere.get(&node)?;
        (now.saturating_duration_since(*told) < BELIEVED_FOR).then_some(*beacon)
    }

    /// Another beacon told which nodes it hears.
    pub(super) fn learn(&mut self, now: Instant, from: SocketAddr, nodes: NodeList<'_>) {
        for node in nodes.iter() {
            if self.elsewhere.len() < self.max_nodes || self.elsewhere.contains_key(&node) {
                self.elsewhere.insert(node, (from, now));
            }
        }
    }

    /// What to tell every other beacon.
    pub(super) fn announce(&self, nodes: &[NodeId], mut send: impl FnMut(SocketAddr, Vec<u8>)) {
        let ids: Vec<[u8; 4]> = nodes.iter().map(|node| node.0.to_be_bytes()).collect();
        for ids in ids.chunks(NODES_PER_SYNC) {
            let Ok(nodes) = NodeList::new(ids) else { continue };
            let mut sync = Vec::new();
            BeaconMessage::Sync { beacon: self.id, nodes }.encode(&mut sync);
            self.peers.iter().for_each(|peer| send(*peer, sync.clone()));
        }
    }

    /// What another registry says of the node.
    pub(super) fn foreign(&self, now: Instant, node: NodeId) -> Option<Foreign> {
        let (foreign, until) = self.introduced.get(&node)?;
        foreign.filter(|_| now < *until)
    }

    /// Has the other registries asked, unless they just were.
    pub(super) fn ask_about(&mut self, now: Instant, stranger: Stranger) {
        let is_answered =
            self.introduced.get(&stranger.node).is_some_and(|(_, until)| now < *until);
        if !self.is_alone()
            && !is_answered
            && self.asked.len() < MAX_STRANGERS
            && self.asked.insert(stranger.node)
        {
            self.strangers.push_back(stranger);
        }
    }

    pub(super) fn poll_stranger(&mut self) -> Option<Stranger> {
        self.strangers.pop_front()
    }

    pub(super) fn has_strangers(&self) -> bool {
        !self.strangers.is_empty()
    }

    pub(super) fn introduce(&mut self, now: Instant, node: NodeId, foreign: Option<Foreign>) {
        self.asked.remove(&node);
        let life = if foreign.is_some() { INTRODUCED_FOR } else { UNKNOWN_FOR };
        if self.introduced.len() < self.max_nodes {
            self.introduced.insert(node, (foreign, now + life));
        }
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.elsewhere.retain(|_, (_, told)| now.saturating_duration_since(*told) < BELIEVED_FOR);
    }
}
