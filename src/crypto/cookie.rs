//! Cookies: proof that whoever shows one got it from us, without keeping a list of them.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 16;

/// What makes cookies, and knows them again.
pub struct CookieKey(Zeroizing<[u8; 32]>);

impl CookieKey {
    /// A key from 32 unpredictable bytes.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The cookie for `purpose`, which must have the same length each time: then no cookie says
    /// anything about another one.
    #[must_use]
    pub fn make<const N: usize>(&self, purpose: &[u8; N]) -> [u8; COOKIE_LEN] {
        let hash: [u8; 32] =
            Sha256::new().chain_update(self.0.as_slice()).chain_update(purpose).finalize().into();
        let mut cookie = [0; COOKIE_LEN];
        cookie.copy_from_slice(&hash[..COOKIE_LEN]);
        cookie
    }

    /// Whether `cookie` is that for `purpose`.
    #[must_use]
    pub fn knows<const N: usize>(&self, purpose: &[u8; N], cookie: &[u8; COOKIE_LEN]) -> bool {
        self.make(purpose).ct_eq(cookie).into()
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_its_purpose_and_key() {
        let (key, other) = (CookieKey::new([1; 32]), CookieKey::new([2; 32]));
        let cookie = key.make(b"node 1 at home");
        assert!(key.knows(b"node 1 at home", &cookie));
        assert!(!key.knows(b"node 2 at home", &cookie));
        assert!(!other.knows(b"node 1 at home", &cookie));
        assert_eq!(format!("{key:?}"), "CookieKey(..)");
    }
}
