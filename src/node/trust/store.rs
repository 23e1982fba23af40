//! The trust book behind its lock, and its file beside the identity.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::book::{Saved, TrustBook};
use crate::crypto::private_file;
use crate::net::clock;
use crate::node::error::NodeError;
use crate::wire::NodeId;

const VERSION: u32 = 1;

/// See the [module](self).
#[derive(Debug)]
pub(in crate::node) struct TrustStore {
    book: Mutex<TrustBook>,
    path: Option<PathBuf>,
    /// Held while writing, so that an older state never overwrites a newer one.
    writing: Mutex<Option<Saved>>,
    changed: watch::Sender<()>,
}

impl TrustStore {
    /// Reads the file; no file means nobody is trusted.
    pub(in crate::node) fn load(
        path: Option<PathBuf>,
        auto_approve: bool,
    ) -> Result<Arc<Self>, NodeError> {
        let saved = match &path {
            Some(path) => read(path)?,
            None => Saved::default(),
        };
        let book = TrustBook::new(saved, auto_approve);
        let writing = Mutex::new(Some(book.save(VERSION)));
        let changed = watch::Sender::new(());
        Ok(Arc::new(Self { book: Mutex::new(book), path, writing, changed }))
    }

    /// Whether the node with this key may reach us although we are private.
    pub(in crate::node) fn is_trusted(&self, node: NodeId, key: &[u8; 32]) -> bool {
        self.book().is_trusted(node, key)
    }

    /// Whether a peer has just taken its trust back.
    pub(in crate::node) fn has_shut_us_out(&self, node: NodeId) -> bool {
        self.book().is_muted(clock::unix_now(), node)
    }

    pub(super) fn look<T>(&self, view: impl FnOnce(&TrustBook) -> T) -> T {
        view(&self.book())
    }

    /// Changes the book, and saves it if that made a difference.
    pub(super) async fn change<T>(self: &Arc<Self>, verb: impl FnOnce(&mut TrustBook) -> T) -> T {
        let result = verb(&mut self.book());
        if self.path.is_some() {
            let store = self.clone();
            // A node that closes meanwhile has saved the change or has not; both are whole files.
            let _ = spawn_blocking(move || store.save()).await;
        }
        // Who waited for the change may end the process next: it is on disk now.
        self.changed.send_replace(());
        result
    }

    /// Has those who wait for a change look again.
    pub(super) fn wake(&self) {
        self.changed.send_replace(());
    }

    /// Sees every later change.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn save(&self) {
        let Some(path) = &self.path else { return };
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = self.book().save(VERSION);
        if writing.as_ref() == Some(&saved) {
            return;
        }
        let written = match serde_json::to_vec(&saved) {
            Ok(text) => private_file::write_atomic(path, &text).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match written {
            Ok(()) => *writing = Some(saved),
            // It holds for this process; only the next one would not know it.
            Err(error) => warn!(%error, "who is trusted could not be saved"),
        }
    }

    fn book(&self) -> MutexGuard<'_, TrustBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starting without the file would be safe but surprising: everybody would be shut out, and the
/// next change would overwrite it. So a file that cannot be used stops the start.
fn read(path: &Path) -> Result<Saved, NodeError> {
    let damaged = |why: String| {
        NodeError::Identity(format!(
            "the list of trusted peers in {} cannot be used: {why}; restore it from a backup, or \
             move it away to trust nobody",
            path.display()
        ))
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(damaged(error.to_string())),
    };
    let mode = private_file::bits_of_others(&file).map_err(|error| damaged(error.to_string()))?;
    if mode & 0o022 != 0 {
        return Err(damaged(format!("others can change it (mode {mode:04o}); chmod 600 it")));
    }
    let bytes = private_file::read(&file, path).map_err(|error| damaged(error.to_string()))?;
    let saved: Saved =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    match saved.version {
        VERSION => Ok(saved),
        other => Err(damaged(format!("it has version {other}, this release reads {VERSION}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trust_outlives_the_process_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.trust.json");
        let store = TrustStore::load(Some(path.clone()), false).unwrap();
        assert!(!path.exists());
        store.change(|book| book.approve(5, NodeId(7), [1; 32])).await.unwrap();
        let again = TrustStore::load(Some(path.clone()), false).unwrap();
        assert!(again.is_trusted(NodeId(7), &[1; 32]));
        assert!(!again.is_trusted(NodeId(7), &[2; 32]), "trust belongs to the key");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let permissions = |mode| std::fs::Permissions::from_mode(mode);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, permissions(0o620)).unwrap();
            let error = TrustStore::load(Some(path.clone()), false).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
            std::fs::set_permissions(&path, permissions(0o600)).unwrap();
        }
        for damage in ["", "[]", r#"{"version":9}"#] {
            std::fs::write(&path, damage).unwrap();
            assert!(TrustStore::load(Some(path.clone()), false).is_err(), "{damage}");
        }
    }
}
