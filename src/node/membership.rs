//! Being registered, and staying so: register, heartbeat, recover, host the embedded rendezvous.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, RwLock};
use tracing::{debug, warn};

use super::core::Shared;
use super::error::NodeError;
use super::rendezvous::EmbeddedHost;
use crate::crypto::Identity;
use crate::net::registry_client::{RegistryClient, RegistryError};
use crate::proto::tunnel::LocalKeys;
use crate::wire::NodeId;
use crate::wire::registry::{Base64, ErrorCode, Register, Request, Response};

/// What this node registers as.
pub const VERSION: &str = concat!("pilot-agent/", env!("CARGO_PKG_VERSION"));
/// Pauses between attempts to come back after the registry went away, at first and at most.
const RECOVER_FIRST: Duration = Duration::from_millis(50);
const RECOVER_MAX: Duration = Duration::from_secs(2);
/// Leaving must not wait long for a registry that does not answer.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// What others can find of a node.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) hostname: Option<String>,
    pub(super) is_public: bool,
    pub(super) capabilities: Vec<String>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) registry: RegistryClient,
    identity: Arc<Identity>,
    listen_port: u16,
    listen_ip: std::net::IpAddr,
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
        profile: Profile,
        host: Option<EmbeddedHost>,
    ) -> Self {
        Self {
            registry,
            identity,
            listen_port: local.port(),
            listen_ip: local.ip(),
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
        let request = Register {
            hostname: profile.hostname.clone().unwrap_or_default(),
            version: VERSION.to_owned(),
            ..Register::new(Base64(self.identity.public_key()), self.listen_addr().await)
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
        loop {
            tokio::select! {
                () = tokio::time::sleep(heartbeat) => {}
                changed = link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if link.borrow_and_update().is_some() {
                        continue;
                    }
                }
            }
            let node = shared.look(|core| core.endpoint.node());
            let request = self.sign(Request::Heartbeat { node_id: node, signature: None });
            let is_gone = link.borrow().is_none();
            if is_gone || self.registry.call(request).await.is_err() {
                debug!("registry lost");
                self.is_registered.store(false, Ordering::Relaxed);
                let granted = self.recover().await;
                if granted != node {
                    // A foreign registry that lost its state. We take what we are given.
                    warn!(was = %node, now = %granted, "the registry gave this node another id");
                    let local = LocalKeys::new(granted, self.identity.clone());
                    shared.act(|core, now| core.endpoint.set_local(now, local));
                }
            }
            shared.act(|core, _| core.endpoint.discover());
        }
    }

    /// Comes back: to the same registry, to another host of the embedded one, or as its host.
    async fn recover(&self) -> NodeId {
        let mut pause = RECOVER_FIRST;
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
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECOVER_MAX);
        }
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

    /// Our UDP endpoint as the registry's network sees it.
    async fn listen_addr(&self) -> String {
        let ip = if self.listen_ip.is_unspecified() {
            route_toward(self.registry.addr()).await.unwrap_or(self.listen_ip)
        } else {
            self.listen_ip
        };
        SocketAddr::new(ip, self.listen_port).to_string()
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

/// The address of ours from which packets to `registry` leave. Connecting a UDP socket sends
/// nothing; it only asks the routing table.
async fn route_toward(registry: &str) -> Option<std::net::IpAddr> {
    let to = tokio::net::lookup_host(registry).await.ok()?.next()?;
    let any: SocketAddr =
        if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
