//! One tunnel against a scripted peer that does what release 1.18.0 does: one X25519 key for its
//! whole life, a random prefix each time it derives a key, pongs for pings, no proofs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use x25519_dalek::{PublicKey, StaticSecret};

use super::*;
use crate::crypto::suite::agree;
use crate::crypto::{Identity, OpeningKey, SealingKey, Suite};
use crate::wire::tunnel::{
    AuthFrame, KeyFrame, SEALED_HEADER_LEN, SEALED_OVERHEAD, SealedHeader, TunnelFrame,
    auth_signed_bytes, split_sealed,
};

const MS: Duration = Duration::from_millis(1);
const US: NodeId = NodeId(1);
const PEER: NodeId = NodeId(7);

/// A life of a 1.18 peer.
struct GoPeer {
    identity: Arc<Identity>,
    secret: StaticSecret,
    installed: Option<(SealingKey, OpeningKey)>,
    installed_from: Option<[u8; 32]>,
    prefix: [u8; 4],
    counter: u64,
    rng: StdRng,
}

impl GoPeer {
    fn new(identity: &Arc<Identity>, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            identity: identity.clone(),
            secret: StaticSecret::random_from_rng(&mut rng),
            installed: None,
            installed_from: None,
            prefix: [0; 4],
            counter: 0,
            rng,
        }
    }

    fn announcement(&self) -> Vec<u8> {
        let x25519 = PublicKey::from(&self.secret).to_bytes();
        AuthFrame {
            node: PEER,
            x25519_public: &x25519,
            ed25519_public: &self.identity.public_key(),
            signature: &self.identity.sign(&auth_signed_bytes(PEER, &x25519)),
        }
        .encode()
        .to_vec()
    }

    /// Takes whatever key our announcement says, as 1.18 does, and begins a new prefix for it.
    fn install(&mut self, announcement: &[u8]) {
        let Ok(TunnelFrame::Auth(frame)) = TunnelFrame::parse(announcement) else {
            panic!("no announcement: {announcement:02x?}")
        };
        if self.installed_from.replace(*frame.x25519_public) == Some(*frame.x25519_public) {
            return;
        }
        let key = Suite::V118.key(&agree(&self.secret, frame.x25519_public).unwrap());
        let keys = (SealingKey::new(Suite::V118, &key), OpeningKey::new(Suite::V118, &key));
        self.installed = Some(keys);
        self.prefix = self.rng.random();
        self.counter = 0;
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let header =
            SealedHeader { sender: PEER, nonce_prefix: self.prefix, counter: self.counter };
        let mut frame = header.encode().to_vec();
        frame.extend_from_slice(packet);
        let sealing = &self.installed.as_ref().unwrap().0;
        let tag = sealing.seal(&header, &mut frame[SEALED_HEADER_LEN..]);
        frame.extend_from_slice(&tag);
        frame
    }

    fn opens(&self, frame: &[u8]) -> bool {
        let mut frame = frame.to_vec();
        let Ok((header, sealed)) = split_sealed(&mut frame) else { return false };
        self.installed.as_ref().is_some_and(|(_, opening)| opening.open(&header, sealed).is_ok())
    }
}

/// Our side.
struct Ours {
    now: Instant,
    local: LocalKeys,
    tunnel: Tunnel,
}

impl Ours {
    fn new(config: TunnelConfig) -> Self {
        let mut rng = StdRng::seed_from_u64(99);
        let local = LocalKeys::new(US, Arc::new(Identity::generate(&mut rng)));
        let tunnel = Tunnel::new(PEER, Arc::new(config), &mut rng);
        Self { now: Instant::now(), local, tunnel }
    }

    /// Feeds a datagram; `Ok(true)` if it was a packet.
    fn receive(&mut self, datagram: &[u8]) -> Result<bool, TunnelError> {
        let mut datagram = datagram.to_vec();
        match TunnelFrame::parse(&datagram)? {
            TunnelFrame::Auth(frame) => {
                self.tunnel.handle_key_exchange(self.now, &self.local, &frame).map(|()| false)
            }
            TunnelFrame::Key(frame) => {
                self.tunnel.handle_key_request(self.now, &frame).map(|()| false)
            }
            _ => self.tunnel.open_in_place(self.now, &mut datagram).map(|_| true),
        }
    }

    fn seal(&mut self, packet: &[u8]) -> Result<Vec<u8>, TunnelError> {
        let mut frame = vec![0; SEALED_HEADER_LEN];
        frame.extend_from_slice(packet);
        frame.resize(packet.len() + SEALED_OVERHEAD, 0);
        self.tunnel.seal_in_place(self.now, &self.local, &mut frame)?;
        Ok(frame)
    }

    /// All frames of the key exchange that are to be sent now.
    fn handshake(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.tunnel.poll_handshake(self.now, &self.local))
            .map(|frame| frame.bytes)
            .collect()
    }

    fn events(&mut self) -> Vec<TunnelEvent> {
        std::iter::from_fn(|| self.tunnel.poll_event()).collect()
    }

    /// Lets time pass, timer by timer, and collects what is sent.
    fn wait(&mut self, duration: Duration) -> Vec<Vec<u8>> {
        let (end, mut sent) = (self.now + duration, Vec::new());
        while let Some(at) = self.tunnel.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.tunnel.handle_timeout(self.now);
            sent.extend(self.handshake());
        }
        self.now = end;
        sent
    }
}

fn is_auth(frame: &[u8]) -> bool {
    frame.starts_with(b"PILA")
}

/// Both after a first contact that we began, with a packet in each direction.
fn connected() -> (Ours, GoPeer, Arc<Identity>) {
    let identity = Arc::new(Identity::from_seed(&[3; 32]));
    let (mut ours, mut peer) = (Ours::new(TunnelConfig::default()), GoPeer::new(&identity, 1));
    ours.tunnel.set_peer_key(ours.now, identity.public_key());
    ours.tunnel.start(ours.now);
    peer.install(&ours.handshake()[0]);
    ours.receive(&peer.announcement()).unwrap();
    assert_eq!(ours.events(), [TunnelEvent::Established]);
    let first = ours.seal(b"ping").unwrap();
    assert!(peer.opens(&first));
    assert_eq!(first[12..20], 1u64.to_be_bytes(), "the first frame carries counter 1");
    assert_eq!(ours.receive(&peer.seal(b"pong")), Ok(true));
    ours.handshake();
    assert_eq!(ours.events(), []);
    ours.wait(Duration::from_secs(2));
    (ours, peer, identity)
}

#[test]
fn a_first_contact_needs_one_round_trip() {
    let (ours, ..) = connected();
    assert!(ours.tunnel.is_confirmed());
    // Ours, and the answer to the peer's key, as 1.18 sends it too.
    assert_eq!(ours.tunnel.stats().exchanges_sent, 2);
}

#[test]
fn a_listener_asks_for_the_identity_and_then_answers() {
    let identity = Arc::new(Identity::from_seed(&[3; 32]));
    let (mut ours, mut peer) = (Ours::new(TunnelConfig::default()), GoPeer::new(&identity, 1));
    ours.receive(&peer.announcement()).unwrap();
    ours.receive(&peer.announcement()).unwrap();
    assert_eq!(ours.events(), [TunnelEvent::NeedPeerKey], "asked once");
    assert!(ours.handshake().is_empty() && !ours.tunnel.is_ready());
    ours.tunnel.set_peer_key(ours.now, identity.public_key());
    assert_eq!(ours.events(), [TunnelEvent::Established]);
    peer.install(&ours.handshake()[0]);
    assert_eq!(ours.receive(&peer.seal(b"syn")), Ok(true));
}

#[test]
fn nobody_is_believed_while_the_identity_is_unknown() {
    let identity = Arc::new(Identity::from_seed(&[3; 32]));
    let (mut ours, peer) = (Ours::new(TunnelConfig::default()), GoPeer::new(&identity, 1));
    ours.receive(&peer.announcement()).unwrap();
    assert_eq!(ours.events(), [TunnelEvent::NeedPeerKey]);
    ours.tunnel.peer_key_unavailable(ours.now);
    ours.receive(&peer.announcement()).unwrap();
    assert_eq!(ours.events(), [], "not at once again");
    ours.wait(Duration::from_secs(1));
    ours.receive(&peer.announcement()).unwrap();
    assert_eq!(ours.events(), [TunnelEvent::NeedPeerKey]);
    assert!(!ours.tunnel.is_ready() && ours.handshake().is_empty());
    assert_eq!(ours.seal(b"x"), Err(TunnelError::NotReady));
}

#[test]
fn somebody_elses_exchange_does_not_push_out_the_peers() {
    let identity = Arc::new(Identity::from_seed(&[3; 32]));
    let (mut ours, peer) = (Ours::new(TunnelConfig::default()), GoPeer::new(&identity, 1));
    ours.receive(&peer.announcement()).unwrap();
    let impostor = GoPeer::new(&Arc::new(Identity::from_seed(&[4; 32])), 2);
    for _ in 0..10 {
        ours.receive(&impostor.announcement()).unwrap();
    }
    ours.tunnel.set_peer_key(ours.now, identity.public_key());
    assert!(ours.tunnel.is_ready());
}

#[test]
fn another_identity_is_reported_and_changes_nothing() {
    let (mut ours, mut peer, _) = connected();
    let other = Arc::new(Identity::from_seed(&[4; 32]));
    let impostor = GoPeer::new(&other, 2);
    assert_eq!(ours.receive(&impostor.announcement()), Err(TunnelError::IdentityMismatch));
    let presented = other.public_key();
    assert_eq!(ours.events(), [TunnelEvent::IdentityMismatch { presented }]);
    assert_eq!(ours.receive(&impostor.announcement()), Err(TunnelError::IdentityMismatch));
    assert_eq!(ours.events(), [], "once a second");
    assert!(ours.handshake().is_empty(), "and not answered");
    assert!(peer.opens(&ours.seal(b"data").unwrap()));
    assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
    // Unless somebody who knows says that this is the peer now.
    ours.tunnel.set_peer_key(ours.now, presented);
    assert_eq!(ours.events(), [TunnelEvent::Established]);
    assert_eq!(ours.receive(&peer.seal(b"data")), Err(TunnelError::Authentication));
}

#[test]
fn forged_exchanges_are_refused_and_their_number_is_bounded() {
    let (mut ours, peer, _) = connected();
    let mut forged = GoPeer::new(&peer.identity, 5).announcement();
    forged[100] ^= 1;
    assert_eq!(ours.receive(&forged), Err(TunnelError::BadSignature));
    let refused: Vec<_> = (0..100).filter_map(|_| ours.receive(&forged).err()).collect();
    assert!(refused.contains(&TunnelError::RateLimited));
    assert!(ours.handshake().is_empty());
    let mut foreign = peer.announcement();
    foreign[7] = 8;
    assert_eq!(ours.receive(&foreign), Err(TunnelError::WrongPeer));
}

#[test]
fn a_weak_key_is_refused_even_when_signed() {
    let (mut ours, mut peer, identity) = connected();
    let weak = [0; 32];
    let frame = AuthFrame {
        node: PEER,
        x25519_public: &weak,
        ed25519_public: &identity.public_key(),
        signature: &identity.sign(&auth_signed_bytes(PEER, &weak)),
    };
    assert_eq!(ours.receive(&frame.encode()), Err(TunnelError::WeakKey));
    assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
}

#[test]
fn a_request_is_answered_but_its_key_never_used() {
    let (mut ours, mut peer, _) = connected();
    let request = KeyFrame { node: PEER, x25519_public: &[9; 32] }.encode();
    ours.receive(&request).unwrap();
    ours.receive(&request).unwrap();
    let sent = ours.handshake();
    assert_eq!(sent.len(), 1);
    assert!(is_auth(&sent[0]));
    assert!(ours.handshake().is_empty());
    assert!(peer.opens(&ours.seal(b"data").unwrap()));
    assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
}

#[test]
fn a_peer_that_restarted_and_only_listens_is_found_by_probes() {
    let (mut ours, _, identity) = connected();
    let mut reborn = GoPeer::new(&identity, 2);
    let lost = ours.seal(b"data").unwrap();
    assert!(!reborn.opens(&lost));
    // 1.18 answers a frame without key by its announcement.
    ours.receive(&reborn.announcement()).unwrap();
    let sent = ours.handshake();
    reborn.install(&sent[0]);
    let probe = sent.iter().find(|frame| reborn.opens(frame)).expect("a probe under the new key");
    assert!(probe.starts_with(b"PILS"));
    assert_eq!(ours.receive(&reborn.seal(b"pong")), Ok(true));
    assert_eq!(ours.events(), [TunnelEvent::PeerRestarted]);
    assert!(reborn.opens(&ours.seal(b"data").unwrap()), "one round trip later");
}

#[test]
fn a_peer_that_restarted_and_answers_no_probe_is_believed_after_a_second() {
    let (mut ours, _, identity) = connected();
    let mut reborn = GoPeer::new(&identity, 2);
    ours.receive(&reborn.announcement()).unwrap();
    let sent = ours.handshake();
    reborn.install(&sent[0]);
    ours.wait(990 * MS);
    assert!(!reborn.opens(&ours.seal(b"data").unwrap()));
    ours.wait(20 * MS);
    assert!(reborn.opens(&ours.seal(b"data").unwrap()));
    assert_eq!(ours.receive(&reborn.seal(b"ack")), Ok(true));
    assert_eq!(ours.events(), [TunnelEvent::PeerRestarted]);
}

#[test]
fn a_replayed_exchange_of_a_former_life_unseats_nothing() {
    let (mut ours, mut peer, identity) = connected();
    let former_life = GoPeer::new(&identity, 3).announcement();
    for _ in 0..30 {
        let _ = ours.receive(&former_life);
        for frame in ours.handshake() {
            // What 1.18 does with our frames.
            if is_auth(&frame) {
                peer.install(&frame);
            } else if peer.opens(&frame) {
                let pong = peer.seal(b"pong");
                ours.receive(&pong).unwrap();
            }
        }
        assert!(peer.opens(&ours.seal(b"data").unwrap()));
        assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
        ours.wait(300 * MS);
    }
    assert!(!ours.events().contains(&TunnelEvent::PeerRestarted));
}

#[test]
fn recorded_frames_of_a_former_life_open_nothing() {
    let (mut ours, mut peer, identity) = connected();
    let recorded = [peer.announcement(), peer.seal(b"withheld")];
    let mut reborn = GoPeer::new(&identity, 2);
    ours.receive(&reborn.announcement()).unwrap();
    reborn.install(&ours.handshake()[0]);
    ours.receive(&reborn.seal(b"hello")).unwrap();
    assert_eq!(ours.events(), [TunnelEvent::PeerRestarted]);
    ours.wait(Duration::from_secs(60));
    for frame in &recorded {
        assert_ne!(ours.receive(frame), Ok(true), "an old frame was delivered");
    }
    ours.wait(Duration::from_secs(60));
    for frame in recorded.iter().rev() {
        assert_ne!(ours.receive(frame), Ok(true), "an old frame was delivered");
    }
    assert!(!ours.events().contains(&TunnelEvent::PeerRestarted));
}

#[test]
fn each_frame_opens_once_under_every_prefix() {
    let (mut ours, mut peer, _) = connected();
    let announcement = ours.tunnel.own.announcement(&ours.local);
    for _ in 0..4 {
        let frames: Vec<_> = (0..3).map(|_| peer.seal(b"data")).collect();
        for frame in frames.iter().rev() {
            assert_eq!(ours.receive(frame), Ok(true));
        }
        for frame in &frames {
            assert_eq!(ours.receive(frame), Err(TunnelError::Replayed));
        }
        // The peer discarded the key and agrees on it again: new prefix, counter from 1.
        peer.installed_from = None;
        peer.install(&announcement);
    }
}

#[test]
fn too_many_prefixes_under_one_key_lead_to_a_new_key() {
    let (mut ours, mut peer, _) = connected();
    let announcement = ours.tunnel.own.announcement(&ours.local);
    let mut outcomes = Vec::new();
    for _ in 0..9 {
        peer.installed_from = None;
        peer.install(&announcement);
        outcomes.push(ours.receive(&peer.seal(b"data")).is_ok());
    }
    assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 7, "one prefix was there before");
    let sent = ours.handshake();
    assert_ne!(sent[0], announcement, "a new key of ours");
    peer.install(&sent[0]);
    assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
    assert_eq!(ours.events(), [TunnelEvent::Rekeyed]);
}

#[test]
fn a_forged_counter_does_not_move_the_window() {
    let (mut ours, mut peer, _) = connected();
    let genuine = peer.seal(b"data");
    let mut forged = genuine.clone();
    forged[12..20].copy_from_slice(&u64::MAX.to_be_bytes());
    assert_eq!(ours.receive(&forged), Err(TunnelError::Authentication));
    assert_eq!(ours.receive(&genuine), Ok(true));
}

#[test]
fn our_own_frames_thrown_back_do_not_open() {
    let (mut ours, ..) = connected();
    let sent = ours.seal(b"data").unwrap();
    assert_eq!(ours.receive(&sent), Err(TunnelError::WrongPeer));
    let mut dressed_up = sent;
    dressed_up[4..8].copy_from_slice(&PEER.0.to_be_bytes());
    assert_eq!(ours.receive(&dressed_up), Err(TunnelError::Authentication));
}

#[test]
fn frames_that_do_not_open_make_us_announce_once_a_second() {
    let (mut ours, mut peer, identity) = connected();
    let mut stranger = GoPeer::new(&identity, 2);
    stranger.install(&ours.tunnel.own.announcement(&ours.local));
    let mut announced = 0;
    for _ in 0..100 {
        assert_eq!(ours.receive(&stranger.seal(b"?")), Err(TunnelError::Authentication));
        announced += ours.handshake().iter().filter(|frame| is_auth(frame)).count();
        ours.wait(50 * MS);
    }
    assert_eq!(announced, 5);
    assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
}

#[test]
fn a_key_is_replaced_by_number_of_frames_and_by_age() {
    let few = TunnelConfig { rekey_after_frames: 3, ..TunnelConfig::default() };
    let young = TunnelConfig { rekey_after: 4 * MS, ..TunnelConfig::default() };
    for config in [few, young] {
        let identity = Arc::new(Identity::from_seed(&[3; 32]));
        let (mut ours, mut peer) = (Ours::new(config), GoPeer::new(&identity, 1));
        ours.tunnel.set_peer_key(ours.now, identity.public_key());
        ours.tunnel.start(ours.now);
        let first = ours.handshake().remove(0);
        peer.install(&first);
        ours.receive(&peer.announcement()).unwrap();
        ours.receive(&peer.seal(b"x")).unwrap();
        ours.handshake();
        let mut second = None;
        for _ in 0..6 {
            assert!(peer.opens(&ours.seal(b"data").unwrap()), "the old key is used on");
            ours.now += MS;
            second = second.or(ours.handshake().into_iter().find(|frame| is_auth(frame)));
        }
        let second = second.expect("a new key");
        assert_ne!(first[8..40], second[8..40]);
        peer.install(&second);
        assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
        assert!(ours.events().contains(&TunnelEvent::Rekeyed));
        assert!(peer.opens(&ours.seal(b"data").unwrap()));
    }
}

#[test]
fn a_start_that_nobody_answers_is_given_up_and_can_begin_anew() {
    let mut ours = Ours::new(TunnelConfig::default());
    ours.tunnel.start(ours.now);
    assert_eq!(ours.events(), [TunnelEvent::NeedPeerKey]);
    let first = ours.handshake();
    assert_eq!((first.len(), is_auth(&first[0])), (1, true));
    let sent = ours.wait(Duration::from_secs(30));
    assert!(sent.iter().any(|frame| frame.starts_with(b"PILK")), "asks a silent 1.18 peer");
    assert_eq!(ours.events(), [TunnelEvent::GaveUp]);
    assert_eq!(ours.tunnel.poll_timeout(), None);
    ours.tunnel.start(ours.now);
    assert_eq!(ours.handshake().len(), 1);
}

#[test]
fn nothing_is_sent_before_we_have_a_node_id() {
    let mut ours = Ours::new(TunnelConfig::default());
    let named = std::mem::replace(
        &mut ours.local,
        LocalKeys::new(NodeId(0), Arc::new(Identity::from_seed(&[8; 32]))),
    );
    ours.tunnel.start(ours.now);
    assert!(ours.handshake().is_empty());
    ours.local = named;
    assert_eq!(ours.handshake().len(), 1);
}

#[test]
fn extra_timeouts_are_harmless_and_a_quiet_tunnel_has_none() {
    let (mut ours, mut peer, _) = connected();
    ours.wait(Duration::from_secs(120));
    assert_eq!(ours.tunnel.poll_timeout(), None);
    for _ in 0..100 {
        ours.tunnel.handle_timeout(ours.now);
        assert!(ours.handshake().is_empty() && ours.events().is_empty());
    }
    assert_eq!(ours.receive(&peer.seal(b"data")), Ok(true));
}

#[test]
fn debug_shows_no_secret() {
    let (mut ours, _, identity) = connected();
    ours.receive(&GoPeer::new(&identity, 2).announcement()).unwrap();
    let text = format!("{:?} {:?}", ours.tunnel, ours.local);
    for word in ["secret", "sealing", "opening", "continuity", "cipher", "prefix", "seed"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}
