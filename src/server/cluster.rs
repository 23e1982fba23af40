//! The other rendezvous of a cluster: where they are, and whom they know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tracing::{debug, warn};

use super::state::State;
use crate::net::registry_client::{RegistryClient, RegistryTimeouts};
use crate::proto::beacon::{Foreign, Stranger};
use crate::wire::NodeId;
use crate::wire::registry::{BeaconInfo, Request, Response};

/// Host names are looked up this often.
const LOOKUP: Duration = Duration::from_secs(30);
/// Strangers are asked about by this many at once, and for no longer than this.
const ASKING: usize = 16;
const PATIENCE: Duration = Duration::from_secs(3);

/// What `beacon_list` answers: all beacons of the cluster, or none if nobody can tell by which
/// address nodes know this one.
pub(super) fn beacons(own: Option<SocketAddr>, peers: &[String]) -> Vec<BeaconInfo> {
    let Some(own) = own.filter(|own| !own.ip().is_unspecified() && !peers.is_empty()) else {
        return Vec::new();
    };
    let mut addrs: Vec<String> = peers.to_vec();
    addrs.push(own.to_string());
    // Every beacon gives each one the same number.
    addrs.sort();
    addrs.dedup();
    (1..).zip(addrs).map(|(id, addr)| BeaconInfo { id: NodeId(id), addr }).collect()
}

/// Tells the beacon where the others are, also when their names get other addresses.
pub(super) async fn keep_peers(
    state: Arc<State>,
    peers: Vec<String>,
    mut closing: watch::Receiver<()>,
) {
    let mut ticks = interval(LOOKUP);
    let mut known: Vec<SocketAddr> = Vec::new();
    loop {
        tokio::select! {
            _ = closing.changed() => return,
            _ = ticks.tick() => {}
        }
        let mut found = Vec::new();
        for peer in &peers {
            match timeout(PATIENCE, lookup_host(peer)).await {
                Ok(Ok(addrs)) => found.extend(addrs),
                Ok(Err(error)) => warn!(%peer, %error, "cannot find another beacon"),
                Err(_) => warn!(%peer, "cannot find another beacon in time"),
            }
        }
        // What cannot be looked up just now is still where it was.
        if found.len() >= known.len() && found != known {
            known.clone_from(&found);
            state.beacon().set_peers(found);
            state.beacon_timeout();
        }
    }
}

/// Asks the other registries about nodes that nobody here knows.
pub(super) async fn introduce_strangers(
    state: Arc<State>,
    peers: Vec<String>,
    mut closing: watch::Receiver<()>,
) {
    let registries: Arc<[RegistryClient]> = peers
        .into_iter()
        .map(|peer| RegistryClient::new(peer, RegistryTimeouts::default()))
        .collect();
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            _ = closing.changed() => return,
            () = state.strangers.notified(), if asking.len() < ASKING => {}
            Some(_) = asking.join_next() => {}
        }
        while asking.len() < ASKING {
            let Some(stranger) = state.beacon().poll_stranger() else { break };
            let (state, registries) = (state.clone(), registries.clone());
            asking.spawn(async move {
                let foreign = ask(&registries, &stranger).await;
                state.introduce(&stranger, foreign);
            });
        }
    }
}

async fn ask(registries: &[RegistryClient], stranger: &Stranger) -> Option<Foreign> {
    for registry in registries {
        let call = registry.call(Request::Lookup { node_id: stranger.node });
        match timeout(PATIENCE, call).await {
            Ok(Ok(Response::LookupOk(info))) if info.node_id == stranger.node => {
                let public_key = info.public_key?.0;
                let endpoint = info.real_addr.parse().ok().filter(|_| info.public);
                return Some(Foreign { public_key, endpoint });
            }
            Ok(Err(error)) => debug!(node = %stranger.node, %error, "not known there"),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_beacons_of_a_cluster_tell_the_same_list() {
        let list = |own: &str, peers: &[&str]| {
            let peers: Vec<String> = peers.iter().map(|&peer| peer.to_owned()).collect();
            beacons(Some(own.parse().unwrap()), &peers)
        };
        let a = list("192.0.2.1:1", &["192.0.2.2:1", "192.0.2.3:1"]);
        assert_eq!(a, list("192.0.2.3:1", &["192.0.2.1:1", "192.0.2.2:1"]));
        assert_eq!(a.len(), 3);
        assert!(list("0.0.0.0:1", &["192.0.2.2:1"]).is_empty());
        assert!(list("192.0.2.1:1", &[]).is_empty());
        assert!(beacons(None, &["192.0.2.2:1".to_owned()]).is_empty());
    }
}
