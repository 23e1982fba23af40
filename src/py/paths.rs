//! Paths, policies and events as tuples for the dataclasses of `pilot_agent.path`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use super::bridge::Alarm;
use super::errors::{self, OrRaise, closed};
use super::fork::Held;
use super::info::path_name;
use super::runtime::guarded;
use crate::node::{self, KnownPath, NodeEvent, NodeInfo, PathInfo, Route};
use crate::proto::nat::{Behavior, PortAllocation};
use crate::proto::path::{CandidateKind, ClassRule, PathPolicy, PathState};

/// `(direct, relay, LAN only, normal, bulk, control)`
pub(crate) type Policy = (bool, bool, bool, String, String, String);

pub(crate) fn policy(parts: &Policy) -> PyResult<PathPolicy> {
    let (direct, relay, lan_only, normal, bulk, control) = parts;
    Ok(PathPolicy {
        direct: *direct,
        relay: *relay,
        lan_only: *lan_only,
        normal: rule("normal", normal)?,
        bulk: rule("bulk", bulk)?,
        control: rule("control", control)?,
    })
}

fn rule(class: &str, name: &str) -> PyResult<ClassRule> {
    match name {
        "any" => Ok(ClassRule::Any),
        "direct-only" => Ok(ClassRule::DirectOnly),
        "duplicate" => Ok(ClassRule::Duplicate),
        _ => Err(errors::invalid(&format!(
            "{class} is \"any\", \"direct-only\" or \"duplicate\", not {name:?}"
        ))),
    }
}

/// `(kind, endpoint)`
type RouteParts = (&'static str, Option<String>);
/// `(kind, endpoint, state, is active, rtt, loss, mtu, last received)`
type PathParts = (
    &'static str,
    Option<String>,
    &'static str,
    bool,
    Option<f64>,
    Option<f32>,
    Option<u16>,
    Option<f64>,
);

/// `(address, our end, since, paths)`
pub(crate) fn info(py: Python<'_>, info: PathInfo) -> PyResult<Py<PyAny>> {
    let paths: Vec<PathParts> = info.paths.iter().map(path).collect();
    let parts = (info.address.to_string(), info.local.to_string(), info.since.map(seconds), paths);
    parts.into_py_any(py)
}

fn path(path: &KnownPath) -> PathParts {
    let (kind, endpoint) = route(path.route);
    let state = match path.state {
        PathState::Unknown => "unknown",
        PathState::Probing => "probing",
        PathState::Valid => "valid",
        PathState::Suspect => "suspect",
        PathState::Dead => "dead",
    };
    let rtt = path.rtt.map(|rtt| rtt.as_secs_f64());
    let received = path.last_received.map(seconds);
    (kind, endpoint, state, path.is_active, rtt, path.loss, path.mtu, received)
}

fn route(route: Route) -> RouteParts {
    (path_name(route.kind), route.endpoint.map(|endpoint| endpoint.to_string()))
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Kind of NAT, and the addresses that peers are told.
pub(crate) fn network(info: &NodeInfo) -> (NatParts, Vec<CandidateParts>) {
    (nat(info), candidates(info))
}

/// `(address, kind)`
type CandidateParts = (String, &'static str);
/// `(in words, mapping, filtering, hairpins, ports, mapping lifetime)`
type NatParts = (String, &'static str, &'static str, Option<bool>, String, Option<f64>);

fn nat(info: &NodeInfo) -> NatParts {
    let ports = match info.nat.ports {
        PortAllocation::Unknown => "unknown".to_owned(),
        PortAllocation::Preserving => "preserving".to_owned(),
        PortAllocation::Sequential(step) => format!("sequential ({step:+})"),
        PortAllocation::Random => "random".to_owned(),
    };
    let lifetime = info.mapping_lifetime.map(|lifetime| lifetime.as_secs_f64());
    (
        info.nat.to_string(),
        behavior(info.nat.mapping),
        behavior(info.nat.filtering),
        info.nat.hairpins,
        ports,
        lifetime,
    )
}

fn behavior(behavior: Behavior) -> &'static str {
    match behavior {
        Behavior::Unknown => "unknown",
        Behavior::Open => "open",
        Behavior::EndpointIndependent => "endpoint-independent",
        Behavior::AddressDependent => "address-dependent",
        Behavior::AddressAndPortDependent => "address-and-port-dependent",
    }
}

fn candidates(info: &NodeInfo) -> Vec<CandidateParts> {
    let kind = |kind| match kind {
        CandidateKind::Host => "host",
        CandidateKind::Observed => "observed",
        CandidateKind::Mapped => "mapped",
        CandidateKind::Configured => "configured",
    };
    info.candidates.iter().map(|known| (known.addr.to_string(), kind(known.kind))).collect()
}

/// What happens to a node, until it is closed.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Events {
    // The lock is never held while Python code may run.
    events: Held<Mutex<Option<Arc<node::Events>>>>,
}

impl Events {
    pub(crate) fn new(events: node::Events) -> Self {
        Self { events: Held::new(Mutex::new(Some(Arc::new(events)))) }
    }

    fn get(&self) -> PyResult<Arc<node::Events>> {
        let events = self.events.get()?.lock().unwrap_or_else(PoisonError::into_inner).clone();
        events.ok_or_else(|| closed("event stream"))
    }
}

#[pymethods]
impl Events {
    /// The next event, or `None`: then `alarm` goes off when there may be one. A path's is
    /// `("path", at, peer, hostname, old, new)`, a network's `("network", at, observed)`.
    fn poll_event(&self, py: Python<'_>, alarm: &Alarm) -> PyResult<Option<Py<PyAny>>> {
        guarded(|| {
            let events = self.get()?;
            let polled = alarm.poll(|cx| events.poll_event(cx))?;
            let Some(event) = polled.transpose().or_raise(py)? else { return Ok(None) };
            match event {
                NodeEvent::PathChanged { peer, hostname, old, new, at } => {
                    let (old, new) = (old.map(route), route(new));
                    let parts = ("path", seconds(at), peer.to_string(), hostname, old, new);
                    parts.into_py_any(py).map(Some)
                }
                NodeEvent::NetworkChanged { observed, at } => {
                    let observed = observed.map(|addr| addr.to_string());
                    ("network", seconds(at), observed).into_py_any(py).map(Some)
                }
            }
        })
    }

    /// Events that were thrown away because nobody took them in time.
    #[getter]
    fn dropped(&self) -> PyResult<u64> {
        guarded(|| Ok(self.get()?.dropped()))
    }

    fn close(&self) -> PyResult<()> {
        guarded(|| {
            let events = self.events.get()?.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(events);
            Ok(())
        })
    }
}
