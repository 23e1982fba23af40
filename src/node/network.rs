//! Telling what a node learns of its own network to whom it matters: the endpoint, which tells
//! peers, and the registry.
//!
//! Three things change it: the beacon's answers (where we are seen), this machine's addresses, and
//! what is found out in the background. Nothing here is ever waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{debug, info};

use super::core::Shared;
use super::membership::Membership;
use super::whereabouts::Whereabouts;
use crate::net::clock;
use crate::net::link_watch::{Change, LinkWatch};
use crate::proto::nat::{Answer, BeaconWatch};

/// There is no NAT on loopback.
const FOREVER: Duration = Duration::from_secs(3_600);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Network {
    shared: Arc<Shared>,
    membership: Arc<Membership>,
    here: Whereabouts,
    /// What the beacon answers.
    observed: watch::Receiver<Option<SocketAddr>>,
    keepalive: BeaconWatch,
    rng: StdRng,
}

impl Network {
    pub(super) fn new(
        shared: Arc<Shared>,
        membership: Arc<Membership>,
        here: Whereabouts,
        seed: [u8; 32],
    ) -> Self {
        let mut keepalive = BeaconWatch::new(clock::now());
        if here.is_local() {
            keepalive.set_lifetime(clock::now(), FOREVER);
        }
        let rng = StdRng::from_seed(seed);
        let observed = shared.look(|core| core.observed.subscribe());
        let mut network = Self { shared, membership, here, observed, keepalive, rng };
        network.tell();
        network.ask();
        network
    }

    /// Keeps everybody informed, until it is aborted.
    pub(super) async fn keep(mut self) {
        loop {
            tokio::select! {
                change = changed(self.here.watch.as_mut()) => self.on_change(change),
                told = self.observed.changed() => {
                    if told.is_err() {
                        return;
                    }
                    let seen = *self.observed.borrow_and_update();
                    if seen.is_some() {
                        self.here.observed = seen;
                        self.on_answer();
                    }
                }
                () = sleep_until(self.keepalive.poll_timeout().into()) => self.ask(),
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
        self.here.observed = None;
        self.shared.look(|core| core.observed.send_replace(None));
        self.keepalive.ask_now(clock::now());
        self.tell();
        self.shared.act(|core, now| core.endpoint.handle_network_change(now));
        self.membership.moved();
    }

    /// Asks the beacon where we are, if it is time to.
    fn ask(&mut self) {
        if self.keepalive.handle_timeout(clock::now(), &mut self.rng) {
            self.shared.act(|core, _| core.endpoint.discover());
        }
    }

    fn on_answer(&mut self) {
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
            }
        });
        self.membership.place(self.here.place());
    }
}

async fn changed(watch: Option<&mut LinkWatch>) -> Change {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
