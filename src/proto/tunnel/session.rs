//! One agreed key: a pair of X25519 keys, ours and the peer's, and what was seen under it.

use std::fmt;
use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt as _};
use zeroize::Zeroizing;

use super::TunnelError;
use super::own_key::OwnKey;
use super::probe::ProbeTimer;
use crate::crypto::suite::expand;
use crate::crypto::{OpeningKey, ReplayWindow, SealingKey, Suite, WeakKey, key_pair};
use crate::wire::tunnel::{SEALED_HEADER_LEN, SealedHeader, TAG_LEN};
use crate::wire::{NodeId, WireError};

/// Nonce prefixes of the peer that one session follows. Ours use one; a 1.18 peer takes a new
/// one when it discards a key and agrees on it again.
const MAX_EPOCHS: usize = 8;
/// How long a session that no frame confirms is kept after the last key exchange that named it.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(10);
/// How long a session that another one replaced still opens late frames, after its last one.
const SUPERSEDED_FOR: Duration = Duration::from_secs(30);

/// An X25519 key of the peer, and how many came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerKey {
    pub(super) generation: u32,
    pub(super) public: [u8; 32],
}

/// What two keys agree on.
pub(super) struct Session {
    /// Which of our keys.
    pub(super) own_generation: u32,
    /// Which of the peer's keys, by order of arrival.
    pub(super) peer_generation: u32,
    /// The peer's key.
    pub(super) peer_public: [u8; 32],
    /// Whether we know that the peer has this key: a frame opened under it, or under others that
    /// prove its both halves.
    pub(super) confirmed: Option<Instant>,
    /// When the last frame opened.
    pub(super) opened: Option<Instant>,
    /// When another session replaced it for sending.
    pub(super) superseded: Option<Instant>,
    /// The last key exchange that named the peer's key.
    pub(super) named: Instant,
    /// Since when the peer may have this key instead of the one in use.
    pub(super) suspected: Instant,
    /// Sends questions under this key until something opens.
    pub(super) probe: ProbeTimer,
    /// The peer's key is one that it had before that of the session in use.
    pub(super) outdated: bool,
    /// We sent under it on suspicion already, see `Sessions::give_in`.
    pub(super) tried: bool,
    sealing: SealingKey,
    opening: OpeningKey,
    continuity: Zeroizing<[u8; 32]>,
    /// First half of our nonces.
    prefix: [u8; 4],
    /// Which of the two halves of all prefixes is ours.
    upper_half: bool,
    /// The peer's prefixes and the counters seen under each. After the first frame never empty.
    epochs: Vec<([u8; 4], ReplayWindow)>,
}

impl Session {
    /// Derives the session of a key of ours and one of the peer's.
    ///
    /// `previous` is the key that ours replaces; the prefix then proves to the peer that it is
    /// still us, see [`Session::is_continued_by`].
    pub(super) fn derive(
        now: Instant,
        own: &OwnKey,
        peer: PeerKey,
        previous: Option<&OwnKey>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, WeakKey> {
        let PeerKey { generation: peer_generation, public: peer_public } = peer;
        let shared = own.agree(&peer_public)?;
        let key = Suite::V118.key(&shared);
        let (sealing, opening) = key_pair(Suite::V118, &key);
        let upper_half = *own.public() > peer_public;
        let prefix = match previous {
            Some(previous) => {
                successor_prefix(&continuity(&*previous.agree(&peer_public)?), own.public())
            }
            None => rng.random(),
        };
        Ok(Self {
            own_generation: own.generation(),
            peer_generation,
            peer_public,
            confirmed: None,
            opened: None,
            superseded: None,
            named: now,
            suspected: now,
            probe: ProbeTimer::default(),
            tried: false,
            outdated: false,
            sealing,
            opening,
            continuity: continuity(&shared),
            prefix: in_half(prefix, upper_half),
            upper_half,
            epochs: Vec::new(),
        })
    }

    /// Later keys have a higher rank; both ends agree on the order of any two that they share.
    pub(super) fn rank(&self) -> u32 {
        self.own_generation.saturating_add(self.peer_generation)
    }

    /// Whether `peer_prefix`, seen under `next`, proves that the peer held this session when it
    /// made its next key: it goes on, and did not restart. (A Go peer never proves it, but
    /// changes its key only by restarting.)
    pub(super) fn is_continued_by(&self, next: &Self, peer_prefix: [u8; 4]) -> bool {
        self.successor_prefix(next) == Some(peer_prefix)
    }

    /// Whether a frame under `next` has proved that before.
    pub(super) fn was_continued_by(&self, next: &Self) -> bool {
        self.successor_prefix(next).is_some_and(|prefix| next.knows_prefix(prefix))
    }

    /// The peer's prefix under `next` if its key there follows on its key here.
    fn successor_prefix(&self, next: &Self) -> Option<[u8; 4]> {
        (self.own_generation == next.own_generation).then(|| {
            in_half(successor_prefix(&self.continuity, &next.peer_public), !next.upper_half)
        })
    }

    /// Whether the peer has sealed under this prefix here before.
    pub(super) fn knows_prefix(&self, prefix: [u8; 4]) -> bool {
        self.epochs.iter().any(|(known, _)| *known == prefix)
    }

    /// Decrypts in place; on failure the bytes are unchanged. Does not look at the counter.
    pub(super) fn decrypts(&self, header: &SealedHeader, sealed: &mut [u8]) -> bool {
        self.opening.open(header, sealed).is_ok()
    }

    /// As [`decrypts`](Self::decrypts), where no other session can be tried: faster, and on
    /// failure the bytes are lost.
    pub(super) fn decrypts_alone(&self, header: &SealedHeader, sealed: &mut [u8]) -> bool {
        self.opening.open_or_spoil(header, sealed).is_ok()
    }

    /// Accepts each counter of an authentic frame once.
    pub(super) fn accept(&mut self, header: &SealedHeader) -> Result<(), Refused> {
        let prefix = header.nonce_prefix;
        let at = match self.epochs.iter().position(|(known, _)| *known == prefix) {
            Some(at) => at,
            None if self.epochs.len() >= MAX_EPOCHS => return Err(Refused::TooManyPrefixes),
            None => {
                self.epochs.push((prefix, ReplayWindow::default()));
                self.epochs.len() - 1
            }
        };
        let Some((_, window)) = self.epochs.get_mut(at) else { return Err(Refused::Replayed) };
        window.accept(header.counter).map_err(|_| Refused::Replayed)
    }

    /// Takes another prefix if the peer's is ours: only the prefixes keep the nonces of the two
    /// directions apart. Between two of ours it cannot happen; a Go peer picks it with 2^-32.
    pub(super) fn avoid_prefix(&mut self, theirs: [u8; 4], rng: &mut impl CryptoRng) {
        while self.prefix == theirs || self.knows_prefix(self.prefix) {
            self.prefix = in_half(rng.random(), self.upper_half);
        }
    }

    /// Seals `frame` = head room, packet, tag room. The caller never passes a counter twice.
    pub(super) fn seal(
        &self,
        sender: NodeId,
        counter: u64,
        frame: &mut [u8],
    ) -> Result<(), TunnelError> {
        let truncated = WireError::Truncated {
            what: "frame to seal",
            need: SEALED_HEADER_LEN + TAG_LEN,
            have: frame.len(),
        };
        let Some((head, rest)) = frame.split_first_chunk_mut::<SEALED_HEADER_LEN>() else {
            return Err(truncated.into());
        };
        let Some((packet, tag)) = rest.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(truncated.into());
        };
        let header = SealedHeader { sender, nonce_prefix: self.prefix, counter };
        *head = header.encode();
        *tag = self.sealing.seal(&header, packet);
        Ok(())
    }

    /// When it can be forgotten, unless we send under it.
    pub(super) fn expires(&self) -> Instant {
        match self.confirmed {
            None => self.named + UNCONFIRMED_FOR,
            Some(confirmed) => {
                let last = self.opened.unwrap_or(confirmed).max(confirmed);
                last.max(self.superseded.unwrap_or(confirmed)) + SUPERSEDED_FOR
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("own_generation", &self.own_generation)
            .field("peer_generation", &self.peer_generation)
            .field("confirmed", &self.confirmed.is_some())
            .finish_non_exhaustive()
    }
}

/// Why an authentic frame is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Seen before, or too old to tell.
    Replayed,
    /// The peer restarts its counter so often that we cannot follow; new keys are needed.
    TooManyPrefixes,
}

/// Of two keys the greater one's owner uses prefixes with the first bit set, so two of our nodes
/// never share a nonce; Go peers take any.
fn in_half([first, rest @ ..]: [u8; 4], upper: bool) -> [u8; 4] {
    let first = if upper { first | 0x80 } else { first & 0x7f };
    let [a, b, c] = rest;
    [first, a, b, c]
}

/// A secret that both ends have as long as they remember the session.
fn continuity(shared: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    expand(shared, b"pilot-agent continuity v1")
}

/// The prefix that follows on a session when one side's key is replaced by `new_public`.
fn successor_prefix(continuity: &[u8; 32], new_public: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..] = *expand(continuity, new_public);
    [a, b, c, d]
}
