//! Addresses of this machine's interfaces, and which of them to offer to others.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses offered at most; also what a registry keeps for one node.
pub const MAX_HOST_CANDIDATES: usize = 8;

/// Names of interfaces that only lead to containers and virtual machines on this host.
const BRIDGES: &[&str] =
    &["docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxc", "lxd", "cni", "flannel", "cali"];
/// Names of tunnels: what goes through them is wrapped once more.
const TUNNELS: &[&str] = &["tun", "tap", "wg", "utun", "ppp", "ipsec", "tailscale", "zt"];

/// What an interface leads to; the better one first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reach {
    /// A network, as far as we can tell.
    Network,
    /// A tunnel over another.
    Tunnel,
    /// This host's own containers and virtual machines.
    Bridge,
}

/// An address of an interface.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostAddr {
    /// The address.
    pub ip: IpAddr,
    /// The interface's number; 0 if the system has none.
    pub index: u32,
    /// What it leads to.
    pub reach: Reach,
}

/// The addresses of this machine that others may use, in no order: neither loopback nor
/// link-local.
///
/// # Errors
/// What the system says.
pub fn host_addrs() -> io::Result<Vec<HostAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let usable = interfaces.into_iter().filter(|it| is_usable(it.ip()));
    let mut addrs: Vec<HostAddr> = usable
        .map(|it| HostAddr {
            ip: it.ip(),
            index: it.index.unwrap_or_default(),
            reach: reach(&it.name),
        })
        .collect();
    addrs.dedup();
    Ok(addrs)
}

/// The address of ours from which packets to `remote` leave. Connecting a UDP socket sends
/// nothing; it only asks the routing table.
#[must_use]
pub fn source_toward(remote: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    let ip = socket.local_addr().ok()?.ip().to_canonical();
    (!ip.is_unspecified()).then_some(ip)
}

/// What to offer of `addrs` for a socket that is bound to `bound`, best first: first the address
/// that leads to the rendezvous, `preferred`.
///
/// A rendezvous on loopback has its nodes on this machine: then loopback is offered too, and
/// first.
#[must_use]
pub fn host_candidates(
    addrs: &[HostAddr],
    bound: SocketAddr,
    preferred: Option<IpAddr>,
) -> Vec<SocketAddr> {
    let with_port = |ip| SocketAddr::new(ip, bound.port());
    if !bound.ip().is_unspecified() {
        return vec![with_port(bound.ip().to_canonical())];
    }
    let loopback = preferred.filter(IpAddr::is_loopback);
    let fits = |ip: &IpAddr| ip.is_ipv4() || bound.is_ipv6();
    let mut ranked: Vec<_> = addrs
        .iter()
        .filter(|addr| fits(&addr.ip))
        .map(|addr| (Some(addr.ip) != preferred, addr.reach, rank(addr.ip), addr.ip))
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    let ips = loopback.into_iter().chain(ranked.into_iter().map(|(.., ip)| ip));
    ips.take(MAX_HOST_CANDIDATES).map(with_port).collect()
}

/// Global IPv6 before IPv4 before unique local IPv6, which seldom leads anywhere that the others
/// do not lead to.
fn rank(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V6(ip) if ip.is_unique_local() => 2,
        IpAddr::V6(_) => 0,
        IpAddr::V4(_) => 1,
    }
}

fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_unspecified() && !v4.is_multicast(),
        IpAddr::V6(v6) => {
            !v6.is_loopback()
                && !v6.is_unspecified()
                && !v6.is_multicast()
                && !v6.is_unicast_link_local()
        }
    }
}

fn reach(name: &str) -> Reach {
    let is_one_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if is_one_of(BRIDGES) {
        Reach::Bridge
    } else if is_one_of(TUNNELS) {
        Reach::Tunnel
    } else {
        Reach::Network
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(ip: &str, name: &str) -> HostAddr {
        HostAddr { ip: ip.parse().unwrap(), index: 1, reach: reach(name) }
    }

    fn texts(candidates: &[SocketAddr]) -> Vec<String> {
        candidates.iter().map(|addr| addr.ip().to_string()).collect()
    }

    const ANY: &str = "[::]:4000";

    #[test]
    fn networks_come_before_tunnels_and_those_before_bridges() {
        let addrs = [
            addr("172.17.0.1", "docker0"),
            addr("10.8.0.2", "tun0"),
            addr("fd00::5", "eth0"),
            addr("192.168.1.5", "eth0"),
            addr("2001:db8::5", "eth0"),
        ];
        let found = host_candidates(&addrs, ANY.parse().unwrap(), None);
        let order = ["2001:db8::5", "192.168.1.5", "fd00::5", "10.8.0.2", "172.17.0.1"];
        assert_eq!(texts(&found), order);
        assert!(found.iter().all(|addr| addr.port() == 4000));
    }

    #[test]
    fn the_way_to_the_rendezvous_comes_first() {
        let addrs = [addr("2001:db8::5", "eth0"), addr("10.8.0.2", "tun0")];
        let preferred = Some("10.8.0.2".parse().unwrap());
        let found = host_candidates(&addrs, ANY.parse().unwrap(), preferred);
        assert_eq!(texts(&found), ["10.8.0.2", "2001:db8::5"]);
    }

    #[test]
    fn loopback_is_offered_only_beside_a_rendezvous_on_it() {
        let addrs = [addr("192.168.1.5", "eth0")];
        let preferred = Some("127.0.0.1".parse().unwrap());
        let found = host_candidates(&addrs, ANY.parse().unwrap(), preferred);
        assert_eq!(texts(&found), ["127.0.0.1", "192.168.1.5"]);
        let all = host_addrs().unwrap();
        assert!(all.iter().all(|addr| is_usable(addr.ip) && !addr.ip.is_loopback()));
    }

    #[test]
    fn a_bound_socket_offers_what_it_is_bound_to() {
        let addrs = [addr("192.168.1.5", "eth0"), addr("2001:db8::5", "eth0")];
        let found = host_candidates(&addrs, "192.168.1.5:4000".parse().unwrap(), None);
        assert_eq!(texts(&found), ["192.168.1.5"]);
        let found = host_candidates(&addrs, "0.0.0.0:4000".parse().unwrap(), None);
        assert_eq!(texts(&found), ["192.168.1.5"]);
    }

    #[test]
    fn a_machine_with_many_addresses_offers_some() {
        let addrs: Vec<_> = (1..=50).map(|n| addr(&format!("10.0.0.{n}"), "eth0")).collect();
        let found = host_candidates(&addrs, ANY.parse().unwrap(), None);
        assert_eq!(found.len(), MAX_HOST_CANDIDATES);
    }

    #[test]
    fn the_way_to_loopback_is_loopback() {
        let source = source_toward("127.0.0.1:9".parse().unwrap());
        assert_eq!(source, Some("127.0.0.1".parse().unwrap()));
    }
}
