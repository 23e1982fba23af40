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
}

/// Starts a rendezvous. The caller holds a `Lease` for as long as it lives.
#[pyfunction]
pub(crate) fn start_rendezvous(
    py: Python<'_>,
    bridge: &Bridge,
    token: u64,
    listen: &str,
    store: Option<PathBuf>,
) -> Started {
    guarded(|| {
        let mut config = server::RendezvousConfig::new(convert::listen_addr(listen)?);
        config.store = store;
        let starting = async move {
            server::Rendezvous::bind(config).await.map_err(|error| NodeError::Io(error.to_string()))
        };
        spawn(py, bridge, token, starting, |py, server| {
            let address = server.local_addr().to_string();
            let server = Held::new(Mutex::new(Some(server)));
            Ok(Py::new(py, Rendezvous { server, address })?.into_any())
        })
    })
}

#[pymethods]
impl Rendezvous {
    #[getter]
    fn address(&self) -> &str {
        &self.address
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
