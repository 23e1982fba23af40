//! What stands between the endpoint and the socket while a network is simulated: every datagram,
//! in either direction, passes the simulations that are meant for it, one after the other.
//!
//! Without I/O: the core gives it datagrams and the time, and asks when to come back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use linkem::{Link, Packet};

use super::{Block, Direction, LinkCounters, SimulationCounters};
use crate::proto::endpoint::{Endpoint, Transmit};
use crate::proto::path::{Remote, Via};
use crate::wire::NodeId;
use crate::wire::beacon::{self, BeaconMessage};
use crate::wire::tunnel::{self, TunnelFrame};

/// Bytes on their way in one direction of one simulation; more are dropped.
const MAX_HELD: usize = 64 << 20;
/// Datagrams and bytes of a run, as the socket takes them.
const MAX_DATAGRAMS: usize = 64;
const MAX_RUN: usize = 65_535 - 40 - 8;

/// Whose datagrams a simulation is meant for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Everybody,
    Peer(NodeId),
    /// A peer whose hostname is being looked up.
    Unknown,
}

/// A datagram between the endpoint and the socket.
#[derive(Clone, Debug)]
struct Crossing {
    remote: Remote,
    /// Of which peer, if that matters and shows.
    peer: Option<NodeId>,
    data: Vec<u8>,
}

impl Packet for Crossing {
    fn size(&self) -> usize {
        self.data.len()
    }

    fn flip(&mut self, bit: usize) {
        self.data.flip(bit);
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::node) struct Simulator {
    stages: Vec<Stage>,
    last_id: u64,
    outgoing: VecDeque<Crossing>,
    incoming: VecDeque<Crossing>,
    /// The endpoint writes here what it sends.
    run: Vec<u8>,
}

impl Simulator {
    /// Begins a simulation; later ones are further from the endpoint.
    pub(super) fn start(&mut self, now: Instant, setting: Setting, target: Target) -> u64 {
        self.last_id += 1;
        let way = |direction: Direction| {
            let params = match direction {
                Direction::Incoming => setting.link.for_way_back(),
                _ => setting.link,
            };
            setting.direction.includes(direction).then(|| Way {
                link: Link::new(now, params),
                blocked: 0,
                overflowed: 0,
            })
        };
        self.stages.push(Stage {
            id: self.last_id,
            target,
            block: setting.block,
            outgoing: way(Direction::Outgoing),
            incoming: way(Direction::Incoming),
        });
        self.last_id
    }

    /// Says which peer a simulation is meant for.
    pub(super) fn aim(&mut self, id: u64, target: Target) {
        if let Some(stage) = self.stages.iter_mut().find(|stage| stage.id == id) {
            stage.target = target;
        }
    }

    /// Ends a simulation: what is on its way through it arrives now.
    pub(super) fn stop(&mut self, now: Instant, id: u64) -> Option<SimulationCounters> {
        let index = self.stages.iter().position(|stage| stage.id == id)?;
        let mut stage = self.stages.remove(index);
        for direction in [Direction::Outgoing, Direction::Incoming] {
            while let Some(at) = stage.next_arrival(direction) {
                if let Some((_, crossing)) = stage.take(direction, at) {
                    self.pass(now, direction, index, crossing);
                }
            }
        }
        Some(stage.counters())
    }

    /// What a simulation has done; `None` if it is over.
    pub(super) fn counters(&self, id: u64) -> Option<SimulationCounters> {
        self.stages.iter().find(|stage| stage.id == id).map(Stage::counters)
    }

    /// Whether nothing is simulated, and nothing left to hand on.
    pub(in crate::node) fn is_over(&self) -> bool {
        self.stages.is_empty() && self.outgoing.is_empty() && self.incoming.is_empty()
    }

    /// When the next datagram arrives.
    pub(in crate::node) fn next_arrival(&self) -> Option<Instant> {
        let both = |stage: &Stage| {
            [Direction::Outgoing, Direction::Incoming].map(|way| stage.next_arrival(way))
        };
        self.stages.iter().flat_map(both).flatten().min()
    }

    /// As [`Endpoint::poll_transmit`], later and less. What is for `detour` does not go by UDP.
    pub(in crate::node) fn poll_transmit(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        buf: &mut Vec<u8>,
        detour: Option<SocketAddr>,
    ) -> Option<Transmit> {
        while self.outgoing.is_empty() {
            let mut run = std::mem::take(&mut self.run);
            let transmit = endpoint.poll_transmit(now, &mut run);
            if let Some(taken) = transmit.filter(|t| Some(t.destination.addr) == detour) {
                std::mem::swap(buf, &mut run);
                self.run = run;
                return Some(taken);
            }
            if let Some(Transmit { destination, segment_size }) = transmit {
                let peer = self.receiver(endpoint, destination, &run);
                for datagram in run.chunks(segment_size.max(1)) {
                    let crossing = Crossing { remote: destination, peer, data: datagram.to_vec() };
                    self.pass(now, Direction::Outgoing, 0, crossing);
                }
            }
            self.run = run;
            self.advance(now);
            if transmit.is_none() {
                break;
            }
        }
        self.next_run(buf)
    }

    /// Takes a datagram from the socket.
    pub(in crate::node) fn receive(&mut self, now: Instant, remote: Remote, datagram: &[u8]) {
        let peer = if self.is_choosy() { sender(datagram) } else { None };
        let crossing = Crossing { remote, peer, data: datagram.to_vec() };
        self.pass(now, Direction::Incoming, 0, crossing);
    }

    /// A datagram that has arrived at the endpoint.
    pub(in crate::node) fn poll_receive(&mut self, now: Instant) -> Option<(Remote, Vec<u8>)> {
        if self.incoming.is_empty() {
            self.advance(now);
        }
        self.incoming.pop_front().map(|crossing| (crossing.remote, crossing.data))
    }

    /// Moves on what is due.
    fn advance(&mut self, now: Instant) {
        for direction in [Direction::Outgoing, Direction::Incoming] {
            for index in 0..self.stages.len() {
                while let Some((at, crossing)) =
                    self.stages.get_mut(index).and_then(|stage| stage.take(direction, now))
                {
                    self.pass(at, direction, index + 1, crossing);
                }
            }
        }
    }

    /// Into the first simulation from this one on that is meant for it.
    fn pass(&mut self, now: Instant, direction: Direction, from: usize, crossing: Crossing) {
        let mut rest = self.stages.iter_mut().skip(from);
        match rest.find_map(|stage| stage.way(direction, crossing.peer)) {
            Some((way, block)) => way.enter(now, block, crossing),
            None if direction == Direction::Incoming => self.incoming.push_back(crossing),
            None => self.outgoing.push_back(crossing),
        }
    }

    /// Equal datagrams to one address, for one system call.
    fn next_run(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        let first = self.outgoing.pop_front()?;
        let (destination, segment_size) = (first.remote, first.data.len());
        *buf = first.data;
        let fits = |next: &Crossing, len: usize| {
            next.remote == destination
                && next.data.len() == segment_size
                && len + segment_size <= MAX_RUN.min(MAX_DATAGRAMS * segment_size)
        };
        while let Some(next) = self.outgoing.pop_front_if(|next| fits(next, buf.len())) {
            buf.extend_from_slice(&next.data);
        }
        Some(Transmit { destination, segment_size })
    }

    /// Whether it matters whose a datagram is.
    fn is_choosy(&self) -> bool {
        self.stages.iter().any(|stage| stage.target != Target::Everybody)
    }

    /// Which peer a run is for, among those that simulations are meant for.
    fn receiver(&self, endpoint: &Endpoint, to: Remote, run: &[u8]) -> Option<NodeId> {
        if !self.is_choosy() {
            return None;
        }
        if beacon::is_beacon(run) {
            return match BeaconMessage::parse(run) {
                Ok(BeaconMessage::Relay { destination, .. }) => Some(destination),
                _ => None,
            };
        }
        self.stages.iter().find_map(|stage| match stage.target {
            Target::Peer(node) if leads_to(endpoint, node, to) => Some(node),
            _ => None,
        })
    }
}

/// Whether an address is one of this peer's.
fn leads_to(endpoint: &Endpoint, node: NodeId, to: Remote) -> bool {
    let is_known = || endpoint.path_report(node).iter().any(|path| path.via == Via::Direct(to));
    endpoint.route(node) == Some(Via::Direct(to)) || is_known()
}

/// Which peer a datagram is from, by its own word.
fn sender(datagram: &[u8]) -> Option<NodeId> {
    if beacon::is_beacon(datagram) {
        return match BeaconMessage::parse(datagram) {
            Ok(BeaconMessage::RelayDeliver { sender, .. }) => Some(sender),
            _ => None,
        };
    }
    match TunnelFrame::parse(datagram) {
        Ok(TunnelFrame::Sealed { header, .. }) => Some(header.sender),
        Ok(TunnelFrame::Auth(auth)) => Some(auth.node),
        Ok(TunnelFrame::Key(key)) => Some(key.node),
        _ => None,
    }
}

/// A simulation as the machine needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) link: linkem::LinkParams,
    pub(super) block: Option<Block>,
    pub(super) direction: Direction,
}

/// One simulation.
#[derive(Debug)]
struct Stage {
    id: u64,
    target: Target,
    block: Option<Block>,
    outgoing: Option<Way>,
    incoming: Option<Way>,
}

impl Stage {
    fn side(&mut self, direction: Direction) -> Option<&mut Way> {
        match direction {
            Direction::Incoming => self.incoming.as_mut(),
            _ => self.outgoing.as_mut(),
        }
    }

    /// Where a datagram of this peer enters, and what does not get in.
    fn way(
        &mut self,
        direction: Direction,
        peer: Option<NodeId>,
    ) -> Option<(&mut Way, Option<Block>)> {
        let is_meant = match self.target {
            Target::Everybody => true,
            Target::Peer(node) => peer == Some(node),
            Target::Unknown => false,
        };
        let block = self.block;
        self.side(direction).filter(|_| is_meant).map(|way| (way, block))
    }

    fn next_arrival(&self, direction: Direction) -> Option<Instant> {
        let way = if direction == Direction::Incoming { &self.incoming } else { &self.outgoing };
        way.as_ref()?.link.next_arrival()
    }

    /// What has got through by `now`, and when.
    fn take(&mut self, direction: Direction, now: Instant) -> Option<(Instant, Crossing)> {
        let link = &mut self.side(direction)?.link;
        let at = link.next_arrival()?;
        link.receive(now).map(|crossing| (at, crossing))
    }

    fn counters(&self) -> SimulationCounters {
        let counters = |way: &Option<Way>| way.as_ref().map(Way::counters).unwrap_or_default();
        SimulationCounters {
            outgoing: counters(&self.outgoing),
            incoming: counters(&self.incoming),
        }
    }
}

/// One direction of a simulation.
#[derive(Debug)]
struct Way {
    link: Link<Crossing>,
    blocked: u64,
    overflowed: u64,
}

impl Way {
    fn enter(&mut self, now: Instant, block: Option<Block>, crossing: Crossing) {
        let is_direct = tunnel::is_tunnel(&crossing.data);
        let is_blocked = match block {
            Some(Block::Udp) => true,
            Some(Block::Direct) => is_direct,
            None => false,
        };
        if is_blocked {
            self.blocked += 1;
        } else if self.link.bytes_in_flight() + crossing.data.len() > MAX_HELD {
            self.overflowed += 1;
        } else {
            self.link.send(now, crossing);
        }
    }

    fn counters(&self) -> LinkCounters {
        let link = self.link.counters();
        LinkCounters {
            sent: link.sent + self.blocked + self.overflowed,
            delivered: link.delivered,
            lost: link.lost,
            dropped: link.dropped + self.overflowed,
            too_big: link.too_big,
            blocked: self.blocked + link.cut,
            duplicated: link.duplicated,
            reordered: link.reordered,
        }
    }
}
