//! The side whose NAT shows one port to everybody: it looks for an open port of the peer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;

use super::PunchAction;
use super::ports::PortOrder;
use crate::proto::path::Remote;

/// Time from one round of probes to the next.
const PACE: Duration = Duration::from_millis(16);
/// Probes in a round: 125 in a second.
const PER_ROUND: usize = 2;
/// The same while there are likely ports to try.
const LIKELY_PER_ROUND: usize = 8;
/// Probes in all. With 256 open ports of 64,512 the chance that one is found is 98.3 % after 1,024
/// of them and 99.97 % after 2,048.
const BUDGET: usize = 2_048;
/// What is under way when the last one has been sent may still succeed.
const LINGER: Duration = Duration::from_secs(2);
/// Openers that have come through and wait to be answered.
const MAX_HEARD: usize = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Prober {
    target: IpAddr,
    order: PortOrder,
    /// Ports from which an opener came through: our probe of that port had opened ours, but came
    /// before theirs was open.
    heard: VecDeque<u16>,
    left: usize,
    next_at: Instant,
}

impl Prober {
    pub(super) fn new(now: Instant, target: IpAddr, likely: &[u16], rng: &mut impl Rng) -> Self {
        let order = PortOrder::new(likely, rng);
        Self { target, order, heard: VecDeque::new(), left: BUDGET, next_at: now }
    }

    pub(super) fn target(&self) -> IpAddr {
        self.target
    }

    /// A frame that says nothing came from there. It may be forged: all it does is to decide which
    /// port is next.
    pub(super) fn on_opener(&mut self, from: SocketAddr) {
        if from.ip() == self.target
            && self.heard.len() < MAX_HEARD
            && !self.heard.contains(&from.port())
        {
            self.heard.push_back(from.port());
        }
    }

    /// The peer has heard us: what else is to come is under way.
    pub(super) fn conclude(&mut self, now: Instant) {
        self.left = 0;
        self.next_at = now + LINGER;
    }

    pub(super) fn next_due(&self) -> Instant {
        self.next_at
    }

    /// Does what is due. `false`: it is over.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut impl Extend<PunchAction>,
    ) -> bool {
        if now < self.next_at {
            return true;
        }
        if self.left == 0 {
            return false;
        }
        let likely = self.heard.len() + self.order.likely_left();
        let count = likely.clamp(PER_ROUND, LIKELY_PER_ROUND).min(self.left);
        for _ in 0..count {
            let Some(port) = self.heard.pop_front().or_else(|| self.order.next()) else { break };
            out.extend([PunchAction::Probe(Remote::from(SocketAddr::new(self.target, port)))]);
        }
        self.left -= count;
        self.next_at = now + if self.left == 0 { LINGER } else { PACE };
        true
    }
}
