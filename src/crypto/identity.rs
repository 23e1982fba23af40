//! A node's identity: an Ed25519 key pair.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand::CryptoRng;
use zeroize::Zeroizing;

/// An Ed25519 key pair. The secret half is wiped when this is dropped and never printed.
pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// Makes a new identity.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// The identity that grows from a seed (the first half of the stored private key).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The public key as registries and identity files write it.
    #[must_use]
    pub fn public_key_base64(&self) -> String {
        STANDARD.encode(self.public_key())
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// Signs `message`, in the form of the registry's `signature` fields.
    #[must_use]
    pub fn sign_base64(&self, message: &[u8]) -> String {
        STANDARD.encode(self.sign(message))
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("public_key", &self.public_key_base64())
            .finish_non_exhaustive()
    }
}

/// Whether `signature` is `public_key`'s signature of `message`.
///
/// Strict (RFC 8032 s5.1.7 without cofactor, no small-order keys), so that one key and message
/// have one valid signature, and no key verifies what it did not sign.
#[must_use]
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public_key)
        .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let (alice, bob) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let signature = alice.sign(b"heartbeat:1");
        assert!(verify(&alice.public_key(), b"heartbeat:1", &signature));
        assert!(!verify(&alice.public_key(), b"heartbeat:2", &signature));
        assert!(!verify(&bob.public_key(), b"heartbeat:1", &signature));
    }

    #[test]
    fn a_small_order_key_verifies_nothing() {
        // The identity point as key and R, with S = 0, passes a verification that is not strict.
        let mut point = [0; 32];
        point[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify(&point, b"anything", &signature));
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", Identity::from_seed(&[7; 32]));
        assert!(text.contains("public_key"), "{text}");
        assert!(!text.contains("07, 07") && !text.contains("7, 7"), "{text}");
        assert!(!text.contains(&STANDARD.encode([7; 32])), "{text}");
    }
}
