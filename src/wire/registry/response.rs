//! What a registry answers.

use serde::{Deserialize, Serialize};

use super::values::{is_false, node_id, non_empty, or_default};
use super::{
    AgentInfo, BeaconInfo, Found, HandshakeReply, HandshakeRequest, NetworkInfo, NodeInfo,
    NodeSummary, PublicKey, Resolved,
};
use crate::wire::{NodeId, WireError};

/// A response: `<type of the request>_ok`, or an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants' fields are the protocol's, and named by it")]
pub enum Response {
    /// The identity that was granted.
    RegisterOk {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default)]
        network_id: u16,
        #[serde(default)]
        address: String,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        public_key: Option<PublicKey>,
        /// The hostname the node has now.
        #[serde(
            default,
            deserialize_with = "or_default",
            skip_serializing_if = "String::is_empty"
        )]
        hostname: String,
        /// The endpoint that was stored, where it is not the one that was claimed.
        #[serde(
            default,
            deserialize_with = "or_default",
            skip_serializing_if = "String::is_empty"
        )]
        observed_addr: String,
        /// Why the hostname that was asked for was not granted; the registration stands.
        #[serde(
            default,
            deserialize_with = "or_default",
            skip_serializing_if = "String::is_empty"
        )]
        hostname_error: String,
        /// `sha256:<hex>` of the certificate that the rendezvous shows to who speaks TLS.
        #[serde(
            default,
            deserialize_with = "or_default",
            skip_serializing_if = "String::is_empty"
        )]
        tls_fingerprint: String,
    },
    HeartbeatOk {
        /// The registry's clock, unix seconds.
        #[serde(default)]
        time: u64,
        #[serde(default, skip_serializing_if = "is_false")]
        key_expiry_warning: bool,
    },
    LookupOk(NodeInfo),
    ResolveOk(Resolved),
    ResolveHostnameOk(Found),
    SetHostnameOk {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default)]
        hostname: String,
    },
    SetVisibilityOk {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        /// `public` or `private`.
        #[serde(default)]
        visibility: String,
    },
    SetTagsOk {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, deserialize_with = "or_default")]
        tags: Vec<String>,
    },
    SetTaskExecOk {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default)]
        enabled: bool,
    },
    SetCapabilitiesOk {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default, deserialize_with = "or_default")]
        capabilities: Vec<String>,
    },
    FindOk {
        #[serde(default, deserialize_with = "or_default")]
        agents: Vec<AgentInfo>,
    },
    DeregisterOk {},
    PunchOk {
        #[serde(default, with = "node_id")]
        node_a: NodeId,
        #[serde(default)]
        node_a_addr: String,
        #[serde(default, with = "node_id")]
        node_b: NodeId,
        #[serde(default)]
        node_b_addr: String,
    },
    ReportTrustOk {},
    RevokeTrustOk {},
    CheckTrustOk {
        #[serde(default)]
        trusted: bool,
    },
    RequestHandshakeOk {
        /// `delivered`.
        #[serde(default)]
        status: String,
    },
    PollHandshakesOk {
        #[serde(default, deserialize_with = "or_default")]
        requests: Vec<HandshakeRequest>,
        #[serde(default, deserialize_with = "or_default")]
        responses: Vec<HandshakeReply>,
    },
    RespondHandshakeOk {
        #[serde(default)]
        accept: bool,
        #[serde(default, with = "node_id")]
        peer_id: NodeId,
    },
    RotateKeyOk {
        #[serde(default, with = "node_id")]
        node_id: NodeId,
        #[serde(default)]
        address: String,
        #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
        public_key: Option<PublicKey>,
    },
    BeaconRegisterOk {
        #[serde(default, with = "node_id")]
        beacon_id: NodeId,
    },
    BeaconListOk {
        #[serde(default, deserialize_with = "or_default")]
        beacons: Vec<BeaconInfo>,
    },
    ListNetworksOk {
        #[serde(default, deserialize_with = "or_default")]
        networks: Vec<NetworkInfo>,
    },
    ListNodesOk {
        #[serde(default, deserialize_with = "or_default")]
        nodes: Vec<NodeSummary>,
    },
    /// The request failed.
    Error {
        error: String,
        /// What kind of failure (extension); Go registries only send the text.
        #[serde(default, skip_serializing_if = "ErrorCode::is_other")]
        code: ErrorCode,
    },
}

impl Response {
    /// Decodes the body of a JSON frame. Whatever has an `error` is an error, whatever its type.
    ///
    /// # Errors
    /// Not a JSON object of a known type, or a field of the wrong kind; the text says which.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Failure {
            #[serde(default)]
            error: Option<String>,
            #[serde(default)]
            code: ErrorCode,
        }
        match serde_json::from_slice::<Failure>(body) {
            Ok(Failure { error: Some(error), code }) => Ok(Self::Error { error, code }),
            _ => serde_json::from_slice(body),
        }
    }

    /// The `type` on the wire: `<kind of the request>_ok`, or `error`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RegisterOk { .. } => "register_ok",
            Self::HeartbeatOk { .. } => "heartbeat_ok",
            Self::LookupOk(_) => "lookup_ok",
            Self::ResolveOk(_) => "resolve_ok",
            Self::ResolveHostnameOk(_) => "resolve_hostname_ok",
            Self::SetHostnameOk { .. } => "set_hostname_ok",
            Self::SetVisibilityOk { .. } => "set_visibility_ok",
            Self::SetTagsOk { .. } => "set_tags_ok",
            Self::SetTaskExecOk { .. } => "set_task_exec_ok",
            Self::SetCapabilitiesOk { .. } => "set_capabilities_ok",
            Self::FindOk { .. } => "find_ok",
            Self::DeregisterOk { .. } => "deregister_ok",
            Self::PunchOk { .. } => "punch_ok",
            Self::ReportTrustOk { .. } => "report_trust_ok",
            Self::RevokeTrustOk { .. } => "revoke_trust_ok",
            Self::CheckTrustOk { .. } => "check_trust_ok",
            Self::RequestHandshakeOk { .. } => "request_handshake_ok",
            Self::PollHandshakesOk { .. } => "poll_handshakes_ok",
            Self::RespondHandshakeOk { .. } => "respond_handshake_ok",
            Self::RotateKeyOk { .. } => "rotate_key_ok",
            Self::BeaconRegisterOk { .. } => "beacon_register_ok",
            Self::BeaconListOk { .. } => "beacon_list_ok",
            Self::ListNetworksOk { .. } => "list_networks_ok",
            Self::ListNodesOk { .. } => "list_nodes_ok",
            Self::Error { .. } => "error",
        }
    }

    /// Appends the response as a frame.
    ///
    /// # Errors
    /// It exceeds the frame limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        super::framing::encode_json(self, out)
    }

    /// A failure.
    #[must_use]
    pub fn error(code: ErrorCode, text: impl Into<String>) -> Self {
        Self::Error { error: text.into(), code }
    }
}

/// What kind of failure an error is (extension).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The signer is not registered: register (again).
    NotRegistered,
    /// The node or hostname asked about is unknown.
    NotFound,
    /// The node is known, but has not been heard of for minutes.
    Offline,
    /// The node is private and does not trust the requester.
    Private,
    /// A signature is missing or wrong.
    Signature,
    /// Somebody else has that hostname.
    HostnameTaken,
    /// A field breaks a rule; the text says which.
    Invalid,
    /// The same thing is there already.
    Already,
    /// Too much, too fast, or a table is full.
    Limited,
    /// This registry does not do that.
    Unsupported,
    /// The registry could not store the change.
    Storage,
    /// The registry did not say: a Go registry, or a newer one of ours.
    #[default]
    #[serde(other)]
    Other,
}

impl ErrorCode {
    fn is_other(&self) -> bool {
        *self == Self::Other
    }
}
