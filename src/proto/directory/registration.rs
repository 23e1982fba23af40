//! Coming, staying, leaving, and changing keys.

use std::net::{IpAddr, SocketAddr};

use super::limits::Allowance;
use super::record::Node;
use super::{Directory, Effect, FORGET_AFTER_SECS, Inbox, NodeRecord, Refusal, refuse};
use crate::crypto::node_id;
use crate::wire::registry::{ErrorCode, PublicKey, Register, Response};
use crate::wire::{Addr, NodeId};

const MAX_LAN_ADDRS: usize = 8;
const MAX_VERSION_BYTES: usize = 64;
/// A node this long offline may make room for a new one.
const EVICTABLE_AFTER_SECS: u64 = 3600;

impl Directory {
    pub(super) fn register(
        &mut self,
        now: u64,
        from: SocketAddr,
        register: &Register,
    ) -> Result<Response, Refusal> {
        let Some(key) = register.public_key else {
            return refuse(ErrorCode::Invalid, "invalid register: public_key is required");
        };
        let (endpoint, claimed) = endpoint(from.ip(), register)?;

        let known = self.by_key.get(&key.0).copied();
        let id = match known {
            Some(id) => id,
            None => self.admit_key(now, from.ip(), &key)?,
        };
        let node = self.nodes.entry(id).or_insert_with(|| Node {
            record: NodeRecord {
                id,
                public_key: key,
                key_since: now,
                endpoint,
                claimed: None,
                lan_addrs: Vec::new(),
                relay_only: false,
                version: String::new(),
                hostname: String::new(),
                public: false,
                task_exec: false,
                tags: Vec::new(),
                capabilities: Vec::new(),
                offline_since: None,
                has_left: false,
            },
            last_seen: now,
            allowance: Allowance::default(),
        });
        let before = node.record.clone();
        node.last_seen = now;
        node.record.endpoint = endpoint;
        node.record.claimed = claimed;
        node.record.relay_only = register.relay_only;
        node.record.lan_addrs = lan_addrs(&register.lan_addrs);
        node.record.version = printable(&register.version);
        node.record.offline_since = None;
        node.record.has_left = false;
        let has_changed = known.is_none() || before != node.record;
        self.by_key.insert(key.0, id);
        if has_changed {
            self.keep(id);
            self.reindex(id);
        }
        self.is_durable |= known.is_none();

        let hostname_error = match register.hostname.as_str() {
            "" => String::new(),
            hostname => match self.set_hostname(now, id, hostname) {
                Ok(_) => String::new(),
                Err(refusal) => refusal.text,
            },
        };
        let node = self.signer_mut(id)?;
        let observed = node.endpoint_for(from.ip()).to_string();
        let hostname = node.record.hostname.clone();
        Ok(Response::RegisterOk {
            node_id: id,
            network_id: 0,
            address: Addr::global(id).to_string(),
            public_key: Some(key),
            hostname,
            observed_addr: if observed == register.listen_addr { String::new() } else { observed },
            hostname_error,
            tls_fingerprint: self.config.fingerprint.clone(),
        })
    }

    /// The id for a key that is new here.
    fn admit_key(&mut self, now: u64, from: IpAddr, key: &PublicKey) -> Result<NodeId, Refusal> {
        self.limits.admit_key(now, from)?;
        if self.nodes.len() >= self.config.max_nodes && !self.make_room(now) {
            return refuse(ErrorCode::Limited, "cannot register: too many nodes");
        }
        match node_id::candidates(&key.0).find(|id| !self.nodes.contains_key(id)) {
            Some(id) => Ok(id),
            None => refuse(ErrorCode::Limited, "cannot register: no id is left for this key"),
        }
    }

    /// Forgets the node longest offline, if there is one.
    fn make_room(&mut self, now: u64) -> bool {
        let oldest = self
            .nodes
            .values()
            .filter_map(|node| Some((node.offline_since(now)?, node.record.id)))
            .filter(|(since, _)| since.saturating_add(EVICTABLE_AFTER_SECS) < now)
            .min();
        let Some((_, id)) = oldest else { return false };
        self.forget(id);
        true
    }

    pub(super) fn heartbeat(&mut self, now: u64, id: NodeId) -> Result<Response, Refusal> {
        let node = self.signer_mut(id)?;
        node.last_seen = now;
        if node.record.offline_since.take().is_some() {
            self.keep(id);
        }
        Ok(Response::HeartbeatOk { time: now, key_expiry_warning: false })
    }

    pub(super) fn deregister(&mut self, now: u64, id: NodeId) -> Response {
        if self.registered(id).is_some() {
            self.release_hostname(id);
            if let Some(node) = self.nodes.get_mut(&id) {
                let record = &mut node.record;
                record.offline_since = Some(now);
                record.has_left = true;
                record.public = false;
                record.task_exec = false;
                record.tags.clear();
                record.capabilities.clear();
                record.lan_addrs.clear();
            }
            self.keep(id);
            self.reindex(id);
        }
        Response::DeregisterOk {}
    }

    /// Signed by the old key, as every request of the node. The id stays; that it no longer
    /// derives from the key is the price of keeping it.
    pub(super) fn rotate_key(
        &mut self,
        now: u64,
        id: NodeId,
        new_key: PublicKey,
    ) -> Result<Response, Refusal> {
        if ed25519_dalek::VerifyingKey::from_bytes(&new_key.0).map_or(true, |key| key.is_weak()) {
            return refuse(ErrorCode::Invalid, "invalid new_public_key");
        }
        match self.by_key.get(&new_key.0) {
            Some(&holder) if holder != id => {
                let text = format!("{} has that key already", Addr::global(holder));
                return refuse(ErrorCode::Already, text);
            }
            _ => {}
        }
        let node = self.signer_mut(id)?;
        let old_key = std::mem::replace(&mut node.record.public_key, new_key);
        node.record.key_since = now;
        self.by_key.remove(&old_key.0);
        self.by_key.insert(new_key.0, id);
        self.keep(id);
        self.is_durable = true;
        let address = Addr::global(id).to_string();
        Ok(Response::RotateKeyOk { node_id: id, address, public_key: Some(new_key) })
    }

    /// Marks who went offline and forgets who was away for months; call it every few seconds.
    #[must_use]
    pub fn handle_timeout(&mut self, now: u64) -> Vec<Effect> {
        let mut gone = Vec::new();
        let mut stale = Vec::new();
        for (&id, node) in &self.nodes {
            match node.offline_since(now) {
                Some(since) if since.saturating_add(FORGET_AFTER_SECS) < now => stale.push(id),
                Some(since) if node.record.offline_since.is_none() => gone.push((id, since)),
                _ => {}
            }
        }
        for (id, since) in gone {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.record.offline_since = Some(since);
            }
            self.keep(id);
        }
        for id in stale {
            self.forget(id);
        }
        std::mem::take(&mut self.effects)
    }

    pub(super) fn restore(&mut self, now: u64, record: NodeRecord) {
        let id = record.id;
        self.by_key.insert(record.public_key.0, id);
        if !record.hostname.is_empty() {
            self.by_hostname.insert(record.hostname.clone(), id);
        }
        self.nodes.insert(id, Node { record, last_seen: now, allowance: Allowance::default() });
        self.reindex(id);
    }

    pub(super) fn forget(&mut self, id: NodeId) {
        self.release_hostname(id);
        let Some(node) = self.nodes.remove(&id) else { return };
        self.by_key.remove(&node.record.public_key.0);
        self.index.remove(id);
        self.inboxes.remove(&id);
        // Trust in the id must not pass to whoever has it next.
        for (node, peer) in self.trust.remove_all(id) {
            self.effects.push(Effect::RemoveTrust { node, peer });
        }
        self.effects.push(Effect::PutInbox { node: id, inbox: Inbox::default() });
        self.effects.push(Effect::RemoveNode(id));
    }
}

/// Where the node is, and where it says it is. Of the claim only the port counts, so its host may
/// be anything, as in Go's `:4000`.
fn endpoint(
    source: IpAddr,
    register: &Register,
) -> Result<(SocketAddr, Option<SocketAddr>), Refusal> {
    let claimed = register.listen_addr.parse::<SocketAddr>().ok();
    let port = register.listen_addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(port) if port != 0 || register.relay_only => {
            Ok((SocketAddr::new(source.to_canonical(), port), claimed))
        }
        _ => refuse(
            ErrorCode::Invalid,
            "invalid listen_addr: want ip:port, with a port other than 0",
        ),
    }
}

fn lan_addrs(claimed: &[String]) -> Vec<String> {
    let valid = claimed.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
    valid.take(MAX_LAN_ADDRS).map(|addr| addr.to_string()).collect()
}

fn printable(version: &str) -> String {
    version.chars().filter(char::is_ascii_graphic).take(MAX_VERSION_BYTES).collect()
}
