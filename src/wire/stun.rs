//! STUN, as far as finding out about one's NAT needs it (RFC 8489, RFC 5780).
//!
//! ```text
//! type u16 | length u16 | cookie 0x2112A442 | transaction (12) | attributes
//! attribute: type u16 | length u16 | value, padded to 4 bytes
//! ```
//! Only the method Binding exists here. The first byte is 0x00 or 0x01, which beacon messages
//! begin with, too; the cookie and the length, which is that of the datagram, tell them apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr as Endpoint};

use super::WireError;
use super::cursor::Reader;

/// Bytes before the attributes.
pub const HEADER_LEN: usize = 20;
/// A request of this length may be answered in full, over IPv6 as well, without the answer being
/// longer.
pub const PADDED_LEN: usize = HEADER_LEN + 2 * 24;

const COOKIE: u32 = 0x2112_A442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
/// What the checksum of a fingerprint is mixed with.
const FINGERPRINT_XOR: u32 = 0x5354_554e;

const CHANGE_REQUEST: u16 = 0x0003;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PADDING: u16 = 0x0026;
const RESPONSE_PORT: u16 = 0x0027;
const FINGERPRINT: u16 = 0x8028;
const OTHER_ADDRESS: u16 = 0x802c;
/// Attributes below this must be understood.
const OPTIONAL: u16 = 0x8000;

const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;

/// What an answer is told from others by; random, so that nobody else can answer.
pub type Transaction = [u8; 12];

/// Whether a datagram is a STUN message of the method Binding.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    let mut r = Reader::new("STUN", datagram);
    let (Ok(kind), Ok(len), Ok(cookie)) = (r.u16(), r.u16(), r.u32()) else { return false };
    matches!(kind, REQUEST | SUCCESS)
        && cookie == COOKIE
        && len % 4 == 0
        && usize::from(len) + HEADER_LEN == datagram.len()
}

/// A request: what are my address and port?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BindingRequest {
    /// See [`Transaction`].
    pub transaction: Transaction,
    /// Answer from another address.
    pub change_ip: bool,
    /// Answer from another port.
    pub change_port: bool,
    /// Answer to this port of the same address.
    pub response_port: Option<u16>,
}

/// The answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindingSuccess {
    /// That of the request.
    pub transaction: Transaction,
    /// Where the request came from.
    pub mapped: Endpoint,
    /// Where else to ask: another port, or another port of another address.
    pub other: Option<Endpoint>,
}

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StunMessage {
    /// A request.
    Request(BindingRequest),
    /// An answer.
    Success(BindingSuccess),
}

impl StunMessage {
    /// Decodes a message.
    ///
    /// # Errors
    /// It is another message, is truncated, has an attribute that must be understood and is not,
    /// or a wrong fingerprint; or it answers without saying what was asked.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        if !is_stun(datagram) {
            return Err(WireError::Invalid { what: "STUN header" });
        }
        let mut r = Reader::new("STUN message", datagram);
        let kind = r.u16()?;
        r.bytes(6)?;
        let transaction: Transaction = r.array()?;
        let mut request = BindingRequest { transaction, ..BindingRequest::default() };
        let (mut mapped, mut other) = (None, None);
        let mut rest = r.rest();
        while !rest.is_empty() {
            let at = datagram.len() - rest.len();
            let mut r = Reader::new("STUN attribute", rest);
            let (attribute, len) = (r.u16()?, usize::from(r.u16()?));
            let mut value = Reader::new("STUN attribute", r.bytes(len)?);
            r.bytes(len.next_multiple_of(4) - len)?;
            rest = r.rest();
            match attribute {
                CHANGE_REQUEST => {
                    let flags = value.u32()?;
                    request.change_ip = flags & CHANGE_IP != 0;
                    request.change_port = flags & CHANGE_PORT != 0;
                }
                RESPONSE_PORT => request.response_port = Some(value.u16()?),
                XOR_MAPPED_ADDRESS => mapped = Some(unmask(read_address(value)?, &transaction)),
                OTHER_ADDRESS => other = Some(read_address(value)?),
                FINGERPRINT => check_fingerprint(datagram, at, value.u32()?)?,
                PADDING => {}
                OPTIONAL.. => {}
                // What a password would be for, USERNAME and the like, is among them.
                _ if kind == REQUEST => {
                    return Err(WireError::Invalid { what: "STUN attribute" });
                }
                _ => {}
            }
        }
        if kind == REQUEST {
            return Ok(Self::Request(request));
        }
        let mapped = mapped.ok_or(WireError::Invalid { what: "STUN answer" })?;
        Ok(Self::Success(BindingSuccess { transaction, mapped, other }))
    }
}

impl BindingRequest {
    /// The message, padded to [`PADDED_LEN`], so that the answer may be complete.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = header(REQUEST, &self.transaction);
        if self.change_ip || self.change_port {
            let ip = if self.change_ip { CHANGE_IP } else { 0 };
            let port = if self.change_port { CHANGE_PORT } else { 0 };
            attribute(&mut out, CHANGE_REQUEST, &(ip | port).to_be_bytes());
        }
        if let Some(port) = self.response_port {
            attribute(&mut out, RESPONSE_PORT, &port.to_be_bytes());
        }
        // An attribute has 4 bytes at least.
        let missing = PADDED_LEN.saturating_sub(out.len() + 4);
        attribute(&mut out, PADDING, &[0; PADDED_LEN][..missing]);
        finish(out)
    }
}

impl BindingSuccess {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = header(SUCCESS, &self.transaction);
        let masked = unmask(self.mapped, &self.transaction);
        attribute(&mut out, XOR_MAPPED_ADDRESS, &address(masked));
        if let Some(other) = self.other {
            attribute(&mut out, OTHER_ADDRESS, &address(other));
        }
        finish(out)
    }
}

fn header(kind: u16, transaction: &Transaction) -> Vec<u8> {
    let mut out = Vec::with_capacity(PADDED_LEN);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&COOKIE.to_be_bytes());
    out.extend_from_slice(transaction);
    out
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Writes the length, which is known only now.
fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(out.len() - HEADER_LEN).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(2..4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
    out
}

/// ```text
/// 0 u8 | family u8 (1 or 2) | port u16 | IP address
/// ```
fn address(addr: Endpoint) -> Vec<u8> {
    let (family, ip) = match addr.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut out = vec![0, family];
    out.extend_from_slice(&addr.port().to_be_bytes());
    out.extend_from_slice(&ip);
    out
}

fn read_address(mut r: Reader<'_>) -> Result<Endpoint, WireError> {
    r.u8()?;
    let (family, port) = (r.u8()?, r.u16()?);
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from(r.array::<4>()?)),
        2 => IpAddr::V6(Ipv6Addr::from(r.array::<16>()?)),
        _ => return Err(WireError::Invalid { what: "STUN address" }),
    };
    Ok(Endpoint::new(ip, port))
}

/// Some NATs change every address of theirs that they find in a datagram, so an answer has it
/// masked: the port with the cookie, the address with the cookie and the transaction.
fn unmask(addr: Endpoint, transaction: &Transaction) -> Endpoint {
    let mask =
        transaction.iter().fold(u128::from(COOKIE), |mask, byte| mask << 8 | u128::from(*byte));
    let port = addr.port() ^ 0x2112;
    let ip = match addr.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ COOKIE)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ mask)),
    };
    Endpoint::new(ip, port)
}

/// RFC 8489 section 14.7: a checksum of all that stands before the attribute.
fn check_fingerprint(datagram: &[u8], at: usize, found: u32) -> Result<(), WireError> {
    let checked = datagram.get(..at).unwrap_or_default();
    match crc32fast::hash(checked) ^ FINGERPRINT_XOR == found {
        true => Ok(()),
        false => Err(WireError::Checksum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2.2.
    const IPV4_ANSWER: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f\
        7220002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
    /// RFC 5769 section 2.3.
    const IPV6_ANSWER: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f\
        7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c27\
        5bfe3ed4180280004c8fb0b4c";

    fn bytes(text: &str) -> Vec<u8> {
        let hex: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        hex::decode(hex).unwrap()
    }

    fn transaction() -> Transaction {
        bytes("b7e7a701bc34d686fa87dfae").try_into().unwrap()
    }

    #[test]
    fn answers_of_rfc_5769_are_understood() {
        for (text, mapped) in [
            (IPV4_ANSWER, "192.0.2.1:32853"),
            (IPV6_ANSWER, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let expected = BindingSuccess {
                transaction: transaction(),
                mapped: mapped.parse().unwrap(),
                other: None,
            };
            assert_eq!(StunMessage::parse(&bytes(text)), Ok(StunMessage::Success(expected)));
        }
    }

    #[test]
    fn a_wrong_fingerprint_is_noticed() {
        let mut broken = bytes(IPV4_ANSWER);
        broken[30] ^= 1;
        assert_eq!(StunMessage::parse(&broken), Err(WireError::Checksum));
    }

    #[test]
    fn an_answer_is_never_longer_than_a_padded_request() {
        let request = BindingRequest { response_port: Some(4000), ..BindingRequest::default() };
        assert_eq!(request.encode().len(), PADDED_LEN);
        let v6 = "[2001:db8::1]:9".parse().unwrap();
        let full = BindingSuccess { transaction: transaction(), mapped: v6, other: Some(v6) };
        assert_eq!(full.encode().len(), PADDED_LEN);
    }

    #[test]
    fn a_request_that_wants_what_we_do_not_understand_is_refused() {
        let mut out = header(REQUEST, &transaction());
        attribute(&mut out, 0x0006, b"user");
        assert!(is_stun(&finish(out.clone())));
        assert!(StunMessage::parse(&finish(out)).is_err());
    }

    #[test]
    fn beacon_messages_are_not_stun() {
        use crate::wire::beacon::BeaconMessage;
        let mut bytes = Vec::new();
        BeaconMessage::Discover {
            node: crate::wire::NodeId(0x0021_12a4),
            public_key: Some(&[0x42; 32]),
            extended: false,
        }
        .encode(&mut bytes);
        assert!(!is_stun(&bytes));
        assert!(!is_stun(&[1, 0, 0, 0, 0]));
        assert!(!is_stun(&[]));
    }
}
