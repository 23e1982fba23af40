//! What a node asks a registry.

use serde::{Deserialize, Serialize};

use super::values::{is_false, node_id, non_empty, or_default};
use super::{PublicKey, Signature};
use crate::wire::{NodeId, WireError};

/// A request. The string that `signature` covers is in [`Request::signed_text`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants' fields are the protocol's, and named by it")]
pub enum Request {
    /// "I am this key, and I listen there."
    Register(Register),
    /// "I am still here"; every 60 s.
    Heartbeat {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// What the registry knows of a node; unsigned.
    Lookup {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
    },
    /// The endpoint of `node_id`, if `requester_id` may have it.
    Resolve {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, with = "node_id")]
        requester_id: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Who has a hostname. Release 1.18.0 sends neither requester nor signature; with both (an
    /// extension) the reply carries the endpoint of a private node that trusts the requester.
    ResolveHostname {
        #[serde(default)]
        hostname: String,
        #[serde(default, with = "node_id", skip_serializing_if = "is_nobody")]
        requester_id: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Claims a hostname; an empty one gives it up.
    SetHostname {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default)]
        hostname: String,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Whether strangers may learn the endpoint.
    SetVisibility {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default)]
        public: bool,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Replaces the node's tags.
    SetTags {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, deserialize_with = "or_default")]
        tags: Vec<String>,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Whether the node executes tasks (February 2026 daemons).
    SetTaskExec {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default)]
        enabled: bool,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Replaces what the node says it can do (extension).
    SetCapabilities {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, deserialize_with = "or_default")]
        capabilities: Vec<String>,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Public nodes that match a text, best first (extension); unsigned.
    Find {
        #[serde(default)]
        query: String,
        #[serde(default = "default_limit")]
        limit: u32,
    },
    /// "I am leaving." The id stays reserved for the key.
    Deregister {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// The endpoints of two nodes, one of which asks.
    Punch {
        #[serde(default, with = "node_id")]
        requester_id: NodeId,
        #[serde(default, with = "node_id")]
        node_a: NodeId,
        #[serde(default, with = "node_id")]
        node_b: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// "I trust that node."
    ReportTrust {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, with = "node_id")]
        peer_id: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// "We no longer trust each other."
    RevokeTrust {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, with = "node_id")]
        peer_id: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Whether two nodes trust each other; unsigned.
    CheckTrust {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, with = "node_id")]
        peer_id: NodeId,
    },
    /// Leaves a trust request for a node that cannot be dialled.
    RequestHandshake {
        #[serde(default, with = "node_id")]
        from_node_id: NodeId,
        #[serde(default, with = "node_id")]
        to_node_id: NodeId,
        #[serde(default)]
        justification: String,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Takes what was left for the node; reading empties it.
    PollHandshakes {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Answers a request that was polled.
    RespondHandshake {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, with = "node_id")]
        peer_id: NodeId,
        #[serde(default)]
        accept: bool,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Moves the node's id to another key; signed by the old one.
    RotateKey {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        new_public_key: PublicKey,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// A beacon announces itself; lives 60 s.
    BeaconRegister {
        #[serde(default, with = "node_id")]
        beacon_id: NodeId,
        #[serde(default)]
        addr: String,
    },
    /// Which beacons there are.
    BeaconList {},
    /// Which networks there are.
    ListNetworks {},
    /// The members of a network.
    ListNodes {
        #[serde(default)]
        network_id: u16,
    },
    /// The rules of a network; an error is tolerated by those who ask.
    GetNetworkPolicy {
        #[serde(default)]
        network_id: u16,
    },
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The fields of [`Request::Register`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// `ip:port`; the registry keeps the port and takes the IP from the connection.
    #[serde(default)]
    pub listen_addr: String,
    /// The identity. Without it old registries invent one; ours refuses.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// By the key being registered.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// An e-mail address, by convention; kept by nobody here.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// A hostname to claim at once.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// `ip:port` in the node's own network.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub lan_addrs: Vec<String>,
    /// `1.18.0`, or `pilot-agent/<semver>` for a node of ours.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The node has no UDP endpoint: only a beacon reaches it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub relay_only: bool,
}

impl Register {
    /// An unsigned registration of `public_key`, listening at `listen_addr`, without the rest.
    #[must_use]
    pub fn new(public_key: PublicKey, listen_addr: impl Into<String>) -> Self {
        Self {
            listen_addr: listen_addr.into(),
            public_key: Some(public_key),
            signature: None,
            owner: String::new(),
            hostname: String::new(),
            lan_addrs: Vec::new(),
            version: String::new(),
            relay_only: false,
        }
    }
}

impl Request {
    /// Decodes the body of a JSON frame. A well-formed request of an unknown type is
    /// [`Request::Unknown`].
    ///
    /// # Errors
    /// Not a JSON object with a `type`, or a field of the wrong kind; the text says which.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The `type` on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Lookup { .. } => "lookup",
            Self::Resolve { .. } => "resolve",
            Self::ResolveHostname { .. } => "resolve_hostname",
            Self::SetHostname { .. } => "set_hostname",
            Self::SetVisibility { .. } => "set_visibility",
            Self::SetTags { .. } => "set_tags",
            Self::SetTaskExec { .. } => "set_task_exec",
            Self::SetCapabilities { .. } => "set_capabilities",
            Self::Find { .. } => "find",
            Self::Deregister { .. } => "deregister",
            Self::Punch { .. } => "punch",
            Self::ReportTrust { .. } => "report_trust",
            Self::RevokeTrust { .. } => "revoke_trust",
            Self::CheckTrust { .. } => "check_trust",
            Self::RequestHandshake { .. } => "request_handshake",
            Self::PollHandshakes { .. } => "poll_handshakes",
            Self::RespondHandshake { .. } => "respond_handshake",
            Self::RotateKey { .. } => "rotate_key",
            Self::BeaconRegister { .. } => "beacon_register",
            Self::BeaconList { .. } => "beacon_list",
            Self::ListNetworks { .. } => "list_networks",
            Self::ListNodes { .. } => "list_nodes",
            Self::GetNetworkPolicy { .. } => "get_network_policy",
            Self::Unknown => "unknown",
        }
    }

    /// Appends the request as a frame.
    ///
    /// # Errors
    /// It exceeds the frame limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        super::framing::encode_json(self, out)
    }
}

fn is_nobody(id: &NodeId) -> bool {
    id.0 == 0
}

fn default_limit() -> u32 {
    10
}
