//! Being registered, and staying so: register, heartbeat, recover, host the embedded rendezvous.
//!
//! Whatever hits all nodes at once, as a rendezvous that dies and comes back, must not bring them
//! all back at one moment: pauses are drawn at random, up to the whole of their limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, RwLock, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::core::Shared;
use super::error::NodeError;
use super::rendezvous::EmbeddedHost;
use crate::crypto::Identity;
use crate::net::interfaces::source_toward;
use crate::net::jitter::jitter;
use crate::net::registry_client::{RegistryClient, RegistryError};
use crate::proto::tunnel::LocalKeys;
use crate::wire::NodeId;
use crate::wire::registry::{Base64, ErrorCode, Register, Request, Response};

/// What this node registers as.
pub const VERSION: &str = concat!("pilot-agent/", env!("CARGO_PKG_VERSION"));
/// Longest pauses before attempts to come back after the registry went away, at first and at all.
const RECOVER_FIRST: Duration = Duration::from_millis(500);
const RECOVER_MAX: Duration = Duration::from_secs(2);
/// The same where the registry is embedded: some node of this machine must host it soon.
const RECOVER_FIRST_EMBEDDED: Duration = Duration::from_millis(50);
const RECOVER_MAX_EMBEDDED: Duration = Duration::from_millis(500);
/// Least time between two registrations because this node's place has changed.
const MOVE_GAP: Duration = Duration::from_secs(2);
/// Those behind one router move at one moment.
const MOVE_JITTER: Duration = Duration::from_millis(100);
/// How long a registration waits for what the beacon sees after a move, once there is a
/// connection.
const MOVE_GRACE: Duration = Duration::from_millis(150);
/// How long it waits for the connection.
const MOVE_PATIENCE: Duration = Duration::from_secs(1);
/// Leaving must not wait long for a registry that does not answer.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// What others can find of a node.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) hostname: Option<String>,
    pub(super) is_public: bool,
    pub(super) capabilities: Vec<String>,
}

/// Where others may reach this node, as far as it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// From outside; port 0 if only the relay reaches it.
    pub(super) endpoint: Option<SocketAddr>,
    /// From its own network.
    pub(super) lan: Vec<SocketAddr>,
}

/// Why the registry is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Heartbeat,
    Lost,
    Moved,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) registry: RegistryClient,
    identity: Arc<Identity>,
    local: SocketAddr,
    place: watch::Sender<Place>,
    /// What the registry knows of it.
    registered_place: Mutex<Option<Place>>,
    /// Asks for a heartbeat now.
    nudged: Notify,
    pub(super) profile: RwLock<Profile>,
    host: Option<Mutex<EmbeddedHost>>,
    is_hosting: AtomicBool,
    is_registered: AtomicBool,
    /// UDP is blocked: only the beacon reaches this node.
    is_walled: AtomicBool,
}

impl Membership {
    pub(super) fn new(
        registry: RegistryClient,
        identity: Arc<Identity>,
        local: SocketAddr,
        place: Place,
        profile: Profile,
        host: Option<EmbeddedHost>,
    ) -> Self {
        Self {
            registry,
            identity,
            local,
            place: watch::Sender::new(place),
            registered_place: Mutex::default(),
            nudged: Notify::new(),
            profile: RwLock::new(profile),
            is_hosting: AtomicBool::new(host.as_ref().is_some_and(EmbeddedHost::is_hosting)),
            host: host.map(Mutex::new),
            is_registered: AtomicBool::new(false),
            is_walled: AtomicBool::new(false),
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Relaxed)
    }

    pub(super) fn is_hosting(&self) -> bool {
        self.is_hosting.load(Ordering::Relaxed)
    }

    /// This node may be reached here; the registry will know soon.
    pub(super) fn place(&self, place: Place) {
        self.place.send_if_modified(|known| {
            let has_changed = *known != place;
            *known = place;
            has_changed
        });
    }

    /// The network is another: the connection to the registry is given up, and what follows from
    /// that makes another and registers anew.
    pub(super) fn moved(&self) {
        self.registry.reconnect();
        self.nudge();
    }

    /// The rendezvous may have been away: ask it whether it still knows us.
    pub(super) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// What the next registration says.
    pub(super) fn set_walled(&self, is_walled: bool) {
        self.is_walled.store(is_walled, Ordering::Relaxed);
    }

    /// The registration, without endpoints if UDP is blocked.
    fn relay_only(&self, mut register: Register) -> Register {
        if self.is_walled.load(Ordering::Relaxed) {
            register.listen_addr = "0.0.0.0:0".to_owned();
            register.lan_addrs.clear();
            register.relay_only = true;
        }
        register
    }

    /// Registers with everything that others can find, and returns the node id.
    pub(super) async fn register(&self) -> Result<NodeId, NodeError> {
        let profile = self.profile.read().await.clone();
        let place = self.place.borrow().clone();
        let request = Register {
            hostname: profile.hostname.clone().unwrap_or_default(),
            version: VERSION.to_owned(),
            relay_only: place.endpoint.is_some_and(|endpoint| endpoint.port() == 0),
            lan_addrs: place.lan.iter().map(SocketAddr::to_string).collect(),
            ..Register::new(Base64(self.identity.public_key()), self.listen_addr(&place).await)
        };
        let (node, hostname) =
            match self.call_signed(Request::Register(self.relay_only(request))).await? {
                Response::RegisterOk { hostname_error, .. } if !hostname_error.is_empty() => {
                    return Err(NodeError::HostnameTaken(hostname_error));
                }
                Response::RegisterOk { node_id, hostname, tls_fingerprint, .. } => {
                    self.registry.server().learn(&tls_fingerprint);
                    (node_id, hostname)
                }
                other => return Err(self.nonsense(&other)),
            };
        if let Some(wanted) = &profile.hostname
            && *wanted != hostname
        {
            // A Go registry does not take it with the registration, and does not say why.
            self.set_hostname(node, wanted).await?;
        }
        self.publish(node, &profile).await?;
        *self.registered_place.lock().await = Some(place);
        self.is_registered.store(true, Ordering::Relaxed);
        Ok(node)
    }

    async fn publish(&self, node: NodeId, profile: &Profile) -> Result<(), NodeError> {
        let public = profile.is_public;
        self.call_signed(Request::SetVisibility { node_id: node, public, signature: None }).await?;
        if profile.capabilities.is_empty() {
            return Ok(());
        }
        let capabilities = profile.capabilities.clone();
        let request = Request::SetCapabilities { node_id: node, capabilities, signature: None };
        match self.registry.call(self.sign(request)).await {
            Err(RegistryError::Refused { code: ErrorCode::Other, .. }) => {
                warn!("this registry does not keep capabilities; nobody finds this node by them");
                Ok(())
            }
            other => other.map(|_| ()).map_err(|error| self.explain(error)),
        }
    }

    pub(super) async fn set_hostname(&self, node: NodeId, name: &str) -> Result<(), NodeError> {
        let hostname = name.to_owned();
        let request = Request::SetHostname { node_id: node, hostname, signature: None };
        match self.registry.call(self.sign(request)).await {
            Ok(_) => Ok(()),
            Err(RegistryError::Refused {
                code: ErrorCode::HostnameTaken | ErrorCode::Other,
                text,
                ..
            }) => Err(NodeError::HostnameTaken(format!(
                "hostname {name:?} was not granted by the rendezvous at {}: {text}; choose \
                 another, or stop the node that has it",
                self.registry.addr()
            ))),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Changes what others can find.
    pub(super) async fn update(
        &self,
        node: NodeId,
        change: impl FnOnce(&mut Profile),
    ) -> Result<(), NodeError> {
        let mut profile = self.profile.write().await;
        let mut changed = profile.clone();
        change(&mut changed);
        if changed.hostname != profile.hostname {
            self.set_hostname(node, changed.hostname.as_deref().unwrap_or_default()).await?;
        }
        self.publish(node, &changed).await?;
        *profile = changed;
        Ok(())
    }

    /// Keeps the node registered, until it is aborted.
    pub(super) async fn keep(&self, shared: Arc<Shared>, heartbeat: Duration) {
        let mut link = self.registry.link();
        let mut place = self.place.subscribe();
        let mut may_move = Instant::now();
        loop {
            let reason = tokio::select! {
                () = sleep(heartbeat - jitter(heartbeat / 5)) => Reason::Heartbeat,
                () = self.nudged.notified() => Reason::Heartbeat,
                changed = link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if link.borrow_and_update().is_some() {
                        continue;
                    }
                    Reason::Lost
                }
                () = has_moved(&mut place, &self.registered_place) => {
                    sleep_until(may_move).await;
                    may_move = Instant::now() + MOVE_GAP;
                    Reason::Moved
                }
            };
            let node = shared.look(|core| core.endpoint.node());
            let is_known = match reason {
                Reason::Heartbeat => {
                    let request = self.sign(Request::Heartbeat { node_id: node, signature: None });
                    self.registry.call(request).await.is_ok()
                }
                Reason::Lost | Reason::Moved => false,
            };
            if is_known {
                continue;
            }
            debug!(?reason, "registering again");
            if reason != Reason::Moved {
                self.is_registered.store(false, Ordering::Relaxed);
            }
            let granted = self.recover(reason).await;
            if granted != node {
                // A foreign registry that lost its state. We take what we are given.
                warn!(was = %node, now = %granted, "the registry gave this node another id");
                let local = LocalKeys::new(granted, self.identity.clone());
                shared.act(|core, now| core.endpoint.set_local(now, local));
            }
            // The beacon believes that we are elsewhere once the registry does.
            shared.act(|core, _| core.endpoint.discover());
        }
    }

    /// Comes back: to the same registry, to another host of the embedded one, or as its host.
    async fn recover(&self, reason: Reason) -> NodeId {
        let (first, max) = match self.host {
            Some(_) => (RECOVER_FIRST_EMBEDDED, RECOVER_MAX_EMBEDDED),
            None => (RECOVER_FIRST, RECOVER_MAX),
        };
        let mut pause = first;
        if self.place.borrow().endpoint.is_none() || reason == Reason::Moved {
            sleep(jitter(MOVE_JITTER)).await;
            self.settle().await;
        } else {
            sleep(jitter(pause)).await;
        }
        loop {
            if let Some(host) = &self.host {
                let mut host = host.lock().await;
                if let Err(error) = host.try_host().await {
                    debug!(%error, "could not host the embedded rendezvous");
                }
                self.is_hosting.store(host.is_hosting(), Ordering::Relaxed);
            }
            match self.register().await {
                Ok(granted) => return granted,
                Err(error) => debug!(%error, "could not register"),
            }
            sleep(jitter(pause)).await;
            pause = (pause * 2).min(max);
        }
    }

    /// After a move: connects, and meanwhile waits for what the beacon sees, as registering twice
    /// takes longer.
    async fn settle(&self) {
        self.registry.prepare();
        let (mut link, mut place) = (self.registry.link(), self.place.subscribe());
        let _ = timeout(MOVE_PATIENCE, link.wait_for(Option::is_some)).await;
        let _ = timeout(MOVE_GRACE, place.wait_for(|place| place.endpoint.is_some())).await;
    }

    /// Gives up hosting, when the start failed.
    pub(super) async fn stop_hosting(&self) {
        if let Some(host) = &self.host {
            host.lock().await.shutdown().await;
        }
    }

    /// Says good-bye.
    pub(super) async fn leave(&self, node: NodeId) {
        let request = self.sign(Request::Deregister { node_id: node, signature: None });
        // A registry that does not answer will notice by itself.
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, self.registry.call(request)).await;
        if let Some(host) = &self.host {
            host.lock().await.shutdown().await;
        }
    }

    /// Our UDP endpoint for the registry, which takes the address from where we come and the port
    /// from here. Until the beacon has told, ours must do; it is right where there is no NAT.
    async fn listen_addr(&self, place: &Place) -> String {
        if let Some(endpoint) = place.endpoint {
            return endpoint.to_string();
        }
        let mut ip = self.local.ip();
        if ip.is_unspecified() {
            ip = route_toward(self.registry.addr()).await.unwrap_or(ip);
        }
        SocketAddr::new(ip, self.local.port()).to_string()
    }

    fn sign(&self, request: Request) -> Request {
        request.signed(|text| self.identity.sign(text))
    }

    async fn call_signed(&self, request: Request) -> Result<Response, NodeError> {
        self.registry.call(self.sign(request)).await.map_err(|error| self.explain(error))
    }

    pub(super) fn explain(&self, error: RegistryError) -> NodeError {
        match error {
            RegistryError::Refused { code: ErrorCode::HostnameTaken, text, .. } => {
                NodeError::HostnameTaken(text)
            }
            RegistryError::Refused { code: ErrorCode::Invalid, text, .. } => {
                NodeError::Invalid(text)
            }
            error => NodeError::Rendezvous {
                rendezvous: self.registry.addr().to_owned(),
                reason: error.to_string(),
            },
        }
    }

    pub(super) fn nonsense(&self, response: &Response) -> NodeError {
        NodeError::Rendezvous {
            rendezvous: self.registry.addr().to_owned(),
            reason: format!("it answered with {}", response.kind()),
        }
    }
}

/// The address of ours from which packets to `registry` leave.
async fn route_toward(registry: &str) -> Option<std::net::IpAddr> {
    source_toward(tokio::net::lookup_host(registry).await.ok()?.next()?)
}

/// Returns when the registry believes us elsewhere than we are.
async fn has_moved(place: &mut watch::Receiver<Place>, registered: &Mutex<Option<Place>>) {
    loop {
        // A place without endpoint is one in the making.
        let known =
            place.wait_for(|place| place.endpoint.is_some()).await.map(|place| place.clone());
        let Ok(known) = known else { return std::future::pending().await };
        if registered.lock().await.as_ref() != Some(&known) {
            return;
        }
        if place.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
