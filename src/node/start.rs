//! Bringing a node up: identity, rendezvous, socket, registration, tasks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::carrier::{Carrier, NOWHERE};
use super::config::NodeConfig;
use super::core::{Core, Shared, Upcall};
use super::driver::drive;
use super::error::NodeError;
use super::first_look::first_look;
use super::membership::{Membership, Profile};
use super::messages::Messages;
use super::network::Network;
use super::port_mapping::HeldPort;
use super::rendezvous::{EmbeddedHost, RendezvousSpec};
use super::resolver::Resolver;
use super::sockets;
use super::trust::{Trust, TrustStore};
use super::types::PeerRef;
use super::whereabouts::Whereabouts;
use super::{Inner, Node, heap, paths, services};
use crate::crypto::{Identity, IdentityError, KnownPeers, StoredIdentity};
use crate::net::clock;
use crate::net::registry_client::{RegistryClient, RegistryTimeouts};
use crate::net::udp::UdpIo;
use crate::proto::endpoint::{Endpoint, EndpointConfig};
use crate::proto::messenger::{Messenger, MessengerConfig};
use crate::proto::stream::StreamError;
use crate::proto::tunnel::LocalKeys;
use crate::wire::ports;

/// Look-ups for strangers under way at once.
const LOOKUPS: usize = 64;

pub(super) async fn start(config: NodeConfig) -> Result<Node, NodeError> {
    let limit = config.start_timeout;
    let rendezvous = spec(&config)?;
    heap::keep_freed_memory();
    match tokio::time::timeout(limit, bring_up(config, rendezvous.clone())).await {
        Ok(result) => result,
        Err(_) => Err(NodeError::Rendezvous {
            rendezvous: rendezvous.to_string(),
            reason: format!("the node could not register within {limit:?}; is it reachable?"),
        }),
    }
}

async fn bring_up(config: NodeConfig, spec: RendezvousSpec) -> Result<Node, NodeError> {
    config.stream.validate().map_err(|error| NodeError::Invalid(error.to_string()))?;
    paths::validate(&config.paths)?;
    if config.public_endpoint.is_some_and(|addr| addr.port() == 0 || addr.ip().is_unspecified()) {
        return Err(NodeError::Invalid("a public endpoint needs an address and a port".to_owned()));
    }
    let mut rng = StdRng::from_seed(os_seed()?);
    let home = home(&config)?;
    let (stored, identity, pins_path) = identity(&config, &home, &mut rng)?;
    let pins = match &pins_path {
        Some(path) => {
            KnownPeers::load(path).map_err(|error| NodeError::Identity(error.to_string()))?
        }
        None => KnownPeers::default(),
    };
    let trust_path =
        pins_path.as_ref().map(|path| path.with_extension("").with_extension("trust.json"));
    let trusted = TrustStore::load(trust_path, config.trust_auto_approve)?;
    let mut host = match &spec {
        RendezvousSpec::Embedded { port } => Some(EmbeddedHost::new(*port, &home)),
        RendezvousSpec::Remote { .. } => None,
    };
    if let Some(host) = &mut host {
        host.try_host().await?;
    }
    let udp = UdpIo::bind(config.listen).map_err(|error| {
        NodeError::Io(format!("cannot listen on UDP {}: {error}", config.listen))
    })?;
    let local_addr = udp.local_addr();

    let registry = RegistryClient::of(Arc::new(spec.server()?), RegistryTimeouts::default());
    let found = async {
        let beacons = match resolve_beacon(&spec).await {
            Err(_) if registry.server().is_proxied() => vec![NOWHERE],
            found => found?,
        };
        first_look(&udp, &beacons, &registry).await.ok_or_else(|| unresolved(&spec))
    };
    let (beacon, observed) = match found.await {
        Ok(found) => found,
        Err(error) => {
            if let Some(host) = &mut host {
                host.shutdown().await;
            }
            return Err(error);
        }
    };
    let is_embedded = host.is_some();
    let is_hidden = !config.paths.direct;
    let mut here =
        Whereabouts::new(local_addr, beacon, config.public_endpoint, is_embedded, is_hidden);
    here.observed = observed;
    let profile = Profile {
        hostname: config.hostname.clone(),
        is_public: config.public,
        capabilities: config.capabilities.clone(),
    };
    let membership = Membership::new(
        registry.clone(),
        identity.clone(),
        local_addr,
        here.place(),
        profile,
        host,
    );
    let membership = Arc::new(membership);
    let node = match membership.register().await {
        Ok(node) => node,
        Err(error) => {
            membership.stop_hosting().await;
            return Err(error);
        }
    };
    let endpoint_config = EndpointConfig {
        stream: Arc::new(config.stream.clone()),
        is_private: !config.public,
        ..EndpointConfig::default()
    };
    let local = LocalKeys::new(node, identity.clone());
    let mut endpoint = Endpoint::new(endpoint_config, local, os_seed()?);
    endpoint.set_beacon(Some(beacon));
    endpoint.set_policy(None, config.paths);
    endpoint.listen(ports::MESSAGE);
    let messenger_config = MessengerConfig {
        max_payload: config.max_message,
        inbox_limit: config.inbox_limit,
        ..MessengerConfig::default()
    };
    let messenger = Messenger::new(messenger_config, rand::Rng::next_u64(&mut rng));
    let (upcalls, upcall_queue) = mpsc::unbounded_channel();
    let (socket_orders, socket_queue) = mpsc::unbounded_channel();
    let core = Core::new(endpoint, messenger, upcalls, socket_orders);
    core.observed.send_replace(observed);
    let shared = Arc::new(Shared::new(core, udp));
    let resolver = Arc::new(Resolver::new(
        registry,
        identity.clone(),
        shared.clone(),
        trusted.clone(),
        pins,
        pins_path,
        is_embedded,
    ));
    let trust = Trust::new(shared.clone(), resolver.clone(), trusted);

    let inbox = match (&config.inbox, &config.hostname) {
        (Some(inbox), _) => inbox.clone(),
        (None, hostname) => home.join("inbox").join(hostname.as_deref().unwrap_or("anonymous")),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(shared.clone()));
    tasks.spawn(sockets::keep(Arc::downgrade(&shared), local_addr, socket_queue));
    tasks.spawn(upkeep(shared.clone(), resolver.clone(), trust.clone(), upcall_queue));
    services::spawn(&mut tasks, &shared, &resolver, &trust, &config, inbox)?;
    let heartbeat = config.heartbeat;
    tasks.spawn(trust.clone().keep(heartbeat));
    let (member, core) = (membership.clone(), shared.clone());
    tasks.spawn(async move { member.keep(core, heartbeat).await });
    let held_port = HeldPort::default();
    let may_map = (config.port_mapping && !is_hidden).then(|| held_port.clone());
    let network =
        Network::new(shared.clone(), membership.clone(), spec.clone(), here, may_map, os_seed()?);
    tasks.spawn(network.keep());
    if membership.registry.server().has_compat() {
        let (shared, membership) = (shared.clone(), membership.clone());
        tasks.spawn(Carrier::new(shared, membership, identity.clone(), rng).run());
    }

    let inner = Inner {
        spec,
        _stored: stored,
        public_key: identity.public_key(),
        started: clock::now(),
        messages: Messages { shared: shared.clone(), resolver: resolver.clone() },
        shared,
        resolver,
        trust,
        membership,
        held_port,
        tasks: Mutex::new(tasks),
        config,
    };
    Ok(Node { inner: Arc::new(inner) })
}

/// Answers what the protocol asks of the registry.
async fn upkeep(
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    trust: Arc<Trust>,
    mut upcalls: mpsc::UnboundedReceiver<Upcall>,
) {
    let slots = Arc::new(Semaphore::new(LOOKUPS));
    let mut lookups = JoinSet::new();
    while let Some(upcall) = upcalls.recv().await {
        match upcall {
            Upcall::NeedPeer(node) => {
                let (shared, resolver, slots) = (shared.clone(), resolver.clone(), slots.clone());
                lookups.spawn(async move {
                    let Ok(_slot) = slots.acquire().await else { return };
                    resolver.expire(node);
                    if resolver.resolve(&PeerRef::Node(node)).await.is_err() {
                        shared.act(|core, now| {
                            let why = StreamError::PeerUnreachable;
                            core.endpoint.reject_peer(now, node, &why);
                        });
                    }
                });
            }
            Upcall::PeerLost(node) => resolver.expire(node),
            Upcall::HandshakeWaiting => trust.ring(),
        }
        while lookups.try_join_next().is_some() {}
    }
}

fn spec(config: &NodeConfig) -> Result<RendezvousSpec, NodeError> {
    let from_env = || std::env::var("PILOT_RENDEZVOUS").ok().filter(|text| !text.is_empty());
    match config.rendezvous.clone().or_else(from_env) {
        Some(text) => text.parse(),
        None => "embedded".parse(),
    }
}

fn home(config: &NodeConfig) -> Result<PathBuf, NodeError> {
    let from_env = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    config
        .home
        .clone()
        .or_else(|| from_env("PILOT_HOME").map(PathBuf::from))
        .or_else(|| from_env("HOME").map(|home| Path::new(&home).join(".pilot-agent")))
        .ok_or_else(|| {
            NodeError::Invalid(
                "there is no home directory for the node's identity; set PILOT_HOME, or give home"
                    .to_owned(),
            )
        })
}

type LoadedIdentity = (Option<StoredIdentity>, Arc<Identity>, Option<PathBuf>);

/// The identity of the hostname, or a passing one for a node without.
fn identity(
    config: &NodeConfig,
    home: &Path,
    rng: &mut StdRng,
) -> Result<LoadedIdentity, NodeError> {
    let Some(hostname) = &config.hostname else {
        return Ok((None, Arc::new(Identity::generate(rng)), None));
    };
    let dir = home.join("identities");
    let stored =
        StoredIdentity::load_or_create(&dir, hostname, rng).map_err(|error| match error {
            IdentityError::InUse { .. } => NodeError::IdentityInUse(error.to_string()),
            IdentityError::Hostname { .. } => NodeError::Invalid(error.to_string()),
            other => NodeError::Identity(other.to_string()),
        })?;
    let identity = stored.identity().clone();
    let pins = dir.join(format!("{hostname}.peers.json"));
    Ok((Some(stored), identity, Some(pins)))
}

/// Addresses of the beacon: the one that the system likes best of each family.
pub(super) async fn resolve_beacon(spec: &RendezvousSpec) -> Result<Vec<SocketAddr>, NodeError> {
    let beacon = spec.beacon();
    let lookup = tokio::time::timeout(Duration::from_secs(3), tokio::net::lookup_host(&beacon));
    let Ok(Ok(addrs)) = lookup.await else { return Err(unresolved(spec)) };
    let mut found: Vec<SocketAddr> = Vec::new();
    for addr in addrs {
        if found.iter().all(|known| known.is_ipv4() != addr.is_ipv4()) {
            found.push(addr);
        }
    }
    Ok(found)
}

fn unresolved(spec: &RendezvousSpec) -> NodeError {
    NodeError::Rendezvous {
        rendezvous: spec.beacon(),
        reason: "the beacon's host name cannot be resolved".to_owned(),
    }
}

fn os_seed() -> Result<[u8; 32], NodeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| NodeError::Io(format!("the system has no randomness: {error}")))?;
    Ok(seed)
}
