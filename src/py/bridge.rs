//! How results reach an event loop: one queue and one bell per loop.
//!
//! An I/O task pushes `(token, result)` and, if the queue was empty, rings: one byte into a
//! socket pair that the loop watches. It never needs the interpreter's lock. One callback on the
//! loop's thread then drains everything. Rings are coalesced: under load a batch of completions
//! costs one wake-up.

use std::future::Future;
use std::io::{self, Read, Write};
#[cfg(unix)]
use std::os::fd::AsRawFd;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::errors::{self, Failure};
use super::fork::Held;
use super::runtime::{Caught, guarded, handle};
use crate::node::NodeError;

/// Longest wait for a cancelled operation to be gone.
const JOIN_LIMIT: Duration = Duration::from_secs(1);

/// Makes the Python value of a completion, attached to the interpreter.
type Deliver = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What `drain` gives to Python: token, value, error.
type Drained = (u64, Option<Py<PyAny>>, Option<Py<PyAny>>);

/// Completions on their way to one event loop.
pub(crate) struct Queue {
    items: Mutex<Vec<(u64, Option<Deliver>)>>,
    bell: Bell,
}

enum Bell {
    /// Watched with `loop.add_reader`.
    #[cfg(unix)]
    Socket { ring: UnixStream, heard: UnixStream },
    /// For loops that watch no descriptors: `call_soon_threadsafe`, bound to the drain.
    Callback(Py<PyAny>),
}

impl Queue {
    /// Adds a completion; `None` just says "look again".
    fn push(&self, token: u64, deliver: Option<Deliver>) {
        let was_empty = {
            let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
            items.push((token, deliver));
            items.len() == 1
        };
        if was_empty {
            self.bell.ring();
        }
    }
}

impl Bell {
    fn ring(&self) {
        match self {
            // A full socket means that the loop has been rung often enough.
            #[cfg(unix)]
            Self::Socket { ring, .. } => {
                let _ = (&*ring).write(&[1]);
            }
            Self::Callback(callback) => {
                // Fails only when the loop is closed, and then nobody waits.
                Python::try_attach(|py| callback.call0(py).map(drop));
            }
        }
    }

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
            let queue = Queue { items: Mutex::default(), bell };
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
            // First silence the bell, then look: what comes in between rings again.
            queue.bell.quiet();
            let items =
                std::mem::take(&mut *queue.items.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(items.into_iter().map(|(token, deliver)| settle(py, token, deliver)).collect())
        })
    }
}

fn settle(py: Python<'_>, token: u64, deliver: Option<Deliver>) -> Drained {
    match deliver.map(|deliver| guarded(|| deliver(py))) {
        None => (token, None, None),
        Some(Ok(value)) => (token, Some(value), None),
        Some(Err(error)) => (token, None, Some(error.into_value(py).into_any())),
    }
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
            self.queue.push(self.token, None);
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

/// An operation under way; dropping or cancelling it drops its future.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Op {
    task: Held<Mutex<Option<JoinHandle<()>>>>,
}

impl Op {
    fn task(&self) -> Option<MutexGuard<'_, Option<JoinHandle<()>>>> {
        // In a forked child there is no task, and perhaps nobody to unlock this.
        Some(self.task.get().ok()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn abort(&self) {
        if let Some(task) = self.task().as_deref().and_then(Option::as_ref) {
            task.abort();
        }
    }
}

#[pymethods]
impl Op {
    /// Drops the operation, soon. What it has already sent stays sent.
    fn cancel(&self) -> PyResult<()> {
        guarded(|| {
            self.abort();
            Ok(())
        })
    }

    /// Drops the operation and waits until nothing of it is left: what it held (a file lock, a
    /// port) is free then. For operations that do not block, so this is a matter of microseconds.
    fn cancel_and_join(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| {
            let task = self.task().as_deref_mut().and_then(Option::take);
            if let (Some(task), Some(runtime)) = (task, handle()) {
                task.abort();
                let joined = async { timeout(JOIN_LIMIT, task).await.is_ok() };
                py.detach(|| runtime.block_on(joined));
            }
            Ok(())
        })
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        self.abort();
    }
}

/// What an operation returns when it starts: `(op, None)` while it runs, `(None, value)` when it
/// is done already.
pub(crate) type Started = PyResult<(Option<Op>, Option<Py<PyAny>>)>;

/// Polls `future` once on this thread; `(None, value)` if that was enough, else a task carries
/// on and the result goes to `token`.
pub(crate) fn operate<T: Send + 'static, E: Into<Failure>>(
    py: Python<'_>,
    bridge: &Bridge,
    token: u64,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
    convert: fn(Python<'_>, T) -> PyResult<Py<PyAny>>,
) -> Started {
    let queue = Arc::clone(bridge.queue.get()?);
    let runtime = handle().ok_or_else(|| Failure::Node(NodeError::Closed).into_py(py))?;
    let mut future = Caught::new(future);
    let first = {
        let _entered = runtime.enter();
        Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()))
    };
    if let Poll::Ready(result) = first {
        let value = result.map_err(|failure| failure.into_py(py))?;
        return Ok((None, Some(convert(py, value)?)));
    }
    let unfinished = Unfinished { queue, token, is_done: false };
    let task = runtime.spawn(async move {
        let result = future.await;
        unfinished.finish(Box::new(move |py| {
            convert(py, result.map_err(|failure| failure.into_py(py))?)
        }));
    });
    Ok((Some(Op { task: Held::new(Mutex::new(Some(task))) }), None))
}

/// Tells the loop even if the runtime ends before the operation does.
struct Unfinished {
    queue: Arc<Queue>,
    token: u64,
    is_done: bool,
}

impl Unfinished {
    fn finish(mut self, deliver: Deliver) {
        self.is_done = true;
        self.queue.push(self.token, Some(deliver));
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            let closed: Deliver = Box::new(|py| Err(Failure::Node(NodeError::Closed).into_py(py)));
            self.queue.push(self.token, Some(closed));
        }
    }
}
