//! Python values to ours and back.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyInt, PyString};

use super::errors;
use crate::node::{Message, Payload, PayloadKind, PeerRef, Request};
use crate::proto::path::TrafficClass;
use crate::proto::stream::congestion::{CongestionControl, UnknownCongestionControl};
use crate::wire::NodeId;

/// From this size on, `bytes` are borrowed from Python instead of copied.
const BORROW_FROM: usize = 1024;
/// What "no timeout" means to a timer.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A peer as users name it: hostname, address text, or node id.
pub(crate) struct Peer(pub(crate) PeerRef);

impl<'py> FromPyObject<'_, 'py> for Peer {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = value.cast::<PyString>() {
            let text = text.to_cow()?;
            if text.is_empty() {
                return Err(errors::invalid("a peer's name is empty"));
            }
            return Ok(Self(text.parse().unwrap_or_else(|never| match never {})));
        }
        if value.is_instance_of::<PyInt>() {
            return match value.extract::<u32>() {
                Ok(node) if node != 0 => Ok(Self(PeerRef::Node(NodeId(node)))),
                _ => Err(errors::invalid("a node id is a number from 1 to 4294967295")),
            };
        }
        Err(PyTypeError::new_err("a peer is a hostname or address (str), or a node id (int)"))
    }
}

/// Bytes from Python: `bytes` from 1 KiB on are borrowed, the rest is copied once.
pub(crate) struct Data(pub(crate) Bytes);

impl<'py> FromPyObject<'_, 'py> for Data {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            let content = bytes.as_bytes();
            return Ok(Self(if content.len() < BORROW_FROM {
                Bytes::copy_from_slice(content)
            } else {
                Bytes::from_owner(PyBackedBytes::from(bytes.to_owned()))
            }));
        }
        if let Ok(array) = value.cast::<PyByteArray>() {
            return Ok(Self(Bytes::from(array.to_vec())));
        }
        Err(PyTypeError::new_err("expected bytes or bytearray"))
    }
}

/// Seconds, or `None` for no limit.
pub(crate) fn timeout(seconds: Option<f64>) -> PyResult<Duration> {
    let Some(seconds) = seconds else { return Ok(FOREVER) };
    if seconds == f64::INFINITY {
        return Ok(FOREVER);
    }
    Duration::try_from_secs_f64(seconds)
        .map(|limit| limit.min(FOREVER))
        .map_err(|_| errors::invalid(&format!("a timeout of {seconds} seconds makes no sense")))
}

/// `host:port` of an interface of this machine; `:port` means every address.
pub(crate) fn listen_addr(text: &str) -> PyResult<SocketAddr> {
    let parsed = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| (Ipv6Addr::UNSPECIFIED, port).into()),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| {
        errors::invalid(&format!(
            "{text:?} is not an address to listen on; write 127.0.0.1:4000, [::]:0 or :4000"
        ))
    })
}

/// `host:port` under which others reach this node.
pub(crate) fn public_endpoint(text: &str) -> PyResult<SocketAddr> {
    let parsed = text.parse().ok();
    let is_usable = |addr: &SocketAddr| addr.port() != 0 && !addr.ip().is_unspecified();
    parsed.filter(is_usable).ok_or_else(|| {
        errors::invalid(&format!(
            "{text:?} is not an address to be reached at; write 192.0.2.1:4000"
        ))
    })
}

/// A payload from what Python's encoder made of the user's value.
pub(crate) fn payload(
    kind: &str,
    data: Data,
    headers: Vec<(String, String)>,
    traffic: &str,
) -> PyResult<Payload> {
    let kind = match kind {
        "bytes" => PayloadKind::Bytes,
        "text" => PayloadKind::Text,
        "json" => PayloadKind::Json,
        other => return Err(errors::invalid(&format!("no payload kind {other:?}"))),
    };
    Ok(Payload { kind, data: data.0, headers, class: traffic_class(traffic)? })
}

/// The name of a kind, made once.
pub(crate) fn kind_name(py: Python<'_>, kind: PayloadKind) -> Py<PyString> {
    let name = match kind {
        PayloadKind::Bytes => intern!(py, "bytes"),
        PayloadKind::Text => intern!(py, "text"),
        PayloadKind::Json => intern!(py, "json"),
    };
    name.clone().unbind()
}

/// `(sender, sender_hostname, id, kind, data, headers, file name, file path)`
pub(crate) type MessageParts = (
    String,
    Option<String>,
    u64,
    Py<PyString>,
    Py<PyBytes>,
    Vec<(String, String)>,
    Option<String>,
    Option<std::path::PathBuf>,
);

pub(crate) fn message(py: Python<'_>, message: Message) -> MessageParts {
    let Message { sender, sender_hostname, id, payload, file } = message;
    let (kind, (name, path)) = match file {
        Some((name, path)) => (intern!(py, "file").clone().unbind(), (Some(name), Some(path))),
        None => (kind_name(py, payload.kind), (None, None)),
    };
    let data = PyBytes::new(py, &payload.data).unbind();
    (sender.to_string(), sender_hostname, id, kind, data, payload.headers, name, path)
}

/// `(ticket, sender, sender_hostname, kind, data, headers)`
pub(crate) type RequestParts =
    (u64, String, Option<String>, Py<PyString>, Py<PyBytes>, Vec<(String, String)>);

pub(crate) fn request(py: Python<'_>, request: Request) -> RequestParts {
    let Request { ticket, sender, sender_hostname, payload } = request;
    let data = PyBytes::new(py, &payload.data).unbind();
    let kind = kind_name(py, payload.kind);
    (ticket, sender.to_string(), sender_hostname, kind, data, payload.headers)
}

/// `(sender, kind, data, headers)` of an answer.
pub(crate) fn reply(
    py: Python<'_>,
    (sender, payload): (crate::wire::Addr, Payload),
) -> PyResult<Py<PyAny>> {
    let data = PyBytes::new(py, &payload.data);
    let parts = (sender.to_string(), kind_name(py, payload.kind), data, payload.headers);
    Ok(parts.into_pyobject(py)?.into_any().unbind())
}

/// `None`.
pub(crate) fn nothing(py: Python<'_>, (): ()) -> PyResult<Py<PyAny>> {
    Ok(py.None())
}

/// A class of traffic, by name.
pub(crate) fn traffic_class(name: &str) -> PyResult<TrafficClass> {
    match name {
        "normal" => Ok(TrafficClass::Normal),
        "bulk" => Ok(TrafficClass::Bulk),
        "control" => Ok(TrafficClass::Control),
        _ => Err(errors::invalid(&format!(
            "traffic is \"normal\", \"bulk\" or \"control\", not {name:?}"
        ))),
    }
}

/// A congestion control, by name.
pub(crate) fn congestion(name: &str) -> PyResult<CongestionControl> {
    name.parse().map_err(|error: UnknownCongestionControl| errors::invalid(&error.to_string()))
}
