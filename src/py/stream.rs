//! The native half of `pilot_agent.Stream`.
//!
//! Bytes leave and enter Rust only in `try_read` and `try_write`, on the loop's thread; waiting
//! moves nothing. That is why a cancelled read loses no bytes.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};

use super::bridge::Alarm;
use super::errors::{OrRaise, invalid};
use super::fork::Held;
use super::info;
use super::runtime::guarded;
use crate::node::NodeStream;

/// One reliable stream.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Stream {
    stream: Held<NodeStream>,
}

impl Stream {
    pub(crate) fn new(stream: NodeStream) -> Self {
        Self { stream: Held::new(stream) }
    }

    pub(crate) fn wrap(py: Python<'_>, stream: NodeStream) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::new(stream))?.into_any())
    }
}

#[pymethods]
impl Stream {
    /// At most `limit` bytes; `b""` at the end, `None` if there is nothing yet.
    fn try_read<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        guarded(|| {
            let chunk = self.stream.get()?.try_read(limit).or_raise(py)?;
            Ok(chunk.map(|chunk| PyBytes::new(py, &chunk)))
        })
    }

    /// Whether `try_read` has something to say; if not, `alarm` goes off when it has.
    fn poll_readable(&self, alarm: &Alarm) -> PyResult<bool> {
        guarded(|| {
            let stream = self.stream.get()?;
            Ok(alarm.poll(|cx| stream.poll_readable(cx))?.is_some())
        })
    }

    /// Takes bytes of `data` from `offset` on; how many. 0 means that there is no room.
    fn try_write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, offset: usize) -> PyResult<usize> {
        guarded(|| {
            let stream = self.stream.get()?;
            let write = |bytes: &[u8]| match bytes.get(offset..) {
                Some(rest) => stream.try_write(rest).or_raise(py),
                None => Err(invalid("offset past the end")),
            };
            match data.cast::<PyBytes>() {
                Ok(bytes) => write(bytes.as_bytes()),
                Err(_) => write(&data.cast::<PyByteArray>()?.to_vec()),
            }
        })
    }

    /// Whether `try_write` has room or an error; if not, `alarm` goes off when it has.
    fn poll_writable(&self, alarm: &Alarm) -> PyResult<bool> {
        guarded(|| {
            let stream = self.stream.get()?;
            Ok(alarm.poll(|cx| stream.poll_writable(cx))?.is_some())
        })
    }

    /// Whether all that was written was acknowledged, or the stream is over; if not, `alarm`
    /// goes off when that is so.
    fn poll_drained(&self, py: Python<'_>, alarm: &Alarm) -> PyResult<bool> {
        guarded(|| {
            let stream = self.stream.get()?;
            let drained = alarm.poll(|cx| stream.poll_drained(cx))?;
            Ok(drained.transpose().or_raise(py)?.is_some())
        })
    }

    /// Ends our direction once what was written has been sent.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| self.stream.get()?.finish().or_raise(py))
    }

    /// Ends both directions once what was written has been sent.
    fn close(&self) -> PyResult<()> {
        guarded(|| {
            self.stream.get()?.close();
            Ok(())
        })
    }

    /// Resets the stream.
    fn abort(&self) -> PyResult<()> {
        guarded(|| {
            self.stream.get()?.abort();
            Ok(())
        })
    }

    #[getter]
    fn peer(&self) -> PyResult<String> {
        guarded(|| Ok(self.stream.get()?.peer().to_string()))
    }

    #[getter]
    fn local_port(&self) -> PyResult<u16> {
        guarded(|| Ok(self.stream.get()?.local_port()))
    }

    #[getter]
    fn remote_port(&self) -> PyResult<u16> {
        guarded(|| Ok(self.stream.get()?.remote_port()))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| info::stream(py, &self.stream.get()?.stats().unwrap_or_default()))
    }
}
