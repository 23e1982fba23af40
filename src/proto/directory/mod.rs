//! The registry as a state machine: who is which node, where it is, and who may know.
//!
//! [`Directory::handle`] takes a request and gives its response, and the [`Effect`]s that a store
//! must keep for [`Directory::apply`] to rebuild the same state after a restart. Time comes in as
//! unix seconds. Every table is bounded.
//!
//! # Rules
//! * A node is its key. Its id is derived from the key ([`crate::crypto::node_id`]), so it is the
//!   same after the database was lost. Each change of a node is signed by its key, the
//!   registration too: a February 2026 daemon, which signs none, is refused.
//! * A node's endpoint is the address that its connection came from, with the port it claims.
//!   Only a public node's endpoint is told to strangers; a private node's to those whom it
//!   trusts by its own word. Ids, keys and hostnames are no secrets.
//! * A node that was silent for three minutes is offline: still known, but neither found nor
//!   resolved. A minute later others may take its hostname.
//!
//! Texts of errors matter: release 1.18.0 registers anew if it reads `node not found` or
//! `signature verification failed`, so these words are used when that would help, and only then.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use crate::crypto;
use crate::wire::registry::{BeaconInfo, ErrorCode, NetworkInfo, Request, Response};
use crate::wire::{Addr, NodeId};

mod handshake;
mod limits;
mod lookup;
mod profile;
mod record;
mod registration;
mod search;
#[cfg(test)]
mod tests;
mod trust;

pub use handshake::Inbox;
pub use record::NodeRecord;

use limits::Limits;
use record::Node;
use search::Index;
use trust::TrustTable;

/// Seconds without a heartbeat after which a node is offline; daemons send one every 60 s.
pub const OFFLINE_AFTER_SECS: u64 = 180;
/// Seconds that an offline node keeps its hostname from others.
pub const HOSTNAME_GRACE_SECS: u64 = 60;
/// Seconds that an offline node is remembered.
const FORGET_AFTER_SECS: u64 = 90 * 24 * 3600;

/// What a [`Directory`] allows.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectoryConfig {
    /// Nodes known at once, online or not. Default 100,000; each takes at most about 4 KiB,
    /// and its inbox at most another 128 KiB. When full, the node longest offline is forgotten.
    pub max_nodes: usize,
    /// Requests a second of one node, and of all strangers at one address (an IPv6 /64 counts as
    /// one), after a burst of five times as many; all nodes at one address have twenty times as
    /// many. Loopback is not limited. Default 200.
    pub requests_per_sec: u32,
    /// New keys a minute from one address, once it has used up `new_nodes_burst`; loopback is not
    /// limited. Default 60.
    pub new_nodes_per_min: u32,
    /// New keys at once from one address. Default 4096: when a registry has lost its database,
    /// the fleet behind a NAT is new, all of it.
    pub new_nodes_burst: u32,
    /// What `beacon_list` answers. Default: none, and nodes stay with the beacon that they were
    /// configured with.
    pub beacons: Vec<BeaconInfo>,
    /// `sha256:<hex>` of the certificate of this rendezvous, told to every node that registers.
    /// Default: empty, and nothing is told.
    pub fingerprint: String,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self {
            max_nodes: 100_000,
            requests_per_sec: 200,
            new_nodes_per_min: 60,
            new_nodes_burst: 4096,
            beacons: Vec::new(),
            fingerprint: String::new(),
        }
    }
}

/// What [`Directory::handle`] wants done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Keep this node, in place of what was kept of it.
    PutNode(Box<NodeRecord>),
    /// Forget the node.
    RemoveNode(NodeId),
    /// Keep: `node` trusts `peer`.
    PutTrust {
        /// By its word.
        node: NodeId,
        /// Whom.
        peer: NodeId,
    },
    /// `node` trusts `peer` no longer.
    RemoveTrust {
        /// Who trusted.
        node: NodeId,
        /// Whom.
        peer: NodeId,
    },
    /// Keep what waits for the node, in place of what was kept; an empty inbox need not be kept.
    PutInbox {
        /// Whose.
        node: NodeId,
        /// All of it.
        inbox: Inbox,
    },
    /// Tell the node, through the beacon, that something waits for it; nothing to keep.
    Notify(NodeId),
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// For the client.
    pub response: Response,
    /// For the store, in this order.
    pub effects: Vec<Effect>,
    /// The response promises something (an identity, trust): send it when the effects are safe.
    pub is_durable: bool,
}

/// Why a request is refused.
#[derive(Debug)]
struct Refusal {
    code: ErrorCode,
    text: String,
}

fn refuse<T>(code: ErrorCode, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, text: text.into() })
}

/// The state of a registry.
#[derive(Debug)]
pub struct Directory {
    config: DirectoryConfig,
    nodes: BTreeMap<NodeId, Node>,
    by_key: HashMap<[u8; 32], NodeId>,
    by_hostname: HashMap<String, NodeId>,
    trust: TrustTable,
    inboxes: HashMap<NodeId, Inbox>,
    index: Index,
    limits: Limits,
    /// Of the request being handled.
    effects: Vec<Effect>,
    is_durable: bool,
}

impl Directory {
    /// An empty registry.
    #[must_use]
    pub fn new(config: DirectoryConfig) -> Self {
        Self {
            limits: Limits::new(&config),
            config,
            nodes: BTreeMap::new(),
            by_key: HashMap::new(),
            by_hostname: HashMap::new(),
            trust: TrustTable::default(),
            inboxes: HashMap::new(),
            index: Index::default(),
            effects: Vec::new(),
            is_durable: false,
        }
    }

    /// Repeats an effect that was stored; for a start, in any order. A node that was online when
    /// the store was written has [`OFFLINE_AFTER_SECS`] from `now` to show up.
    pub fn apply(&mut self, now: u64, effect: Effect) {
        match effect {
            Effect::PutNode(record) => self.restore(now, *record),
            Effect::RemoveNode(node) => self.forget(node),
            Effect::PutTrust { node, peer } => {
                let _ = self.trust.insert(node, peer);
            }
            Effect::RemoveTrust { node, peer } => {
                self.trust.remove(node, peer);
            }
            Effect::PutInbox { node, inbox } => {
                self.inboxes.insert(node, inbox);
            }
            Effect::Notify(_) => {}
        }
        self.effects.clear();
    }

    /// Answers a request that came from `from`.
    pub fn handle(&mut self, now: u64, from: SocketAddr, request: Request) -> Outcome {
        self.is_durable = false;
        let response = match self.dispatch(now, from, request) {
            Ok(response) => response,
            Err(Refusal { code, text }) => Response::error(code, text),
        };
        let effects = std::mem::take(&mut self.effects);
        Outcome { response, is_durable: self.is_durable && !effects.is_empty(), effects }
    }

    fn dispatch(
        &mut self,
        now: u64,
        from: SocketAddr,
        request: Request,
    ) -> Result<Response, Refusal> {
        self.limits.admit(now, from.ip(), &request)?;
        if let Some(key) = self.authenticate(&request)? {
            let node = self.by_key.get(&key).and_then(|id| self.nodes.get_mut(id));
            let allowance = node.map(|node| &mut node.allowance);
            self.limits.settle(now, from.ip(), &request, allowance)?;
        }
        match request {
            Request::Register(register) => self.register(now, from, &register),
            Request::Heartbeat { node_id, .. } => self.heartbeat(now, node_id),
            Request::Deregister { node_id, .. } => Ok(self.deregister(now, node_id)),
            Request::RotateKey { node_id, new_public_key, .. } => {
                self.rotate_key(now, node_id, new_public_key)
            }
            Request::Lookup { node_id } => self.lookup(from, node_id),
            Request::Resolve { node_id, requester_id, .. } => {
                self.resolve(now, from, node_id, requester_id)
            }
            Request::ResolveHostname { hostname, requester_id, signature } => {
                let requester = signature.map(|_| requester_id);
                self.resolve_hostname(now, from, &hostname, requester)
            }
            Request::Punch { requester_id, node_a, node_b, .. } => {
                self.punch(now, from, requester_id, node_a, node_b)
            }
            Request::Find { query, limit } => Ok(self.find(now, from, &query, limit)),
            Request::SetHostname { node_id, hostname, .. } => {
                self.set_hostname(now, node_id, &hostname)
            }
            Request::SetVisibility { node_id, public, .. } => self.set_visibility(node_id, public),
            Request::SetTags { node_id, tags, .. } => self.set_tags(node_id, &tags),
            Request::SetTaskExec { node_id, enabled, .. } => self.set_task_exec(node_id, enabled),
            Request::SetCapabilities { node_id, capabilities, .. } => {
                self.set_capabilities(node_id, capabilities)
            }
            Request::ReportTrust { node_id, peer_id, .. } => self.report_trust(node_id, peer_id),
            Request::RevokeTrust { node_id, peer_id, .. } => {
                Ok(self.revoke_trust(node_id, peer_id))
            }
            Request::CheckTrust { node_id, peer_id } => {
                Ok(Response::CheckTrustOk { trusted: self.trust.is_mutual(node_id, peer_id) })
            }
            Request::RequestHandshake { from_node_id, to_node_id, justification, .. } => {
                self.request_handshake(now, from_node_id, to_node_id, justification)
            }
            Request::PollHandshakes { node_id, .. } => Ok(self.poll_handshakes(node_id)),
            Request::RespondHandshake { node_id, peer_id, accept, .. } => {
                self.respond_handshake(now, node_id, peer_id, accept)
            }
            Request::BeaconList {} => {
                Ok(Response::BeaconListOk { beacons: self.config.beacons.clone() })
            }
            Request::ListNetworks {} => Ok(self.list_networks()),
            Request::ListNodes { network_id: 0 } => {
                refuse(ErrorCode::Unsupported, "cannot list the members of the backbone; use find")
            }
            Request::ListNodes { network_id } | Request::GetNetworkPolicy { network_id } => {
                refuse(ErrorCode::NotFound, format!("network {network_id}: no policy or members"))
            }
            // Whoever could add a beacon could put itself between all nodes that relay.
            Request::BeaconRegister { .. } => {
                refuse(ErrorCode::Unsupported, "cannot add a beacon; this registry has its own")
            }
            Request::Unknown => refuse(ErrorCode::Unsupported, "invalid request: unknown type"),
        }
    }

    /// Checks that the node which the request speaks for has signed it, and says by which key.
    fn authenticate(&self, request: &Request) -> Result<Option<[u8; 32]>, Refusal> {
        if let Request::Register(register) = request {
            return match register.public_key {
                Some(key) => verify_signature(&key.0, request).map(|()| Some(key.0)),
                None => refuse(ErrorCode::Invalid, "invalid register: public_key is required"),
            };
        }
        let Some(signer) = request.signer() else { return Ok(None) };
        match request {
            // Anybody may ask for a hostname; signing only earns more of an answer.
            Request::ResolveHostname { signature: None, .. } => return Ok(None),
            // Leaving twice is not an error.
            Request::Deregister { .. } if self.registered(signer).is_none() => return Ok(None),
            _ => {}
        }
        let Some(node) = self.registered(signer) else {
            let text = format!("node not found: {} is not registered here", Addr::global(signer));
            return refuse(ErrorCode::NotRegistered, text);
        };
        let key = node.record.public_key.0;
        verify_signature(&key, request).map(|()| Some(key))
    }

    /// The node, unless it left.
    fn registered(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).filter(|node| !node.record.has_left)
    }

    /// The key of a node, unless it left.
    #[must_use]
    pub fn public_key(&self, id: NodeId) -> Option<[u8; 32]> {
        self.registered(id).map(|node| node.record.public_key.0)
    }

    /// The node that an authenticated request speaks for.
    fn signer_mut(&mut self, id: NodeId) -> Result<&mut Node, Refusal> {
        match self.nodes.get_mut(&id) {
            Some(node) => Ok(node),
            None => refuse(ErrorCode::NotRegistered, "node not found"),
        }
    }

    /// How many nodes are online.
    #[must_use]
    pub fn online_nodes(&self, now: u64) -> usize {
        self.nodes.values().filter(|node| node.offline_since(now).is_none()).count()
    }

    /// Queues the node's record for the store.
    fn keep(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get(&id) {
            self.effects.push(Effect::PutNode(Box::new(node.record.clone())));
        }
    }

    fn list_networks(&self) -> Response {
        let members = self.nodes.values().filter(|node| node.record.offline_since.is_none());
        Response::ListNetworksOk {
            networks: vec![NetworkInfo {
                id: 0,
                name: "backbone".into(),
                members: members.count() as u64,
                join_rule: "open".into(),
            }],
        }
    }
}

fn verify_signature(public_key: &[u8; 32], request: &Request) -> Result<(), Refusal> {
    let Some(signature) = request.signature() else {
        let text = format!("signature required: `{}` must be signed", request.kind());
        return refuse(ErrorCode::Signature, text);
    };
    let Some(text) = request.signed_text() else {
        return refuse(ErrorCode::Invalid, "invalid request: nothing to sign");
    };
    if !crypto::verify(public_key, text.as_bytes(), &signature.0) {
        return refuse(ErrorCode::Signature, "signature verification failed");
    }
    Ok(())
}
