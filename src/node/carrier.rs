//! How this node reaches its beacon: by UDP, or over a WebSocket while UDP is blocked.
//!
//! Nobody is asked which. The beacon is asked for a sign of life; if none comes within 0.6 s,
//! and a WebSocket stands, what is for the beacon goes over that, and the registry is told that
//! only the beacon reaches this node. Meanwhile UDP is tried now and then, and taken back when it
//! works. If neither works the beacon is away, and nothing changes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use super::core::Shared;
use super::membership::Membership;
use crate::crypto::Identity;
use crate::net::compat_client::{self, CompatError, CompatSocket, KEEPALIVE};
use crate::net::dial::Server;
use crate::net::frame_queue::FrameQueue;
use crate::net::websocket::carry;
use crate::wire::NodeId;
use crate::wire::beacon::{BeaconMessage, is_beacon};

/// The beacon is asked this often ...
const ASK_EVERY: Duration = Duration::from_millis(150);
/// ... so many times, before UDP is taken for blocked.
const ASKS: u32 = 4;
/// A WebSocket is begun after this time without answer, so that it stands when UDP is given up.
const BEGIN_AFTER: Duration = Duration::from_millis(200);
/// A beacon that was silent for this long is asked.
const CHECK_AFTER: Duration = Duration::from_secs(30);
/// One that is suspected is asked this long after its last answer at the earliest.
const JUST_NOW: Duration = Duration::from_secs(1);
/// Pauses before UDP is tried again, at first and at most.
const RETRY_UDP: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(120));
/// Pauses before the next attempt at a WebSocket, at first and at most.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Pause before a registration that failed is tried again.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);
/// The other end must take our good-bye within this.
const GOODBYE: Duration = Duration::from_millis(500);

/// The core's part: what takes datagrams off UDP.
#[derive(Debug, Default)]
pub(super) struct Detour {
    /// What is for the beacon goes another way.
    is_on: bool,
    queue: Arc<FrameQueue>,
    /// When the beacon last answered by UDP.
    answered: watch::Sender<Option<Instant>>,
    /// Rings when the network has changed.
    changed: Arc<Notify>,
    /// Rings when a direct path has died, perhaps with all of UDP.
    suspected: Arc<Notify>,
}

impl Detour {
    /// Whether it is in use.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Takes the datagrams of a run; without room they are lost, as the network may lose them.
    pub(super) fn push(&self, contents: &[u8], segment_size: usize) -> usize {
        self.queue.push(contents, segment_size);
        contents.len()
    }

    /// The beacon has answered by UDP.
    pub(super) fn answered(&self) {
        self.answered.send_replace(Some(Instant::now()));
    }

    /// A direct path has died, perhaps with all of UDP: the beacon is asked.
    pub(super) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// The network has changed: all that was learnt of it is void.
    pub(super) fn network_changed(&self) {
        self.changed.notify_one();
    }
}

/// Stands for a beacon whose name only a proxy can look up: UDP does not get there (RFC 6666).
pub(super) const NOWHERE: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0)), 9);

/// How a WebSocket's use ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    UdpWorks,
    Lost,
}

/// The task that decides.
pub(super) struct Carrier {
    shared: Arc<Shared>,
    membership: Arc<Membership>,
    server: Arc<Server>,
    identity: Arc<Identity>,
    queue: Arc<FrameQueue>,
    answered: watch::Receiver<Option<Instant>>,
    changed: Arc<Notify>,
    suspected: Arc<Notify>,
    rng: StdRng,
}

impl Carrier {
    pub(super) fn new(
        shared: Arc<Shared>,
        membership: Arc<Membership>,
        identity: Arc<Identity>,
        rng: StdRng,
    ) -> Self {
        let server = membership.registry.server().clone();
        let (queue, answered, changed, suspected) = shared.look(|core| {
            let Detour { queue, answered, changed, suspected, .. } = &core.detour;
            (queue.clone(), answered.subscribe(), changed.clone(), suspected.clone())
        });
        Self { shared, membership, server, identity, queue, answered, changed, suspected, rng }
    }

    /// Decides, until it is aborted.
    pub(super) async fn run(mut self) {
        let mut pause = RECONNECT.0;
        loop {
            self.silence().await;
            match self.lose_patience().await {
                None => pause = RECONNECT.0,
                Some(Ok(socket)) => {
                    pause = RECONNECT.0;
                    self.detour(socket).await;
                }
                Some(Err(error)) => {
                    debug!(%error, "neither UDP nor a WebSocket leads to the beacon");
                    self.pause(&mut pause).await;
                }
            }
        }
    }

    /// Returns when nothing was heard from the beacon for a while, or there is another reason to
    /// ask it.
    async fn silence(&mut self) {
        loop {
            let heard = *self.answered.borrow_and_update();
            let Some(heard) = heard else { return };
            tokio::select! {
                () = sleep_until(heard + CHECK_AFTER) => return,
                _ = self.answered.changed() => {}
                () = self.changed.notified() => return,
                () = self.suspected.notified() => {
                    sleep_until(heard + JUST_NOW).await;
                    return;
                }
            }
        }
    }

    /// Asks the beacon; `None` if it answers. Otherwise what came of a WebSocket, which is begun
    /// before all hope is lost.
    async fn lose_patience(&mut self) -> Option<Result<CompatSocket, CompatError>> {
        let (server, identity) = (self.server.clone(), self.identity.clone());
        let node = self.shared.look(|core| core.endpoint.node());
        let mut connecting = pin!(async move {
            sleep(BEGIN_AFTER).await;
            compat_client::connect(&server, node, &identity).await
        });
        let shared = self.shared.clone();
        let discover = || shared.act(|core, _| core.endpoint.discover());
        let mut asking = pin!(self.ask(discover));
        let connected = tokio::select! {
            answers = &mut asking => {
                if answers { return None }
                connecting.await
            }
            connected = &mut connecting => {
                if asking.await {
                    drop(connected);
                    // The beacon may have noted us at the WebSocket.
                    discover();
                    return None;
                }
                connected
            }
        };
        Some(connected)
    }

    /// Whether the beacon answers the question that `ask` puts.
    async fn ask(&mut self, ask: impl Fn()) -> bool {
        self.answered.mark_unchanged();
        for _ in 0..ASKS {
            ask();
            if matches!(timeout(ASK_EVERY, self.answered.changed()).await, Ok(Ok(()))) {
                return true;
            }
        }
        false
    }

    /// Goes by WebSocket until UDP works.
    async fn detour(&mut self, socket: CompatSocket) {
        info!("UDP is blocked: going over the WebSocket of the rendezvous");
        self.membership.set_walled(true);
        self.queue.clear();
        self.shared.act(|core, now| {
            core.detour.is_on = true;
            core.endpoint.set_udp_blocked(now, true);
        });
        let mut socket = Some(socket);
        let mut pause = RECONNECT.0;
        let last = loop {
            if let Some(mut connected) = socket.take() {
                let begun = Instant::now();
                if self.travel(&mut connected).await == End::UdpWorks {
                    break Some(connected);
                }
                if begun.elapsed() > RECONNECT.1 {
                    pause = RECONNECT.0;
                }
            }
            self.pause(&mut pause).await;
            if self.try_udp().await {
                break None;
            }
            let node = self.shared.look(|core| core.endpoint.node());
            self.queue.clear();
            match compat_client::connect(&self.server, node, &self.identity).await {
                Ok(connected) => socket = Some(connected),
                Err(error) => debug!(%error, "the WebSocket of the rendezvous is lost"),
            }
        };
        info!("UDP works again");
        self.membership.set_walled(false);
        self.shared.act(|core, now| {
            core.detour.is_on = false;
            core.endpoint.set_udp_blocked(now, false);
        });
        if let Err(error) = self.membership.register().await {
            debug!(%error, "could not register the UDP endpoint");
        }
        self.shared.act(|core, _| core.endpoint.discover());
        if let Some(mut socket) = last {
            // Best effort: the rendezvous notices in any case.
            let _ = timeout(GOODBYE, socket.close(None)).await;
            drop(socket);
            self.shared.act(|core, _| core.endpoint.discover());
        }
    }

    /// Carries datagrams until the connection is lost or UDP works.
    async fn travel(&mut self, socket: &mut CompatSocket) -> End {
        let (shared, queue) = (self.shared.clone(), self.queue.clone());
        let membership = self.membership.clone();
        let announcing = async {
            while let Err(error) = membership.register().await {
                debug!(%error, "could not register as one whom only the beacon reaches");
                sleep(REGISTER_AGAIN).await;
            }
            std::future::pending::<()>().await;
        };
        let carrying = carry(socket, &queue, KEEPALIVE, |frames| take_in(&shared, frames));
        let changed = self.changed.clone();
        tokio::select! {
            ended = carrying => {
                debug!(?ended, "the WebSocket ended");
                End::Lost
            }
            () = changed.notified() => End::Lost,
            () = self.udp_returns() => End::UdpWorks,
            () = announcing => End::Lost,
        }
    }

    async fn udp_returns(&mut self) {
        let (mut pause, longest) = RETRY_UDP;
        loop {
            sleep(self.jittered(pause)).await;
            if self.try_udp().await {
                return;
            }
            pause = (pause * 3 / 2).min(longest);
        }
    }

    /// Asks by UDP, past the detour. Node 0 is nobody: the beacon does not note it.
    async fn try_udp(&mut self) -> bool {
        let Some(beacon) = self.shared.look(|core| core.endpoint.beacon()) else { return false };
        let mut question = Vec::new();
        BeaconMessage::Discover { node: NodeId(0), public_key: None, extended: false }
            .encode(&mut question);
        let shared = self.shared.clone();
        // What a blocked network says to it does not matter.
        self.ask(move || drop(shared.udp.try_send(beacon, &question, question.len()))).await
    }

    async fn pause(&mut self, pause: &mut Duration) {
        sleep(self.jittered(*pause)).await;
        *pause = (*pause * 2).min(RECONNECT.1);
    }

    /// Between half of it and all: those whom one event hit must not all come at once.
    fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.rng.random_range(0.5..=1.0))
    }
}

/// Hands in what came over the WebSocket, as if the beacon had sent it.
fn take_in(shared: &Shared, frames: &mut Vec<Bytes>) {
    shared.act(|core, now| {
        let Some(beacon) = core.endpoint.beacon().filter(|_| core.detour.is_on) else { return };
        for frame in frames.drain(..) {
            // Where the beacon sees us is where the connection comes from; nobody can send there.
            let is_answer =
                matches!(BeaconMessage::parse(&frame), Ok(BeaconMessage::DiscoverReply { .. }));
            if is_beacon(&frame) && !is_answer {
                core.endpoint.handle_datagram(now, beacon, &mut Vec::from(frame));
            }
        }
    });
}
