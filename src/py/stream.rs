//! The native half of `pilot_agent.Stream`.
//!
//! Bytes leave and enter Rust only in `try_read` and `try_write`, on the loop's thread; waiting
//! moves nothing. That is why a cancelled read loses no bytes.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};

use super::bridge::Alarm;
use super::buffer::Buffer;
use super::convert;
use super::errors::{OrRaise, invalid};
use super::fork::Held;
use super::info;
use super::runtime::guarded;
use crate::node::NodeStream;

/// From this size on, other threads may run Python while the node works.
const LARGE: usize = 8 << 10;
/// Copied at most of what may change while it waits.
const AT_ONCE: usize = 256 << 10;

/// Runs `body`, which may seal and send; while it does so for many bytes, other threads may run.
/// For few, that costs more than it gives.
fn aside<T: Send>(py: Python<'_>, size: usize, body: impl FnOnce() -> T + Send) -> T {
    if size < LARGE { body() } else { py.detach(body) }
}

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
            let stream = self.stream.get()?;
            let chunk = aside(py, limit, || stream.try_read(limit)).or_raise(py)?;
            Ok(chunk.map(|chunk| PyBytes::new(py, &chunk)))
        })
    }

    /// As `try_read`, into a writable buffer; how many bytes.
    fn try_read_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        guarded(|| {
            let stream = self.stream.get()?;
            let mut buffer = Buffer::writable(buffer)?;
            let mut filled = 0;
            while filled < buffer.len() {
                let room = buffer.len() - filled;
                match aside(py, room, || stream.try_read(room)) {
                    Ok(Some(chunk)) if !chunk.is_empty() => filled += buffer.put(filled, &chunk),
                    // The end, or an error, is told again next time.
                    _ if filled > 0 => break,
                    Ok(end) => return Ok(end.map(|_| 0)),
                    Err(error) => return Err(error).or_raise(py),
                }
            }
            Ok(Some(filled))
        })
    }

    /// Chooses another congestion control, by name.
    fn set_traffic(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        guarded(|| self.stream.get()?.set_class(convert::traffic_class(name)?).or_raise(py))
    }

    fn set_congestion(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        guarded(|| {
            let congestion = convert::congestion(name)?;
            self.stream.get()?.set_congestion(congestion).or_raise(py)
        })
    }

    /// Whether `try_read` has something to say; if not, `alarm` goes off when it has.
    fn poll_readable(&self, alarm: &Alarm) -> PyResult<bool> {
        guarded(|| {
            let stream = self.stream.get()?;
            Ok(alarm.poll(|cx| stream.poll_readable(cx))?.is_some())
        })
    }

    /// Takes bytes of `data`, any buffer in one piece, from `offset` on; how many. 0 means that
    /// there is no room. Of large `bytes` no copy is made: they are kept until the peer has them.
    fn try_write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, offset: usize) -> PyResult<usize> {
        guarded(|| {
            let stream = self.stream.get()?;
            if let Ok(bytes) = data.cast::<PyBytes>() {
                let rest = bytes.as_bytes().get(offset..);
                let rest = rest.ok_or_else(|| invalid("offset past the end"))?;
                if rest.len() < LARGE {
                    return stream.try_write(rest).or_raise(py);
                }
                let shared = Bytes::from_owner(PyBackedBytes::from(bytes.clone())).slice(offset..);
                return py.detach(|| stream.try_write_shared(&shared)).or_raise(py);
            }
            let copied = Buffer::readable(data)?.copy(offset, AT_ONCE);
            let copy = copied.ok_or_else(|| invalid("offset past the end"))?;
            if copy.len() < LARGE {
                return stream.try_write(&copy).or_raise(py);
            }
            py.detach(|| stream.try_write_shared(&copy)).or_raise(py)
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
