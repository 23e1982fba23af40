//! What a forked child inherits and must not touch.
//!
//! `fork` copies memory but only the calling thread: locks may be held by threads that do not
//! exist in the child, and tasks will never run. So every handle remembers the process that made
//! it; in another process it refuses to be used, and is leaked instead of dropped.

use std::mem;
use std::process;

use pyo3::prelude::*;

use super::errors;

/// A value that only the process that made it may use or drop.
pub(crate) struct Held<T> {
    pid: u32,
    value: Option<T>,
}

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { pid: process::id(), value: Some(value) }
    }

    /// Whether this is the process that made the value.
    pub(crate) fn is_ours(&self) -> bool {
        self.pid == process::id()
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
