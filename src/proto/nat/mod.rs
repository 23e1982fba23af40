//! What stands between a node and the others, in the words of RFC 4787 and RFC 5780.

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
