//! The strings that requests are signed over. Every one is ASCII, numbers are decimal, and there
//! is neither nonce nor time in them: the protocol wants it so.

use sha2::{Digest, Sha256};

use super::{Base64, Register, Request, Signature};
use crate::wire::NodeId;

/// Where a request keeps its signature; a macro because it serves `&` and `&mut` alike.
macro_rules! signature_slot {
    ($request:expr) => {
        match $request {
            Request::Register(Register { signature, .. })
            | Request::Heartbeat { signature, .. }
            | Request::Resolve { signature, .. }
            | Request::ResolveHostname { signature, .. }
            | Request::SetHostname { signature, .. }
            | Request::SetVisibility { signature, .. }
            | Request::SetTags { signature, .. }
            | Request::SetTaskExec { signature, .. }
            | Request::SetCapabilities { signature, .. }
            | Request::Deregister { signature, .. }
            | Request::Punch { signature, .. }
            | Request::ReportTrust { signature, .. }
            | Request::RevokeTrust { signature, .. }
            | Request::RequestHandshake { signature, .. }
            | Request::PollHandshakes { signature, .. }
            | Request::RespondHandshake { signature, .. }
            | Request::RotateKey { signature, .. } => Some(signature),
            _ => None,
        }
    };
}

impl Request {
    /// What the signature of this request covers; `None` if this kind is not signed, or if it
    /// lacks the key that the string contains.
    #[must_use]
    pub fn signed_text(&self) -> Option<String> {
        Some(match self {
            Self::Register(r) => format!("register:{}:{}", r.listen_addr, r.public_key?),
            Self::Heartbeat { node_id, .. } => format!("heartbeat:{node_id}"),
            Self::Resolve { node_id, requester_id, .. } => {
                format!("resolve:{requester_id}:{node_id}")
            }
            Self::ResolveHostname { hostname, requester_id, .. } => {
                if requester_id.0 == 0 {
                    return None;
                }
                format!("resolve_hostname:{requester_id}:{hostname}")
            }
            Self::SetHostname { node_id, .. } => format!("set_hostname:{node_id}"),
            Self::SetVisibility { node_id, .. } => format!("set_visibility:{node_id}"),
            Self::SetTags { node_id, .. } => format!("set_tags:{node_id}"),
            Self::SetTaskExec { node_id, .. } => format!("set_task_exec:{node_id}"),
            Self::SetCapabilities { node_id, capabilities, .. } => {
                format!("set_capabilities:{node_id}:{}", capabilities_digest(capabilities))
            }
            Self::Deregister { node_id, .. } => format!("deregister:{node_id}"),
            Self::Punch { node_a, node_b, .. } => format!("punch:{node_a}:{node_b}"),
            Self::ReportTrust { node_id, peer_id, .. } => {
                format!("report_trust:{node_id}:{peer_id}")
            }
            Self::RevokeTrust { node_id, peer_id, .. } => {
                format!("revoke_trust:{node_id}:{peer_id}")
            }
            Self::RequestHandshake { from_node_id, to_node_id, .. } => {
                format!("handshake:{from_node_id}:{to_node_id}")
            }
            Self::PollHandshakes { node_id, .. } => format!("poll_handshakes:{node_id}"),
            Self::RespondHandshake { node_id, peer_id, .. } => {
                format!("respond:{node_id}:{peer_id}")
            }
            Self::RotateKey { node_id, .. } => format!("rotate:{node_id}"),
            Self::Lookup { .. }
            | Self::Find { .. }
            | Self::CheckTrust { .. }
            | Self::BeaconRegister { .. }
            | Self::BeaconList {}
            | Self::ListNetworks {}
            | Self::ListNodes { .. }
            | Self::GetNetworkPolicy { .. }
            | Self::Unknown => return None,
        })
    }

    /// The node whose key must have signed; `None` for a registration, which brings its key
    /// along, and for what is not signed.
    #[must_use]
    pub fn signer(&self) -> Option<NodeId> {
        match *self {
            Self::Heartbeat { node_id, .. }
            | Self::SetHostname { node_id, .. }
            | Self::SetVisibility { node_id, .. }
            | Self::SetTags { node_id, .. }
            | Self::SetTaskExec { node_id, .. }
            | Self::SetCapabilities { node_id, .. }
            | Self::Deregister { node_id, .. }
            | Self::ReportTrust { node_id, .. }
            | Self::RevokeTrust { node_id, .. }
            | Self::PollHandshakes { node_id, .. }
            | Self::RespondHandshake { node_id, .. }
            | Self::RotateKey { node_id, .. } => Some(node_id),
            Self::Resolve { requester_id, .. }
            | Self::ResolveHostname { requester_id, .. }
            | Self::Punch { requester_id, .. } => Some(requester_id),
            Self::RequestHandshake { from_node_id, .. } => Some(from_node_id),
            _ => None,
        }
    }

    /// The signature that the request carries.
    #[must_use]
    pub fn signature(&self) -> Option<&Signature> {
        signature_slot!(self).and_then(Option::as_ref)
    }

    /// The request with its signature, which `sign` makes of [`Request::signed_text`]. A kind
    /// that is not signed is returned as it is.
    #[must_use]
    pub fn signed(mut self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Self {
        if let Some(text) = self.signed_text()
            && let Some(slot) = signature_slot!(&mut self)
        {
            *slot = Some(Base64(sign(text.as_bytes())));
        }
        self
    }
}

/// The digest in the signed text of [`Request::SetCapabilities`]: SHA-256, in hex, of the texts
/// joined by line feeds.
#[must_use]
pub fn capabilities_digest(capabilities: &[String]) -> String {
    Sha256::digest(capabilities.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect()
}
