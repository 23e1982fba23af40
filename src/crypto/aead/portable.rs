//! AES-256-GCM by the `aes-gcm` crate: only Rust, hardware instructions found at run time, key
//! schedule wiped when dropped.

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};

use super::{NotAuthentic, TAG_LEN};

pub(super) struct Cipher(Aes256Gcm);

// As the second backend of the tests it is not asked everything.
#[cfg_attr(feature = "aws-lc", allow(dead_code))]
impl Cipher {
    /// It verifies before it decrypts.
    pub(super) const KEEPS_REFUSED: bool = true;

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

    pub(super) fn open<'a>(
        &self,
        nonce: [u8; 12],
        additional: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        let (packet, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(NotAuthentic)?;
        let tag: &[u8; TAG_LEN] = tag;
        self.0
            .decrypt_inout_detached(&nonce.into(), additional, (&mut *packet).into(), tag.into())
            .map_err(|_| NotAuthentic)?;
        Ok(packet)
    }
}
