//! The native half of `pilot_agent.Rendezvous`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use super::convert;
use super::errors::Failure;
use super::fork::Held;
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
#[pyo3(signature = (listen, store))]
pub(crate) fn start_rendezvous<'py>(
    py: Python<'py>,
    listen: &str,
    store: Option<PathBuf>,
) -> PyResult<Bound<'py, PyAny>> {
    guarded(|| {
        let listen = convert::listen_addr(listen)?;
        let starting = async move {
            let mut config = server::RendezvousConfig::new(listen);
            config.store = store;
            server::Rendezvous::bind(config)
                .await
                .map_err(|error| Failure::Node(NodeError::Io(error.to_string())))
        };
        rare(py, starting, |py, server| {
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
