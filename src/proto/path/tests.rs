//! Rules of the paths to a native peer, one by one. Whole histories are in `tests/sim_paths`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::*;

const HERE: Conditions = Conditions {
    has_relay: true,
    has_direct: true,
    lan_only: false,
    keepalive: Duration::from_secs(15),
    lifetime: Duration::from_secs(20),
    has_streams: false,
};

fn addr(n: u8) -> Remote {
    SocketAddr::from(([192, 0, 2, n], 4_000)).into()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A path set whose probes are numbered, and answered or not.
struct Peer {
    paths: PathSet,
    now: Instant,
    next_id: u32,
}

impl Peer {
    /// It is registered at address 1, and keys are agreed through the relay.
    fn new() -> Self {
        let mut paths = PathSet::default();
        paths.suggest(addr(1), &HERE);
        paths.set_native(&HERE);
        let now = Instant::now();
        paths.on_established(now, &HERE);
        let mut peer = Self { paths, now, next_id: 1 };
        peer.hear(Via::Relay);
        peer
    }

    fn hear(&mut self, via: Via) {
        self.paths.on_authenticated(self.now, via, 100, None, &HERE);
    }

    /// Time passes; probes of `alive` paths are answered after 20 ms.
    fn run(&mut self, time: Duration, alive: &[Via]) -> Vec<PathAction> {
        let (end, mut all) = (self.now + time, Vec::new());
        let mut answers: Vec<(Instant, Via, u32, u32)> = Vec::new();
        loop {
            let timer = self.paths.poll_timeout(&HERE);
            let answer = answers.first().map(|(at, ..)| *at);
            let Some(at) = timer.into_iter().chain(answer).min().filter(|at| *at <= end) else {
                self.now = end;
                return all;
            };
            // As the endpoint does: never the same instant again.
            self.now = at.max(self.now + Duration::from_micros(1));
            if answer.is_some_and(|at| at <= self.now) {
                let (_, via, id, count) = answers.remove(0);
                self.hear(via);
                self.paths.on_answer(self.now, via, (id, count), &HERE);
                continue;
            }
            for action in self.paths.handle_timeout(self.now, &HERE) {
                if let PathAction::Probe(via) = action {
                    let count = self.paths.on_probe(self.now, via, self.next_id);
                    self.send(via, false);
                    if alive.contains(&via) {
                        answers.push((self.now + ms(20), via, self.next_id, count));
                    }
                    self.next_id += 1;
                }
                all.push(action);
            }
        }
    }

    fn send(&mut self, via: Via, is_use: bool) {
        let sent = Sent { frames: 1, bytes: 100, is_use, expects_answer: is_use };
        self.paths.on_sent(self.now, via, sent);
    }

    fn route(&self) -> Option<Via> {
        self.paths.route(&HERE)
    }

    fn state(&self, via: Via) -> PathState {
        let reports = self.paths.report(&HERE);
        reports.iter().find(|report| report.via == via).expect("known").state
    }
}

#[test]
fn an_address_is_used_once_it_has_answered() {
    let (mut peer, direct) = (Peer::new(), Via::Direct(addr(1)));
    assert_eq!(peer.route(), Some(Via::Relay));
    peer.run(ms(15), &[direct, Via::Relay]);
    assert_eq!((peer.route(), peer.state(direct)), (Some(Via::Relay), PathState::Probing));
    peer.run(ms(10), &[direct, Via::Relay]);
    peer.run(ms(110), &[direct, Via::Relay]);
    assert_eq!((peer.route(), peer.state(direct)), (Some(direct), PathState::Valid));
}

#[test]
fn an_answer_to_nothing_or_by_another_path_proves_nothing() {
    let (mut peer, direct) = (Peer::new(), Via::Direct(addr(1)));
    let id = 77;
    peer.paths.on_probe(peer.now, Via::Relay, id);
    assert!(!peer.paths.on_answer(peer.now, direct, (id, 1), &HERE));
    assert!(!peer.paths.on_answer(peer.now, direct, (5, 1), &HERE));
    assert_eq!(peer.route(), Some(Via::Relay));
    assert_eq!(peer.paths.allowance(direct), 0);
}

#[test]
fn three_bytes_for_each_that_came_go_to_an_address_without_proof() {
    let (mut peer, new) = (Peer::new(), Via::Direct(addr(9)));
    peer.hear(new);
    assert_eq!(peer.paths.allowance(new), 300);
    peer.send(new, true);
    assert_eq!(peer.paths.allowance(new), 200);
    assert_eq!(peer.route(), Some(Via::Relay));
}

#[test]
fn silence_leads_to_the_path_that_answers_and_a_frame_ends_the_doubt() {
    let (mut peer, direct) = (Peer::new(), Via::Direct(addr(1)));
    peer.run(ms(500), &[direct, Via::Relay]);
    assert_eq!(peer.route(), Some(direct));
    peer.send(direct, true);
    peer.run(ms(105), &[Via::Relay]);
    assert_eq!(peer.state(direct), PathState::Suspect);
    peer.hear(direct);
    assert_eq!((peer.route(), peer.state(direct)), (Some(direct), PathState::Valid));
    peer.send(direct, true);
    let actions = peer.run(ms(200), &[Via::Relay]);
    assert_eq!(peer.route(), Some(Via::Relay));
    assert!(actions.contains(&PathAction::Discover), "perhaps our NAT has forgotten us");
    assert!(peer.paths.take_lost());
}

#[test]
fn a_peer_that_moves_is_followed_after_its_answer() {
    let (mut peer, old, new) = (Peer::new(), Via::Direct(addr(1)), Via::Direct(addr(2)));
    peer.run(ms(500), &[old, Via::Relay]);
    peer.hear(new);
    assert_eq!(peer.route(), Some(old), "a frame may be a copy");
    peer.run(ms(30), &[new, Via::Relay]);
    assert_eq!(peer.route(), Some(new));
}

#[test]
fn there_are_few_paths_whatever_others_say() {
    let mut peer = Peer::new();
    let direct = Via::Direct(addr(1));
    peer.run(ms(500), &[direct, Via::Relay]);
    for n in 0..40 {
        let candidates: Vec<Candidate> = (0..10)
            .map(|m| Candidate { addr: addr(n * 5 + m).addr, kind: CandidateKind::Host })
            .collect();
        peer.paths.on_candidates(peer.now, n.into(), &candidates, &HERE);
        peer.hear(Via::Direct(addr(200 + n)));
    }
    assert!(peer.paths.report(&HERE).len() <= 12);
    assert_eq!(peer.route(), Some(direct));
    let probes = peer.run(Duration::from_secs(60), &[direct, Via::Relay]).len();
    assert!(probes < 300, "{probes}");
}

#[test]
fn a_peer_that_nobody_uses_needs_no_timer() {
    let (mut peer, direct) = (Peer::new(), Via::Direct(addr(1)));
    peer.run(Duration::from_secs(70), &[direct, Via::Relay]);
    assert_eq!(peer.paths.poll_timeout(&HERE), None);
    peer.paths.prepare(peer.now, &HERE);
    assert_eq!(peer.route(), Some(Via::Relay), "a NAT may have forgotten the direct path");
    peer.run(ms(25), &[direct, Via::Relay]);
    assert_eq!(peer.route(), Some(direct));
}

#[test]
fn a_policy_is_kept_whatever_comes() {
    let mut peer = Peer::new();
    let relay_only = Conditions { has_direct: false, ..HERE };
    peer.paths.apply(&relay_only);
    peer.paths.on_authenticated(peer.now, Via::Direct(addr(3)), 100, None, &relay_only);
    peer.paths.hint(peer.now, addr(4), HintKind::Registry, &relay_only);
    let known: Vec<Via> = peer.paths.report(&HERE).iter().map(|report| report.via).collect();
    assert_eq!(known, [Via::Relay]);
    let lan_only = Conditions { lan_only: true, ..HERE };
    let near: SocketAddr = "192.168.1.2:4000".parse().unwrap();
    peer.paths.hint(peer.now, addr(4), HintKind::Registry, &lan_only);
    peer.paths.hint(peer.now, near.into(), HintKind::Registry, &lan_only);
    assert_eq!(peer.paths.report(&HERE).len(), 2);
}
