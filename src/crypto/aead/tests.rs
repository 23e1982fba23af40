use super::*;
use crate::wire::NodeId;

const HEADER: SealedHeader =
    SealedHeader { sender: NodeId(7), nonce_prefix: [1, 2, 3, 4], counter: 5 };

fn sealed(key: &[u8; 32], packet: &[u8]) -> Vec<u8> {
    let mut frame = packet.to_vec();
    let tag = SealingKey::new(Suite::V118, key).seal(&HEADER, &mut frame);
    frame.extend_from_slice(&tag);
    frame
}

#[test]
fn a_failed_open_leaves_the_bytes_as_they_were() {
    let (right, wrong) = ([1; 32], [2; 32]);
    for len in [0, 1, 8, 1_436, 60_000] {
        let packet: Vec<u8> = (0..=255).cycle().take(len).collect();
        let frame = sealed(&right, &packet);
        let mut tried = frame.clone();
        assert!(OpeningKey::new(Suite::V118, &wrong).open(&HEADER, &mut tried).is_err());
        assert_eq!(tried, frame);
        let opened = OpeningKey::new(Suite::V118, &right).open(&HEADER, &mut tried).unwrap();
        assert_eq!(opened, packet);
    }
}

#[test]
fn the_only_key_opens_without_a_copy_and_refuses_the_same() {
    let frame = sealed(&[1; 32], b"a packet");
    let opening = OpeningKey::new(Suite::V118, &[1; 32]);
    assert_eq!(opening.open_or_spoil(&HEADER, &mut frame.clone()).unwrap(), b"a packet");
    let mut forged = frame;
    forged[0] ^= 1;
    assert_eq!(opening.open_or_spoil(&HEADER, &mut forged), Err(NotAuthentic));
}

#[test]
fn every_bit_of_header_and_frame_counts() {
    let key = [1; 32];
    let opening = OpeningKey::new(Suite::V118, &key);
    let frame = sealed(&key, &[0; 40]);
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

/// What one backend seals the other opens, byte for byte, and both refuse the same.
#[cfg(feature = "aws-lc")]
#[test]
fn the_backends_agree() {
    use proptest::prelude::*;

    proptest!(|(
        key: [u8; 32],
        nonce: [u8; 12],
        additional in proptest::collection::vec(any::<u8>(), 0..8),
        packet in proptest::collection::vec(any::<u8>(), 0..2_000),
        flip: prop::sample::Index,
    )| {
        let (fast, portable) = (aws_lc::Cipher::new(&key), portable::Cipher::new(&key));
        let (mut a, mut b) = (packet.clone(), packet.clone());
        let tag = fast.seal(nonce, &additional, &mut a);
        prop_assert_eq!(tag, portable.seal(nonce, &additional, &mut b));
        prop_assert_eq!(&a, &b);
        a.extend_from_slice(&tag);
        let opened = fast.open(nonce, &additional, &mut a.clone()).map(|opened| opened.to_vec());
        prop_assert_eq!(opened.as_ref(), Ok(&packet));
        let opened = portable.open(nonce, &additional, &mut a.clone()).map(|opened| opened.to_vec());
        prop_assert_eq!(opened.as_ref(), Ok(&packet));
        let at = flip.index(a.len());
        a[at] ^= 0x10;
        prop_assert!(fast.open(nonce, &additional, &mut a.clone()).is_err());
        prop_assert!(portable.open(nonce, &additional, &mut a).is_err());
    });
}
