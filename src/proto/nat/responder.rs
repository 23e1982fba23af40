//! The server's side of finding out about a NAT: answers STUN requests on two ports (RFC 5780).
//!
//! Who asks is not known to own the address that he asks from. So an answer is never longer than
//! the request, goes to no other address than the request came from, and each address gets only
//! so many.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::proto::endpoint::limits::RateLimiter;
use crate::wire::stun::{BindingSuccess, StunMessage};

/// Answers a second to one address, and at once. Finding out takes some 40, and many nodes may be
/// behind one NAT.
const PER_SECOND: f64 = 200.0;
const BURST: f64 = 2_000.0;
/// Addresses whose rate is watched at once.
const MAX_SOURCES: usize = 16_384;

/// Which of the server's ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StunPort {
    /// The one that everybody knows.
    First,
    /// The one that requests are told of.
    Second,
}

impl StunPort {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// An answer to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StunReply {
    /// From which port.
    pub from: StunPort,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub datagram: Vec<u8>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct StunResponder {
    /// The first and the second port, where there is a second.
    ports: Option<(u16, u16)>,
    limiter: RateLimiter<IpAddr>,
}

impl StunResponder {
    /// A server on these two ports, or on one of which the number does not matter.
    #[must_use]
    pub fn new(ports: Option<(u16, u16)>) -> Self {
        Self { ports, limiter: RateLimiter::new(PER_SECOND, BURST, MAX_SOURCES) }
    }

    /// The answer to a datagram that came to `port`, if it gets one.
    pub fn answer(
        &mut self,
        now: Instant,
        port: StunPort,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<StunReply> {
        let Ok(StunMessage::Request(request)) = StunMessage::parse(datagram) else { return None };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if !from.ip().is_loopback() && !self.limiter.allow(now, from.ip()) {
            return None;
        }
        // There is no second address here. Silence is what a client that asks for one takes for
        // "not to be found out".
        if request.change_ip || request.change_port && self.ports.is_none() {
            return None;
        }
        let other = self.ports.map(|(first, second)| match port {
            StunPort::First => second,
            StunPort::Second => first,
        });
        let mut success = BindingSuccess {
            transaction: request.transaction,
            mapped: from,
            other: other.map(|other| SocketAddr::new(unspecified(from.ip()), other)),
        };
        let mut reply = success.encode();
        if reply.len() > datagram.len() {
            success.other = None;
            reply = success.encode();
        }
        let to = SocketAddr::new(from.ip(), request.response_port.unwrap_or(from.port()));
        if reply.len() > datagram.len() || to.port() == 0 {
            return None;
        }
        let from = if request.change_port { port.other() } else { port };
        Some(StunReply { from, to, datagram: reply })
    }
}

/// "The address that you have asked": a server may not know by which one of its own it is reached.
fn unspecified(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0u16; 8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stun::{BindingRequest, HEADER_LEN};

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn responder() -> StunResponder {
        StunResponder::new(Some((7470, 7471)))
    }

    fn success(reply: &StunReply) -> BindingSuccess {
        match StunMessage::parse(&reply.datagram) {
            Ok(StunMessage::Success(success)) => success,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_asks_is_told_his_address_and_the_other_port() {
        let (now, from) = (Instant::now(), addr("203.0.113.7:40001"));
        let request = BindingRequest { transaction: [7; 12], ..BindingRequest::default() }.encode();
        let reply = responder().answer(now, StunPort::First, from, &request).unwrap();
        assert_eq!((reply.from, reply.to), (StunPort::First, from));
        let expected = BindingSuccess {
            transaction: [7; 12],
            mapped: from,
            other: Some(addr("0.0.0.0:7471")),
        };
        assert_eq!(success(&reply), expected);
        let reply = responder().answer(now, StunPort::Second, from, &request).unwrap();
        assert_eq!(success(&reply).other, Some(addr("0.0.0.0:7470")));
    }

    #[test]
    fn an_answer_may_come_from_the_other_port_and_go_to_another() {
        let (now, from) = (Instant::now(), addr("[2001:db8::7]:40001"));
        let request = BindingRequest {
            change_port: true,
            response_port: Some(50_000),
            ..BindingRequest::default()
        };
        let reply = responder().answer(now, StunPort::First, from, &request.encode()).unwrap();
        assert_eq!((reply.from, reply.to), (StunPort::Second, addr("[2001:db8::7]:50000")));
        assert_eq!(success(&reply).mapped, from);
    }

    #[test]
    fn no_answer_is_longer_than_its_request() {
        let now = Instant::now();
        let padded = BindingRequest::default().encode();
        for from in [addr("203.0.113.7:1"), addr("[2001:db8::7]:1")] {
            let mut answered = 0;
            for len in (HEADER_LEN..=padded.len()).step_by(4) {
                let mut request = padded.clone();
                request.truncate(len);
                let attributes = u16::try_from(len - HEADER_LEN).unwrap();
                request[2..4].copy_from_slice(&attributes.to_be_bytes());
                if len > HEADER_LEN {
                    let padding = attributes - 4;
                    request[HEADER_LEN + 2..HEADER_LEN + 4].copy_from_slice(&padding.to_be_bytes());
                }
                if let Some(reply) = responder().answer(now, StunPort::First, from, &request) {
                    assert!(reply.datagram.len() <= len, "{} to {len}", reply.datagram.len());
                    answered += 1;
                }
            }
            assert!(answered > 0);
        }
    }

    #[test]
    fn one_address_gets_only_so_many_answers() {
        let (now, mut responder) = (Instant::now(), responder());
        let request = BindingRequest::default().encode();
        let mut answered = |from| {
            let ask = |_: &u32| responder.answer(now, StunPort::First, from, &request).is_some();
            (0..5_000).filter(ask).count()
        };
        assert_eq!(answered(addr("203.0.113.7:1")), 2_000);
        assert_eq!(answered(addr("203.0.113.7:2")), 0);
        assert_eq!(answered(addr("203.0.113.8:1")), 2_000);
        assert_eq!(answered(addr("127.0.0.1:1")), 5_000);
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        let (now, from) = (Instant::now(), addr("203.0.113.7:1"));
        let answer = responder().answer(now, StunPort::First, from, &[0; 68]);
        assert_eq!(answer, None);
        let success = BindingSuccess { transaction: [0; 12], mapped: from, other: None }.encode();
        assert_eq!(responder().answer(now, StunPort::First, from, &success), None);
        let other_ip = BindingRequest { change_ip: true, ..BindingRequest::default() }.encode();
        assert_eq!(responder().answer(now, StunPort::First, from, &other_ip), None);
    }
}
