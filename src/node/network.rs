//! Telling what a node learns of its own network to whom it matters: the endpoint, which tells
//! peers, and the registry.
//!
//! Three things change it: the beacon's answers (where we are seen), this machine's addresses, and
//! what is found out in the background. Nothing here is ever waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use tracing::{debug, info};

use super::core::Shared;
use super::membership::Membership;
use super::nat_probe::{Finding, probe};
use super::port_mapping::{self, HeldPort};
use super::rendezvous::RendezvousSpec;
use super::start::resolve_beacon;
use super::whereabouts::Whereabouts;
use crate::net::clock;
use crate::net::interfaces::source_toward;
use crate::net::link_watch::{Change, LinkWatch};
use crate::proto::nat::{ASSUMED_LIFETIME, Answer, BeaconWatch, NatKind};

/// Findings on their way.
const FINDINGS: usize = 16;
/// Some carriers show another address now and then; that is no reason to begin again each time.
const PROBE_GAP: Duration = Duration::from_secs(60);
/// How often, and with what pauses, the beacon's name is looked up in a new network.
const LOOK_UPS: usize = 5;
const LOOK_UP_AGAIN: Duration = Duration::from_secs(2);
/// There is no NAT on loopback.
const FOREVER: Duration = Duration::from_secs(3_600);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Network {
    shared: Arc<Shared>,
    membership: Arc<Membership>,
    spec: RendezvousSpec,
    here: Whereabouts,
    /// What the beacon answers.
    observed: watch::Receiver<Option<SocketAddr>>,
    keepalive: BeaconWatch,
    /// Where a port of the router is noted, if it may be asked for one.
    may_map: Option<HeldPort>,
    /// What is being found out about the NAT.
    probing: JoinSet<()>,
    findings: (mpsc::Sender<Finding>, mpsc::Receiver<Finding>),
    /// When that began.
    probed: Instant,
    rng: StdRng,
}

impl Network {
    pub(super) fn new(
        shared: Arc<Shared>,
        membership: Arc<Membership>,
        spec: RendezvousSpec,
        here: Whereabouts,
        may_map: Option<HeldPort>,
        seed: [u8; 32],
    ) -> Self {
        let mut keepalive = BeaconWatch::new(clock::now());
        if here.is_local() {
            keepalive.set_lifetime(clock::now(), FOREVER);
        }
        let rng = StdRng::from_seed(seed);
        let observed = shared.look(|core| core.observed.subscribe());
        let mut network = Self {
            shared,
            membership,
            spec,
            here,
            observed,
            keepalive,
            may_map,
            probing: JoinSet::new(),
            findings: mpsc::channel(FINDINGS),
            probed: clock::now(),
            rng,
        };
        network.tell();
        network.ask();
        network
    }

    /// Keeps everybody informed, until it is aborted.
    pub(super) async fn keep(mut self) {
        self.probe();
        loop {
            tokio::select! {
                change = changed(self.here.watch.as_mut()) => self.on_change(change),
                told = self.observed.changed() => {
                    if told.is_err() {
                        return;
                    }
                    let seen = *self.observed.borrow_and_update();
                    if let Some(seen) = seen {
                        self.on_answer(seen);
                    }
                }
                () = sleep_until(self.keepalive.poll_timeout().into()) => self.ask(),
                Some(finding) = self.findings.1.recv() => self.on_finding(finding),
            }
        }
    }

    fn on_change(&mut self, change: Change) {
        info!(?change, "the network has changed");
        if change == Change::Addresses {
            self.tell();
            return;
        }
        // What was seen before does not count any more.
        (self.here.observed, self.here.mapped) = (None, None);
        self.shared.look(|core| core.observed.send_replace(None));
        self.keepalive.ask_now(clock::now());
        self.keepalive.set_lifetime(clock::now(), ASSUMED_LIFETIME);
        self.tell();
        self.shared.act(|core, now| {
            core.endpoint.set_nat(NatKind::default());
            core.endpoint.set_mapping_lifetime(ASSUMED_LIFETIME);
            core.detour.network_changed();
            core.endpoint.handle_network_change(now);
        });
        self.membership.moved();
        self.probe();
    }

    /// Finds out what the NAT does, from the beginning.
    fn probe(&mut self) {
        if self.here.is_local() {
            return;
        }
        self.probed = clock::now();
        // What is still on its way was found out about another network.
        self.probing = JoinSet::new();
        self.findings = mpsc::channel(FINDINGS);
        self.probing.spawn(look_up(self.spec.clone(), self.here.beacon, self.findings.0.clone()));
        let (beacon, registry) = (self.here.beacon, self.membership.registry.clone());
        self.probing.spawn(probe(beacon, registry, self.findings.0.clone(), self.rng.random()));
        if let Some(held) = &self.may_map {
            let port = self.shared.udp.local_addr().port();
            self.probing.spawn(port_mapping::keep(port, held.clone(), self.findings.0.clone()));
        }
    }

    fn on_finding(&mut self, finding: Finding) {
        match finding {
            Finding::Mapped(mapped) => {
                debug!(?mapped, "the router forwards to us");
                self.here.mapped = mapped;
                self.tell();
            }
            Finding::Beacon(beacon) => {
                info!(was = %self.here.beacon, now = %beacon, "the beacon is elsewhere");
                self.here.set_beacon(beacon);
                self.keepalive.ask_now(clock::now());
                self.shared.act(|core, _| core.endpoint.set_beacon(Some(beacon)));
                self.probe();
            }
            Finding::Kind(kind) => self.shared.act(|core, _| core.endpoint.set_nat(kind)),
            Finding::Lifetime(lifetime) => {
                debug!(?lifetime, "the NAT keeps a mapping this long, at least");
                self.keepalive.set_lifetime(clock::now(), lifetime);
                self.shared.act(|core, _| core.endpoint.set_mapping_lifetime(lifetime));
            }
        }
    }

    /// Asks the beacon where we are, if it is time to.
    fn ask(&mut self) {
        if self.keepalive.handle_timeout(clock::now(), &mut self.rng) {
            self.shared.act(|core, _| core.endpoint.discover());
        }
    }

    fn on_answer(&mut self, seen: SocketAddr) {
        let before = self.here.observed.replace(seen);
        if before.is_some_and(|before| before != seen) {
            // The router has another address or forgot its mappings, or it is another router.
            info!(?before, now = %seen, "the NAT has changed");
            if clock::now() > self.probed + PROBE_GAP {
                self.here.mapped = None;
                self.probe();
            }
        }
        if self.keepalive.handle_answer(clock::now(), &mut self.rng) == Answer::Returned {
            debug!("the beacon answers again");
            self.membership.nudge();
        }
        self.tell();
    }

    /// Tells the endpoint and the registry, if there is anything new.
    fn tell(&self) {
        let candidates = self.here.candidates();
        self.shared.act(|core, now| {
            if core.endpoint.candidates() != candidates {
                debug!(?candidates, "where this node may be reached");
                core.endpoint.set_candidates(now, candidates);
                let observed = *core.observed.borrow();
                core.watchers.network_changed(now, observed);
            }
        });
        self.membership.place(self.here.place());
    }
}

/// Whether the beacon's name still leads to `known`: in a network without IPv6, or in which the
/// rendezvous is reached another way, it does not.
async fn look_up(spec: RendezvousSpec, known: SocketAddr, findings: mpsc::Sender<Finding>) {
    let is_reachable = |addr: &SocketAddr| source_toward(*addr).is_some();
    for _ in 0..LOOK_UPS {
        // A network that has just come may not resolve names yet.
        if let Ok(addrs) = resolve_beacon(&spec).await {
            if addrs.contains(&known) && is_reachable(&known) {
                return;
            }
            if let Some(other) = addrs.into_iter().find(is_reachable) {
                // The receiver ends with the node.
                let _ = findings.send(Finding::Beacon(other)).await;
                return;
            }
        }
        sleep(LOOK_UP_AGAIN).await;
    }
}

async fn changed(watch: Option<&mut LinkWatch>) -> Change {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
