//! Sealing and opening: AES-256-GCM, in place, tag detached.
//!
//! `backend` is the only place that names an implementation. Another one offers the same two
//! calls, and keeps the promise that a failed `open` leaves the bytes as they were: a frame of an
//! unknown nonce prefix is tried with each session that the peer may be using.

use std::fmt;

use super::suite::Suite;
use crate::wire::tunnel::{SealedHeader, TAG_LEN};

/// Seals frames with one key. Whoever holds it must never use a nonce twice.
pub struct SealingKey {
    suite: Suite,
    cipher: backend::Cipher,
}

/// Opens frames of one key.
pub struct OpeningKey {
    suite: Suite,
    cipher: backend::Cipher,
}

/// The frame does not authenticate: another key, another sender, or changed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame does not authenticate")]
pub struct NotAuthentic;

impl SealingKey {
    /// A key for sealing.
    #[must_use]
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self { suite, cipher: backend::Cipher::new(key) }
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
        Self { suite, cipher: backend::Cipher::new(key) }
    }

    /// Decrypts in place what follows the header, ciphertext and tag, and returns the packet.
    ///
    /// # Errors
    /// It does not authenticate; `sealed` is then unchanged.
    pub fn open<'a>(
        &self,
        header: &SealedHeader,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        let additional = self.suite.additional_data(header);
        let Some((packet, tag)) = sealed.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(NotAuthentic);
        };
        self.cipher.open(header.nonce(), additional.as_ref(), packet, tag)?;
        Ok(packet)
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

/// AES-256-GCM by the `aes-gcm` crate: portable, hardware instructions found at run time, key
/// schedule wiped when dropped.
mod backend {
    use aes_gcm::aead::AeadInOut as _;
    use aes_gcm::{Aes256Gcm, KeyInit as _};

    use super::{NotAuthentic, TAG_LEN};

    pub(super) struct Cipher(Aes256Gcm);

    impl Cipher {
        pub(super) fn new(key: &[u8; 32]) -> Self {
            Self(Aes256Gcm::new(key.into()))
        }

        pub(super) fn seal(
            &self,
            nonce: [u8; 12],
            additional: &[u8],
            packet: &mut [u8],
        ) -> [u8; TAG_LEN] {
            self.0
                .encrypt_inout_detached(&nonce.into(), additional, packet.into())
                .expect("a datagram is far below the limit of AES-GCM, 64 GiB")
                .into()
        }

        pub(super) fn open(
            &self,
            nonce: [u8; 12],
            additional: &[u8],
            packet: &mut [u8],
            tag: &[u8; TAG_LEN],
        ) -> Result<(), NotAuthentic> {
            // This implementation verifies before it decrypts, so a failure changes nothing.
            self.0
                .decrypt_inout_detached(&nonce.into(), additional, packet.into(), tag.into())
                .map_err(|_| NotAuthentic)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NodeId;

    const HEADER: SealedHeader =
        SealedHeader { sender: NodeId(7), nonce_prefix: [1, 2, 3, 4], counter: 5 };

    #[test]
    fn a_failed_open_leaves_the_bytes_as_they_were() {
        let (right, wrong) = ([1; 32], [2; 32]);
        let mut frame = b"a packet".to_vec();
        let tag = SealingKey::new(Suite::V118, &right).seal(&HEADER, &mut frame);
        frame.extend_from_slice(&tag);
        let sealed = frame.clone();
        assert!(OpeningKey::new(Suite::V118, &wrong).open(&HEADER, &mut frame).is_err());
        assert_eq!(frame, sealed);
        let opened = OpeningKey::new(Suite::V118, &right).open(&HEADER, &mut frame).unwrap();
        assert_eq!(opened, b"a packet");
    }

    #[test]
    fn every_bit_of_header_and_frame_counts() {
        let key = [1; 32];
        let opening = OpeningKey::new(Suite::V118, &key);
        let mut frame = vec![0; 40];
        let tag = SealingKey::new(Suite::V118, &key).seal(&HEADER, &mut frame);
        frame.extend_from_slice(&tag);
        for bit in 0..frame.len() * 8 {
            let mut forged = frame.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(opening.open(&HEADER, &mut forged).is_err(), "bit {bit}");
        }
        for header in [
            SealedHeader { sender: NodeId(8), ..HEADER },
            SealedHeader { counter: 6, ..HEADER },
            SealedHeader { nonce_prefix: [1, 2, 3, 5], ..HEADER },
        ] {
            assert!(opening.open(&header, &mut frame.clone()).is_err(), "{header:?}");
        }
        assert!(opening.open(&HEADER, &mut [0; TAG_LEN - 1]).is_err());
    }
}
