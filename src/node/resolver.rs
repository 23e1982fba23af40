//! From "who" to a peer that the endpoint can reach: registry, pins, a short-lived cache.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::core::Shared;
use super::error::NodeError;
use super::trust::TrustStore;
use super::types::PeerRef;
use crate::crypto::{Identity, KnownPeers};
use crate::net::clock;
use crate::net::registry_client::{RegistryClient, RegistryError};
use crate::proto::endpoint::PeerRecord;
use crate::wire::registry::{ErrorCode, PublicKey, Request, Response};
use crate::wire::{Addr, NodeId};

/// How long an answer of the registry is used without asking again.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long the embedded registry may take to move to another process, with those it knew.
const MOVING: Duration = Duration::from_secs(5);
/// Meanwhile it is asked this often.
const MOVING_RETRY: Duration = Duration::from_millis(50);
/// How long a peer at an embedded registry may look private because it has just registered.
const SETTLING: Duration = Duration::from_millis(300);
/// Answers kept.
const CACHE_LIMIT: usize = 16_384;

/// A peer that can be dialled.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) addr: Addr,
    /// It speaks our message protocol.
    pub(super) is_native: bool,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    is_guest: bool,
    hostname: Option<String>,
    at: Instant,
}

#[derive(Debug, Default)]
struct Cache {
    by_name: HashMap<String, NodeId>,
    by_node: HashMap<NodeId, Entry>,
}

/// What the registry says of a node, in one shape whichever request it came from.
#[derive(Debug, Default)]
struct Answer {
    node: NodeId,
    hostname: String,
    public_key: Option<PublicKey>,
    real_addr: String,
    lan_addrs: Vec<SocketAddr>,
    relay_only: bool,
    version: String,
    /// It is private and does not trust us, but came to us by itself.
    is_guest: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) registry: RegistryClient,
    pub(super) identity: Arc<Identity>,
    shared: Arc<Shared>,
    trust: Arc<TrustStore>,
    pins: Mutex<KnownPeers>,
    pins_path: Option<PathBuf>,
    /// How long a registry that is not there is waited for.
    patience: Duration,
    cache: Mutex<Cache>,
}

impl Resolver {
    pub(super) fn new(
        registry: RegistryClient,
        identity: Arc<Identity>,
        shared: Arc<Shared>,
        trust: Arc<TrustStore>,
        pins: KnownPeers,
        pins_path: Option<PathBuf>,
        is_embedded: bool,
    ) -> Self {
        Self {
            registry,
            identity,
            shared,
            trust,
            pins: Mutex::new(pins),
            pins_path,
            patience: if is_embedded { MOVING } else { Duration::ZERO },
            cache: Mutex::default(),
        }
    }

    /// Where `peer` is; the endpoint knows it afterwards.
    pub(super) async fn resolve(&self, peer: &PeerRef) -> Result<Target, NodeError> {
        if let Some(target) = self.cached(peer) {
            return Ok(target);
        }
        let answer = self.ask(peer).await?;
        if answer.node == self.node() {
            return Err(NodeError::Invalid(format!("{peer} is this node itself")));
        }
        self.adopt(peer, &answer)
    }

    /// The hostname of a node, as far as it is known without asking.
    pub(super) fn hostname_of(&self, node: NodeId) -> Option<String> {
        self.cache().by_node.get(&node)?.hostname.clone()
    }

    /// The next dial asks the registry again.
    pub(super) fn expire(&self, node: NodeId) {
        if let Some(entry) = self.cache().by_node.get_mut(&node) {
            entry.at -= LIFETIME;
        }
    }

    /// It turned out to be a Go node.
    pub(super) fn set_foreign(&self, node: NodeId) {
        if let Some(entry) = self.cache().by_node.get_mut(&node) {
            entry.target.is_native = false;
        }
    }

    /// Drops the pins of a peer; `true` if there was one.
    pub(super) fn forget(&self, peer: &PeerRef) -> bool {
        let mut names = vec![peer.to_string()];
        let cached = {
            let mut cache = self.cache();
            let node = match peer {
                PeerRef::Node(node) => Some(*node),
                PeerRef::Hostname(name) => cache.by_name.remove(name),
            };
            node.and_then(|node| cache.by_node.remove(&node).map(|entry| (node, entry)))
        };
        if let Some((node, entry)) = cached {
            names.push(Addr::global(node).to_string());
            names.extend(entry.hostname);
        }
        let mut pins = self.pins();
        let keys: Vec<_> =
            names.iter().filter_map(|name| pins.forget(name)).map(|pin| pin.key).collect();
        if keys.is_empty() {
            return false;
        }
        // A peer is pinned by hostname and by address; who forgets one means the key.
        let others: Vec<_> = pins
            .iter()
            .filter(|(_, pin)| keys.contains(&pin.key))
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in others {
            pins.forget(&name);
        }
        self.save(&pins);
        true
    }

    /// What is known of a peer without asking.
    pub(super) fn cached(&self, peer: &PeerRef) -> Option<Target> {
        let cache = self.cache();
        let node = match peer {
            PeerRef::Node(node) => *node,
            PeerRef::Hostname(name) => *cache.by_name.get(name)?,
        };
        let entry = cache.by_node.get(&node)?;
        (clock::now() < entry.at + LIFETIME).then(|| entry.target.clone())
    }

    /// Asks the registry; an embedded one that is moving to another process, again.
    async fn ask(&self, peer: &PeerRef) -> Result<Answer, NodeError> {
        let (since, mut gone) = (clock::now(), false);
        loop {
            let asked = match peer {
                PeerRef::Node(node) => self.ask_for_node(*node, peer).await,
                PeerRef::Hostname(name) => self.ask_for_hostname(name, peer).await,
            };
            let is_moving = match &asked {
                Err(NodeError::Rendezvous { .. }) => {
                    gone = true;
                    true
                }
                // The new host does not know everybody, and everything of them, at once: a node
                // registers first, and then says that it is public.
                Err(NodeError::TrustRequired { .. }) => gone || clock::now() < since + SETTLING,
                Err(NodeError::PeerNotFound { .. } | NodeError::PeerUnreachable { .. }) => gone,
                _ => false,
            };
            if !is_moving || clock::now() >= since + self.patience {
                return asked;
            }
            tokio::time::sleep(MOVING_RETRY).await;
        }
    }

    /// Asks where a node is. One that is private, does not trust us, and yet has a tunnel with us
    /// came by itself: it can be answered as long as it lets us.
    async fn ask_for_node(&self, node: NodeId, peer: &PeerRef) -> Result<Answer, NodeError> {
        let resolve = self.signed(Request::Resolve {
            node_id: node,
            requester_id: self.node(),
            signature: None,
        });
        let resolved = match self.call(resolve, peer).await {
            Ok(Response::ResolveOk(resolved)) => resolved,
            Ok(other) => return Err(self.nonsense(&other)),
            Err(NodeError::TrustRequired { .. }) if self.is_guest(node) => {
                return self.look_up(node, peer).await;
            }
            Err(error) => return Err(error),
        };
        let mut answer = Answer {
            node,
            hostname: resolved.hostname,
            public_key: resolved.public_key,
            real_addr: resolved.real_addr,
            lan_addrs: addresses(&resolved.lan_addrs),
            relay_only: resolved.relay_only,
            version: resolved.version,
            is_guest: false,
        };
        if answer.public_key.is_none() {
            // A Go registry spreads this over two requests.
            let known = self.look_up(node, peer).await?;
            answer.public_key = known.public_key;
            answer.hostname = known.hostname;
            answer.version = known.version;
        }
        Ok(answer)
    }

    /// What everybody may know of a node: its key, but not where it is.
    async fn look_up(&self, node: NodeId, peer: &PeerRef) -> Result<Answer, NodeError> {
        match self.call(Request::Lookup { node_id: node }, peer).await? {
            Response::LookupOk(info) => Ok(Answer {
                node,
                hostname: info.hostname,
                public_key: info.public_key,
                real_addr: String::new(),
                lan_addrs: Vec::new(),
                relay_only: info.relay_only,
                version: info.version,
                is_guest: true,
            }),
            other => Err(self.nonsense(&other)),
        }
    }

    async fn ask_for_hostname(&self, name: &str, peer: &PeerRef) -> Result<Answer, NodeError> {
        let request = self.signed(Request::ResolveHostname {
            hostname: name.to_owned(),
            requester_id: self.node(),
            signature: None,
        });
        let found = match self.call(request, peer).await? {
            Response::ResolveHostnameOk(found) => found,
            other => return Err(self.nonsense(&other)),
        };
        if found.public_key.is_none() || found.real_addr.is_empty() && !found.relay_only {
            let answer = self.ask_for_node(found.node_id, peer).await?;
            return Ok(Answer { hostname: name.to_owned(), ..answer });
        }
        Ok(Answer {
            node: found.node_id,
            hostname: found.hostname,
            public_key: found.public_key,
            real_addr: found.real_addr,
            lan_addrs: addresses(&found.lan_addrs),
            relay_only: found.relay_only,
            version: found.version,
            is_guest: false,
        })
    }

    /// Checks an answer against the pins and gives it to the endpoint.
    fn adopt(&self, peer: &PeerRef, answer: &Answer) -> Result<Target, NodeError> {
        let key = answer.public_key.ok_or_else(|| self.keyless(peer))?;
        let addr = Addr::global(answer.node);
        self.check_pins(peer, addr, &key.0)?;
        // Only our own list counts: a registry must not be able to open a private node.
        let is_trusted = self.trust.is_trusted(answer.node, &key.0);
        let is_native = answer.version.starts_with("pilot-agent/");
        let record = PeerRecord {
            public_key: key.0,
            endpoint: answer.real_addr.parse::<SocketAddr>().ok().filter(|addr| addr.port() != 0),
            lan_addrs: answer.lan_addrs.clone(),
            relay_only: answer.relay_only,
            is_native,
            is_trusted,
        };
        self.shared.act(|core, now| core.endpoint.set_peer(now, answer.node, &record));
        let target = Target { addr, is_native };
        let hostname = Some(answer.hostname.clone()).filter(|name| !name.is_empty());
        let mut cache = self.cache();
        if cache.by_node.len() >= CACHE_LIMIT {
            let now = clock::now();
            cache.by_node.retain(|_, entry| now < entry.at + LIFETIME);
            let Cache { by_name, by_node } = &mut *cache;
            by_name.retain(|_, node| by_node.contains_key(node));
        }
        // Only a name that was asked for: its pin has just been checked.
        if let PeerRef::Hostname(name) = peer {
            cache.by_name.insert(name.clone(), answer.node);
        }
        let is_guest = answer.is_guest;
        let entry = Entry { target: target.clone(), is_guest, hostname, at: clock::now() };
        cache.by_node.insert(answer.node, entry);
        Ok(target)
    }

    /// The key is pinned under the address and under the name that the user wrote: a registry can
    /// then neither give an address another key, nor a name another node.
    fn check_pins(&self, peer: &PeerRef, addr: Addr, key: &[u8; 32]) -> Result<(), NodeError> {
        let mut pins = self.pins();
        let now = clock::unix_now();
        let mut is_new = false;
        let names = match peer {
            PeerRef::Hostname(name) => vec![name.clone(), addr.to_string()],
            PeerRef::Node(_) => vec![addr.to_string()],
        };
        for name in &names {
            is_new |= pins
                .check_or_pin(name, key, now)
                .map_err(|mismatch| NodeError::IdentityMismatch(mismatch.to_string()))?;
        }
        if is_new {
            self.save(&pins);
        }
        Ok(())
    }

    fn node(&self) -> NodeId {
        self.shared.look(|core| core.endpoint.node())
    }

    fn is_guest(&self, node: NodeId) -> bool {
        self.shared.look(|core| core.endpoint.peer(node).is_some())
            && !self.trust.has_shut_us_out(node)
    }

    pub(super) fn signed(&self, request: Request) -> Request {
        request.signed(|text| self.identity.sign(text))
    }

    /// Node id and key of a peer, which need not be reachable. The pins are checked.
    pub(super) async fn identify(&self, peer: &PeerRef) -> Result<(NodeId, [u8; 32]), NodeError> {
        let node = match peer {
            PeerRef::Node(node) => *node,
            PeerRef::Hostname(name) => {
                let request = self.signed(Request::ResolveHostname {
                    hostname: name.clone(),
                    requester_id: self.node(),
                    signature: None,
                });
                match self.call(request, peer).await? {
                    Response::ResolveHostnameOk(found) => found.node_id,
                    other => return Err(self.nonsense(&other)),
                }
            }
        };
        if node == self.node() {
            return Err(NodeError::Invalid(format!("{peer} is this node itself")));
        }
        let known = self.look_up(node, peer).await?;
        let key = known.public_key.ok_or_else(|| self.keyless(peer))?.0;
        self.check_pins(peer, Addr::global(node), &key)?;
        Ok((node, key))
    }

    /// Says what a failed dial to a private node really means, if that is what happened.
    pub(super) fn blame_privacy(&self, peer: &PeerRef, error: NodeError) -> NodeError {
        let is_silence =
            matches!(error, NodeError::Timeout { .. } | NodeError::PeerUnreachable { .. });
        let cache = self.cache();
        let node = match peer {
            PeerRef::Node(node) => Some(*node),
            PeerRef::Hostname(name) => cache.by_name.get(name).copied(),
        };
        match node.and_then(|node| cache.by_node.get(&node)) {
            Some(entry) if is_silence && entry.is_guest => {
                drop(cache);
                self.trust_required(peer)
            }
            _ => error,
        }
    }

    fn trust_required(&self, peer: &PeerRef) -> NodeError {
        let this = Addr::global(self.node()).to_string();
        NodeError::TrustRequired { peer: peer.to_string(), this }
    }

    fn keyless(&self, peer: &PeerRef) -> NodeError {
        NodeError::Rendezvous {
            rendezvous: self.registry.addr().to_owned(),
            reason: format!("it has no key for {peer}, so nothing can be encrypted to it"),
        }
    }

    async fn call(&self, request: Request, peer: &PeerRef) -> Result<Response, NodeError> {
        self.registry.call(request).await.map_err(|error| self.explain(error, peer))
    }

    pub(super) fn explain(&self, error: RegistryError, peer: &PeerRef) -> NodeError {
        let rendezvous = self.registry.addr().to_owned();
        let trust_required = || self.trust_required(peer);
        let peer = peer.to_string();
        match error {
            RegistryError::Refused { code: ErrorCode::Private, .. } => trust_required(),
            // A Go registry has no codes.
            RegistryError::Refused { code: ErrorCode::Other, text, .. }
                if text.contains("private") =>
            {
                trust_required()
            }
            RegistryError::Refused { code: ErrorCode::Offline, text, .. } => {
                NodeError::PeerUnreachable { peer, reason: text }
            }
            // A Go registry does not say why.
            RegistryError::Refused { code: ErrorCode::NotFound | ErrorCode::Other, .. } => {
                NodeError::PeerNotFound { peer, rendezvous }
            }
            other => NodeError::Rendezvous { rendezvous, reason: other.to_string() },
        }
    }

    fn nonsense(&self, response: &Response) -> NodeError {
        NodeError::Rendezvous {
            rendezvous: self.registry.addr().to_owned(),
            reason: format!("it answered with {}", response.kind()),
        }
    }

    fn save(&self, pins: &KnownPeers) {
        let Some(path) = &self.pins_path else { return };
        if let Err(error) = pins.save(path) {
            // The pins hold for this process; only the next one would not know them.
            warn!(%error, "pins could not be saved");
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pins(&self) -> std::sync::MutexGuard<'_, KnownPeers> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses among what a registry says.
fn addresses(texts: &[String]) -> Vec<SocketAddr> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
