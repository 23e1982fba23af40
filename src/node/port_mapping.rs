//! The port that the router forwards to this node, if it does: asked for, renewed, given back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

use super::nat_probe::Finding;
use crate::net::clock;
use crate::net::interfaces::source_toward;
use crate::net::port_map::{MappedPort, default_gateway, is_public};

/// How long closing a node may take because of it.
const DELETE_TIMEOUT: Duration = Duration::from_millis(300);
/// A router that refused, or lost the mapping, is asked again.
const AGAIN: Duration = Duration::from_secs(600);

/// What a closing node must give back.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldPort(Arc<Mutex<Option<MappedPort>>>);

impl HeldPort {
    /// Gives it back, if there is one, within a bounded time.
    pub(super) async fn release(&self) {
        if let Some(port) = self.take() {
            let _ = timeout(DELETE_TIMEOUT, port.delete()).await;
        }
    }

    fn take(&self) -> Option<MappedPort> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, port: MappedPort) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(port);
    }
}

/// Keeps a port mapped, until it is aborted; tells where others reach it. Does nothing where
/// there is no router, or no NAT.
pub(super) async fn keep(port: u16, held: HeldPort, findings: mpsc::Sender<Finding>) {
    loop {
        let Some(gateway) = default_gateway() else { return };
        let Some(own) = source_toward(SocketAddr::new(gateway.into(), port)) else { return };
        if is_public(own) {
            return;
        }
        if let Some(mut mapped) = MappedPort::request(gateway, own, port).await {
            loop {
                // The receiver ends with the node.
                let _ = findings.send(Finding::Mapped(Some(mapped.external()))).await;
                let renew_at = mapped.renew_at(clock::now());
                held.put(mapped);
                sleep_until(renew_at.into()).await;
                let Some(due) = held.take() else { return };
                match due.renew().await {
                    Some(renewed) => mapped = renewed,
                    None => break,
                }
            }
            let _ = findings.send(Finding::Mapped(None)).await;
        }
        sleep(AGAIN).await;
    }
}
