//! The native half of `pilot_agent.Rendezvous`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use super::bridge::Bridge;
use super::convert;
use super::fork::Held;
use super::op::{Started, spawn};
use super::runtime::{guarded, rare};
use crate::node::NodeError;
use crate::server;

/// A running rendezvous.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Rendezvous {
    server: Held<Mutex<Option<server::Rendezvous>>>,
    address: String,
    tls_address: Option<String>,
    fingerprint: Option<String>,
}

/// Starts a rendezvous. The caller holds a `Lease` for as long as it lives.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "one for each of the Python method's")]
pub(crate) fn start_rendezvous(
    py: Python<'_>,
    bridge: &Bridge,
    token: u64,
    listen: &str,
    store: Option<PathBuf>,
    tls_listen: Option<&str>,
    certificate: Option<(PathBuf, PathBuf)>,
    peers: Vec<String>,
    advertise: Option<&str>,
) -> Started {
    guarded(|| {
        let mut config = server::RendezvousConfig::new(convert::listen_addr(listen)?);
        config.store = store;
        config.tls_listen = tls_listen.map(convert::listen_addr).transpose()?;
        config.peers = peers;
        config.advertise = advertise.map(convert::listen_addr).transpose()?;
        config.certificate =
            certificate.map(|(certificate, key)| server::CertificateFiles { certificate, key });
        let starting = async move {
            server::Rendezvous::bind(config).await.map_err(|error| NodeError::Io(error.to_string()))
        };
        spawn(py, bridge, token, starting, |py, server| {
            let address = server.local_addr().to_string();
            let tls_address = server.tls_addr().map(|addr| addr.to_string());
            let fingerprint = server.fingerprint().map(|own| own.to_string());
            let server = Held::new(Mutex::new(Some(server)));
            let started = Rendezvous { server, address, tls_address, fingerprint };
            Ok(Py::new(py, started)?.into_any())
        })
    })
}

#[pymethods]
impl Rendezvous {
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    #[getter]
    fn tls_address(&self) -> Option<&str> {
        self.tls_address.as_deref()
    }

    #[getter]
    fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Ends it; when the future is done, nothing of it is left.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let server = self.server.get()?.lock().unwrap_or_else(PoisonError::into_inner).take();
            let closing = async move {
                if let Some(server) = server {
                    server.shutdown().await;
                }
                Ok::<_, NodeError>(())
            };
            rare(py, closing, convert::nothing)
        })
    }
}
