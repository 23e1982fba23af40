//! A lock that who has just released it does not get before those who wait.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// A mutex goes to whoever takes it first, which is often the thread that released it. Here one of
/// those who wait holds a gate, and who comes back at once waits at the gate.
#[derive(Debug)]
pub(super) struct FairLock<T> {
    gate: Mutex<()>,
    inner: Mutex<T>,
}

impl<T> FairLock<T> {
    pub(super) fn new(value: T) -> Self {
        Self { gate: Mutex::new(()), inner: Mutex::new(value) }
    }

    /// A panic under the lock is a bug that is reported where it happened; what is locked must
    /// stay usable, so poison is ignored.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits, asked by the one who holds it.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self.gate.try_lock(), Err(TryLockError::WouldBlock))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_comes_before_who_comes_back() {
        for _ in 0..100 {
            let lock = FairLock::new(Vec::new());
            thread::scope(|scope| {
                let mut held = lock.lock();
                assert!(!lock.is_wanted());
                scope.spawn(|| lock.lock().push("waited"));
                while !lock.is_wanted() {
                    thread::yield_now();
                }
                held.push("first");
                drop(held);
                lock.lock().push("came back");
            });
            assert_eq!(*lock.lock(), ["first", "waited", "came back"]);
        }
    }
}
