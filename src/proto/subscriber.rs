//! Which addresses are one subscriber's, for limits by address.

use std::net::{IpAddr, Ipv6Addr};

/// 100::/64 (RFC 6666): no packet comes from it, so it can stand for connections.
const DISCARD: [u16; 4] = [0x100, 0, 0, 0];

/// What stands for all addresses of a subscriber: of IPv6 everybody has a whole /64.
#[must_use]
pub fn subscriber(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() && ip.segments()[..4] != DISCARD => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)))
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_has_one_ipv4_address_or_an_ipv6_network() {
        let of = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("203.0.113.1"), of("203.0.113.2"));
        assert_eq!(of("::ffff:203.0.113.1"), of("203.0.113.1"));
        assert_ne!(of("100::1"), of("100::2"), "these stand for connections");
    }
}
