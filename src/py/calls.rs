//! `send` and `request`, the calls that come in great numbers: no future of ours, no task, no
//! timer each. An asyncio future waits, and is settled when the loop's thread drains.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::bridge::{Bridge, Item, Queue};
use super::convert::{Data, Peer, kind_name, payload, timeout};
use super::errors::{Failure, OrRaise};
use super::fork::Held;
use super::node::Node;
use super::op::{Op, operate_later};
use super::runtime::guarded;
use crate::node::{Begun, Payload, PeerRef, Progress, Sink};
use crate::proto::messenger::Outcome;
use crate::wire::Addr;

/// The calls of one node that wait for their outcomes.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Calls {
    calls: Held<Arc<Inner>>,
}

pub(crate) struct Inner {
    queue: Arc<Queue>,
    node: Py<Node>,
    /// `Reply(sender, payload, kind, headers)`
    reply: Py<PyAny>,
    no_headers: Py<PyAny>,
    /// Has the loop call `send_gathered` in its next turn.
    flush_soon: Py<PyAny>,
    pending: Mutex<HashMap<u64, (Call, State)>>,
    /// The last sender, whose name is asked for again and again.
    sender: Mutex<Option<(Addr, Py<PyString>)>>,
}

struct Call {
    future: Py<PyAny>,
    peer: PeerRef,
    payload: Payload,
    is_request: bool,
}

enum State {
    Begun(Begun),
    /// It takes more than usual.
    Running(#[expect(dead_code, reason = "dropping it ends the call")] Op),
}

impl Sink for Inner {
    fn settle(self: Arc<Self>, number: u64, outcome: Option<Outcome>) {
        let queue = Arc::clone(&self.queue);
        queue.push(number, Item::Call(self, outcome));
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, HashMap<u64, (Call, State)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(
        self: &Arc<Self>,
        py: Python<'_>,
        peer: Peer,
        payload: Payload,
        is_request: bool,
        seconds: Option<f64>,
        future: Py<PyAny>,
    ) -> PyResult<u64> {
        let node = self.node.get().get()?;
        let limit = timeout(seconds)?;
        let sink = Arc::clone(self) as Arc<dyn Sink>;
        let begun = node.begin(&peer.0, &payload, is_request, limit, sink).or_raise(py)?;
        let Some((number, begun, gathers)) = begun else { return Ok(0) };
        let call = Call { future, peer: peer.0, payload, is_request };
        self.pending().insert(number, (call, State::Begun(begun)));
        if gathers {
            self.flush_soon.call0(py)?;
        }
        Ok(number)
    }

    /// On the loop's thread: what has become of a call.
    pub(crate) fn conclude(
        self: &Arc<Self>,
        py: Python<'_>,
        number: u64,
        outcome: Option<Outcome>,
    ) -> PyResult<()> {
        let removed = self.pending().remove(&number);
        let Some((mut call, State::Begun(begun))) = removed else { return Ok(()) };
        let node = match self.node.get().get() {
            Ok(node) => node,
            Err(error) => return fail(py, &call.future, error),
        };
        let begun = match node.conclude(&call.peer, begun, outcome) {
            Progress::Over(result) => {
                let result = result.map_err(|error| Failure::Node(error).into_py(py));
                return self.finish(py, &call, result);
            }
            Progress::Goes(begun) => begun,
        };
        let (peer, payload) = (call.peer.clone(), mem::take(&mut call.payload));
        let calls = Arc::clone(self);
        let going = async move { node.go_on(&peer, payload, begun).await };
        let op = operate_later(&self.queue, going, move |py, result| {
            let removed = calls.pending().remove(&number);
            if let Some((call, _)) = removed {
                let result = result.map_err(|failure| failure.into_py(py));
                calls.finish(py, &call, result)?;
            }
            Ok(())
        })?;
        self.pending().insert(number, (call, State::Running(op)));
        Ok(())
    }

    fn finish(
        &self,
        py: Python<'_>,
        call: &Call,
        result: PyResult<(Addr, Payload)>,
    ) -> PyResult<()> {
        let value = match result {
            Ok((sender, payload)) if call.is_request => self.reply(py, sender, &payload),
            Ok(_) => Ok(py.None()),
            Err(error) => Err(error),
        };
        match value {
            // It fails if the future was cancelled: then nobody waits.
            Ok(value) => {
                drop(call.future.call_method1(py, intern!(py, "set_result"), (value,)));
                Ok(())
            }
            Err(error) => fail(py, &call.future, error),
        }
    }

    fn reply(&self, py: Python<'_>, sender: Addr, payload: &Payload) -> PyResult<Py<PyAny>> {
        let headers = match payload.headers.is_empty() {
            true => self.no_headers.clone_ref(py),
            false => {
                let headers = PyDict::new(py);
                for (key, value) in &payload.headers {
                    headers.set_item(key, value)?;
                }
                headers.into_any().unbind()
            }
        };
        let data = PyBytes::new(py, &payload.data);
        let kind = kind_name(py, payload.kind);
        self.reply.call1(py, (self.name(py, sender), data, kind, headers))
    }

    fn name(&self, py: Python<'_>, sender: Addr) -> Py<PyString> {
        let mut last = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((addr, name)) if *addr == sender => name.clone_ref(py),
            _ => {
                let name = PyString::new(py, &sender.to_string()).unbind();
                *last = Some((sender, name.clone_ref(py)));
                name
            }
        }
    }
}

fn fail(py: Python<'_>, future: &Py<PyAny>, error: PyErr) -> PyResult<()> {
    // As above.
    drop(future.call_method1(py, intern!(py, "set_exception"), (error.into_value(py),)));
    Ok(())
}

#[pymethods]
impl Calls {
    #[new]
    fn new(
        node: Py<Node>,
        bridge: &Bridge,
        reply: Py<PyAny>,
        no_headers: Py<PyAny>,
        flush_soon: Py<PyAny>,
    ) -> PyResult<Self> {
        let inner = Inner {
            queue: bridge.queue()?,
            node,
            reply,
            no_headers,
            flush_soon,
            pending: Mutex::default(),
            sender: Mutex::default(),
        };
        Ok(Self { calls: Held::new(Arc::new(inner)) })
    }

    /// Asks, and has the answer set in `future`; a number for `withdraw`. 0: this one takes more
    /// than usual, use `Node.request`.
    #[expect(clippy::too_many_arguments, reason = "the shape of the Python call")]
    fn request(
        &self,
        py: Python<'_>,
        peer: Peer,
        kind: &str,
        data: Data,
        traffic: &str,
        seconds: Option<f64>,
        future: Py<PyAny>,
    ) -> PyResult<u64> {
        guarded(|| {
            let payload = payload(kind, data, Vec::new(), traffic)?;
            self.calls.get()?.begin(py, peer, payload, true, seconds, future)
        })
    }

    /// The same for a message; the future gets `None` when it has arrived.
    #[expect(clippy::too_many_arguments, reason = "the shape of the Python call")]
    fn send(
        &self,
        py: Python<'_>,
        peer: Peer,
        kind: &str,
        data: Data,
        traffic: &str,
        seconds: Option<f64>,
        future: Py<PyAny>,
    ) -> PyResult<u64> {
        guarded(|| {
            let payload = payload(kind, data, Vec::new(), traffic)?;
            self.calls.get()?.begin(py, peer, payload, false, seconds, future)
        })
    }

    /// Nobody waits for it any more.
    fn withdraw(&self, number: u64) -> PyResult<()> {
        guarded(|| {
            let Ok(calls) = self.calls.get() else { return Ok(()) };
            let call = calls.pending().remove(&number);
            if let (Some(_), Ok(node)) = (&call, calls.node.get().get()) {
                node.withdraw(number);
            }
            // Dropped here, where no lock is held: it may hold the last of something.
            drop(call);
            Ok(())
        })
    }
}
