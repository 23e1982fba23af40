//! How a node proves to a beacon that it is where it speaks from.
//!
//! ```text
//! node (from a new endpoint)                  beacon
//!   any frame, or a discover      ---->       not where I noted it
//!                                 <----       challenge: cookie = H(secret, time, node, endpoint)
//!   prove: cookie, signature      ---->       the cookie is mine and for this endpoint (no state,
//!                                             cheap), the signature is the registered key's
//!                                 <----       discover reply; from now on the node is there
//! ```
//! The cookie shows that the endpoint is not forged before a signature is verified. A recorded
//! answer is worth nothing elsewhere or later, and neither side needs the time of day.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::crypto;
use crate::crypto::cookie::CookieKey;
use crate::wire::NodeId;
use crate::wire::beacon::{COOKIE_LEN, prove_string};

/// A cookie is good for this long at least, and twice as long at most.
const COOKIE_LIFE: Duration = Duration::from_secs(16);

/// A node's word that it is at an endpoint, from which it has sent back a cookie of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub(super) node: NodeId,
    pub(super) from: SocketAddr,
    pub(super) public_key: [u8; 32],
    pub(super) cookie: [u8; COOKIE_LEN],
    pub(super) signature: [u8; 64],
}

impl Claim {
    /// Whether the node's identity has signed it. This takes tens of microseconds: do it where
    /// nothing waits.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        let text = prove_string(self.node, &self.cookie);
        crypto::verify(&self.public_key, text.as_bytes(), &self.signature)
    }
}

/// Makes cookies, and knows them again.
#[derive(Debug)]
pub(super) struct Cookies {
    key: CookieKey,
    started: Option<Instant>,
}

impl Cookies {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { key: CookieKey::new(secret), started: None }
    }

    pub(super) fn make(&mut self, now: Instant, node: NodeId, at: SocketAddr) -> [u8; COOKIE_LEN] {
        let period = self.period(now);
        self.key.make(&purpose(period, node, at))
    }

    pub(super) fn knows(
        &mut self,
        now: Instant,
        node: NodeId,
        at: SocketAddr,
        cookie: &[u8; COOKIE_LEN],
    ) -> bool {
        let period = self.period(now);
        let is_of = |period| self.key.knows(&purpose(period, node, at), cookie);
        is_of(period) || period.checked_sub(1).is_some_and(is_of)
    }

    fn period(&mut self, now: Instant) -> u64 {
        let started = *self.started.get_or_insert(now);
        now.saturating_duration_since(started).as_secs() / COOKIE_LIFE.as_secs()
    }
}

fn purpose(period: u64, node: NodeId, at: SocketAddr) -> [u8; 30] {
    let ip = match at.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut purpose = [0; 30];
    purpose[..8].copy_from_slice(&period.to_be_bytes());
    purpose[8..12].copy_from_slice(&node.0.to_be_bytes());
    purpose[12..28].copy_from_slice(&ip.octets());
    purpose[28..].copy_from_slice(&at.port().to_be_bytes());
    purpose
}
