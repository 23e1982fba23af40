//! A fleet behind one NAT comes back after the rendezvous was away: nobody is refused.
//!
//! 2,000 nodes, one address, virtual time. When each of them comes is drawn from a seed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilot_agent::crypto::Identity;
use pilot_agent::proto::beacon::{Action, Beacon, BeaconConfig, Roster};
use pilot_agent::proto::directory::{Directory, DirectoryConfig, Effect};
use pilot_agent::wire::beacon::prove_string;
use pilot_agent::wire::registry::{Base64, Register, Request, Response};
use pilot_agent::wire::{BeaconMessage, NodeId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NODES: usize = 2_000;
/// All are to be back within this.
const BACK: Duration = Duration::from_secs(5);
/// They spread themselves over this.
const SPREAD: Duration = Duration::from_secs(4);
const NOW: u64 = 1_800_000_000;

struct Member {
    identity: Identity,
    at: SocketAddr,
    id: NodeId,
}

impl Member {
    fn new(index: usize) -> Self {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&index.to_be_bytes());
        let port = u16::try_from(10_000 + index).unwrap();
        let at = SocketAddr::from(([203, 0, 113, 1], port));
        Self { identity: Identity::from_seed(&seed), at, id: NodeId(0) }
    }

    fn ask(
        &self,
        directory: &mut Directory,
        now: u64,
        request: Request,
    ) -> (Response, Vec<Effect>) {
        let request = request.signed(|text| self.identity.sign(text));
        let outcome = directory.handle(now, self.at, request);
        assert!(!matches!(outcome.response, Response::Error { .. }), "{:?}", outcome.response);
        (outcome.response, outcome.effects)
    }

    /// What a node says as it comes.
    fn register(&mut self, directory: &mut Directory, now: u64) -> Vec<Effect> {
        let key = Base64(self.identity.public_key());
        // The port that it has inside, not the NAT's.
        let mut register = Register::new(key, "10.0.0.9:4000".to_owned());
        register.hostname = format!("agent-{}", self.at.port());
        let (response, mut effects) = self.ask(directory, now, Request::Register(register));
        let Response::RegisterOk { node_id, hostname_error, .. } = response else { panic!() };
        assert_eq!(hostname_error, "");
        self.id = node_id;
        let public = Request::SetVisibility { node_id, public: true, signature: None };
        effects.extend(self.ask(directory, now, public).1);
        let capabilities = vec![format!("work {}", self.at.port() % 50)];
        let offer = Request::SetCapabilities { node_id, capabilities, signature: None };
        effects.extend(self.ask(directory, now, offer).1);
        effects
    }

    /// What it says to the beacon.
    fn discover(&self, beacon: &mut Beacon, now: Instant, roster: &Directory) {
        self.say(beacon, now, roster, |_| BeaconMessage::Discover {
            node: self.id,
            public_key: None,
            extended: false,
        });
        self.prove(beacon, now, roster, [0; 16]);
        while let Some((to, datagram)) = beacon.poll_transmit() {
            assert_eq!(to, self.at);
            if let Ok(BeaconMessage::Challenge { cookie }) = BeaconMessage::parse(&datagram) {
                self.prove(beacon, now, roster, *cookie);
            }
        }
    }

    fn prove(&self, beacon: &mut Beacon, now: Instant, roster: &Directory, cookie: [u8; 16]) {
        let public_key = self.identity.public_key();
        let signature = self.identity.sign(prove_string(self.id, &cookie).as_bytes());
        let mut datagram = Vec::new();
        let (public_key, cookie, signature) = (&public_key, &cookie, &signature);
        BeaconMessage::Prove { node: self.id, public_key, cookie, signature }.encode(&mut datagram);
        self.handled(beacon, now, roster, &mut datagram);
    }

    fn say<'a>(
        &self,
        beacon: &mut Beacon,
        now: Instant,
        roster: &Directory,
        message: impl FnOnce(&Self) -> BeaconMessage<'a>,
    ) {
        let mut datagram = Vec::new();
        message(self).encode(&mut datagram);
        self.handled(beacon, now, roster, &mut datagram);
    }

    fn handled(&self, beacon: &mut Beacon, now: Instant, roster: &Directory, datagram: &mut [u8]) {
        match beacon.handle_datagram(now, self.at, datagram, roster) {
            Action::Send(_) => {}
            Action::Verify(claim) => {
                assert!(claim.is_signed());
                assert!(matches!(beacon.proved(now, &claim, roster), Action::Send(_)));
            }
            refused => panic!("{refused:?}"),
        }
    }
}

/// All come, each at its time; `directory` and `beacon` have just been started.
fn come_back(fleet: &mut [Member], directory: &mut Directory, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut beacon = Beacon::new(&BeaconConfig::default(), [3; 32]);
    let start = Instant::now();
    let mut times: Vec<(Duration, usize)> =
        (0..NODES).map(|index| (SPREAD.mul_f64(rng.random()), index)).collect();
    times.sort_unstable();
    for (after, index) in times {
        let member = &mut fleet[index];
        member.register(directory, NOW + 60 + after.as_secs());
        member.discover(&mut beacon, start + after, directory);
    }
    let end = start + BACK;
    for member in fleet.iter() {
        assert_eq!(beacon.endpoint(end, member.id), Some(member.at), "seed {seed}");
        assert!(Roster::registered(directory, member.id).is_some());
    }
    assert_eq!(beacon.stats().proofs, NODES as u64);
    assert_eq!(beacon.stats().limited, 0);
    // At 50 us for a signature, none of them waits for the others.
    let relayed = fleet[0].relay(&mut beacon, end, directory, &fleet[1]);
    assert_eq!(relayed, Some(fleet[1].at), "through a NAT that changed the port");
}

impl Member {
    fn relay(
        &self,
        beacon: &mut Beacon,
        now: Instant,
        roster: &Directory,
        to: &Self,
    ) -> Option<SocketAddr> {
        let mut datagram = Vec::new();
        BeaconMessage::Relay { sender: self.id, destination: to.id, frame: b"PILSframe" }
            .encode(&mut datagram);
        match beacon.handle_datagram(now, self.at, &mut datagram, roster) {
            Action::Forward { to, .. } => Some(to),
            _ => None,
        }
    }
}

#[test]
fn two_thousand_nodes_behind_one_nat_come_back_within_five_seconds() {
    let mut fleet: Vec<Member> = (0..NODES).map(Member::new).collect();
    let mut before = Directory::new(DirectoryConfig::default());
    let effects: Vec<Effect> =
        fleet.iter_mut().flat_map(|member| member.register(&mut before, NOW)).collect();
    // Its database has survived.
    let mut directory = Directory::new(DirectoryConfig::default());
    for effect in effects {
        directory.apply(NOW + 60, effect);
    }
    let ids: Vec<NodeId> = fleet.iter().map(|member| member.id).collect();
    come_back(&mut fleet, &mut directory, 1);
    assert!(fleet.iter().map(|member| member.id).eq(ids));
}

#[test]
fn they_do_so_too_when_the_database_is_lost() {
    let mut fleet: Vec<Member> = (0..NODES).map(Member::new).collect();
    come_back(&mut fleet, &mut Directory::new(DirectoryConfig::default()), 2);
}
