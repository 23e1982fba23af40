//! `pilot_agent._native`: the extension module behind the Python package.
//!
//! Thin on purpose: convert, call the node, convert back. It owns the tokio runtime
//! ([`runtime`]) and the way results reach an event loop ([`bridge`]); it never decides what a
//! packet means. Python users never import it; `python/pilot_agent` wraps every class.
//!
//! # Why there are four ways to wait
//! A general future-to-awaitable conversion costs a task and two thread wake-ups a call. So what
//! comes in great numbers has no future of ours at all ([`calls`]); what repeats is tried on the
//! calling thread first, and when it must wait, a waker pushes a token to the loop's one queue and
//! rings its one bell, without the interpreter's lock ([`op`], [`bridge`]); what touches files runs
//! as a task; and only calls that happen a few times in a node's life (`close`, `find`, `resolve`)
//! go through pyo3-async-runtimes. `docs/python-boundary.md` has the figures.

mod bridge;
mod buffer;
mod calls;
mod config;
mod convert;
mod errors;
mod fork;
mod info;
mod node;
mod op;
mod paths;
mod port;
mod rendezvous;
mod runtime;
mod simulate;
mod stream;
mod trust;

use pyo3::prelude::*;

/// The native half of `pilot_agent`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<bridge::Bridge>()?;
    module.add_class::<bridge::Alarm>()?;
    module.add_class::<calls::Calls>()?;
    module.add_class::<op::Op>()?;
    module.add_class::<paths::Events>()?;
    module.add_class::<runtime::Lease>()?;
    module.add_class::<node::Node>()?;
    module.add_class::<simulate::Simulation>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<trust::Trust>()?;
    module.add_class::<port::Listener>()?;
    module.add_class::<port::DatagramPort>()?;
    module.add_class::<rendezvous::Rendezvous>()?;
    module.add_function(wrap_pyfunction!(node::start_node, module)?)?;
    module.add_function(wrap_pyfunction!(rendezvous::start_rendezvous, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(fork::process, module)?)?;
    module.add_function(wrap_pyfunction!(fork::after_fork, module)?)?;
    Ok(())
}
