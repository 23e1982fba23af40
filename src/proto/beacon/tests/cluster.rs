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
