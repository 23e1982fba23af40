//! Verbs about trust.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bridge::Bridge;
use super::convert::{self, Peer, timeout};
use super::node::Node;
use super::op::{Started, spawn};
use super::runtime::{guarded, rare};
use crate::node::TrustAnswer;

/// `(address, hostname, public key, reason, received at)`
type PendingParts = (String, Option<String>, Py<PyBytes>, String, u64);
/// `(address, hostname, public key, since, is mutual)`
type TrustedParts = (String, Option<String>, Py<PyBytes>, u64, bool);

/// The verbs of a node that are about trust.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Trust {
    node: Py<Node>,
}

#[pymethods]
impl Trust {
    #[new]
    fn new(node: Py<Node>) -> Self {
        Self { node }
    }

    fn request(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        reason: String,
        seconds: Option<f64>,
    ) -> Started {
        guarded(|| {
            let (node, limit) = (self.node.get().get()?, timeout(seconds)?);
            let asking = async move { node.request_trust(&peer.0, &reason, limit).await };
            spawn(py, bridge, token, asking, |py, answer| {
                let parts = match answer {
                    TrustAnswer::Granted => ("granted", String::new()),
                    TrustAnswer::Undecided => ("undecided", String::new()),
                    TrustAnswer::Refused(reason) => ("refused", reason),
                };
                Ok(parts.into_pyobject(py)?.into_any().unbind())
            })
        })
    }

    fn pending(&self, py: Python<'_>) -> PyResult<Vec<PendingParts>> {
        guarded(|| {
            let parts = self.node.get().get()?.pending_trust().into_iter().map(|asked| {
                let key = PyBytes::new(py, &asked.public_key).unbind();
                let address = asked.address.to_string();
                (address, asked.hostname, key, asked.justification, asked.received_at)
            });
            Ok(parts.collect())
        })
    }

    fn trusted(&self, py: Python<'_>) -> PyResult<Vec<TrustedParts>> {
        guarded(|| {
            let parts = self.node.get().get()?.trusted().into_iter().map(|peer| {
                let key = PyBytes::new(py, &peer.public_key).unbind();
                (peer.address.to_string(), peer.hostname, key, peer.since, peer.mutual)
            });
            Ok(parts.collect())
        })
    }

    fn approve<'py>(&self, py: Python<'py>, peer: Peer) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.node.get().get()?;
            rare(py, async move { node.approve(&peer.0).await }, convert::nothing)
        })
    }

    fn reject<'py>(
        &self,
        py: Python<'py>,
        peer: Peer,
        reason: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.node.get().get()?;
            rare(py, async move { node.reject(&peer.0, &reason).await }, convert::nothing)
        })
    }

    fn revoke<'py>(&self, py: Python<'py>, peer: Peer) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.node.get().get()?;
            rare(py, async move { node.revoke(&peer.0).await }, convert::nothing)
        })
    }
}
