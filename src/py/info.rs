//! What a node knows of itself and others, as dictionaries for the dataclasses of
//! `pilot_agent.message`.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::node::{AgentInfo, NodeInfo, PathKind, PeerInfo, Pong};
use crate::proto::stream::StreamStats;

pub(crate) const fn path_name(path: PathKind) -> &'static str {
    match path {
        PathKind::Direct => "direct",
        PathKind::Relay => "relay",
    }
}

/// `(address, rtt, path, endpoint, loss, path mtu)`
pub(crate) fn pong(py: Python<'_>, pong: Pong) -> PyResult<Py<PyAny>> {
    let parts = (
        pong.address.to_string(),
        pong.rtt.as_secs_f64(),
        path_name(pong.path),
        pong.endpoint.to_string(),
        pong.loss,
        pong.path_mtu,
    );
    Ok(parts.into_pyobject(py)?.into_any().unbind())
}

/// A list of `(address, hostname, capabilities, score)`.
pub(crate) fn agents(py: Python<'_>, agents: Vec<AgentInfo>) -> PyResult<Py<PyAny>> {
    let parts: Vec<_> = agents
        .into_iter()
        .map(|agent| (agent.address.to_string(), agent.hostname, agent.capabilities, agent.score))
        .collect();
    parts.into_py_any(py)
}

pub(crate) fn peer<'py>(py: Python<'py>, peer: &PeerInfo) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("address", peer.address.to_string())?;
    fields.set_item("hostname", peer.hostname.as_deref())?;
    fields.set_item("public_key", peer.public_key.map(|key| PyBytes::new(py, &key)))?;
    fields.set_item("encrypted", peer.encrypted)?;
    fields.set_item("path", path_name(peer.path))?;
    fields.set_item("endpoint", peer.endpoint.map(|endpoint| endpoint.to_string()))?;
    fields.set_item("rtt", peer.rtt.map(|rtt| rtt.as_secs_f64()))?;
    fields.set_item("path_mtu", peer.path_mtu)?;
    fields.set_item("streams", peer.streams)?;
    fields.set_item("bytes_sent", peer.bytes_sent)?;
    fields.set_item("bytes_received", peer.bytes_received)?;
    Ok(fields)
}

pub(crate) fn node<'py>(py: Python<'py>, info: &NodeInfo) -> PyResult<Bound<'py, PyDict>> {
    let counters = PyDict::new(py);
    for (name, value) in &info.counters {
        counters.set_item(name, value)?;
    }
    let fields = PyDict::new(py);
    fields.set_item("address", info.address.to_string())?;
    fields.set_item("node_id", info.address.node.0)?;
    fields.set_item("hostname", info.hostname.as_deref())?;
    fields.set_item("public_key", PyBytes::new(py, &info.public_key))?;
    fields.set_item("local_addr", info.local_addr.to_string())?;
    fields.set_item("observed_addr", info.observed_addr.map(|addr| addr.to_string()))?;
    fields.set_item("transport", info.transport)?;
    fields.set_item("rendezvous", &info.rendezvous)?;
    fields.set_item("hosts_rendezvous", info.hosts_rendezvous)?;
    fields.set_item("registered", info.registered)?;
    fields.set_item("public", info.public)?;
    fields.set_item("capabilities", PyTuple::new(py, &info.capabilities)?)?;
    fields.set_item("uptime", info.uptime.as_secs_f64())?;
    fields.set_item("peers", info.peers)?;
    fields.set_item("streams", info.streams)?;
    fields.set_item("counters", counters)?;
    Ok(fields)
}

pub(crate) fn stream<'py>(py: Python<'py>, stats: &StreamStats) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("state", format!("{:?}", stats.state).to_lowercase())?;
    fields.set_item("bytes_sent", stats.bytes_sent)?;
    fields.set_item("bytes_acked", stats.bytes_acked)?;
    fields.set_item("bytes_retransmitted", stats.bytes_retransmitted)?;
    fields.set_item("bytes_received", stats.bytes_received)?;
    fields.set_item("segments_sent", stats.segments_sent)?;
    fields.set_item("segments_received", stats.segments_received)?;
    fields.set_item("segments_retransmitted", stats.segments_retransmitted)?;
    fields.set_item("timeouts", stats.timeouts)?;
    fields.set_item("srtt", stats.srtt.map(|rtt| rtt.as_secs_f64()))?;
    fields.set_item("min_rtt", stats.min_rtt.map(|rtt| rtt.as_secs_f64()))?;
    fields.set_item("rto", stats.rto.as_secs_f64())?;
    fields.set_item("cwnd", stats.cwnd)?;
    fields.set_item("in_flight", stats.in_flight)?;
    fields.set_item("send_buffered", stats.send_buffered)?;
    fields.set_item("recv_buffered", stats.recv_buffered)?;
    fields.set_item("max_payload", stats.max_payload)?;
    Ok(fields)
}
