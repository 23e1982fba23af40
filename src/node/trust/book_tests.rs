//! Decisions of the trust book.

use super::book::{Ignored, Saved, TrustBook, Verdict};
use crate::crypto::Identity;
use crate::node::types::TrustAnswer;
use crate::wire::NodeId;
use crate::wire::handshake::{HandshakeKind, HandshakeMessage, sign_string};

const US: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const NOW: u64 = 1_000_000;

fn identity() -> Identity {
    Identity::from_seed(&[2; 32])
}

fn message(kind: HandshakeKind) -> HandshakeMessage {
    HandshakeMessage {
        kind,
        node_id: PEER,
        public_key: Some(identity().public_key()),
        justification: "to help".to_owned(),
        signature: Some(identity().sign(sign_string(PEER, US).as_bytes())),
        reason: "no".to_owned(),
        timestamp: NOW.cast_signed(),
    }
}

fn book() -> TrustBook {
    TrustBook::new(Saved::default(), false)
}

fn receive(book: &mut TrustBook, message: &HandshakeMessage) -> Result<Verdict, Ignored> {
    book.receive(NOW, US, PEER, &identity().public_key(), message)
}

#[test]
fn a_request_waits_for_the_user_and_is_then_trusted() {
    let mut book = book();
    assert_eq!(receive(&mut book, &message(HandshakeKind::Request)), Ok(Verdict::Ask));
    assert_eq!(book.pending().next().unwrap().justification, "to help");
    let key = identity().public_key();
    assert!(!book.is_trusted(PEER, &key));
    assert_eq!(book.approve(NOW, PEER, key), Some(true));
    assert!(book.is_trusted(PEER, &key) && book.pending().next().is_none());
    assert!(!book.is_trusted(PEER, &[9; 32]), "trust belongs to the key");
    let again =
        HandshakeMessage { timestamp: NOW.cast_signed() + 1, ..message(HandshakeKind::Request) };
    assert_eq!(receive(&mut book, &again), Ok(Verdict::Accept));
}

#[test]
fn forged_messages_are_ignored() {
    let good = message(HandshakeKind::Request);
    let other = Identity::from_seed(&[3; 32]);
    let forged = [
        (HandshakeMessage { node_id: NodeId(3), ..good.clone() }, Ignored::Sender),
        (HandshakeMessage { signature: None, ..good.clone() }, Ignored::Signature),
        (HandshakeMessage { public_key: None, ..good.clone() }, Ignored::Signature),
        (HandshakeMessage { signature: Some([0; 64]), ..good.clone() }, Ignored::Signature),
        (
            // Signed well, but by a key that the registry does not have for this node.
            HandshakeMessage {
                public_key: Some(other.public_key()),
                signature: Some(other.sign(sign_string(PEER, US).as_bytes())),
                ..good.clone()
            },
            Ignored::Signature,
        ),
        (
            // A message to somebody else, passed on.
            HandshakeMessage {
                signature: Some(identity().sign(sign_string(PEER, NodeId(9)).as_bytes())),
                ..good.clone()
            },
            Ignored::Signature,
        ),
        (HandshakeMessage { timestamp: NOW.cast_signed() - 301, ..good.clone() }, Ignored::Time),
        (HandshakeMessage { timestamp: NOW.cast_signed() + 31, ..good.clone() }, Ignored::Time),
        (HandshakeMessage { timestamp: i64::MIN, ..good.clone() }, Ignored::Time),
    ];
    let mut book = book();
    for (message, why) in forged {
        assert_eq!(receive(&mut book, &message), Err(why), "{message:?}");
    }
    assert!(book.pending().next().is_none());
    assert_eq!(receive(&mut book, &good), Ok(Verdict::Ask), "nothing of it blocks the real one");
    assert_eq!(receive(&mut book, &good), Err(Ignored::Replay));
}

#[test]
fn an_answer_needs_a_question() {
    let mut book = book();
    assert_eq!(receive(&mut book, &message(HandshakeKind::Accept)), Err(Ignored::Unasked));
    assert_eq!(receive(&mut book, &message(HandshakeKind::Reject)), Err(Ignored::Unasked));
    assert_eq!(receive(&mut book, &message(HandshakeKind::Revoke)), Err(Ignored::Unasked));
    assert!(book.trusted().next().is_none());
}

#[test]
fn our_request_is_granted_or_refused_once() {
    let mut book = book();
    assert!(book.request(NOW, PEER));
    assert_eq!(book.answer(PEER), TrustAnswer::Undecided);
    assert_eq!(receive(&mut book, &message(HandshakeKind::Accept)), Ok(Verdict::Granted));
    assert_eq!(book.answer(PEER), TrustAnswer::Granted);
    assert!(book.is_trusted(PEER, &identity().public_key()));

    let mut book = self::book();
    assert!(book.request(NOW, PEER));
    assert_eq!(receive(&mut book, &message(HandshakeKind::Reject)), Ok(Verdict::Refused));
    assert_eq!(book.answer(PEER), TrustAnswer::Refused("no".to_owned()));
    assert_eq!(receive(&mut book, &message(HandshakeKind::Accept)), Err(Ignored::Unasked));
}

#[test]
fn two_that_ask_each_other_agree() {
    let mut book = book();
    assert!(book.request(NOW, PEER));
    assert_eq!(receive(&mut book, &message(HandshakeKind::Request)), Ok(Verdict::Accept));
    assert_eq!(book.answer(PEER), TrustAnswer::Granted);
}

#[test]
fn who_revokes_is_not_heard_for_a_while() {
    let mut book = book();
    let key = identity().public_key();
    book.approve(NOW, PEER, key).unwrap();
    assert_eq!(receive(&mut book, &message(HandshakeKind::Revoke)), Ok(Verdict::Revoked));
    assert!(!book.is_trusted(PEER, &key));
    assert_eq!(book.on_request(NOW + 299, PEER, key, ""), Err(Ignored::Muted));
    assert_eq!(book.on_request(NOW + 300, PEER, key, ""), Ok(Verdict::Ask));
}

#[test]
fn strangers_cannot_fill_the_list_for_ever_or_write_what_they_like() {
    let mut book = book();
    let key = [7; 32];
    let evil = format!("\u{1b}[2J\u{202e}please\n{}", "ü".repeat(2_000));
    for node in 0..300 {
        let verdict = book.on_request(NOW, NodeId(100 + node), key, &evil);
        assert_eq!(verdict.is_ok(), node < 256, "{node}");
    }
    let first = book.pending().next().unwrap();
    assert!(first.justification.starts_with("[2Jplease") && first.justification.len() <= 1_024);
    let later = NOW + 30 * 24 * 3_600;
    assert_eq!(book.on_request(later, PEER, key, ""), Ok(Verdict::Ask), "old ones make room");
}

#[test]
fn whoever_asks_is_trusted_if_the_node_says_so() {
    let mut book = TrustBook::new(Saved::default(), true);
    assert_eq!(receive(&mut book, &message(HandshakeKind::Request)), Ok(Verdict::Accept));
    let saved = TrustBook::new(book.save(1), false);
    assert!(saved.is_trusted(PEER, &identity().public_key()));
}
