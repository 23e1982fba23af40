//! Sequence numbers (RFC 1982 serial number arithmetic, 32 bits).

use std::fmt;

/// A byte's place in a stream, modulo 2^32.
///
/// There is deliberately no `Ord`: `<` on numbers that wrap is a bug, so it does not compile.
/// Compare with [`Seq::lt`], or take the signed distance with [`Seq::distance_from`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(pub u32);

impl Seq {
    /// The number `n` bytes further on, wrapping.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "`+` would hide that it wraps")]
    pub fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Signed distance from `origin` to `self`; meaningful while the two are less than 2^31 apart
    /// (RFC 1982 s3.2 leaves exactly 2^31 undefined; here it is negative).
    #[must_use]
    pub fn distance_from(self, origin: Self) -> i32 {
        self.0.wrapping_sub(origin.0).cast_signed()
    }

    /// Whether `self` comes before `other` (RFC 1982 s3.2).
    #[must_use]
    pub fn lt(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }

    /// Whether `self` equals or comes before `other`.
    #[must_use]
    pub fn le(self, other: Self) -> bool {
        self.distance_from(other) <= 0
    }

    /// The 64-bit offset nearest to `reference` whose low 32 bits are `self`. This is how a
    /// stream turns wire numbers into offsets that never wrap. `None` if it would be negative.
    #[must_use]
    pub fn unwrap_near(self, reference: u64) -> Option<u64> {
        let distance = self.distance_from(Self::from_offset(reference));
        reference.checked_add_signed(i64::from(distance))
    }

    /// The low 32 bits of a 64-bit offset.
    #[must_use]
    pub fn from_offset(offset: u64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "wrapping is what a sequence number is"
        )]
        Self(offset as u32)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_wrapping() {
        assert!(Seq(u32::MAX).lt(Seq(0)));
        assert!(Seq(0).lt(Seq(0x7fff_ffff)));
        assert!(!Seq(0).lt(Seq(0)) && Seq(0).le(Seq(0)));
        assert_eq!(Seq(u32::MAX).add(2), Seq(1));
    }

    #[test]
    fn offsets_unwrap_to_the_nearest() {
        let reference = (1 << 32) + 5;
        assert_eq!(Seq(u32::MAX).unwrap_near(reference), Some((1 << 32) - 1));
        assert_eq!(Seq(7).unwrap_near(reference), Some((1 << 32) + 7));
        assert_eq!(Seq(u32::MAX).unwrap_near(0), None);
    }
}
