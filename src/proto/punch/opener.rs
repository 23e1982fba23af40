//! The side behind the symmetric NAT: many sockets, each of which opens a port toward the peer.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::predict::{Observation, predict};
use super::{PunchAction, SOCKETS};
use crate::proto::path::{Remote, SocketId};
use crate::wire::punch::PunchMessage;

/// The driver has this long to open the sockets.
const OPEN_WITHIN: Duration = Duration::from_secs(3);
/// Fewer sockets than these are not worth the peer's probes.
const LEAST_SOCKETS: usize = 16;
/// Sockets that ask the beacon which ports they have outside.
const MEASURED: usize = 4;
/// The beacon has this long to answer.
const MEASURE_WITHIN: Duration = Duration::from_millis(400);
/// Ports opened in one go, and the pause after that.
const BURST: usize = 8;
const BURST_PAUSE: Duration = Duration::from_millis(10);
/// A NAT may close a port again that nothing came in by: it is opened anew this often.
const REOPEN: Duration = Duration::from_secs(7);
/// The plan is told at these times, as the relay may lose it.
const TELL_AT: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(1_000)];
/// And then the peer has this long.
const OPEN_FOR: Duration = Duration::from_secs(20);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Opener {
    attempt: u32,
    /// Where the peer's main socket is seen, wherever it sends to.
    peer: SocketAddr,
    /// Where ours is seen by the beacon.
    own_ip: Option<IpAddr>,
    first: SocketId,
    /// Local ports of the sockets.
    ports: Vec<u16>,
    observed: Vec<Observation>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The driver opens sockets.
    Opening { until: Instant },
    /// A few of them have asked the beacon.
    Measuring { until: Instant },
    /// All of them send to the peer.
    Firing(Firing),
}

#[derive(Debug)]
struct Firing {
    plan: PunchMessage,
    since: Instant,
    told: usize,
    /// The next socket to send from, and when.
    next: usize,
    next_at: Instant,
}

impl Opener {
    pub(super) fn new(
        now: Instant,
        attempt: u32,
        peer: SocketAddr,
        own_ip: Option<IpAddr>,
        first: SocketId,
    ) -> Self {
        let stage = Stage::Opening { until: now + OPEN_WITHIN };
        Self { attempt, peer, own_ip, first, ports: Vec::new(), observed: Vec::new(), stage }
    }

    /// Where the peer is.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Name of the first socket.
    pub(super) fn first(&self) -> SocketId {
        self.first
    }

    /// Which of the sockets this is.
    pub(super) fn index(&self, socket: SocketId) -> Option<usize> {
        let index = socket.0.checked_sub(self.first.0)?;
        (index < SOCKETS).then_some(usize::from(index))
    }

    /// The driver has opened these. `false`: too few.
    pub(super) fn on_sockets(
        &mut self,
        now: Instant,
        ports: &[u16],
        out: &mut impl Extend<PunchAction>,
    ) -> bool {
        if !matches!(self.stage, Stage::Opening { .. }) {
            return true;
        }
        if ports.len() < LEAST_SOCKETS {
            return false;
        }
        self.ports = ports.to_vec();
        self.stage = Stage::Measuring { until: now + MEASURE_WITHIN };
        out.extend((0..MEASURED).map(|index| PunchAction::Discover(self.socket(index))));
        true
    }

    /// The beacon says where one of the sockets is outside.
    pub(super) fn on_observed(&mut self, now: Instant, socket: SocketId, outside: SocketAddr) {
        let Some(index) = self.index(socket) else { return };
        if self.observed.iter().any(|seen| seen.index == index) {
            return;
        }
        self.observed.push(Observation { index, outside });
        if self.observed.len() == MEASURED
            && let Stage::Measuring { until } = &mut self.stage
        {
            *until = now;
        }
    }

    pub(super) fn next_due(&self) -> Instant {
        match &self.stage {
            Stage::Opening { until } | Stage::Measuring { until } => *until,
            Stage::Firing(firing) => {
                let tell = TELL_AT.get(firing.told).map(|after| firing.since + *after);
                let end = firing.since + OPEN_FOR;
                tell.into_iter().fold(firing.next_at.min(end), Instant::min)
            }
        }
    }

    /// Does what is due. `false`: it is over.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut impl Extend<PunchAction>,
    ) -> bool {
        match &self.stage {
            Stage::Opening { until } => return now < *until,
            Stage::Measuring { until } if now < *until => return true,
            Stage::Measuring { .. } => {
                let Some(plan) = self.plan() else { return false };
                self.stage =
                    Stage::Firing(Firing { plan, since: now, told: 0, next: 0, next_at: now });
            }
            Stage::Firing(_) => {}
        }
        self.fire(now, out)
    }

    /// What the peer needs to know; `None` if it would not help it.
    fn plan(&self) -> Option<PunchMessage> {
        let ip = match self.observed.first() {
            Some(seen) => seen.outside.ip(),
            None => self.own_ip?,
        };
        // With several addresses, nobody can tell which one the peer will see.
        if self.observed.iter().any(|seen| seen.outside.ip() != ip) {
            return None;
        }
        let predicted = predict(&self.observed, &self.ports);
        Some(PunchMessage::Plan { attempt: self.attempt, ip, predicted })
    }

    fn fire(&mut self, now: Instant, out: &mut impl Extend<PunchAction>) -> bool {
        let (first, peer, count) = (self.first, self.peer, self.ports.len());
        let Stage::Firing(firing) = &mut self.stage else { return true };
        let passed = now.saturating_duration_since(firing.since);
        if TELL_AT.get(firing.told).is_some_and(|at| passed >= *at) {
            firing.told += 1;
            out.extend([PunchAction::Tell(firing.plan.clone())]);
        }
        if now >= firing.next_at {
            let end = (firing.next + BURST).min(count);
            let sockets = (firing.next..end).map(|index| nth(first, index));
            out.extend(sockets.map(|socket| PunchAction::Open(Remote { socket, addr: peer })));
            (firing.next, firing.next_at) =
                if end < count { (end, now + BURST_PAUSE) } else { (0, now + REOPEN) };
        }
        passed < OPEN_FOR
    }

    fn socket(&self, index: usize) -> SocketId {
        nth(self.first, index)
    }
}

fn nth(first: SocketId, index: usize) -> SocketId {
    SocketId(first.0.saturating_add(u16::try_from(index).unwrap_or(u16::MAX)))
}
