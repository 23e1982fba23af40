//! Asking the router to forward a port to us: by PCP, NAT-PMP where it knows that only, or UPnP.
//!
//! A mapping that the router has granted makes the node reachable for those whose NAT cannot be
//! punched through, and lives without being kept alive. Most routers do not answer, or refuse;
//! that costs a few datagrams to the gateway and nobody waits for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

mod upnp;

use crab_nat::{
    InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp,
};
use upnp::Igd;

/// RFC 6886 section 3.3; it is renewed at half of what was granted.
const LIFETIME_SECS: u32 = 7_200;
/// A gateway is near: who has not answered by then has no mind to.
const TIMEOUTS: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_millis(500)),
};
/// A router that restarts keeps us from trusting a lifetime for longer than this.
const MAX_RENEW: Duration = Duration::from_secs(3_600);
const MIN_RENEW: Duration = Duration::from_secs(30);

/// A port that the router forwards to us.
#[derive(Debug)]
pub struct MappedPort {
    grant: Grant,
    external: SocketAddr,
}

/// Who granted it.
#[derive(Debug)]
enum Grant {
    Pcp(PortMapping),
    Upnp { igd: Igd, own: SocketAddr },
}

impl MappedPort {
    /// Asks `gateway` to forward a port to `port` of `own`, which is our address toward it. `None`
    /// if it does not, or if the address that it forwards from is itself behind a NAT, where the
    /// port is of no use to anybody.
    pub async fn request(gateway: Ipv4Addr, own: IpAddr, port: u16) -> Option<Self> {
        let options = PortMappingOptions {
            external_port: NonZeroU16::new(port),
            lifetime_seconds: Some(LIFETIME_SECS),
            timeout_config: Some(TIMEOUTS),
        };
        let (via, udp) = (IpAddr::from(gateway).into(), InternetProtocol::Udp);
        let pcp = PortMapping::new(via, own, udp, NonZeroU16::new(port)?, options);
        // The second is only looked for, in case the first does not answer.
        let (granted, igd) = tokio::join!(pcp, Igd::find(gateway));
        let grant = match (granted, igd) {
            (Ok(mapping), _) => Grant::Pcp(mapping),
            (Err(_), Ok(igd)) => {
                let own = SocketAddr::new(own, port);
                igd.add(own, LIFETIME_SECS).await.ok()?;
                Grant::Upnp { igd, own }
            }
            (Err(pcp), Err(upnp)) => {
                tracing::debug!(%gateway, %pcp, %upnp, "the router forwards no port");
                return None;
            }
        };
        match grant.external().await.filter(|addr| is_public(addr.ip())) {
            Some(external) => Some(Self { grant, external }),
            None => {
                grant.delete().await;
                None
            }
        }
    }

    /// Where others reach us.
    #[must_use]
    pub fn external(&self) -> SocketAddr {
        self.external
    }

    /// When to call [`renew`](Self::renew).
    #[must_use]
    pub fn renew_at(&self, now: Instant) -> Instant {
        let half = match &self.grant {
            Grant::Pcp(mapping) => mapping.expiration().saturating_duration_since(now) / 2,
            Grant::Upnp { .. } => MAX_RENEW,
        };
        now + half.clamp(MIN_RENEW, MAX_RENEW)
    }

    /// Asks for more time; `None` if there is no mapping any more. It may have moved.
    pub async fn renew(mut self) -> Option<Self> {
        match &mut self.grant {
            Grant::Pcp(mapping) => mapping.renew().await.ok()?,
            Grant::Upnp { igd, own } => igd.add(*own, LIFETIME_SECS).await.ok()?,
        }
        let external = self.grant.external().await.filter(|addr| is_public(addr.ip()))?;
        Some(Self { external, ..self })
    }

    /// Has the router forget it.
    pub async fn delete(self) {
        self.grant.delete().await;
    }
}

impl Grant {
    async fn external(&self) -> Option<SocketAddr> {
        match self {
            Self::Pcp(mapping) => {
                let ip = match mapping.mapping_type() {
                    PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
                    PortMappingType::NatPmp => {
                        let asked = natpmp::external_address(mapping.gateway(), Some(TIMEOUTS));
                        asked.await.ok()?.into()
                    }
                };
                Some(SocketAddr::new(ip, mapping.external_port().get()))
            }
            Self::Upnp { igd, own } => {
                Some(SocketAddr::new(igd.external_ip().await.ok()?, own.port()))
            }
        }
    }

    async fn delete(self) {
        match self {
            Self::Pcp(mapping) => drop(mapping.try_drop().await),
            Self::Upnp { igd, own } => drop(igd.delete(own.port()).await),
        }
    }
}

/// The router to which packets for the rest of the world go, over IPv4; IPv6 has no need of all
/// this.
#[must_use]
pub fn default_gateway() -> Option<Ipv4Addr> {
    // Other systems tell it in ways that need a dependency each.
    gateway_of(&std::fs::read_to_string("/proc/self/net/route").ok()?)
}

/// Reads the kernel's table: interface, destination and gateway (as they lie in memory), flags,
/// three numbers of no interest here or there, mask.
fn gateway_of(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, destination, gateway, _, _, _, metric, mask, ..] = fields.as_slice() else {
            return None;
        };
        let address = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
        let is_default = address(destination)? == [0; 4] && address(mask)? == [0; 4];
        let gateway = Ipv4Addr::from(address(gateway)?);
        let metric: u32 = metric.parse().ok()?;
        (is_default && !gateway.is_unspecified()).then_some((metric, gateway))
    });
    routes.min().map(|(_, gateway)| gateway)
}

/// Whether an address is one of the whole Internet.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_carriers = a == 100 && b & 0xc0 == 64;
            let is_local = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            !(is_local || is_carriers || v4.is_unspecified() || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    /// Of RFC 6887 and RFC 6886: fixed, so each test has a loopback address of its own.
    const PORT: u16 = 5351;

    /// A gateway that speaks PCP and forwards from `external`; it tells the lifetimes asked for.
    async fn pcp(at: Ipv4Addr, external: Ipv4Addr) -> tokio::sync::mpsc::Receiver<u32> {
        let socket = UdpSocket::bind((at, PORT)).await.unwrap();
        let (told, lifetimes) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let mut buffer = [0; 1_100];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let request = &buffer[..len];
                assert_eq!(request[..2], [2, 1], "PCP, MAP");
                let lifetime: [u8; 4] = request[4..8].try_into().unwrap();
                let mut reply = vec![2, 0x81, 0, 0];
                reply.extend_from_slice(&lifetime);
                reply.extend_from_slice(&[0, 0, 0, 9]);
                reply.extend_from_slice(&[0; 12]);
                // Nonce, protocol and internal port are repeated; the external port is another.
                reply.extend_from_slice(&request[24..42]);
                reply.extend_from_slice(&45_678_u16.to_be_bytes());
                reply.extend_from_slice(&external.to_ipv6_mapped().octets());
                let _ = told.send(u32::from_be_bytes(lifetime)).await;
                let _ = socket.send_to(&reply, from).await;
            }
        });
        lifetimes
    }

    #[tokio::test]
    async fn a_port_is_mapped_renewed_and_given_back() {
        let gateway = Ipv4Addr::new(127, 53, 51, 1);
        let mut lifetimes = pcp(gateway, Ipv4Addr::new(203, 0, 113, 9)).await;
        let own = Ipv4Addr::LOCALHOST.into();
        let asked = MappedPort::request(gateway, own, 4000);
        let mapped = timeout(LIMIT, asked).await.unwrap().unwrap();
        assert_eq!(mapped.external(), "203.0.113.9:45678".parse().unwrap());
        let now = Instant::now();
        assert!(mapped.renew_at(now) > now + Duration::from_secs(3_500));
        assert_eq!(lifetimes.recv().await, Some(LIFETIME_SECS));
        let mapped = timeout(LIMIT, mapped.renew()).await.unwrap().unwrap();
        assert_eq!(lifetimes.recv().await, Some(LIFETIME_SECS));
        timeout(LIMIT, mapped.delete()).await.unwrap();
        assert_eq!(lifetimes.recv().await, Some(0));
    }

    #[tokio::test]
    async fn a_port_behind_another_nat_is_given_back_at_once() {
        let gateway = Ipv4Addr::new(127, 53, 51, 2);
        let mut lifetimes = pcp(gateway, Ipv4Addr::new(100, 64, 0, 9)).await;
        let own = Ipv4Addr::LOCALHOST.into();
        let asked = MappedPort::request(gateway, own, 4000);
        assert!(timeout(LIMIT, asked).await.unwrap().is_none());
        assert_eq!(lifetimes.recv().await, Some(LIFETIME_SECS));
        assert_eq!(lifetimes.recv().await, Some(0));
    }

    #[tokio::test]
    async fn a_gateway_that_says_nothing_is_given_up() {
        let gateway = Ipv4Addr::new(127, 53, 51, 3);
        let asked = MappedPort::request(gateway, Ipv4Addr::LOCALHOST.into(), 4000);
        assert!(timeout(LIMIT, asked).await.unwrap().is_none());
    }

    #[test]
    fn the_gateway_of_the_best_default_route_is_found() {
        let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let (zero, home, other) = (hex([0; 4]), hex([192, 168, 1, 1]), hex([10, 0, 0, 1]));
        let lan = hex([192, 168, 1, 0]);
        let mask = hex([255, 255, 255, 0]);
        let table = format!(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
             wlan0\t{zero}\t{other}\t0003\t0\t0\t600\t{zero}\t0\t0\t0\n\
             eth0\t{zero}\t{home}\t0003\t0\t0\t100\t{zero}\t0\t0\t0\n\
             eth0\t{lan}\t{zero}\t0001\t0\t0\t100\t{mask}\t0\t0\t0\n"
        );
        assert_eq!(gateway_of(&table), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(gateway_of(""), None);
        assert_eq!(gateway_of("Iface\neth0 nonsense"), None);
    }

    #[test]
    fn addresses_behind_a_nat_are_not_public() {
        for ip in ["192.168.1.1", "10.0.0.1", "172.16.0.1", "100.64.0.1", "127.0.0.1", "fd00::1"] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["203.0.113.1", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
