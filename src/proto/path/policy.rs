//! What the user wants of paths.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Remote;

/// What a stream or a message is, as far as paths are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum TrafficClass {
    /// Nothing special.
    #[default]
    Normal,
    /// Much of it, and it can wait.
    Bulk,
    /// Little of it, and it must arrive soon.
    Control,
}

/// Which paths a class may take.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ClassRule {
    /// The best one.
    #[default]
    Any,
    /// Direct ones only; while there is none, it waits.
    DirectOnly,
    /// The best two at once: what one loses comes by the other.
    Duplicate,
}

/// Which paths may be used at all, and what for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PathPolicy {
    /// Direct paths are tried, and peers are told our addresses. Without, nobody but the beacon
    /// learns where we are.
    pub direct: bool,
    /// The relay is used.
    pub relay: bool,
    /// Direct paths lead to addresses of local networks only.
    pub lan_only: bool,
    /// For [`TrafficClass::Normal`].
    pub normal: ClassRule,
    /// For [`TrafficClass::Bulk`].
    pub bulk: ClassRule,
    /// For [`TrafficClass::Control`].
    pub control: ClassRule,
}

impl Default for PathPolicy {
    fn default() -> Self {
        Self {
            direct: true,
            relay: true,
            lan_only: false,
            normal: ClassRule::Any,
            bulk: ClassRule::Any,
            control: ClassRule::Any,
        }
    }
}

impl PathPolicy {
    /// The rule for a class.
    #[must_use]
    pub fn rule(&self, class: TrafficClass) -> ClassRule {
        match class {
            TrafficClass::Normal => self.normal,
            TrafficClass::Bulk => self.bulk,
            TrafficClass::Control => self.control,
        }
    }
}

/// What holds for all paths of a peer at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// There is a beacon, and the relay may be used.
    pub has_relay: bool,
    /// Direct paths may be used.
    pub has_direct: bool,
    /// Those to addresses of local networks only.
    pub lan_only: bool,
    /// Silence after which a direct path in use is refreshed.
    pub keepalive: Duration,
    /// Silence after which a NAT may have forgotten a direct path.
    pub lifetime: Duration,
    /// Streams are open.
    pub has_streams: bool,
}

impl Conditions {
    /// Whether frames may go to, and answers to what comes from, this address.
    #[must_use]
    pub fn allows(&self, remote: Remote) -> bool {
        self.has_direct && (!self.lan_only || is_local(remote.addr.ip()))
    }
}

/// Whether an address is one of a local network, or of this host.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether anything could be there for us at all.
pub(super) fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // A link-local IPv6 address means nothing without the interface, which nobody can tell us.
    let lacks_scope = matches!(addr, SocketAddr::V6(v6)
        if v6.ip().is_unicast_link_local() && v6.scope_id() == 0);
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast && !lacks_scope
}
