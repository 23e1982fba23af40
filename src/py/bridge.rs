//! How results reach an event loop: one queue and one bell per loop.
//!
//! An I/O task pushes `(token, result)` and, if the queue was empty, rings: one byte into a
//! socket pair that the loop watches. It never needs the interpreter's lock. One callback on the
//! loop's thread then drains everything. Rings are coalesced: under load a batch of completions
//! costs one wake-up. And while the loop's own thread receives for a node, nothing rings: it
//! drains right after.

use std::io::{self, Read, Write};
use std::mem;
#[cfg(unix)]
use std::os::fd::AsRawFd;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::prelude::*;

use super::calls;
use super::errors;
use super::fork::Held;
use super::op::Polled;
use super::runtime::guarded;
use crate::proto::messenger::Outcome;

/// Makes the Python value of a completion, attached to the interpreter.
pub(crate) type Deliver = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What happened to a token.
pub(crate) enum Item {
    /// Polling again may help.
    Wake,
    /// It is done.
    Done(Deliver),
    /// Its future can go on, on the loop's thread.
    Poll(Arc<Polled>),
    /// A call with this number has an outcome, `None` if the node was closed.
    Call(Arc<calls::Inner>, Option<Outcome>),
}

/// What `drain` gives to Python: token, value, error.
type Drained = (u64, Option<Py<PyAny>>, Option<Py<PyAny>>);

/// Completions on their way to one event loop.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    bell: Bell,
}

#[derive(Default)]
struct Waiting {
    items: Vec<(u64, Item)>,
    /// The loop's thread is about to drain: no need to ring.
    is_awake: bool,
    /// Since the last drain the bell was rung.
    is_rung: bool,
}

enum Bell {
    /// Watched with `loop.add_reader`.
    #[cfg(unix)]
    Socket { ring: UnixStream, heard: UnixStream },
    /// For loops that watch no descriptors: `call_soon_threadsafe`, bound to the drain.
    Callback(Py<PyAny>),
}

impl Queue {
    /// Adds what happened to a token.
    pub(crate) fn push(&self, token: u64, item: Item) {
        let mut waiting = self.waiting();
        waiting.items.push((token, item));
        if waiting.is_awake || mem::replace(&mut waiting.is_rung, true) {
            return;
        }
        match &self.bell {
            // Under the lock, so that whoever sees `is_rung` finds the byte, too. A full socket
            // means that the loop has been rung often enough.
            #[cfg(unix)]
            Bell::Socket { ring, .. } => {
                let _ = (&*ring).write(&[1]);
            }
            Bell::Callback(callback) => {
                // It waits for the interpreter, whose holder may wait for the lock.
                drop(waiting);
                // Fails only when the loop is closed, and then nobody waits.
                Python::try_attach(|py| callback.call0(py).map(drop));
            }
        }
    }

    /// The loop's thread says that it will drain.
    pub(crate) fn stay_awake(&self) {
        self.waiting().is_awake = true;
    }

    /// Everything; what comes from now on rings.
    fn take(&self) -> Vec<(u64, Item)> {
        let mut waiting = self.waiting();
        waiting.is_awake = false;
        if mem::take(&mut waiting.is_rung) {
            self.bell.quiet();
        }
        mem::take(&mut waiting.items)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    fn quiet(&self) {
        #[cfg(unix)]
        if let Self::Socket { heard, .. } = self {
            let mut sink = [0; 64];
            while matches!((&*heard).read(&mut sink), Ok(n) if n == sink.len()) {}
        }
    }
}

#[cfg(unix)]
fn socket_bell() -> io::Result<Bell> {
    let (ring, heard) = UnixStream::pair()?;
    ring.set_nonblocking(true)?;
    heard.set_nonblocking(true)?;
    Ok(Bell::Socket { ring, heard })
}

#[cfg(not(unix))]
fn socket_bell() -> io::Result<Bell> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The completion queue of one event loop.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Bridge {
    queue: Held<Arc<Queue>>,
}

impl Bridge {
    pub(crate) fn queue(&self) -> PyResult<Arc<Queue>> {
        self.queue.get().map(Arc::clone)
    }
}

#[pymethods]
impl Bridge {
    /// With `notify`, that is called from any thread to have the queue drained; without, the
    /// caller watches `fileno()`.
    #[new]
    #[pyo3(signature = (notify=None))]
    fn new(notify: Option<Py<PyAny>>) -> PyResult<Self> {
        guarded(|| {
            let bell = match notify {
                Some(callback) => Bell::Callback(callback),
                None => socket_bell().map_err(|error| errors::local(&error))?,
            };
            let queue = Queue { waiting: Mutex::default(), bell };
            Ok(Self { queue: Held::new(Arc::new(queue)) })
        })
    }

    /// The descriptor that becomes readable when there is something to drain; -1 with `notify`.
    fn fileno(&self) -> PyResult<i32> {
        Ok(match &self.queue.get()?.bell {
            #[cfg(unix)]
            Bell::Socket { heard, .. } => heard.as_raw_fd(),
            Bell::Callback(_) => -1,
        })
    }

    /// An alarm for `token`.
    fn alarm(&self, token: u64) -> PyResult<Alarm> {
        guarded(|| {
            let queue = Arc::clone(self.queue.get()?);
            let nudge = Arc::new(Nudge { queue, token, is_armed: AtomicBool::new(false) });
            let waker = Waker::from(Arc::clone(&nudge));
            Ok(Alarm { nudge: Held::new((nudge, waker)) })
        })
    }

    /// Everything that completed since the last call, as `(token, value, error)`.
    ///
    /// In a forked child always empty: the bell is shared with the parent, and hearing it here
    /// would keep it from the parent.
    fn drain(&self, py: Python<'_>) -> PyResult<Vec<Drained>> {
        guarded(|| {
            let Ok(queue) = self.queue.get() else { return Ok(Vec::new()) };
            Ok(queue
                .take()
                .into_iter()
                .filter_map(|(token, item)| settle(py, token, item))
                .collect())
        })
    }
}

/// `None`: nothing to tell yet.
fn settle(py: Python<'_>, token: u64, item: Item) -> Option<Drained> {
    let deliver = match item {
        Item::Wake => return Some((token, None, None)),
        Item::Done(deliver) => deliver,
        Item::Poll(polled) => polled.go_on()?,
        Item::Call(calls, outcome) => {
            let concluded = guarded(|| calls.conclude(py, token, outcome));
            return concluded.err().map(|error| (0, None, Some(error.into_value(py).into_any())));
        }
    };
    Some(match guarded(|| deliver(py)) {
        Ok(value) => (token, Some(value), None),
        Err(error) => (token, None, Some(error.into_value(py).into_any())),
    })
}

/// Makes the loop look at a token again.
struct Nudge {
    queue: Arc<Queue>,
    token: u64,
    /// Whether somebody waits: then the next wake-up is passed on, and only that.
    is_armed: AtomicBool,
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_armed.swap(false, Ordering::AcqRel) {
            self.queue.push(self.token, Item::Wake);
        }
    }
}

/// What `poll_*` methods take: wakes its token when polling again may help.
///
/// One for each thing that is waited for, not one for each wait: then a wait that is given up
/// leaves nothing behind in the node.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Alarm {
    nudge: Held<(Arc<Nudge>, Waker)>,
}

impl Alarm {
    /// Polls; `None` means that the token will be woken.
    pub(crate) fn poll<T>(
        &self,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> PyResult<Option<T>> {
        let (nudge, waker) = self.nudge.get()?;
        nudge.is_armed.store(true, Ordering::Release);
        match poll(&mut Context::from_waker(waker)) {
            Poll::Ready(value) => Ok(Some(value)),
            Poll::Pending => Ok(None),
        }
    }
}
