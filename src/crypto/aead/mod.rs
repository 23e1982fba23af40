//! Sealing and opening: AES-256-GCM, in place, tag detached.
//!
//! | file | what |
//! |---|---|
//! | `aws_lc.rs` | by AWS-LC: assembly for each generation of processors; the default |
//! | `portable.rs` | by RustCrypto: only Rust, for targets without a C compiler |
//!
//! The cargo feature `aws-lc` chooses. A backend offers `new`, `seal` and `open`, and says by
//! `KEEPS_REFUSED` whether a frame that does not authenticate is left as it was. Tests hold both
//! to the same bytes.

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(any(test, not(feature = "aws-lc")))]
mod portable;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::suite::Suite;
use crate::wire::tunnel::{SealedHeader, TAG_LEN};

#[cfg(feature = "aws-lc")]
use aws_lc::Cipher;
#[cfg(not(feature = "aws-lc"))]
use portable::Cipher;

/// Seals frames with one key. Whoever holds it must never use a nonce twice.
#[derive(Clone)]
pub struct SealingKey {
    suite: Suite,
    cipher: Arc<Cipher>,
}

/// Opens frames of one key.
#[derive(Clone)]
pub struct OpeningKey {
    suite: Suite,
    cipher: Arc<Cipher>,
}

/// The frame does not authenticate: another key, another sender, or changed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame does not authenticate")]
pub struct NotAuthentic;

/// Both directions of one key. They share its schedule, which is most of what an idle peer costs.
#[must_use]
pub fn key_pair(suite: Suite, key: &[u8; 32]) -> (SealingKey, OpeningKey) {
    let cipher = Arc::new(Cipher::new(key));
    (SealingKey { suite, cipher: cipher.clone() }, OpeningKey { suite, cipher })
}

impl SealingKey {
    /// A key for sealing.
    #[must_use]
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        key_pair(suite, key).0
    }

    /// Encrypts `packet` in place and returns its tag. The header gives nonce and sender.
    #[must_use]
    pub fn seal(&self, header: &SealedHeader, packet: &mut [u8]) -> [u8; TAG_LEN] {
        let additional = self.suite.additional_data(header);
        self.cipher.seal(header.nonce(), additional.as_ref(), packet)
    }
}

impl OpeningKey {
    /// A key for opening.
    #[must_use]
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        key_pair(suite, key).1
    }

    /// Decrypts in place what follows the header, ciphertext and tag, and returns the packet. On
    /// failure the bytes are as they were, so that another key may be tried.
    ///
    /// # Errors
    /// It does not authenticate.
    pub fn open<'a>(
        &self,
        header: &SealedHeader,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        if Cipher::KEEPS_REFUSED {
            return self.open_or_spoil(header, sealed);
        }
        let copy = sealed.to_vec();
        if self.open_or_spoil(header, sealed).is_err() {
            sealed.copy_from_slice(&copy);
            return Err(NotAuthentic);
        }
        // The borrow of the call above would last beyond the failure.
        let len = sealed.len() - TAG_LEN;
        Ok(&mut sealed[..len])
    }

    /// As [`open`](Self::open), for the only key that may be right: a frame that does not
    /// authenticate is lost, and one that does costs no copy.
    ///
    /// # Errors
    /// It does not authenticate; its bytes are then of no use.
    pub fn open_or_spoil<'a>(
        &self,
        header: &SealedHeader,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        if sealed.len() < TAG_LEN {
            return Err(NotAuthentic);
        }
        let additional = self.suite.additional_data(header);
        self.cipher.open(header.nonce(), additional.as_ref(), sealed)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpeningKey").finish_non_exhaustive()
    }
}
