//! What a beacon allows, and what it counts.

/// What a [`Beacon`](super::Beacon) allows.
#[derive(Debug, Clone, PartialEq)]
pub struct BeaconConfig {
    /// Nodes noted at once. Default 100,000, about 150 bytes each.
    pub max_nodes: usize,
    /// Nodes noted at one address (an IPv6 /64 counts as one); loopback is not limited. Default
    /// 10,000: fleets share the address of their NAT.
    pub max_nodes_per_address: usize,
    /// Relayed datagrams a second from one address, after a burst of as many as a quarter second
    /// has; loopback is not limited. Default 100,000, which is a gigabit a second.
    pub relays_per_sec: u32,
    /// Bytes a second that are relayed for one node, after a burst of a quarter second's worth;
    /// nodes on loopback are not limited. Default 125,000,000, a gigabit a second.
    pub relay_bytes_per_sec: u64,
    /// Bytes a second that are relayed for all nodes together. Give what the machine can carry:
    /// when it is used up, each node that relays has an equal share. Default 1,250,000,000, ten
    /// gigabits a second.
    pub total_bytes_per_sec: u64,
    /// Discovers and punches a second from one address, after a burst of four seconds' worth;
    /// loopback is not limited. Default 1,000: a fleet behind a NAT comes back within seconds,
    /// and an address that somebody forges gets no more than 40 kB/s of replies.
    pub requests_per_sec: u32,
    /// Signatures verified a second, after as many at once. Default 2,000, a tenth of a core.
    pub proofs_per_sec: u32,
    /// Addresses whose rate is watched at once. Default 65,536.
    pub max_sources: usize,
    /// The number that this beacon tells others in its announcements; it means nothing. Default 0.
    pub id: u32,
}

impl Default for BeaconConfig {
    fn default() -> Self {
        Self {
            max_nodes: 100_000,
            max_nodes_per_address: 10_000,
            relays_per_sec: 100_000,
            relay_bytes_per_sec: 125_000_000,
            total_bytes_per_sec: 1_250_000_000,
            requests_per_sec: 1_000,
            proofs_per_sec: 2_000,
            max_sources: 65_536,
            id: 0,
        }
    }
}

/// What a beacon did; plain counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BeaconStats {
    /// Discovers that were answered.
    pub discovers: u64,
    /// Pairs of nodes that were introduced.
    pub punches: u64,
    /// Datagrams passed on.
    pub relayed: u64,
    /// Datagrams dropped: malformed, not allowed, or for a node that is not noted.
    pub dropped: u64,
    /// Datagrams dropped because their address or node sent too many.
    pub limited: u64,
    /// Challenges sent.
    pub challenges: u64,
    /// Challenges that were met.
    pub proofs: u64,
    /// Changes of endpoint.
    pub moves: u64,
    /// Changes of endpoint that were not believed.
    pub refused_moves: u64,
}
