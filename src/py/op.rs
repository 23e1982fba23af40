//! Operations under way: futures of the node that a coroutine waits for.
//!
//! # Why most of them are polled on the loop's thread
//! `send`, `request` and their like write something under the node's lock, then wait for one
//! event. Polled where they were called, what they write is on its way when the call returns, and
//! the event rings the loop directly: no task, no hop between worker threads, and cancelling
//! drops the future there and then. What touches files or takes many steps runs in a task
//! ([`spawn`]), so that it does not hold up the loop and the loop does not hold it up.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::bridge::{Bridge, Deliver, Item, Queue};
use super::errors::Failure;
use super::fork::Held;
use super::runtime::{Caught, guarded, handle};
use crate::node::NodeError;

/// Longest wait for a cancelled task to be gone.
const JOIN_LIMIT: Duration = Duration::from_secs(1);

/// A token that no completion has.
const NOBODY: u64 = 0;

/// Makes a Python value of a result.
type Convert<T> = fn(Python<'_>, T) -> PyResult<Py<PyAny>>;

/// What an operation returns when it starts: `(op, None)` while it runs, `(None, value)` when it
/// is done already.
pub(crate) type Started = PyResult<(Option<Op>, Option<Py<PyAny>>)>;

/// An operation under way; dropping or cancelling it drops its future.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Op {
    run: Held<Run>,
}

enum Run {
    Polled(Arc<Polled>),
    Task(Mutex<Option<JoinHandle<()>>>),
}

/// Polls `future` here and, if it has to wait, whenever it is woken, when the loop drains.
pub(crate) fn operate<T: Send + 'static, E: Into<Failure>>(
    py: Python<'_>,
    bridge: &Bridge,
    token: u64,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
    convert: Convert<T>,
) -> Started {
    let future = Caught::new(future);
    let future = async move { deliver(future.await, convert) };
    let polled = Arc::new(Polled {
        queue: bridge.queue()?,
        token,
        is_queued: AtomicBool::new(false),
        future: Mutex::new(Some(Box::pin(future))),
    });
    match polled.go_on() {
        Some(deliver) => Ok((None, Some(deliver(py)?))),
        None => Ok((Some(Op { run: Held::new(Run::Polled(polled)) }), None)),
    }
}

/// As [`operate`], for what has no coroutine of its own that waits: `finish` gets the result when
/// the loop drains, never before this returns.
pub(crate) fn operate_later<T: Send + 'static, E: Into<Failure>>(
    queue: &Arc<Queue>,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
    finish: impl FnOnce(Python<'_>, Result<T, Failure>) -> PyResult<()> + Send + 'static,
) -> PyResult<Op> {
    let future = Caught::new(future);
    let future = async move {
        let result = future.await;
        Box::new(move |py: Python<'_>| finish(py, result).map(|()| py.None())) as Deliver
    };
    let polled = Arc::new(Polled {
        queue: Arc::clone(queue),
        token: NOBODY,
        is_queued: AtomicBool::new(false),
        future: Mutex::new(Some(Box::pin(future))),
    });
    polled.wake_by_ref();
    Ok(Op { run: Held::new(Run::Polled(polled)) })
}

/// Runs `future` as a task.
pub(crate) fn spawn<T: Send + 'static, E: Into<Failure>>(
    py: Python<'_>,
    bridge: &Bridge,
    token: u64,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
    convert: Convert<T>,
) -> Started {
    let runtime = handle().ok_or_else(|| Failure::Node(NodeError::Closed).into_py(py))?;
    let future = Caught::new(future);
    let unfinished = Unfinished { queue: bridge.queue()?, token, is_done: false };
    let task = runtime.spawn(async move {
        let result = future.await;
        unfinished.finish(deliver(result, convert));
    });
    Ok((Some(Op { run: Held::new(Run::Task(Mutex::new(Some(task)))) }), None))
}

fn deliver<T: Send + 'static>(result: Result<T, Failure>, convert: Convert<T>) -> Deliver {
    Box::new(move |py| convert(py, result.map_err(|failure| failure.into_py(py))?))
}

fn closed() -> Deliver {
    Box::new(|py| Err(Failure::Node(NodeError::Closed).into_py(py)))
}

/// A future that is polled on the loop's thread.
pub(crate) struct Polled {
    queue: Arc<Queue>,
    token: u64,
    /// It waits in the queue to be polled.
    is_queued: AtomicBool,
    /// `None` once it is done or dropped.
    future: Mutex<Option<Pin<Box<dyn Future<Output = Deliver> + Send>>>>,
}

impl Polled {
    /// Polls; gives the result once.
    pub(crate) fn go_on(self: &Arc<Self>) -> Option<Deliver> {
        self.is_queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(self));
        let mut slot = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        let future = slot.as_mut()?;
        let polled = match handle() {
            Some(runtime) => {
                let _entered = runtime.enter();
                future.as_mut().poll(&mut Context::from_waker(&waker))
            }
            None => Poll::Ready(closed()),
        };
        match polled {
            Poll::Ready(deliver) => {
                *slot = None;
                Some(deliver)
            }
            Poll::Pending => None,
        }
    }

    fn forget(&self) {
        let future = self.future.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(future);
    }
}

impl Wake for Polled {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.queue.push(self.token, Item::Poll(Arc::clone(self)));
        }
    }
}

impl Run {
    fn cancel(&self) {
        match self {
            Self::Polled(polled) => polled.forget(),
            Self::Task(task) => {
                let task = task.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(task) = &*task {
                    task.abort();
                }
            }
        }
    }

    fn cancel_and_join(&self, py: Python<'_>) {
        self.cancel();
        if let Self::Task(task) = self {
            let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let (Some(task), Some(runtime)) = (task, handle()) {
                let joined = async { timeout(JOIN_LIMIT, task).await.is_ok() };
                py.detach(|| runtime.block_on(joined));
            }
        }
    }
}

#[pymethods]
impl Op {
    /// Drops the operation. What it has already sent stays sent.
    fn cancel(&self) -> PyResult<()> {
        guarded(|| {
            if let Ok(run) = self.run.get() {
                run.cancel();
            }
            Ok(())
        })
    }

    /// Drops the operation and waits until nothing of it is left: what it held (a file lock, a
    /// port) is free then. A matter of microseconds.
    fn cancel_and_join(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| {
            if let Ok(run) = self.run.get() {
                run.cancel_and_join(py);
            }
            Ok(())
        })
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Ok(run) = self.run.get() {
            run.cancel();
        }
    }
}

/// Tells the loop even if the runtime ends before the task does.
struct Unfinished {
    queue: Arc<Queue>,
    token: u64,
    is_done: bool,
}

impl Unfinished {
    fn finish(mut self, deliver: Deliver) {
        self.is_done = true;
        self.queue.push(self.token, Item::Done(deliver));
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            self.queue.push(self.token, Item::Done(closed()));
        }
    }
}
