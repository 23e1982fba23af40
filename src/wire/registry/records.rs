//! The records that responses carry: nodes, beacons, networks, handshakes.

use serde::{Deserialize, Serialize};

use super::PublicKey;
use super::values::{is_false, node_id, non_empty, or_default};
use crate::wire::NodeId;

/// What a registry knows of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct NodeInfo {
    #[serde(default, with = "node_id")]
    pub node_id: NodeId,
    #[serde(default)]
    pub address: String,
    #[serde(default, deserialize_with = "or_default")]
    pub networks: Vec<u16>,
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    #[serde(default)]
    pub public: bool,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What the node says it can do (extension).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub task_exec: bool,
    /// The endpoint, `ip:port`; empty for a private node.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub real_addr: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub relay_only: bool,
    /// A score of the February 2026 registry, meaningless today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polo_score: Option<i64>,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct Resolved {
    #[serde(default, with = "node_id")]
    pub node_id: NodeId,
    /// `ip:port`.
    #[serde(default)]
    pub real_addr: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub lan_addrs: Vec<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub relay_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_age_days: Option<i64>,
    /// Extension: saves the `lookup`.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// Extension: saves the `lookup`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Extension: saves the `lookup`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
}

/// Who has a hostname. The last fields are an extension, and saves `resolve` and `lookup`; they
/// are there for a public node, or if the requester is trusted by it and signed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct Found {
    #[serde(default, with = "node_id")]
    pub node_id: NodeId,
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub public: bool,
    #[serde(default)]
    pub hostname: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub real_addr: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub lan_addrs: Vec<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub relay_only: bool,
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// A node that matches a [`super::Request::Find`] (extension).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named like the fields of a lookup")]
pub struct AgentInfo {
    #[serde(default, with = "node_id")]
    pub node_id: NodeId,
    #[serde(default)]
    pub address: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(default, deserialize_with = "or_default")]
    pub capabilities: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// How well it matches; only comparable within one reply.
    #[serde(default)]
    pub score: f64,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub real_addr: String,
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
}

/// A trust request that was left for a node. The registry has verified who left it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct HandshakeRequest {
    #[serde(default, with = "node_id")]
    pub from_node_id: NodeId,
    #[serde(default)]
    pub justification: String,
    /// Unix seconds.
    #[serde(default)]
    pub timestamp: u64,
}

/// An answer to a trust request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct HandshakeReply {
    #[serde(default, with = "node_id")]
    pub from_node_id: NodeId,
    #[serde(default)]
    pub accept: bool,
    /// Unix seconds.
    #[serde(default)]
    pub timestamp: u64,
}

/// A beacon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct BeaconInfo {
    #[serde(default, with = "node_id")]
    pub id: NodeId,
    #[serde(default)]
    pub addr: String,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct NetworkInfo {
    #[serde(default)]
    pub id: u16,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub members: u64,
    #[serde(default)]
    pub join_rule: String,
}

/// A member of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the protocol's, and named by it")]
pub struct NodeSummary {
    #[serde(default, with = "node_id")]
    pub node_id: NodeId,
    #[serde(default)]
    pub address: String,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub task_exec: bool,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub real_addr: String,
}
