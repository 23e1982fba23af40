//! All addresses under which a node may be reached, and how it came to know them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::membership::Place;
use crate::net::interfaces::host_candidates;
use crate::net::link_watch::{LinkWatch, Surroundings};
use crate::proto::path::{Candidate, CandidateKind};

/// What a node registers that only the relay reaches.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Whereabouts {
    /// What the node's socket is bound to.
    bound: SocketAddr,
    pub(super) beacon: SocketAddr,
    /// The user says so.
    configured: Option<SocketAddr>,
    /// The beacon says so.
    pub(super) observed: Option<SocketAddr>,
    /// The router says so.
    pub(super) mapped: Option<SocketAddr>,
    /// `None` where the rendezvous is on loopback: what happens to this machine's addresses does
    /// not reach there.
    pub(super) watch: Option<LinkWatch>,
    /// The rendezvous is embedded: all others are on this machine, too.
    is_alone: bool,
    /// Nobody but the beacon is to learn where the node is.
    is_hidden: bool,
}

impl Whereabouts {
    pub(super) fn new(
        bound: SocketAddr,
        beacon: SocketAddr,
        configured: Option<SocketAddr>,
        is_alone: bool,
        is_hidden: bool,
    ) -> Self {
        let watch = (!beacon.ip().is_loopback()).then(|| LinkWatch::new(beacon));
        let (observed, mapped) = (None, None);
        Self { bound, beacon, configured, observed, mapped, watch, is_alone, is_hidden }
    }

    /// Whether nothing but loopback lies between the node and the rendezvous.
    pub(super) fn is_local(&self) -> bool {
        self.watch.is_none()
    }

    /// The rendezvous is reached at another address from now on.
    pub(super) fn set_beacon(&mut self, beacon: SocketAddr) {
        self.beacon = beacon;
        if let Some(watch) = &mut self.watch {
            watch.set_rendezvous(beacon);
        }
    }

    /// What the registry is to know.
    pub(super) fn place(&self) -> Place {
        if self.is_hidden {
            return Place { endpoint: Some(NOWHERE), lan: Vec::new() };
        }
        let mut lan = self.hosts();
        lan.retain(|addr| !addr.ip().is_loopback());
        Place { endpoint: self.configured.or(self.observed), lan }
    }

    /// What peers may try, best first, each once.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        if self.is_hidden {
            return Vec::new();
        }
        let of = |kind| move |addr| Candidate { addr, kind };
        let all = (self.configured.map(of(CandidateKind::Configured)).into_iter())
            .chain(self.mapped.map(of(CandidateKind::Mapped)))
            .chain(self.observed.map(of(CandidateKind::Observed)))
            .chain(self.hosts().into_iter().map(of(CandidateKind::Host)));
        let mut candidates: Vec<Candidate> = Vec::new();
        for candidate in all {
            if candidates.iter().all(|known| known.addr != candidate.addr) {
                candidates.push(candidate);
            }
        }
        candidates
    }

    fn hosts(&self) -> Vec<SocketAddr> {
        let local;
        let around = match &self.watch {
            Some(watch) => watch.current(),
            None => {
                local = Surroundings::look(self.beacon);
                &local
            }
        };
        let addrs = if self.is_alone { &[][..] } else { &around.addrs };
        host_candidates(addrs, self.bound, around.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_user_says_goes_before_what_the_beacon_sees() {
        let (bound, beacon) = (addr("127.0.0.1:4000"), addr("127.0.0.1:7470"));
        let mut here = Whereabouts::new(bound, beacon, Some(addr("192.0.2.1:9")), true, false);
        here.observed = Some(addr("198.51.100.1:5"));
        here.mapped = Some(addr("198.51.100.1:6"));
        let kinds: Vec<_> = here.candidates().iter().map(|candidate| candidate.kind).collect();
        use CandidateKind::{Configured, Host, Mapped, Observed};
        assert_eq!(kinds, [Configured, Mapped, Observed, Host]);
        assert_eq!(here.place().endpoint, Some(addr("192.0.2.1:9")));
    }

    #[test]
    fn without_a_nat_the_observed_address_is_the_hosts_own() {
        let (bound, beacon) = (addr("127.0.0.1:4000"), addr("127.0.0.1:7470"));
        let mut here = Whereabouts::new(bound, beacon, None, true, false);
        here.observed = Some(bound);
        let expected = [Candidate { addr: bound, kind: CandidateKind::Observed }];
        assert_eq!(here.candidates(), expected);
        // Nobody elsewhere has any use for loopback.
        assert_eq!(here.place(), Place { endpoint: Some(bound), lan: Vec::new() });
    }

    #[test]
    fn a_hidden_node_tells_nothing_of_itself() {
        let (bound, beacon) = (addr("[::]:4000"), addr("127.0.0.1:7470"));
        let mut here = Whereabouts::new(bound, beacon, Some(addr("192.0.2.1:9")), false, true);
        here.observed = Some(addr("198.51.100.1:5"));
        assert_eq!(here.candidates(), []);
        assert_eq!(here.place(), Place { endpoint: Some(NOWHERE), lan: Vec::new() });
    }

    #[test]
    fn on_one_machine_only_loopback_is_offered() {
        let (bound, beacon) = (addr("[::]:4000"), addr("127.0.0.1:7470"));
        let here = Whereabouts::new(bound, beacon, None, true, false);
        let expected = [Candidate { addr: addr("127.0.0.1:4000"), kind: CandidateKind::Host }];
        assert_eq!(here.candidates(), expected);
    }
}
