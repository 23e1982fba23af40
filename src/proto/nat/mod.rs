//! What stands between a node and the others, in the words of RFC 4787 and RFC 5780.

mod beacon_watch;
mod detect;
mod lifetime;
mod responder;
#[cfg(test)]
mod sim;

use std::fmt;

pub use beacon_watch::{ASSUMED_LIFETIME, Answer, BeaconWatch, keepalive_interval};
pub use detect::{NatDetector, Probe, SOCKETS, StunServers};
pub use lifetime::{LIFETIME_SOCKETS, LifetimeProbe};
pub use responder::{StunPort, StunReply, StunResponder};

/// On what a NAT's mapping, or its filter, depends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Behavior {
    /// Not known yet, or not to be known: UDP is blocked, or there is only one server to ask.
    #[default]
    Unknown,
    /// There is no NAT, or no filter.
    Open,
    /// On our address and port only.
    EndpointIndependent,
    /// On the other side's address as well.
    AddressDependent,
    /// And on its port.
    AddressAndPortDependent,
}

/// How a NAT chooses the port of a new mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PortAllocation {
    /// Not known yet.
    #[default]
    Unknown,
    /// Ours, as long as it is free.
    Preserving,
    /// This many after the last one.
    Sequential(i16),
    /// Anything.
    Random,
}

/// Kind of NAT.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NatKind {
    /// To whom the same outside port is shown.
    pub mapping: Behavior,
    /// Whose datagrams come in.
    pub filtering: Behavior,
    /// Whether two inside can talk by their outside addresses.
    pub hairpins: Option<bool>,
    /// Outside ports.
    pub ports: PortAllocation,
}

impl NatKind {
    /// What it is usually called.
    #[must_use]
    pub fn name(self) -> &'static str {
        use Behavior::{
            AddressAndPortDependent, AddressDependent, EndpointIndependent, Open, Unknown,
        };
        match (self.mapping, self.filtering) {
            (Unknown, _) => "unknown",
            (Open, Open | EndpointIndependent) => "none",
            (Open, Unknown) => "none, perhaps a firewall",
            (Open, _) => "none, but a firewall",
            (EndpointIndependent, Open | EndpointIndependent) => "full cone",
            (EndpointIndependent, AddressDependent) => "restricted cone",
            (EndpointIndependent, AddressAndPortDependent) => "port-restricted cone",
            (EndpointIndependent, Unknown) => "cone",
            (AddressDependent | AddressAndPortDependent, _) => "symmetric",
        }
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if matches!(self.mapping, Behavior::Unknown | Behavior::Open) {
            return Ok(());
        }
        match self.ports {
            PortAllocation::Unknown => {}
            PortAllocation::Preserving => f.write_str(", keeps ports")?,
            PortAllocation::Sequential(step) => write!(f, ", ports in steps of {step}")?,
            PortAllocation::Random => f.write_str(", random ports")?,
        }
        match self.hairpins {
            None => Ok(()),
            Some(true) => f.write_str(", hairpins"),
            Some(false) => f.write_str(", no hairpinning"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_nat_has_a_name() {
        let mut kind = NatKind::default();
        assert_eq!(kind.to_string(), "unknown");
        kind.mapping = Behavior::Open;
        kind.filtering = Behavior::Open;
        assert_eq!(kind.to_string(), "none");
        kind.mapping = Behavior::EndpointIndependent;
        kind.filtering = Behavior::AddressAndPortDependent;
        kind.ports = PortAllocation::Preserving;
        kind.hairpins = Some(false);
        assert_eq!(kind.to_string(), "port-restricted cone, keeps ports, no hairpinning");
        kind.mapping = Behavior::AddressAndPortDependent;
        kind.ports = PortAllocation::Sequential(2);
        kind.hairpins = None;
        assert_eq!(kind.to_string(), "symmetric, ports in steps of 2");
    }
}
