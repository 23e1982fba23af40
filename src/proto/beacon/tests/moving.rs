//! Who is believed to have moved, and how fast.

use super::*;
use crate::proto::beacon::noted::PROVEN_SILENT_AFTER;
use crate::wire::beacon::{COOKIE_LEN, prove_string};

fn proof(node: u32, signer: u32, cookie: [u8; COOKIE_LEN]) -> Vec<u8> {
    let text = prove_string(NodeId(node), &cookie);
    encoded(BeaconMessage::Prove {
        node: NodeId(node),
        public_key: &identity(node).public_key(),
        cookie: &cookie,
        signature: &identity(signer).sign(text.as_bytes()),
    })
}

/// A discover as our nodes send it: a proof of nothing.
fn ask(beacon: &mut Beacon, now: Instant, from: SocketAddr, node: u32) -> Action {
    beacon.handle_datagram(now, from, &mut proof(node, node, [0; COOKIE_LEN]), &Registry)
}

/// The cookie sent to `to`, if one was.
fn challenged(beacon: &mut Beacon, to: SocketAddr) -> Option<[u8; COOKIE_LEN]> {
    let (sent_to, datagram) = beacon.poll_transmit()?;
    assert_eq!(sent_to, to);
    match BeaconMessage::parse(&datagram) {
        Ok(BeaconMessage::Challenge { cookie }) => Some(*cookie),
        other => panic!("{other:?}"),
    }
}

/// Answers a challenge as a server does with the answer; returns whether the signature was asked
/// for, and held.
fn answer(
    beacon: &mut Beacon,
    now: Instant,
    from: SocketAddr,
    (node, signer): (u32, u32),
    cookie: [u8; COOKIE_LEN],
) -> bool {
    let mut datagram = proof(node, signer, cookie);
    let Action::Verify(claim) = beacon.handle_datagram(now, from, &mut datagram, &Registry) else {
        return false;
    };
    claim.is_signed() && matches!(beacon.proved(now, &claim, &Registry), Action::Send(_))
}

fn proven(node: u32) -> (Beacon, Instant) {
    let (mut beacon, now) = beacon_with(&[2]);
    let _ = ask(&mut beacon, now, home(node), node);
    let cookie = challenged(&mut beacon, home(node)).unwrap();
    assert!(answer(&mut beacon, now, home(node), (node, node), cookie));
    (beacon, now)
}

#[test]
fn a_node_that_proves_itself_moves_within_a_round_trip() {
    let (mut beacon, now) = proven(1);
    let _ = ask(&mut beacon, now, away(7), 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(home(1)), "anybody can say that");
    let cookie = challenged(&mut beacon, away(7)).unwrap();
    assert!(answer(&mut beacon, now, away(7), (1, 1), cookie));
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(away(7)));
    let _ = ask(&mut beacon, now, away(7), 1);
    assert_eq!(challenged(&mut beacon, away(7)), None, "it is known there");
    assert_eq!((beacon.stats().moves, beacon.stats().proofs), (1, 2));
}

#[test]
fn a_frame_from_elsewhere_makes_the_node_prove_itself() {
    let (mut beacon, mut now) = proven(1);
    assert_eq!(relay(&mut beacon, now, away(7), 1, 2), None);
    let cookie = challenged(&mut beacon, away(7)).unwrap();
    assert_eq!(relay(&mut beacon, now, away(7), 1, 2), None);
    assert_eq!(challenged(&mut beacon, away(7)), None, "not for every frame");
    now += Duration::from_millis(100);
    assert_eq!(relay(&mut beacon, now, away(7), 1, 2), None);
    assert!(challenged(&mut beacon, away(7)).is_some(), "but again");
    assert!(answer(&mut beacon, now, away(7), (1, 1), cookie));
    assert!(relay(&mut beacon, now, away(7), 1, 2).is_some());

    // The same where the beacon forgot everything, and the registry has another address.
    let (mut beacon, now) = beacon_with(&[]);
    assert_eq!(relay(&mut beacon, now, away(7), 1, 2), None);
    let cookie = challenged(&mut beacon, away(7)).unwrap();
    assert!(answer(&mut beacon, now, away(7), (1, 1), cookie));
    assert!(relay(&mut beacon, now, away(7), 1, 2).is_some());
    let mut short = relay_datagram(3, 2, b"12345678");
    let _ = beacon.handle_datagram(now, away(8), &mut short, &Registry);
    assert_eq!(challenged(&mut beacon, away(8)), None, "a challenge is no longer than its cause");
    let mut stranger = relay_datagram(77, 2, b"PILSframe");
    let _ = beacon.handle_datagram(now, away(9), &mut stranger, &Registry);
    assert_eq!(challenged(&mut beacon, away(9)), None, "nobody is registered as that");
}

#[test]
fn a_proof_is_good_for_its_node_endpoint_time_and_key() {
    let (mut beacon, now) = proven(1);
    let _ = ask(&mut beacon, now, away(7), 1);
    let cookie = challenged(&mut beacon, away(7)).unwrap();
    assert!(!answer(&mut beacon, now, away(8), (1, 1), cookie), "seen on the way, sent by another");
    assert!(challenged(&mut beacon, away(8)).is_some(), "he may try with one of his own");
    assert!(!answer(&mut beacon, now, away(7), (3, 3), cookie), "another node's");
    assert!(challenged(&mut beacon, away(7)).is_some());
    assert!(!answer(&mut beacon, now, away(7), (1, 3), cookie), "signed by another");
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(home(1)));
    let soon = now + Duration::from_secs(15);
    assert!(answer(&mut beacon, soon, away(7), (1, 1), cookie));
    let mut other_key = proof(1, 1, cookie);
    other_key[5..37].copy_from_slice(&identity(3).public_key());
    let action = beacon.handle_datagram(soon, away(9), &mut other_key, &Registry);
    assert!(matches!(action, Action::Send(_)), "a mere discover");
    assert_eq!(challenged(&mut beacon, away(9)), None, "by somebody else");

    let _ = ask(&mut beacon, soon, away(9), 1);
    let cookie = challenged(&mut beacon, away(9)).unwrap();
    let late = soon + Duration::from_secs(33);
    assert!(!answer(&mut beacon, late, away(9), (1, 1), cookie), "from long ago");
}

#[test]
fn nothing_else_moves_a_node_that_proves_itself() {
    let (mut beacon, mut now) = proven(1);
    let mut neighbour = home(1);
    neighbour.set_port(6_666);
    for from in [neighbour, away(7)] {
        let _ = discover(&mut beacon, now, from, 1);
        let _ = relay(&mut beacon, now, from, 1, 2);
        let _ = punch(&mut beacon, now, from, 1, 2);
        assert_eq!(beacon.endpoint(now, NodeId(1)), Some(home(1)), "{from}");
    }
    now += PROVEN_SILENT_AFTER - Duration::from_millis(1);
    let _ = discover(&mut beacon, now, away(7), 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(home(1)));
    now += Duration::from_millis(1);
    let _ = discover(&mut beacon, now, away(7), 1);
    assert_eq!(beacon.endpoint(now, NodeId(1)), Some(away(7)), "silence is given up");
}

#[test]
fn a_frame_from_a_new_port_moves_its_node_at_once() {
    let (mut beacon, now) = beacon_with(&[1, 2]);
    let mut rebound = home(1);
    rebound.set_port(61_000);
    assert!(relay(&mut beacon, now, rebound, 1, 2).is_some());
    assert_eq!(relay(&mut beacon, now, home(2), 2, 1).unwrap().0, rebound);

    // One that can prove itself is relayed for meanwhile, and asked.
    let (mut beacon, now) = proven(1);
    assert!(relay(&mut beacon, now, rebound, 1, 2).is_some());
    assert_eq!(relay(&mut beacon, now, home(2), 2, 1).unwrap().0, home(1));
    let cookie = challenged(&mut beacon, rebound).unwrap();
    assert!(answer(&mut beacon, now, rebound, (1, 1), cookie));
    assert_eq!(relay(&mut beacon, now, home(2), 2, 1).unwrap().0, rebound);
}

#[test]
fn signatures_are_verified_at_a_bounded_rate() {
    let config = BeaconConfig { proofs_per_sec: 10, ..BeaconConfig::default() };
    let (mut beacon, now) = (new_beacon(&config), Instant::now());
    let _ = ask(&mut beacon, now, away(7), 1);
    let cookie = challenged(&mut beacon, away(7)).unwrap();
    let asked = (0..100).filter(|_| {
        let mut forged = proof(1, 3, cookie);
        let action = beacon.handle_datagram(now, away(7), &mut forged, &Registry);
        matches!(action, Action::Verify(_))
    });
    assert_eq!(asked.count(), 11);
    assert!(answer(&mut beacon, now + Duration::from_secs(1), away(7), (1, 1), cookie));
}
