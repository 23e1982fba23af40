//! Errors as Python exceptions.
//!
//! The classes are defined in `pilot_agent.errors`, so that they can derive from Python's own
//! (`TimeoutError`, `ConnectionError`); here is which of them a [`NodeError`] becomes, and with
//! which attributes.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::node::NodeError;

/// Why an operation failed.
pub(crate) enum Failure {
    /// The node said so.
    Node(NodeError),
    /// A bug of ours.
    Panic(String),
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

impl Failure {
    /// The exception; needs the interpreter.
    pub(crate) fn into_py(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Node(error) => node_error(py, &error).unwrap_or_else(|failed| failed),
            Self::Panic(text) => internal(&text),
        }
    }
}

/// A result whose error is already an exception.
pub(crate) trait OrRaise<T> {
    /// Converts the error.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, NodeError> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| Failure::Node(error).into_py(py))
    }
}

/// The exception of a handle that was inherited by a forked process.
pub(crate) fn forked() -> PyErr {
    named(
        "ForkedProcessError",
        "this object belongs to the process that was forked; start a node of its own in the child",
    )
}

/// The exception of a panic.
pub(crate) fn internal(text: &str) -> PyErr {
    named("PilotError", &format!("internal error in pilot-agent: {text}; please report it"))
}

/// The exception of something that the operating system refused.
pub(crate) fn local(error: &std::io::Error) -> PyErr {
    named("LocalError", &error.to_string())
}

/// The exception of a bad argument.
pub(crate) fn invalid(message: &str) -> PyErr {
    named("InvalidArgument", message)
}

/// The exception of using what the caller has closed.
pub(crate) fn closed(what: &str) -> PyErr {
    named("NodeClosed", &format!("the {what} is closed"))
}

fn named(class: &str, message: &str) -> PyErr {
    Python::try_attach(|py| exception(py, class, message, &PyDict::new(py)))
        .and_then(Result::ok)
        .unwrap_or_else(|| PyRuntimeError::new_err(message.to_owned()))
}

fn exception(
    py: Python<'_>,
    class: &str,
    message: &str,
    fields: &Bound<'_, PyDict>,
) -> PyResult<PyErr> {
    let class = py.import("pilot_agent.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((message,), Some(fields))?))
}

fn node_error(py: Python<'_>, error: &NodeError) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    let class = match error {
        NodeError::PeerNotFound { peer, rendezvous } => {
            fields.set_item("peer", peer)?;
            fields.set_item("rendezvous", rendezvous)?;
            "PeerNotFound"
        }
        NodeError::PeerUnreachable { peer, .. } => {
            fields.set_item("peer", peer)?;
            "PeerUnreachable"
        }
        NodeError::Refused { peer, port } => {
            fields.set_item("peer", peer)?;
            fields.set_item("port", *port)?;
            "ConnectionRefused"
        }
        NodeError::Timeout { peer, what: _, after } => {
            fields.set_item("peer", peer)?;
            fields.set_item("after", after.as_secs_f64())?;
            "RequestTimeout"
        }
        NodeError::TrustRequired { peer, .. } => {
            fields.set_item("peer", peer)?;
            "TrustRequired"
        }
        NodeError::RequestFailed { peer, reason } => {
            fields.set_item("peer", peer)?;
            fields.set_item("reason", reason)?;
            "RequestFailed"
        }
        NodeError::TooLarge { what: _, size, limit } => {
            fields.set_item("size", *size)?;
            fields.set_item("limit", *limit)?;
            "PayloadTooLarge"
        }
        NodeError::Rendezvous { rendezvous, .. } => {
            fields.set_item("rendezvous", rendezvous)?;
            "RegistryError"
        }
        NodeError::PortInUse(port) => {
            fields.set_item("port", *port)?;
            "PortInUse"
        }
        NodeError::IdentityMismatch(_) => "IdentityMismatch",
        NodeError::Protocol(_) => "ProtocolError",
        NodeError::StreamReset(_) => "StreamReset",
        NodeError::Unsupported(_) => "Unsupported",
        NodeError::HostnameTaken(_) => "HostnameTaken",
        NodeError::IdentityInUse(_) => "IdentityInUse",
        NodeError::Identity(_) => "IdentityError",
        NodeError::Invalid(_) => "InvalidArgument",
        NodeError::Io(_) => "LocalError",
        NodeError::Closed => "NodeClosed",
    };
    exception(py, class, &error.to_string(), &fields)
}
