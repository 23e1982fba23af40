use pilot_agent::wire::Seq;
use proptest::prelude::*;

/// RFC 1982 s3.2 leaves the comparison undefined at this distance.
const HALF: u32 = 1 << 31;

proptest! {
    /// RFC 1982 s3.1: adding less than half the space moves forward.
    #[test]
    fn addition_moves_forward(s: u32, n in 1..HALF) {
        let (from, to) = (Seq(s), Seq(s).add(n));
        prop_assert!(from.lt(to) && !to.lt(from));
        prop_assert_eq!(to.distance_from(from), n.cast_signed());
        prop_assert_eq!(from.distance_from(to), -n.cast_signed());
    }

    /// RFC 1982 s3.2: of two different numbers exactly one is less, unless they are half apart.
    #[test]
    fn exactly_one_of_two_is_less(a: u32, b: u32) {
        prop_assume!(a.wrapping_sub(b) != HALF);
        let (less, equal, greater) = (Seq(a).lt(Seq(b)), a == b, Seq(b).lt(Seq(a)));
        prop_assert_eq!(u8::from(less) + u8::from(equal) + u8::from(greater), 1);
        prop_assert_eq!(Seq(a).le(Seq(b)), less || equal);
    }

    /// Order does not depend on where zero is.
    #[test]
    fn order_is_the_same_after_a_shift(a: u32, b: u32, shift: u32) {
        prop_assert_eq!(Seq(a).lt(Seq(b)), Seq(a).add(shift).lt(Seq(b).add(shift)));
    }

    /// Within less than half the space, order is transitive.
    #[test]
    fn order_is_transitive_nearby(a: u32, n in 1..HALF / 2, m in 1..HALF / 2) {
        let (b, c) = (Seq(a).add(n), Seq(a).add(n).add(m));
        prop_assert!(Seq(a).lt(b) && b.lt(c) && Seq(a).lt(c));
    }

    /// A 64-bit offset survives the wire, as long as the receiver's reference is near it.
    #[test]
    fn offsets_survive_the_wire(offset in 0..1_u64 << 50, ahead in 0..u64::from(HALF)) {
        let wire = Seq::from_offset(offset);
        prop_assert_eq!(wire.unwrap_near(offset.saturating_add(ahead)), Some(offset));
        prop_assert_eq!(wire.unwrap_near(offset.saturating_sub(ahead)), Some(offset));
    }

    /// Whatever unwraps has the number that came.
    #[test]
    fn unwrapping_keeps_the_number(s: u32, reference in 0..1_u64 << 50) {
        if let Some(offset) = Seq(s).unwrap_near(reference) {
            prop_assert_eq!(Seq::from_offset(offset), Seq(s));
        }
    }
}
