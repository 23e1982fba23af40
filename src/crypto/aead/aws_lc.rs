//! AES-256-GCM by AWS-LC. It picks its assembly at run time: wide vector instructions
//! (VAES, VPCLMULQDQ) where the processor has them. Key and schedule are wiped when freed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{NotAuthentic, TAG_LEN};

// "Less safe" because nonces are the caller's business; here they are part of the wire format.
pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    /// It decrypts while it verifies, and clears the output when the tag turns out wrong.
    pub(super) const KEEPS_REFUSED: bool = false;

    pub(super) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are a key of AES-256");
        Self(LessSafeKey::new(key))
    }

    pub(super) fn seal(
        &self,
        nonce: [u8; 12],
        additional: &[u8],
        packet: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(additional), packet)
            .expect("a datagram is far below the limit of AES-GCM, 64 GiB");
        tag.as_ref().try_into().expect("a tag of AES-GCM has 16 bytes")
    }

    pub(super) fn open<'a>(
        &self,
        nonce: [u8; 12],
        additional: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::from(additional), sealed).map_err(|_| NotAuthentic)
    }
}
