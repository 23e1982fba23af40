//! From two X25519 keys to an AES key: what the two generations of Go nodes do.
//!
//! | suite | AES-256 key | additional data |
//! |---|---|---|
//! | `V118` | HKDF-SHA-256(no salt, shared, `pilot-tunnel-v1`) | sender's node id, 4 bytes |
//! | `Feb2026` | SHA-256(`pilot-tunnel-v1:` ‖ shared) | none |
//!
//! No frame names its suite. Tunnels speak `V118`; `Feb2026` is here for the golden vectors and
//! for whoever teaches the tunnel to tell the two apart.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use crate::wire::tunnel::SealedHeader;

/// How a shared secret becomes a key, and what a frame authenticates besides its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Release 1.18.0, and we.
    V118,
    /// The nodes of February 2026.
    Feb2026,
}

/// The peer's X25519 key is of low order: the shared secret would be known to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's X25519 key has low order")]
pub struct WeakKey;

/// The X25519 shared secret; wiped when dropped.
///
/// # Errors
/// The result is all zero, as a key of low order makes it (RFC 7748 s6.1).
pub fn agree(ours: &StaticSecret, theirs: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, WeakKey> {
    let shared = ours.diffie_hellman(&PublicKey::from(*theirs));
    if !shared.was_contributory() {
        return Err(WeakKey);
    }
    Ok(Zeroizing::new(shared.to_bytes()))
}

impl Suite {
    /// The AES-256 key.
    #[must_use]
    pub fn key(self, shared: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        match self {
            Self::V118 => expand(shared, b"pilot-tunnel-v1"),
            Self::Feb2026 => {
                let mut hash = Sha256::new().chain_update(b"pilot-tunnel-v1:").chain_update(shared);
                let mut output = hash.finalize_reset();
                let key = Zeroizing::new(output.into());
                output.zeroize();
                key
            }
        }
    }

    /// The additional data of a frame with this header.
    #[must_use]
    pub fn additional_data(self, header: &SealedHeader) -> AdditionalData {
        match self {
            Self::V118 => AdditionalData { bytes: header.aad(), len: 4 },
            Self::Feb2026 => AdditionalData { bytes: [0; 4], len: 0 },
        }
    }
}

/// What a frame authenticates besides its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdditionalData {
    bytes: [u8; 4],
    len: usize,
}

impl AsRef<[u8]> for AdditionalData {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// 32 bytes of HKDF-SHA-256 without salt: one secret, one purpose per `info`.
#[must_use]
pub fn expand(secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(info, out.as_mut_slice())
        .expect("HKDF-SHA-256 gives up to 8160 bytes");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_low_order_are_refused() {
        let ours = StaticSecret::from([7; 32]);
        let mut order_eight = [0; 32];
        order_eight.copy_from_slice(
            &hex::decode("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
                .unwrap(),
        );
        let mut one = [0; 32];
        one[0] = 1;
        for weak in [[0; 32], one, order_eight] {
            assert_eq!(agree(&ours, &weak).map(|_| ()), Err(WeakKey), "{weak:02x?}");
        }
        assert!(agree(&ours, PublicKey::from(&StaticSecret::from([8; 32])).as_bytes()).is_ok());
    }
}
