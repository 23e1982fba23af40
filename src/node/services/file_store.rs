//! The directory that received files go to. Everything here blocks; call it off the event loop.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::file_name::{safe_name, stored_name};
use crate::net::clock;

/// Bytes of received files in the directory; more are refused. The quota of release 1.18.
pub(super) const QUOTA: u64 = 2 << 30;
/// A file counts for at least this much: empty ones fill a disk too.
const MIN_COST: u64 = 4_096;
/// The directory is measured again at most this often, to see what the user has taken out.
const MEASURE_AGAIN: Duration = Duration::from_secs(10);
/// Names tried until one is free.
const MAX_NAMES: usize = 1_000;
/// What files are called while they come in.
const PARTIAL_PREFIX: &str = ".incoming-";
/// An unfinished file of this age belongs to a process that is gone.
const PARTIAL_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Why a file cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Nothing usable is left of its name.
    #[error("invalid file name")]
    Name,
    /// The quota is used up.
    #[error("quota exceeded: received files may take {0} bytes")]
    Quota(u64),
    /// More bytes than were announced.
    #[error("larger than announced")]
    TooLong,
    /// The operating system said no. Which path it was is none of the sender's business.
    #[error("{}", .0.kind())]
    Io(#[from] io::Error),
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct FileStore {
    dir: PathBuf,
    quota: u64,
    next_number: AtomicU64,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    bytes: u64,
    measured: Option<Instant>,
}

impl FileStore {
    /// A store in `dir`, which is made when the first file comes.
    pub(super) fn new(dir: PathBuf, quota: u64) -> Arc<Self> {
        Arc::new(Self { dir, quota, next_number: AtomicU64::new(0), usage: Mutex::default() })
    }

    /// Starts a file of at most `size` bytes under the name its sender gives it.
    pub(super) fn begin(self: &Arc<Self>, name: &str, size: u64) -> Result<Incoming, StoreError> {
        let name = safe_name(name).ok_or(StoreError::Name)?;
        if size > self.quota {
            return Err(StoreError::Quota(self.quota));
        }
        create_dir(&self.dir)?;
        let mut incoming = Incoming {
            store: self.clone(),
            name,
            file: None,
            partial: PathBuf::new(),
            size,
            written: 0,
            reserved: 0,
        };
        incoming.reserve(MIN_COST)?;
        self.check_room(size.saturating_sub(MIN_COST))?;
        let process = std::process::id();
        for _ in 0..MAX_NAMES {
            let partial = self.dir.join(format!("{PARTIAL_PREFIX}{process}-{}", self.number()));
            match create_new(&partial) {
                Ok(file) => {
                    incoming.file = Some(file);
                    incoming.partial = partial;
                    return Ok(incoming);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::from(ErrorKind::AlreadyExists).into())
    }

    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts `bytes` more; what does not fit is not counted.
    fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let mut usage = self.usage();
        self.measure(&mut usage, bytes);
        let total = usage.bytes.saturating_add(bytes);
        if total > self.quota {
            return Err(StoreError::Quota(self.quota));
        }
        usage.bytes = total;
        Ok(())
    }

    /// Refuses a file at once that cannot fit, before its bytes travel.
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let mut usage = self.usage();
        self.measure(&mut usage, bytes);
        match usage.bytes.saturating_add(bytes) > self.quota {
            true => Err(StoreError::Quota(self.quota)),
            false => Ok(()),
        }
    }

    fn release(&self, bytes: u64) {
        let mut usage = self.usage();
        usage.bytes = usage.bytes.saturating_sub(bytes);
    }

    /// Measures the directory at first use, and when `more` would exceed the quota: files may
    /// have been taken out.
    fn measure(&self, usage: &mut Usage, more: u64) {
        let is_due = match usage.measured {
            None => true,
            Some(at) => {
                usage.bytes.saturating_add(more) > self.quota
                    && clock::now().saturating_duration_since(at) >= MEASURE_AGAIN
            }
        };
        if is_due {
            usage.bytes = measure(&self.dir);
            usage.measured = Some(clock::now());
        }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is coming in. Unless it is finished, nothing of it remains.
#[derive(Debug)]
pub(super) struct Incoming {
    store: Arc<FileStore>,
    name: String,
    file: Option<File>,
    partial: PathBuf,
    size: u64,
    written: u64,
    reserved: u64,
}

impl Incoming {
    /// Appends.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), StoreError> {
        let after = self.written + data.len() as u64;
        if after > self.size {
            return Err(StoreError::TooLong);
        }
        if after > self.reserved {
            self.reserve(after - self.reserved)?;
        }
        let Some(file) = &mut self.file else { return Err(StoreError::TooLong) };
        file.write_all(data)?;
        self.written = after;
        Ok(())
    }

    /// Gives the file its name, and returns it with the name its sender meant.
    pub(super) fn finish(mut self) -> Result<(String, PathBuf), StoreError> {
        self.file = None;
        let now = clock::unix_time();
        for _ in 0..MAX_NAMES {
            let stored = stored_name(&self.name, now, self.store.number());
            let path = self.store.dir.join(stored);
            match move_new(&self.partial, &path) {
                Ok(()) => {
                    self.partial = PathBuf::new();
                    self.reserved = 0;
                    return Ok((std::mem::take(&mut self.name), path));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::from(ErrorKind::AlreadyExists).into())
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.store.reserve(bytes)?;
        self.reserved += bytes;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.partial != Path::new("") {
            // Best effort; what stays is swept away a day later.
            let _ = fs::remove_file(&self.partial);
        }
        self.store.release(self.reserved);
    }
}

/// Removes a file that was finished but could not be announced.
pub(super) fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Moves a file to a name that must be free: unlike a rename, a link never replaces anything.
fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            // Both names are ours; a second one would only take room in a listing.
            let _ = fs::remove_file(from);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // A file system without links: hold the name, then replace our own placeholder.
        Err(_) => {
            drop(create_new(to)?);
            fs::rename(from, to)
        }
    }
}

/// A new file for its owner only. Whatever has the name already, a link included, makes it fail.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Bytes of the files in `dir`; unfinished ones of processes that are gone are removed.
fn measure(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let mut bytes = 0u64;
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        let is_stale = entry.file_name().to_string_lossy().starts_with(PARTIAL_PREFIX)
            && metadata
                .modified()
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > PARTIAL_LIFETIME));
        if is_stale {
            let _ = fs::remove_file(entry.path());
        } else {
            bytes = bytes.saturating_add(metadata.len().max(MIN_COST));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn put(store: &Arc<FileStore>, name: &str, data: &[u8]) -> Result<PathBuf, StoreError> {
        let mut incoming = store.begin(name, data.len() as u64)?;
        incoming.write(data)?;
        Ok(incoming.finish()?.1)
    }

    #[test]
    fn files_lie_in_the_directory_for_their_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/inbox");
        let store = FileStore::new(dir.clone(), QUOTA);
        let paths = [put(&store, "../x.txt", b"1").unwrap(), put(&store, "x.txt", b"2").unwrap()];
        assert_ne!(paths[0], paths[1]);
        for (path, content) in paths.iter().zip([b"1", b"2"]) {
            assert_eq!(path.parent(), Some(dir.as_path()));
            assert_eq!(fs::read(path).unwrap(), content);
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
                assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
            }
        }
        assert_eq!(names(&dir).len(), 2, "nothing else is left");
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path().to_owned(), QUOTA);
        let mut incoming = store.begin("a", 2).unwrap();
        incoming.write(b"12").unwrap();
        assert!(matches!(incoming.write(b"3"), Err(StoreError::TooLong)));
        drop(incoming);
        assert!(names(dir.path()).is_empty());
        assert_eq!(store.usage().bytes, 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_lies_there_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        let partial = format!("{PARTIAL_PREFIX}{}-0", std::process::id());
        std::os::unix::fs::symlink(&victim, dir.path().join(partial)).unwrap();
        let store = FileStore::new(dir.path().to_owned(), QUOTA);
        let path = put(&store, "a", b"theirs").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert_eq!(move_new(&path, &link).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }

    #[test]
    fn the_quota_holds_and_counts_what_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), vec![0; 10_000]).unwrap();
        let store = FileStore::new(dir.path().to_owned(), 20_000);
        assert!(matches!(put(&store, "big", &[0; 10_001]), Err(StoreError::Quota(20_000))));
        put(&store, "a", b"").unwrap();
        put(&store, "b", b"").unwrap();
        assert!(matches!(put(&store, "c", b""), Err(StoreError::Quota(_))), "empty ones count");
        assert_eq!(names(dir.path()).len(), 3);
    }
}
