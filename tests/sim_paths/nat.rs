//! NAT boxes in the words of RFC 4787, in virtual time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// On what a mapping, or the filter, depends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    Independent,
    Address,
    AddressAndPort,
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) mapping: Rule,
    pub(crate) filtering: Rule,
    pub(crate) preserves_ports: bool,
    pub(crate) hairpins: bool,
    pub(crate) lifetime: Duration,
}

impl Kind {
    pub(crate) const FULL_CONE: Self = Self {
        mapping: Rule::Independent,
        filtering: Rule::Independent,
        preserves_ports: false,
        hairpins: false,
        lifetime: Duration::from_secs(30),
    };
    pub(crate) const RESTRICTED: Self = Self { filtering: Rule::Address, ..Self::FULL_CONE };
    pub(crate) const PORT_RESTRICTED: Self =
        Self { filtering: Rule::AddressAndPort, ..Self::FULL_CONE };
    pub(crate) const SYMMETRIC: Self =
        Self { mapping: Rule::AddressAndPort, ..Self::PORT_RESTRICTED };
}

struct Mapping {
    inside: SocketAddr,
    /// What the mapping is for, as far as it depends on that.
    to: Option<SocketAddr>,
    port: u16,
    /// To whom datagrams went, and when last.
    peers: HashMap<SocketAddr, Instant>,
    used: Instant,
}

pub(crate) struct Nat {
    pub(crate) kind: Kind,
    pub(crate) ip: IpAddr,
    mappings: Vec<Mapping>,
    next_port: u16,
}

impl Nat {
    pub(crate) fn new(kind: Kind, ip: IpAddr) -> Self {
        Self { kind, ip, mappings: Vec::new(), next_port: 20_000 }
    }

    /// It forgets everything, and does not give the same ports again.
    pub(crate) fn reboot(&mut self) {
        self.mappings.clear();
        self.next_port += 1_000;
    }

    /// A datagram goes out: its source as the outside sees it.
    pub(crate) fn outbound(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) -> SocketAddr {
        self.expire(now);
        let key = key(self.kind.mapping, to);
        let known = self.mappings.iter().position(|m| m.inside == from && m.to == key);
        let index = known.unwrap_or_else(|| {
            let taken = |port| self.mappings.iter().any(|m| m.port == port);
            let mut port = from.port();
            if !self.kind.preserves_ports || taken(port) {
                self.next_port += 7;
                port = self.next_port;
            }
            let peers = HashMap::new();
            self.mappings.push(Mapping { inside: from, to: key, port, peers, used: now });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[index];
        mapping.used = now;
        mapping.peers.insert(to, now);
        SocketAddr::new(self.ip, mapping.port)
    }

    /// A datagram comes in: where it goes to inside, if it may.
    pub(crate) fn inbound(
        &mut self,
        now: Instant,
        from: SocketAddr,
        port: u16,
    ) -> Option<SocketAddr> {
        self.expire(now);
        let filtering = self.kind.filtering;
        let mapping = self.mappings.iter().find(|m| m.port == port)?;
        let passes = match filtering {
            Rule::Independent => true,
            rule => mapping.peers.keys().any(|to| key(rule, *to) == key(rule, from)),
        };
        passes.then_some(mapping.inside)
    }

    fn expire(&mut self, now: Instant) {
        let lifetime = self.kind.lifetime;
        self.mappings.retain(|mapping| now < mapping.used + lifetime);
    }
}

fn key(rule: Rule, to: SocketAddr) -> Option<SocketAddr> {
    match rule {
        Rule::Independent => None,
        Rule::Address => Some(SocketAddr::new(to.ip(), 0)),
        Rule::AddressAndPort => Some(to),
    }
}
