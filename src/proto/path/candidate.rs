//! Addresses of a node that its peers may try.

use std::net::SocketAddr;

/// How we came to an address of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum CandidateKind {
    /// Of an interface of this machine.
    Host,
    /// A beacon saw our datagrams come from it.
    Observed,
    /// The router forwards it to us, because we asked it to.
    Mapped,
    /// The user says so.
    Configured,
}

/// An address of ours that peers may try.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Candidate {
    /// The address.
    pub addr: SocketAddr,
    /// How we came to it.
    pub kind: CandidateKind,
}
