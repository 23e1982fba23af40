//! What arrives at a port of ours: streams at a [`Listener`], datagrams at a [`DatagramPort`].

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bridge::Alarm;
use super::errors::{OrRaise, closed};
use super::fork::Held;
use super::runtime::guarded;
use super::stream::Stream;
use crate::node;

/// A port that is given back when it is closed, before Python lets go of it.
struct Port<T> {
    // The lock is never held while Python code may run: another thread could want it.
    inner: Held<Mutex<Option<Arc<T>>>>,
    what: &'static str,
}

impl<T> Port<T> {
    fn new(what: &'static str, inner: T) -> Self {
        Self { inner: Held::new(Mutex::new(Some(Arc::new(inner)))), what }
    }

    fn with<R>(&self, body: impl FnOnce(&T) -> PyResult<R>) -> PyResult<R> {
        guarded(|| {
            let inner = self.inner.get()?.lock().unwrap_or_else(PoisonError::into_inner).clone();
            body(&*inner.ok_or_else(|| closed(self.what))?)
        })
    }

    fn close(&self) -> PyResult<()> {
        guarded(|| {
            let inner = self.inner.get()?.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(inner);
            Ok(())
        })
    }
}

/// Streams that peers open to a port.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Listener {
    port: Port<node::Listener>,
}

impl Listener {
    pub(crate) fn new(listener: node::Listener) -> Self {
        Self { port: Port::new("listener", listener) }
    }
}

#[pymethods]
impl Listener {
    #[getter]
    fn port(&self) -> PyResult<u16> {
        self.port.with(|listener| Ok(listener.port()))
    }

    /// The next stream, or `None`: then `alarm` goes off when there may be one.
    fn poll_accept(&self, py: Python<'_>, alarm: &Alarm) -> PyResult<Option<Stream>> {
        self.port.with(|listener| {
            let accepted = alarm.poll(|cx| listener.poll_accept(cx))?;
            Ok(accepted.transpose().or_raise(py)?.map(Stream::new))
        })
    }

    fn close(&self) -> PyResult<()> {
        self.port.close()
    }
}

/// `(sender, sender's port, data)`
type DatagramParts = (String, u16, Py<PyBytes>);

/// Datagrams that peers send to a port.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct DatagramPort {
    port: Port<node::DatagramPort>,
}

impl DatagramPort {
    pub(crate) fn new(port: node::DatagramPort) -> Self {
        Self { port: Port::new("datagram port", port) }
    }
}

fn parts(py: Python<'_>, datagram: &node::Datagram) -> DatagramParts {
    let data = PyBytes::new(py, &datagram.data).unbind();
    (datagram.sender.to_string(), datagram.port, data)
}

#[pymethods]
impl DatagramPort {
    #[getter]
    fn port(&self) -> PyResult<u16> {
        self.port.with(|port| Ok(port.port()))
    }

    /// How many datagrams were thrown away because nobody took them in time.
    #[getter]
    fn dropped(&self) -> PyResult<u64> {
        self.port.with(|port| Ok(port.dropped()))
    }

    /// The next datagram, or `None`: then `alarm` goes off when there may be one.
    fn poll_recv(&self, py: Python<'_>, alarm: &Alarm) -> PyResult<Option<DatagramParts>> {
        self.port.with(|port| {
            let received = alarm.poll(|cx| port.poll_recv(cx))?;
            Ok(received.transpose().or_raise(py)?.map(|datagram| parts(py, &datagram)))
        })
    }

    fn close(&self) -> PyResult<()> {
        self.port.close()
    }
}
