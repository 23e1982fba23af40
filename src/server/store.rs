//! What outlives a rendezvous: nodes, trust, and waiting handshakes, in one redb file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `nodes` | node id | [`NodeRecord`] as JSON |
//! | `trust` | (who, whom) | nothing |
//! | `inboxes` | node id | [`Inbox`] as JSON |
//! | `meta` | `version` | of this layout: 1 |
//!
//! JSON, because records grow fields, and an old file must still load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::proto::directory::{Effect, Inbox, NodeRecord};
use crate::wire::NodeId;

const NODES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("nodes");
const TRUST: TableDefinition<'_, (u32, u32), ()> = TableDefinition::new("trust");
const INBOXES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("inboxes");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const VERSION: u64 = 1;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    #[error("{path} is in use by another rendezvous; stop that one or choose another file")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is no database, or a damaged one.
    #[error("{path} is damaged or no rendezvous database ({reason}); move it away to start empty")]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It was written by a newer version.
    #[error("{path} has layout version {version}, this program knows {VERSION}; upgrade it")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        version: u64,
    },
    /// The file system failed: no permission, no space, no such directory.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// An open database. Only one process at a time has it.
#[derive(Debug)]
pub struct Store {
    db: Database,
    path: PathBuf,
}

/// What one [`Effect`] keeps; a later one of the same key replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Node(NodeId),
    Trust(NodeId, NodeId),
    Inbox(NodeId),
}

/// Writes that wait to be committed; at most one for each key, so that their number is bounded by
/// that of the things there are.
#[derive(Debug, Default)]
pub(super) struct Batch(BTreeMap<Key, Effect>);

impl Batch {
    pub(super) fn push(&mut self, effect: Effect) {
        let key = match &effect {
            Effect::PutNode(record) => Key::Node(record.id),
            Effect::RemoveNode(node) => Key::Node(*node),
            Effect::PutTrust { node, peer } | Effect::RemoveTrust { node, peer } => {
                Key::Trust(*node, *peer)
            }
            Effect::PutInbox { node, .. } => Key::Inbox(*node),
            Effect::Notify(_) => return,
        };
        self.0.insert(key, effect);
    }

    /// Puts back an older batch that could not be written; what is newer stays.
    pub(super) fn restore(&mut self, older: Self) {
        for (key, effect) in older.0 {
            self.0.entry(key).or_insert(effect);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Store {
    /// Opens or makes the database at `path`, and its directory.
    ///
    /// # Errors
    /// Every [`StoreError`]; each names the path.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)
                .map_err(|source| StoreError::Io { path: path.clone(), source })?;
        }
        let db = match Database::create(&path) {
            Ok(db) => db,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::InUse { path }),
            Err(error) => return Err(failed(&path, error)),
        };
        let store = Self { db, path };
        store.check_version()?;
        Ok(store)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_version(&self) -> Result<(), StoreError> {
        let version = self.read(|tx| match tx.open_table(META) {
            Ok(meta) => Ok(meta.get("version")?.map(|version| version.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        match version {
            Some(VERSION) => Ok(()),
            Some(version) => Err(StoreError::TooNew { path: self.path.clone(), version }),
            None => self.write(|tx| {
                tx.open_table(META)?.insert("version", VERSION)?;
                tx.open_table(NODES)?;
                tx.open_table(TRUST)?;
                tx.open_table(INBOXES)?;
                Ok(())
            }),
        }
    }

    /// All that was kept, to be applied to an empty directory.
    ///
    /// # Errors
    /// The database is damaged or cannot be read.
    pub fn load(&self) -> Result<Vec<Effect>, StoreError> {
        let corrupted = |what: &str, error: serde_json::Error| StoreError::Corrupted {
            path: self.path.clone(),
            reason: format!("{what}: {error}"),
        };
        let (nodes, trust, inboxes) = self.read(|tx| {
            let (mut nodes, mut trust, mut inboxes) = (Vec::new(), Vec::new(), Vec::new());
            for row in tx.open_table(NODES)?.iter()? {
                nodes.push(row?.1.value().to_vec());
            }
            for row in tx.open_table(TRUST)?.iter()? {
                trust.push(row?.0.value());
            }
            for row in tx.open_table(INBOXES)?.iter()? {
                let (node, inbox) = row?;
                inboxes.push((node.value(), inbox.value().to_vec()));
            }
            Ok((nodes, trust, inboxes))
        })?;
        let mut effects = Vec::with_capacity(nodes.len() + trust.len() + inboxes.len());
        for json in nodes {
            let record: NodeRecord =
                serde_json::from_slice(&json).map_err(|error| corrupted("node", error))?;
            effects.push(Effect::PutNode(Box::new(record)));
        }
        for (node, peer) in trust {
            effects.push(Effect::PutTrust { node: NodeId(node), peer: NodeId(peer) });
        }
        for (node, json) in inboxes {
            let inbox: Inbox =
                serde_json::from_slice(&json).map_err(|error| corrupted("inbox", error))?;
            effects.push(Effect::PutInbox { node: NodeId(node), inbox });
        }
        Ok(effects)
    }

    /// Writes a batch in one durable transaction; all of it or nothing.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut nodes = tx.open_table(NODES)?;
            let mut trust = tx.open_table(TRUST)?;
            let mut inboxes = tx.open_table(INBOXES)?;
            for effect in batch.0.values() {
                match effect {
                    Effect::PutNode(record) => {
                        nodes.insert(record.id.0, json(record).as_slice())?;
                    }
                    Effect::RemoveNode(node) => {
                        nodes.remove(node.0)?;
                    }
                    Effect::PutTrust { node, peer } => {
                        trust.insert((node.0, peer.0), ())?;
                    }
                    Effect::RemoveTrust { node, peer } => {
                        trust.remove((node.0, peer.0))?;
                    }
                    Effect::PutInbox { node, inbox } if inbox.is_empty() => {
                        inboxes.remove(node.0)?;
                    }
                    Effect::PutInbox { node, inbox } => {
                        inboxes.insert(node.0, json(inbox).as_slice())?;
                    }
                    Effect::Notify(_) => {}
                }
            }
            Ok(())
        })
    }

    fn read<T>(
        &self,
        run: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let tx = self.db.begin_read().map_err(|error| failed(&self.path, error))?;
        run(&tx).map_err(|error| failed(&self.path, error))
    }

    fn write(
        &self,
        run: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let tx = self.db.begin_write().map_err(|error| failed(&self.path, error))?;
        run(&tx).map_err(|error| failed(&self.path, error))?;
        tx.commit().map_err(|error| failed(&self.path, error))
    }
}

/// Only maps with keys that are no strings fail to serialise, and a record has none; an empty
/// value would be reported as damage when it is loaded.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn failed(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    let path = path.to_owned();
    match error.into() {
        // What redb says of a file without its magic number.
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Corrupted { path, reason: source.to_string() }
        }
        redb::Error::Io(source) => StoreError::Io { path, source },
        other => StoreError::Corrupted { path, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(node: u32, peer: u32) -> Effect {
        Effect::PutTrust { node: NodeId(node), peer: NodeId(peer) }
    }

    fn batch(effects: impl IntoIterator<Item = Effect>) -> Batch {
        let mut batch = Batch::default();
        effects.into_iter().for_each(|effect| batch.push(effect));
        batch
    }

    #[test]
    fn what_is_committed_is_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/down/rendezvous.redb");
        let store = Store::open(&path).unwrap();
        store.commit(&batch([trust(1, 2), trust(3, 4)])).unwrap();
        let gone = Effect::RemoveTrust { node: NodeId(1), peer: NodeId(2) };
        store.commit(&batch([gone])).unwrap();
        drop(store);
        assert_eq!(Store::open(&path).unwrap().load().unwrap(), [trust(3, 4)]);
    }

    #[test]
    fn a_newer_write_is_not_undone_by_an_older_one_put_back() {
        let gone = Effect::RemoveTrust { node: NodeId(1), peer: NodeId(2) };
        let mut newer = batch([gone.clone()]);
        newer.restore(batch([trust(1, 2), trust(5, 6)]));
        let effects: Vec<_> = newer.0.into_values().collect();
        assert_eq!(effects, [gone, trust(5, 6)]);
    }

    #[test]
    fn a_second_process_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let _first = Store::open(&path).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        for content in [b"not a database, but somebody's notes".to_vec(), vec![0xa5; 1 << 20]] {
            std::fs::write(&path, &content).unwrap();
            let error = Store::open(&path).unwrap_err();
            assert!(matches!(error, StoreError::Corrupted { .. }), "{error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_damaged_record_is_an_error_not_a_loss() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("db")).unwrap();
        store
            .write(|tx| {
                tx.open_table(NODES)?.insert(7, b"{".as_slice())?;
                Ok(())
            })
            .unwrap();
        let error = store.load().unwrap_err();
        assert!(matches!(error, StoreError::Corrupted { .. }), "{error}");
    }

    #[test]
    fn a_directory_in_the_way_is_an_io_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    }
}
