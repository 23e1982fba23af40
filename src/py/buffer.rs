//! The buffer protocol: the one place with `unsafe`.
//!
//! # Why by hand
//! PyO3 has it only without `abi3` before 3.11, and one wheel for every Python is worth more than
//! forty lines: a wheel for each version would have to be built and tested for each. The two
//! functions and the struct are in the stable ABI since 3.11, and were the same before (PEP 3118);
//! every CPython exports them.
//!
//! # Why it is sound
//! A view is taken and given back by a thread that is attached to the interpreter (it cannot be
//! sent to another), and the exporter keeps the bytes in place as long as there is one. They are
//! looked at in [`Buffer::copy`] and [`Buffer::put`] only, which run no Python code: no other code
//! can see or change them meanwhile, and no reference to them leaves.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use bytes::Bytes;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;

const SIMPLE: c_int = 0;
const WRITABLE: c_int = 1;

/// `Py_buffer`.
#[repr(C)]
struct View {
    buf: *mut c_void,
    obj: *mut PyObject,
    len: isize,
    itemsize: isize,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut isize,
    strides: *mut isize,
    suboffsets: *mut isize,
    internal: *mut c_void,
}

#[expect(unsafe_code, reason = "the C API of buffers")]
unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut View, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut View);
}

/// A view of an object's bytes. The C side may point into it, so it is not moved.
pub(crate) struct Buffer<'py> {
    view: Box<View>,
    _attached: Python<'py>,
}

impl<'py> Buffer<'py> {
    /// A view to read from.
    ///
    /// # Errors
    /// It is no buffer, or not in one piece.
    pub(crate) fn readable(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::take(object, SIMPLE)
    }

    /// A view to write to.
    ///
    /// # Errors
    /// It is no buffer, read-only, or not in one piece.
    pub(crate) fn writable(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        Self::take(object, WRITABLE)
    }

    #[expect(unsafe_code, reason = "the C API of buffers")]
    fn take(object: &Bound<'py, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<View>::zeroed());
        // SAFETY: `object` is alive and we are attached; `view` is room for a `Py_buffer`.
        let failed = unsafe { PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) };
        if failed != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: it was zeroed, which is a valid `View`, and then filled in.
        let view = unsafe { view.assume_init() };
        Ok(Self { view, _attached: object.py() })
    }

    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.view.len).unwrap_or(0)
    }

    /// At most `max` bytes from `at` on; `None` past the end.
    #[expect(unsafe_code, reason = "the C API of buffers")]
    pub(crate) fn copy(&self, at: usize, max: usize) -> Option<Bytes> {
        // SAFETY: `PyBUF_SIMPLE` promises `len` bytes in one piece from `buf` on, for as long as
        // the view is held; nobody changes them meanwhile (see the module).
        let bytes = unsafe { std::slice::from_raw_parts(self.start(), self.len()) };
        let rest = bytes.get(at..)?;
        Some(Bytes::copy_from_slice(rest.get(..max).unwrap_or(rest)))
    }

    /// Writes `data` from `at` on, as far as there is room; how much of it that was.
    #[expect(unsafe_code, reason = "the C API of buffers")]
    pub(crate) fn put(&mut self, at: usize, data: &[u8]) -> usize {
        if self.view.readonly != 0 {
            return 0;
        }
        // SAFETY: as in `copy`; the exporter says that they may be written, and nobody else looks
        // at them meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start(), self.len()) };
        let room = bytes.get_mut(at..).unwrap_or_default();
        let count = room.len().min(data.len());
        room[..count].copy_from_slice(&data[..count]);
        count
    }

    /// Where the bytes begin; never null, not even for none.
    fn start(&self) -> *mut u8 {
        if self.view.buf.is_null() { ptr::dangling_mut() } else { self.view.buf.cast() }
    }
}

impl Drop for Buffer<'_> {
    #[expect(unsafe_code, reason = "the C API of buffers")]
    fn drop(&mut self) {
        // SAFETY: it was filled by `PyObject_GetBuffer`, is given back once, and the lifetime says
        // that this thread is still attached.
        unsafe { PyBuffer_Release(&raw mut *self.view) }
    }
}
