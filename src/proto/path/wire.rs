//! What two of our nodes say to each other about paths: control packets inside the sealed tunnel.
//!
//! ```text
//! probe       to port 2, seq = id, ack = frames sent on this path so far, this one included;
//!             no payload, or zeros: room for the answer's
//! answer      from port 2, ACK, seq = id, ack = frames received on this path so far;
//!             no payload, or: endpoint, which is where the probe came from
//! candidates  to port 3, seq = number of this list; payload:
//!             version u8 = 1 | NAT: mapping u8, filtering u8, hairpins u8, ports u8, step i16
//!             | count u8 | count x (kind u8, endpoint)
//! received    from port 3, ACK, seq = number of the list
//!
//! endpoint: length u8 (4 or 16) | IP address | port u16
//! ```
//! Bytes after a layout are ignored, and so is a candidate of unknown kind. A Go node ignores
//! control packets to these ports; one that is not known to be ours gets none but probes without
//! payload.

use std::net::SocketAddr;

use super::{Candidate, CandidateKind};
use crate::proto::nat::{Behavior, NatKind, PortAllocation};
use crate::wire::WireError;
use crate::wire::beacon::{read_endpoint, write_endpoint};
use crate::wire::cursor::Reader;

/// Where probes go, and answers come from.
pub const PROBE_PORT: u16 = 2;
/// Where candidates go, and their receipt comes from.
pub const CANDIDATES_PORT: u16 = 3;
/// Candidates of one list; more are left out, or ignored.
pub const MAX_CANDIDATES: usize = 10;
/// Payload of a probe that makes room for an address in the answer.
pub const PROBE_ROOM: usize = 19;

const VERSION: u8 = 1;

/// A list of candidates, with the kind of NAT that they are behind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CandidateList {
    /// The sender's NAT.
    pub nat: NatKind,
    /// Best first.
    pub candidates: Vec<Candidate>,
}

impl CandidateList {
    /// The payload of a list.
    #[must_use]
    pub fn encode(nat: NatKind, candidates: &[Candidate]) -> Vec<u8> {
        let hairpins = nat.hairpins.map_or(0, |hairpins| 1 + u8::from(hairpins));
        let (ports, step) = match nat.ports {
            PortAllocation::Unknown => (0, 0),
            PortAllocation::Preserving => (1, 0),
            PortAllocation::Sequential(step) => (2, step),
            PortAllocation::Random => (3, 0),
        };
        let mut out = vec![VERSION, behavior(nat.mapping), behavior(nat.filtering)];
        out.extend_from_slice(&[hairpins, ports]);
        out.extend_from_slice(&step.to_be_bytes());
        let candidates = &candidates[..candidates.len().min(MAX_CANDIDATES)];
        out.push(candidates.len() as u8);
        for candidate in candidates {
            out.push(match candidate.kind {
                CandidateKind::Host => 1,
                CandidateKind::Observed => 2,
                CandidateKind::Mapped => 3,
                CandidateKind::Configured => 4,
            });
            write_endpoint(candidate.addr, &mut out);
        }
        out
    }

    /// Reads the payload of a list.
    ///
    /// # Errors
    /// It is cut short, or of another version.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new("candidates", payload);
        if r.u8()? != VERSION {
            return Err(WireError::Invalid { what: "version of candidates" });
        }
        let (mapping, filtering) = (known_behavior(r.u8()?), known_behavior(r.u8()?));
        let hairpins = match r.u8()? {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        };
        let ports = r.u8()?;
        let step = i16::from_be_bytes(r.array()?);
        let ports = match ports {
            1 => PortAllocation::Preserving,
            2 => PortAllocation::Sequential(step),
            3 => PortAllocation::Random,
            _ => PortAllocation::Unknown,
        };
        let mut candidates = Vec::new();
        for _ in 0..usize::from(r.u8()?).min(MAX_CANDIDATES) {
            let kind = match r.u8()? {
                1 => Some(CandidateKind::Host),
                2 => Some(CandidateKind::Observed),
                3 => Some(CandidateKind::Mapped),
                4 => Some(CandidateKind::Configured),
                _ => None,
            };
            let addr = read_endpoint(&mut r)?;
            candidates.extend(kind.map(|kind| Candidate { addr, kind }));
        }
        Ok(Self { nat: NatKind { mapping, filtering, hairpins, ports }, candidates })
    }
}

/// The payload of an answer: where the probe came from.
#[must_use]
pub fn encode_observed(from: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(PROBE_ROOM);
    write_endpoint(from, &mut out);
    out
}

/// The same, read.
#[must_use]
pub fn parse_observed(payload: &[u8]) -> Option<SocketAddr> {
    read_endpoint(&mut Reader::new("observed endpoint", payload)).ok()
}

fn behavior(behavior: Behavior) -> u8 {
    match behavior {
        Behavior::Unknown => 0,
        Behavior::Open => 1,
        Behavior::EndpointIndependent => 2,
        Behavior::AddressDependent => 3,
        Behavior::AddressAndPortDependent => 4,
    }
}

fn known_behavior(code: u8) -> Behavior {
    match code {
        1 => Behavior::Open,
        2 => Behavior::EndpointIndependent,
        3 => Behavior::AddressDependent,
        4 => Behavior::AddressAndPortDependent,
        _ => Behavior::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> CandidateList {
        let candidate = |addr: &str, kind| Candidate { addr: addr.parse().unwrap(), kind };
        CandidateList {
            nat: NatKind {
                mapping: Behavior::AddressAndPortDependent,
                filtering: Behavior::AddressDependent,
                hairpins: Some(false),
                ports: PortAllocation::Sequential(-2),
            },
            candidates: vec![
                candidate("192.168.1.9:4000", CandidateKind::Host),
                candidate("[2001:db8::9]:4000", CandidateKind::Host),
                candidate("203.0.113.9:61000", CandidateKind::Observed),
            ],
        }
    }

    #[test]
    fn a_list_survives_the_wire() {
        let list = list();
        let payload = CandidateList::encode(list.nat, &list.candidates);
        assert_eq!(CandidateList::parse(&payload), Ok(list));
        for len in 0..payload.len() {
            assert!(CandidateList::parse(&payload[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let list = list();
        let mut payload = CandidateList::encode(list.nat, &list.candidates);
        payload[8] = 99;
        payload[1] = 99;
        payload.extend_from_slice(b"more");
        let read = CandidateList::parse(&payload).unwrap();
        assert_eq!(read.candidates, list.candidates[1..]);
        assert_eq!(read.nat.mapping, Behavior::Unknown);
        payload[0] = 2;
        assert!(CandidateList::parse(&payload).is_err());
    }

    #[test]
    fn an_answer_is_never_longer_than_a_probe_that_has_room() {
        for addr in ["203.0.113.9:61000", "[2001:db8::9]:4000", "[::ffff:1.2.3.4]:5"] {
            let addr: SocketAddr = addr.parse().unwrap();
            let payload = encode_observed(addr);
            assert!(payload.len() <= PROBE_ROOM);
            let read = parse_observed(&payload).unwrap();
            assert_eq!((read.ip(), read.port()), (addr.ip().to_canonical(), addr.port()));
        }
        assert_eq!(parse_observed(&[]), None);
    }
}
