//! The tokio runtime: one per process, alive while something holds a [`Lease`] on it.
//!
//! # Why not the runtime of pyo3-async-runtimes
//! Its runtime lives in a static that is set once: it can neither follow a `fork` nor end. Ours
//! is replaced in a forked child (the parent's is leaked there: its threads are gone, so dropping
//! it would hang), and shut down, threads joined, when the last node of the process closes.

use std::any::Any;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3_async_runtimes::{TaskLocals, generic};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use super::errors::{self, Failure};
use super::fork::process;

/// Longest time that joining the runtime's threads may take.
const JOIN_LIMIT: Duration = Duration::from_secs(5);
const MAX_WORKERS: usize = 4;
/// A thread for blocking work ends after this long without any.
const BLOCKING_KEPT: Duration = Duration::from_secs(1);

static HOLDER: Mutex<Option<Holder>> = Mutex::new(None);

struct Holder {
    process: u32,
    runtime: Runtime,
    leases: usize,
}

/// Taken only by threads attached to the interpreter, and never while detaching: so that no
/// other thread can hold it at the moment of a `fork`.
fn holder() -> MutexGuard<'static, Option<Holder>> {
    let mut guard = HOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.as_ref().is_some_and(|holder| holder.process != process()) {
        mem::forget(guard.take());
    }
    guard
}

/// The runtime of this process, if something holds a lease on it.
pub(crate) fn handle() -> Option<Handle> {
    holder().as_ref().map(|holder| holder.runtime.handle().clone())
}

fn build() -> std::io::Result<Runtime> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let count = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(cpus.min(MAX_WORKERS))
        // Files are seldom worked on: the threads for that go soon after.
        .thread_keep_alive(BLOCKING_KEPT)
        .thread_name_fn(move || format!("pilot-io-{}", count.fetch_add(1, Ordering::Relaxed)))
        .enable_all()
        .build()
}

/// Takes a lease, on a new runtime if there is none.
fn join() -> std::io::Result<()> {
    let mut guard = holder();
    let holder = match &mut *guard {
        Some(holder) => holder,
        empty => empty.insert(Holder { process: process(), runtime: build()?, leases: 0 }),
    };
    holder.leases += 1;
    Ok(())
}

/// Keeps the runtime alive; releasing the last one joins its threads.
#[pyclass(frozen, module = "pilot_agent._native")]
pub(crate) struct Lease {
    process: u32,
    live: AtomicBool,
}

impl Lease {
    /// The runtime, if this was the last lease on it.
    fn give_back(&self) -> Option<Runtime> {
        if !self.live.swap(false, Ordering::AcqRel) || self.process != process() {
            return None;
        }
        let mut guard = holder();
        let holder = guard.as_mut()?;
        holder.leases -= 1;
        if holder.leases > 0 {
            return None;
        }
        guard.take().map(|holder| holder.runtime)
    }
}

#[pymethods]
impl Lease {
    #[new]
    fn new() -> PyResult<Self> {
        guarded(|| {
            join().map_err(|error| errors::local(&error))?;
            Ok(Self { process: process(), live: AtomicBool::new(true) })
        })
    }

    /// Gives the lease back; waits for the runtime's threads if it was the last.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        guarded(|| {
            if let Some(runtime) = self.give_back() {
                py.detach(|| runtime.shutdown_timeout(JOIN_LIMIT));
            }
            Ok(())
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(runtime) = self.give_back() else { return };
        if Handle::try_current().is_ok() {
            // A runtime's own thread cannot wait for itself.
            return runtime.shutdown_background();
        }
        let mut runtime = Some(runtime);
        let attached = Python::try_attach(|py| {
            if let Some(runtime) = runtime.take() {
                py.detach(|| runtime.shutdown_timeout(JOIN_LIMIT));
            }
        });
        if let (None, Some(runtime)) = (attached, runtime) {
            runtime.shutdown_background();
        }
    }
}

/// Ends the runtime whoever holds it: for the end of the interpreter.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) -> PyResult<()> {
    guarded(|| {
        let taken = holder().take();
        if let Some(holder) = taken {
            py.detach(|| holder.runtime.shutdown_timeout(Duration::from_secs(1)));
        }
        Ok(())
    })
}

/// Runs what a Python call wants; a panic is our bug and becomes a `PilotError` that says so.
pub(crate) fn guarded<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|panic| Err(errors::internal(&panic_text(&*panic))))
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// A future whose panics are values.
pub(crate) struct Caught<T>(Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>);

impl<T> Caught<T> {
    pub(crate) fn new<E: Into<Failure>>(
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(async move { future.await.map_err(Into::into) }))
    }
}

impl<T> Future for Caught<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.as_mut();
        catch_unwind(AssertUnwindSafe(|| future.poll(cx)))
            .unwrap_or_else(|panic| Poll::Ready(Err(Failure::Panic(panic_text(&*panic)))))
    }
}

/// Turns the result of a rare call into a Python object, attached to the interpreter.
type Convert<T> = fn(Python<'_>, T) -> PyResult<Py<PyAny>>;

struct Settled<T> {
    result: Result<T, Failure>,
    convert: Convert<T>,
}

impl<'py, T> IntoPyObject<'py> for Settled<T> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let value = self.result.map_err(|failure| failure.into_py(py))?;
        (self.convert)(py, value).map(|value| value.into_bound(py))
    }
}

/// An asyncio future for a call that happens a few times in a node's life. Cancelling it drops
/// `future`.
pub(crate) fn rare<'py, T: Send + 'static, E: Into<Failure>>(
    py: Python<'py>,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
    convert: Convert<T>,
) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::with_running_loop(py)?;
    let future = Caught::new(future);
    // The conversion, errors included, happens in `into_pyobject`: no I/O thread waits for the
    // interpreter.
    generic::future_into_py_with_locals::<Tokio, _, _>(py, locals, async move {
        Ok(Settled { result: future.await, convert })
    })
}

/// Our runtime, the way pyo3-async-runtimes wants to see it.
struct Tokio;

/// Why a task of [`Tokio`] gave no result; `None` if it was never run.
struct Lost(Option<tokio::task::JoinError>);

impl generic::JoinError for Lost {
    fn is_panic(&self) -> bool {
        self.0.as_ref().is_some_and(tokio::task::JoinError::is_panic)
    }

    fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self.0 {
            Some(error) => error.into_panic(),
            None => Box::new("the task was never run"),
        }
    }
}

struct Joining(Option<JoinHandle<()>>);

impl Future for Joining {
    type Output = Result<(), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(task) => Pin::new(task).poll(cx).map_err(|error| Lost(Some(error))),
            None => Poll::Ready(Err(Lost(None))),
        }
    }
}

/// The handle to spawn on: a worker's own without any lock, a Python thread's from the holder.
fn current() -> Option<Handle> {
    Handle::try_current().ok().or_else(handle)
}

impl generic::Runtime for Tokio {
    type JoinError = Lost;
    type JoinHandle = Joining;

    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Joining {
        Joining(current().map(|handle| handle.spawn(future)))
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(body: F) -> Joining {
        Joining(current().map(|handle| handle.spawn_blocking(body)))
    }
}

impl generic::ContextExt for Tokio {
    /// Nothing of ours calls back into Python from a task, so there are no locals to keep.
    fn scope<F, R>(_locals: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_future_is_a_value() {
        let mut future = Caught::<()>::new(async {
            if true {
                panic!("bug {}", 7);
            }
            Ok::<_, Failure>(())
        });
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Err(Failure::Panic(text))) = Pin::new(&mut future).poll(&mut cx) else {
            panic!("not caught");
        };
        assert_eq!(text, "bug 7");
    }
}
