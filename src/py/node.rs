//! The native half of `pilot_agent.Node`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::bridge::{Alarm, Bridge};
use super::config::node_config;
use super::convert::{self, Data, MessageParts, Peer, RequestParts, payload, timeout};
use super::errors::{OrRaise, closed};
use super::fork::Held;
use super::info;
use super::op::{Started, operate, spawn};
use super::paths::{self, Events, Policy};
use super::port::{DatagramPort, Listener};
use super::runtime::{guarded, rare};
use super::stream::Stream;
use crate::node;

/// A running node. Its methods never block.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Node {
    // Emptied by `close`, so that a closed node that Python still holds keeps nothing alive. A
    // node that nobody closed ends when this is dropped, without a word to the registry.
    node: Held<Mutex<Option<node::Node>>>,
    /// In a row, at which the loop received nothing for itself.
    visits_in_vain: AtomicU32,
}

/// After so many the loop leaves receiving to the node for a while.
const VISITS_IN_VAIN: u32 = 8;

/// Starts a node. The caller holds a `Lease` for as long as the node lives.
#[pyfunction]
pub(crate) fn start_node(
    py: Python<'_>,
    bridge: &Bridge,
    token: u64,
    hostname: Option<String>,
    options: &Bound<'_, PyDict>,
) -> Started {
    guarded(|| {
        let config = node_config(hostname, options)?;
        spawn(py, bridge, token, node::Node::start(config), |py, node| {
            let node =
                Node { node: Held::new(Mutex::new(Some(node))), visits_in_vain: AtomicU32::new(0) };
            Ok(Py::new(py, node)?.into_any())
        })
    })
}

impl Node {
    pub(super) fn get(&self) -> PyResult<node::Node> {
        // Cloned out: the lock is never held while Python code may run.
        let node = self.node.get()?.lock().unwrap_or_else(PoisonError::into_inner).clone();
        node.ok_or_else(|| closed("node"))
    }

    fn take(&self) -> Option<node::Node> {
        let slot = self.node.get().ok()?;
        slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Node {
    /// `(address, node id, hostname, public key)`
    fn identity(&self, py: Python<'_>) -> PyResult<(String, u32, Option<String>, Py<PyBytes>)> {
        guarded(|| {
            let node = self.get()?;
            let address = node.address();
            let key = PyBytes::new(py, &node.public_key()).unbind();
            Ok((address.to_string(), address.node.0, node.hostname(), key))
        })
    }

    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| info::node(py, &self.get()?.info()))
    }

    /// See [`paths::network`].
    fn network<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| paths::network(&self.get()?.info()).into_bound_py_any(py))
    }

    fn peers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        guarded(|| self.get()?.peers().iter().map(|peer| info::peer(py, peer)).collect())
    }

    fn resolve<'py>(&self, py: Python<'py>, peer: Peer) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.get()?;
            rare(py, async move { node.resolve(&peer.0).await }, |py, address| {
                let parts = (address.to_string(), address.node.0);
                Ok(parts.into_pyobject(py)?.into_any().unbind())
            })
        })
    }

    fn find<'py>(
        &self,
        py: Python<'py>,
        query: String,
        limit: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.get()?;
            rare(py, async move { node.find(&query, limit).await }, info::agents)
        })
    }

    fn set_public<'py>(&self, py: Python<'py>, public: bool) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.get()?;
            rare(py, async move { node.set_public(public).await }, convert::nothing)
        })
    }

    fn set_capabilities<'py>(
        &self,
        py: Python<'py>,
        capabilities: Vec<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.get()?;
            rare(py, async move { node.set_capabilities(capabilities).await }, convert::nothing)
        })
    }

    /// Drops the pin of a peer's key.
    fn forget(&self, peer: Peer) -> PyResult<bool> {
        guarded(|| Ok(self.get()?.forget(&peer.0)))
    }

    #[expect(clippy::too_many_arguments, reason = "the shape of the Python call")]
    fn send(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        kind: &str,
        data: Data,
        headers: Vec<(String, String)>,
        traffic: &str,
        seconds: Option<f64>,
    ) -> Started {
        guarded(|| {
            let (node, limit) = (self.get()?, timeout(seconds)?);
            let payload = payload(kind, data, headers, traffic)?;
            let sending = async move { node.send(&peer.0, payload, limit).await };
            operate(py, bridge, token, sending, convert::nothing)
        })
    }

    fn send_file(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        path: PathBuf,
        seconds: Option<f64>,
    ) -> Started {
        guarded(|| {
            let (node, limit) = (self.get()?, timeout(seconds)?);
            let sending = async move { node.send_file(&peer.0, &path, limit).await };
            spawn(py, bridge, token, sending, convert::nothing)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the shape of the Python call")]
    fn request(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        kind: &str,
        data: Data,
        headers: Vec<(String, String)>,
        traffic: &str,
        seconds: Option<f64>,
    ) -> Started {
        guarded(|| {
            let (node, limit) = (self.get()?, timeout(seconds)?);
            let payload = payload(kind, data, headers, traffic)?;
            let asking = async move { node.request(&peer.0, payload, limit).await };
            operate(py, bridge, token, asking, convert::reply)
        })
    }

    fn ping(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        seconds: Option<f64>,
    ) -> Started {
        guarded(|| {
            let (node, limit) = (self.get()?, timeout(seconds)?);
            operate(py, bridge, token, async move { node.ping(&peer.0, limit).await }, info::pong)
        })
    }

    /// How packets for a peer travel; see [`paths::info`].
    fn path(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        seconds: Option<f64>,
    ) -> Started {
        guarded(|| {
            let (node, limit) = (self.get()?, timeout(seconds)?);
            operate(py, bridge, token, async move { node.path(&peer.0, limit).await }, paths::info)
        })
    }

    /// What happens to paths and network, from now on.
    fn events(&self, py: Python<'_>) -> PyResult<Events> {
        guarded(|| Ok(Events::new(self.get()?.events().or_raise(py)?)))
    }

    /// `peer` is `None` for all that have no policy of their own.
    fn set_path_policy<'py>(
        &self,
        py: Python<'py>,
        peer: Option<Peer>,
        policy: Policy,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let (node, policy) = (self.get()?, paths::policy(&policy)?);
            let setting = async move {
                node.set_path_policy(peer.as_ref().map(|peer| &peer.0), policy).await
            };
            rare(py, setting, convert::nothing)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the shape of the Python call")]
    fn open_stream(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        port: u16,
        nodelay: bool,
        traffic: &str,
        seconds: Option<f64>,
    ) -> Started {
        guarded(|| {
            let (node, limit) = (self.get()?, timeout(seconds)?);
            let class = convert::traffic_class(traffic)?;
            let opening =
                async move { node.open_stream_for(class, &peer.0, port, nodelay, limit).await };
            operate(py, bridge, token, opening, Stream::wrap)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the shape of the Python call")]
    fn send_datagram(
        &self,
        py: Python<'_>,
        bridge: &Bridge,
        token: u64,
        peer: Peer,
        source_port: u16,
        port: u16,
        data: Data,
    ) -> Started {
        guarded(|| {
            let node = self.get()?;
            let sending =
                async move { node.send_datagram(&peer.0, source_port, port, &data.0).await };
            operate(py, bridge, token, sending, convert::nothing)
        })
    }

    fn listen(&self, py: Python<'_>, port: u16) -> PyResult<Listener> {
        guarded(|| Ok(Listener::new(self.get()?.listen(port).or_raise(py)?)))
    }

    fn bind_datagrams(&self, py: Python<'_>, port: u16) -> PyResult<DatagramPort> {
        guarded(|| Ok(DatagramPort::new(self.get()?.bind_datagrams(port).or_raise(py)?)))
    }

    /// The next message, or `None`: then `alarm` goes off when there may be one.
    fn poll_message(&self, py: Python<'_>, alarm: &Alarm) -> PyResult<Option<MessageParts>> {
        guarded(|| {
            let node = self.get()?;
            let message = alarm.poll(|cx| node.poll_message(cx))?;
            Ok(message.transpose().or_raise(py)?.map(|message| convert::message(py, message)))
        })
    }

    /// Whether requests have someone to answer them.
    fn set_serving(&self, on: bool) -> PyResult<()> {
        guarded(|| {
            self.get()?.set_serving(on);
            Ok(())
        })
    }

    /// At most `limit` messages; if there are none, `alarm` goes off when there may be.
    fn poll_messages(
        &self,
        py: Python<'_>,
        alarm: &Alarm,
        limit: usize,
    ) -> PyResult<Vec<MessageParts>> {
        guarded(|| {
            let node = self.get()?;
            let messages = alarm.poll(|cx| node.poll_messages(cx, limit))?;
            let messages = messages.transpose().or_raise(py)?.unwrap_or_default();
            Ok(messages.into_iter().map(|message| convert::message(py, message)).collect())
        })
    }

    /// The same for requests.
    fn poll_requests(
        &self,
        py: Python<'_>,
        alarm: &Alarm,
        limit: usize,
    ) -> PyResult<Vec<RequestParts>> {
        guarded(|| {
            let node = self.get()?;
            let requests = alarm.poll(|cx| node.poll_requests(cx, limit))?;
            let requests = requests.transpose().or_raise(py)?.unwrap_or_default();
            Ok(requests.into_iter().map(|request| convert::request(py, request)).collect())
        })
    }

    /// `true`: call `send_gathered` in the loop's next turn.
    fn reply(&self, py: Python<'_>, ticket: u64, kind: &str, data: Data) -> PyResult<bool> {
        guarded(|| {
            let payload = payload(kind, data, Vec::new(), "normal")?;
            self.get()?.reply_gathering(ticket, Ok(payload)).or_raise(py)
        })
    }

    fn reply_error(&self, py: Python<'_>, ticket: u64, reason: String) -> PyResult<()> {
        guarded(|| self.get()?.reply(ticket, Err(reason)).or_raise(py))
    }

    /// The descriptor of the socket, for `attend`; -1 where event loops watch none.
    fn descriptor(&self) -> PyResult<i32> {
        guarded(|| {
            #[cfg(unix)]
            return Ok(self.get()?.descriptor());
            #[cfg(not(unix))]
            return Ok(-1);
        })
    }

    /// Receives what is there, here; the caller drains `bridge`, then calls `send_gathered`.
    /// `false`: leave receiving to the node until `poll_attend` says yes.
    fn attend(&self, bridge: &Bridge) -> PyResult<bool> {
        guarded(|| {
            // A forked child must not take what is the parent's.
            if !self.node.is_ours() {
                return Ok(true);
            }
            let (node, queue) = (self.get()?, bridge.queue()?);
            queue.stay_awake();
            let visit = node.attend();
            // What is for services of the node, or acknowledges what was sent, is received better
            // by a thread that serves, while the loop does something else.
            let in_vain = match visit.received && queue.is_empty() {
                true => self.visits_in_vain.fetch_add(1, Ordering::Relaxed) + 1,
                false => 0,
            };
            if in_vain == 0 || in_vain >= VISITS_IN_VAIN {
                self.visits_in_vain.store(0, Ordering::Relaxed);
            }
            if in_vain >= VISITS_IN_VAIN {
                node.leave_arrivals();
            }
            Ok(visit.stays && in_vain < VISITS_IN_VAIN)
        })
    }

    fn send_gathered(&self) -> PyResult<()> {
        guarded(|| {
            if let Ok(node) = self.get() {
                node.send_gathered();
            }
            Ok(())
        })
    }

    /// Whether `attend` makes sense; if not, `alarm` goes off when it does.
    fn poll_attend(&self, alarm: &Alarm) -> PyResult<bool> {
        guarded(|| {
            let node = self.get()?;
            Ok(alarm.poll(|cx| node.poll_attend(cx))?.is_some())
        })
    }

    /// Ends the node; when the future is done, nothing of it is left.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let node = self.take();
            let closing = async move {
                if let Some(node) = node {
                    node.close().await;
                }
                Ok::<_, node::NodeError>(())
            };
            rare(py, closing, convert::nothing)
        })
    }
}
