//! What a node says of itself: hostname, visibility, tags, capabilities.

use super::{Directory, HOSTNAME_GRACE_SECS, Refusal, refuse};
use crate::wire::NodeId;
use crate::wire::registry::{ErrorCode, Response};

const MAX_TAGS: usize = 10;
const MAX_TAG_CHARS: usize = 32;
const MAX_CAPABILITIES: usize = 16;
const MAX_CAPABILITY_BYTES: usize = 64;
const RESERVED_HOSTNAMES: [&str; 3] = ["localhost", "backbone", "broadcast"];

impl Directory {
    pub(super) fn set_hostname(
        &mut self,
        now: u64,
        id: NodeId,
        hostname: &str,
    ) -> Result<Response, Refusal> {
        let response = Response::SetHostnameOk { node_id: id, hostname: hostname.into() };
        if self.signer_mut(id)?.record.hostname == hostname {
            return Ok(response);
        }
        if !hostname.is_empty() {
            check_hostname(hostname)?;
            self.check_hostname_free(now, hostname)?;
            if let Some(holder) = self.by_hostname.get(hostname).copied() {
                self.release_hostname(holder);
                self.keep(holder);
                self.reindex(holder);
            }
        }
        self.release_hostname(id);
        if !hostname.is_empty() {
            self.by_hostname.insert(hostname.into(), id);
        }
        self.signer_mut(id)?.record.hostname = hostname.into();
        self.keep(id);
        self.reindex(id);
        Ok(response)
    }

    /// Whether nobody has the hostname, or one who has been away for long enough.
    fn check_hostname_free(&self, now: u64, hostname: &str) -> Result<(), Refusal> {
        let Some(holder) = self.by_hostname.get(hostname).and_then(|id| self.nodes.get(id)) else {
            return Ok(());
        };
        let taken = format!("hostname \"{hostname}\" is already taken by {}", holder.addr());
        let Some(since) = holder.offline_since(now) else {
            return refuse(ErrorCode::HostnameTaken, taken);
        };
        let free_at = since.saturating_add(HOSTNAME_GRACE_SECS);
        if now <= free_at {
            let wait = free_at - now + 1;
            let text = format!("{taken}, which is offline and may return; free in {wait} s");
            return refuse(ErrorCode::HostnameTaken, text);
        }
        Ok(())
    }

    pub(super) fn release_hostname(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            let hostname = std::mem::take(&mut node.record.hostname);
            if self.by_hostname.get(&hostname) == Some(&id) {
                self.by_hostname.remove(&hostname);
            }
        }
    }

    pub(super) fn set_visibility(&mut self, id: NodeId, public: bool) -> Result<Response, Refusal> {
        let node = self.signer_mut(id)?;
        if node.record.public != public {
            node.record.public = public;
            self.keep(id);
            self.reindex(id);
        }
        let visibility = if public { "public" } else { "private" };
        Ok(Response::SetVisibilityOk { node_id: id, visibility: visibility.into() })
    }

    pub(super) fn set_tags(&mut self, id: NodeId, tags: &[String]) -> Result<Response, Refusal> {
        if tags.len() > MAX_TAGS {
            return refuse(ErrorCode::Invalid, format!("too many tags: the limit is {MAX_TAGS}"));
        }
        let tags: Vec<String> =
            tags.iter().map(|tag| tag.strip_prefix('#').unwrap_or(tag).to_owned()).collect();
        if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
            let text = format!(
                "invalid tag {tag:?}: want 1 to {MAX_TAG_CHARS} lower-case letters, digits, hyphens"
            );
            return refuse(ErrorCode::Invalid, text);
        }
        let node = self.signer_mut(id)?;
        if node.record.tags != tags {
            node.record.tags.clone_from(&tags);
            self.keep(id);
            self.reindex(id);
        }
        Ok(Response::SetTagsOk { node_id: id, tags })
    }

    pub(super) fn set_task_exec(&mut self, id: NodeId, enabled: bool) -> Result<Response, Refusal> {
        let node = self.signer_mut(id)?;
        if node.record.task_exec != enabled {
            node.record.task_exec = enabled;
            self.keep(id);
        }
        Ok(Response::SetTaskExecOk { node_id: id, enabled })
    }

    pub(super) fn set_capabilities(
        &mut self,
        id: NodeId,
        capabilities: Vec<String>,
    ) -> Result<Response, Refusal> {
        if capabilities.len() > MAX_CAPABILITIES {
            let text = format!("too many capabilities: the limit is {MAX_CAPABILITIES}");
            return refuse(ErrorCode::Invalid, text);
        }
        let is_valid = |text: &String| {
            (1..=MAX_CAPABILITY_BYTES).contains(&text.len()) && !text.contains(char::is_control)
        };
        if let Some(text) = capabilities.iter().find(|text| !is_valid(text)) {
            let text = format!(
                "invalid capability {text:?}: want 1 to {MAX_CAPABILITY_BYTES} bytes, no control \
                 characters"
            );
            return refuse(ErrorCode::Invalid, text);
        }
        let node = self.signer_mut(id)?;
        if node.record.capabilities != capabilities {
            node.record.capabilities.clone_from(&capabilities);
            self.keep(id);
            self.reindex(id);
        }
        Ok(Response::SetCapabilitiesOk { node_id: id, capabilities })
    }

    /// Makes the search index agree with the node: only public ones are in it.
    pub(super) fn reindex(&mut self, id: NodeId) {
        self.index.remove(id);
        if let Some(node) = self.nodes.get(&id)
            && node.record.public
        {
            self.index.insert(&node.record);
        }
    }
}

/// `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`, and not a reserved one.
fn check_hostname(hostname: &str) -> Result<(), Refusal> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_valid = (1..=63).contains(&hostname.len())
        && hostname.chars().all(is_inner)
        && !hostname.starts_with('-')
        && !hostname.ends_with('-');
    if !is_valid {
        let text = format!(
            "invalid hostname {hostname:?}: want 1 to 63 lower-case letters, digits and inner hyphens"
        );
        return refuse(ErrorCode::Invalid, text);
    }
    if RESERVED_HOSTNAMES.contains(&hostname) {
        return refuse(ErrorCode::Invalid, format!("invalid hostname {hostname:?}: reserved"));
    }
    Ok(())
}

fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG_CHARS).contains(&tag.len())
        && tag.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}
