//! What a forked child inherits and must not touch.
//!
//! `fork` copies memory but only the calling thread: locks may be held by threads that do not
//! exist in the child, and tasks will never run. So every handle remembers the process that made
//! it; in another process it refuses to be used, and is leaked instead of dropped.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use super::errors;

/// How many forks ago this process was the one that loaded the module. Asking the system who we
/// are costs a system call, and is done for each handle that is used.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Names this process among its ancestors.
#[pyfunction]
pub(crate) fn process() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Python calls this in a forked child before anything else.
#[pyfunction]
pub(crate) fn after_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A value that only the process that made it may use or drop.
pub(crate) struct Held<T> {
    process: u32,
    value: Option<T>,
}

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: process(), value: Some(value) }
    }

    /// Whether this is the process that made the value.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == process()
    }

    /// The value.
    ///
    /// # Errors
    /// `ForkedProcessError` in a forked child.
    pub(crate) fn get(&self) -> PyResult<&T> {
        match &self.value {
            Some(value) if self.is_ours() => Ok(value),
            _ => Err(errors::forked()),
        }
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            mem::forget(self.value.take());
        }
    }
}
