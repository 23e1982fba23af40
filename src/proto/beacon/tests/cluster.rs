//! Beacons that know of each other.

use super::*;

fn place(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 9_001))
}

/// Two beacons; the first hears 1, the second hears 2.
fn pair() -> (Beacon, Beacon, Instant) {
    let ((mut a, now), (mut b, _)) = (beacon_with(&[1]), beacon_with(&[2]));
    a.set_peers([place(2)]);
    b.set_peers([place(1)]);
    gossip(&mut a, &mut b, now);
    (a, b, now)
}

fn gossip(a: &mut Beacon, b: &mut Beacon, now: Instant) {
    a.handle_timeout(now);
    b.handle_timeout(now);
    deliver(a, place(1), b, now);
    deliver(b, place(2), a, now);
}

fn deliver(from: &mut Beacon, at: SocketAddr, to: &mut Beacon, now: Instant) {
    while let Some((_, mut datagram)) = from.poll_transmit() {
        assert!(datagram.len() <= 1_232, "it would be fragmented");
        assert_eq!(to.handle_datagram(now, at, &mut datagram, &Registry), Action::Ignore);
    }
}

#[test]
fn a_frame_for_a_node_of_another_beacon_goes_there_and_no_further() {
    let (mut a, mut b, now) = pair();
    let mut datagram = relay_datagram(1, 2, b"PILSframe");
    let before = datagram.clone();
    let action = a.handle_datagram(now, home(1), &mut datagram, &Registry);
    assert_eq!(action, Action::Forward { to: place(2), start: 0 });
    assert_eq!(datagram, before, "as it came");
    let action = b.handle_datagram(now, place(1), &mut datagram, &Registry);
    assert_eq!(action, Action::Forward { to: home(2), start: 4 });

    // The first one has heard 1, so the second one would send it back; it must not.
    let mut datagram = relay_datagram(1, 1, b"PILSframe");
    let action = b.handle_datagram(now, place(1), &mut datagram, &Registry);
    assert_ne!(action, Action::Forward { to: place(1), start: 0 });
}

#[test]
fn an_announcement_is_believed_for_a_while_and_from_named_beacons_only() {
    let (mut a, mut b, now) = pair();
    let sync = |nodes: &[[u8; 4]]| {
        encoded(BeaconMessage::Sync { beacon: 7, nodes: NodeList::new(nodes).unwrap() })
    };
    let (one, two) = (1_u32.to_be_bytes(), 2_u32.to_be_bytes());
    let _ = a.handle_datagram(now, away(9), &mut sync(&[two]), &Registry);
    assert_eq!(relay(&mut a, now, home(1), 1, 2).unwrap().0, place(2));
    assert_eq!(a.stats().dropped, 1);

    // A node that is here is not sent elsewhere, whatever another beacon tells.
    let _ = a.handle_datagram(now, place(2), &mut sync(&[one]), &Registry);
    let _ = discover(&mut a, now, home(3), 3);
    assert_eq!(relay(&mut a, now, home(3), 3, 1).unwrap().0, home(1));

    let later = now + Duration::from_secs(35);
    assert_eq!(relay(&mut a, later, home(1), 1, 2).unwrap().0, home(2), "as it registered");
    gossip(&mut a, &mut b, later);
    assert_eq!(relay(&mut a, later, home(1), 1, 2).unwrap().0, place(2));
    a.set_peers([]);
    assert_eq!(relay(&mut a, later, home(1), 1, 2).unwrap().0, home(2));
}

#[test]
fn a_node_that_went_to_another_beacon_is_found_there() {
    let (mut a, mut b, now) = pair();
    let _ = discover(&mut a, now, home(2), 2);
    assert_eq!(relay(&mut a, now, home(1), 1, 2).unwrap().0, home(2));
    let later = now + Duration::from_secs(76);
    let _ = discover(&mut b, later, home(2), 2);
    gossip(&mut a, &mut b, later);
    assert_eq!(relay(&mut a, later, home(1), 1, 2).unwrap().0, place(2));
}

#[test]
fn what_another_beacon_passes_on_is_within_limits_too() {
    let (_, mut b, now) = pair();
    let passed = (0..60_000).filter(|_| relay(&mut b, now, place(1), 1, 2).is_some()).count();
    assert!((25_000..25_010).contains(&passed), "{passed}");
}

#[test]
fn a_node_of_another_registry_is_asked_about_and_then_noted() {
    let (mut a, now) = beacon_with(&[1]);
    a.set_peers([place(2)]);
    let (go, from) = (50, away(50));
    assert!(matches!(discover(&mut a, now, from, go), Action::Send(_)));
    let stranger = a.poll_stranger().unwrap();
    assert_eq!(stranger.node, NodeId(go));
    let _ = discover(&mut a, now, from, go);
    assert_eq!(a.poll_stranger(), None, "once is enough");
    assert_eq!(relay(&mut a, now, from, go, 1), None);

    a.introduce(now, &stranger, None);
    assert_eq!(a.endpoint(now, NodeId(go)), None);
    let _ = discover(&mut a, now, from, go);
    assert_eq!(a.poll_stranger(), None, "nobody knows it");
    let later = now + Duration::from_secs(10);
    let _ = discover(&mut a, later, from, go);
    let stranger = a.poll_stranger().unwrap();
    let foreign = Foreign { public_key: [1; 32], endpoint: Some(away(50)) };
    a.introduce(later, &stranger, Some(foreign));
    assert_eq!(a.endpoint(later, NodeId(go)), Some(from));
    assert!(relay(&mut a, later, from, go, 1).is_some());
    assert_eq!(relay(&mut a, later, home(1), 1, go).unwrap().0, from);
    let sent: Vec<_> = std::iter::from_fn(|| a.poll_transmit()).collect();
    assert!(sent.iter().all(|(to, _)| *to == place(2)), "a Go node is not challenged: {sent:?}");
}

#[test]
fn a_node_of_ours_from_another_registry_is_challenged_at_once() {
    let (mut a, now) = beacon_with(&[]);
    a.set_peers([place(2)]);
    let public_key = identity(50).public_key();
    let (cookie, signature) = (&[0; 16], &[0; 64]);
    let node = NodeId(50);
    let prove = BeaconMessage::Prove { node, public_key: &public_key, cookie, signature };
    let _ = a.handle_datagram(now, away(50), &mut encoded(prove), &Registry);
    let stranger = a.poll_stranger().unwrap();
    // It is private: its registry does not say where it is.
    a.introduce(now, &stranger, Some(Foreign { public_key, endpoint: None }));
    let mut sent = std::iter::from_fn(|| a.poll_transmit());
    let (_, challenge) = sent.find(|(to, _)| *to == away(50)).unwrap();
    let Ok(BeaconMessage::Challenge { cookie }) = BeaconMessage::parse(&challenge) else {
        panic!()
    };
    let text = crate::wire::beacon::prove_string(node, cookie);
    let signature = &identity(50).sign(text.as_bytes());
    let prove = BeaconMessage::Prove { node, public_key: &public_key, cookie, signature };
    let action = a.handle_datagram(now, away(50), &mut encoded(prove), &Registry);
    let Action::Verify(claim) = action else { panic!("{action:?}") };
    assert!(claim.is_signed());
    assert!(matches!(a.proved(now, &claim, &Registry), Action::Send(_)));
    assert_eq!(a.endpoint(now, node), Some(away(50)));
    assert!(!matches!(punch(&mut a, now, home(1), 1, 50), Action::Send(_)), "it is private");
}

#[test]
fn a_beacon_alone_asks_nobody_and_one_in_a_cluster_not_without_end() {
    let (mut alone, now) = beacon_with(&[]);
    let _ = discover(&mut alone, now, away(1), 50);
    assert_eq!(alone.poll_stranger(), None);
    alone.set_peers([place(2)]);
    for node in 50..2_000 {
        let _ = discover(&mut alone, now, away(1), node);
    }
    assert_eq!(std::iter::from_fn(|| alone.poll_stranger()).count(), 256);
}
