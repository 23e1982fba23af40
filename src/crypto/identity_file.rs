//! Identities on disk: one per hostname, used by one process at a time.
//!
//! ```text
//! <dir>/<hostname>.json   {"private_key":"<base64: seed ‖ public key>","public_key":"<base64>"}
//! <dir>/<hostname>.lock   the process id of whoever uses it; the lock on it is what counts
//! ```
//! The format is that of release 1.18.0. Two processes under one identity would take each
//! other's address and frames, so the second one is refused. The lock belongs to the open file:
//! it goes when its process goes, however it ends, and a lock file left behind means nothing.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::Identity;
use super::private_file::{self, FileError};

/// An identity that came from a file, and the lock that keeps others from using it.
#[derive(Debug)]
pub struct StoredIdentity {
    identity: Arc<Identity>,
    path: PathBuf,
    created: bool,
    _lock: Lock,
}

impl StoredIdentity {
    /// The identity of `hostname` in `dir`, made at its first use.
    ///
    /// The directory and what is written are for their owner only.
    ///
    /// # Errors
    /// The name cannot be a file name, another process uses the identity, the file is damaged or
    /// readable by others, or the directory cannot be read or written. A damaged file is never
    /// replaced: with it the address would be lost.
    pub fn load_or_create(
        dir: &Path,
        hostname: &str,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, IdentityError> {
        if !is_file_name(hostname) {
            return Err(IdentityError::Hostname { hostname: hostname.to_owned() });
        }
        private_file::create_dir(dir)?;
        let lock = Lock::take(&dir.join(format!("{hostname}.lock")), hostname)?;
        let path = dir.join(format!("{hostname}.json"));
        let (identity, created) = match File::open(&path) {
            Ok(file) => (load(&file, &path)?, false),
            Err(error) if error.kind() == ErrorKind::NotFound => (create(&path, rng)?, true),
            Err(error) => return Err(FileError::at("open", &path)(error).into()),
        };
        Ok(Self { identity: Arc::new(identity), path, created, _lock: lock })
    }

    /// The identity. It stays usable after `self` is dropped, but is then no longer reserved.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Where it is stored.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this was its first use.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.created
    }
}

/// Why an identity cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The hostname cannot be a file name.
    #[error(
        "hostname {hostname:?} cannot name an identity file; use 1 to 100 letters, digits and \
         `-`, `_`, `.`, beginning with a letter or digit"
    )]
    Hostname {
        /// The name.
        hostname: String,
    },
    /// Another process, or another node in this one, uses the identity.
    #[error(
        "the identity of {hostname:?} ({}) is in use by {}; stop that one, or start this node \
         under another hostname or home",
        path.display(), holder(*pid)
    )]
    InUse {
        /// The hostname.
        hostname: String,
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if it said so.
        pid: Option<u32>,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "identity file {} can be used by other users (mode {mode:04o}); they may already have \
         copied it. If not: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits for group and others.
        mode: u32,
    },
    /// The file does not hold an identity.
    #[error(
        "identity file {} is damaged: {why}; restore it from a backup, or move it away to get a \
         new identity (and a new address)",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => format!("another node of this process ({pid})"),
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

fn is_file_name(hostname: &str) -> bool {
    (1..=100).contains(&hostname.len())
        && hostname.starts_with(|c: char| c.is_ascii_alphanumeric())
        && hostname.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[derive(Serialize, Deserialize)]
struct IdentityJson {
    private_key: String,
    public_key: String,
}

impl Drop for IdentityJson {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

fn load(file: &File, path: &Path) -> Result<Identity, IdentityError> {
    let mode = private_file::bits_of_others(file).map_err(FileError::at("read", path))?;
    if mode != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let bytes = private_file::read(file, path)?;
    decode(&bytes).map_err(|why| IdentityError::Corrupt { path: path.to_owned(), why })
}

fn decode(bytes: &[u8]) -> Result<Identity, &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    let json: IdentityJson = serde_json::from_slice(bytes)
        .map_err(|_| "it is not JSON with the texts private_key and public_key")?;
    let private = Zeroizing::new(
        STANDARD.decode(&json.private_key).map_err(|_| "private_key is not base64")?,
    );
    let Some((seed, public)) = private.split_first_chunk::<32>().filter(|(_, p)| p.len() == 32)
    else {
        return Err("private_key is not 64 bytes long");
    };
    let identity = Identity::from_seed(seed);
    if identity.public_key() != public || identity.public_key_base64() != json.public_key {
        return Err("private_key and public_key do not belong together");
    }
    Ok(identity)
}

fn create(path: &Path, rng: &mut impl CryptoRng) -> Result<Identity, IdentityError> {
    let identity = Identity::generate(rng);
    let mut private = Zeroizing::new([0; 64]);
    let (seed, public) = private.split_at_mut(32);
    seed.copy_from_slice(identity.secret());
    public.copy_from_slice(&identity.public_key());
    let json = IdentityJson {
        private_key: STANDARD.encode(private.as_slice()),
        public_key: identity.public_key_base64(),
    };
    let text = serde_json::to_vec(&json).map_err(|e| FileError::at("write", path)(e.into()))?;
    private_file::write_atomic(path, &Zeroizing::new(text))?;
    Ok(identity)
}

/// An exclusive lock on a file, held as long as this lives.
struct Lock {
    file: File,
    /// Who took it: after `fork` the child shares the open file, and must not let go of it.
    pid: u32,
}

impl Lock {
    fn take(path: &Path, hostname: &str) -> Result<Self, IdentityError> {
        let file = private_file::open_or_create(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = private_file::read(&file, path)
                    .ok()
                    .and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok());
                let (hostname, path) = (hostname.to_owned(), path.to_owned());
                return Err(IdentityError::InUse { hostname, path, pid });
            }
            Err(TryLockError::Error(error)) => {
                return Err(FileError::at("lock", path)(error).into());
            }
        }
        let lock = Self { file, pid: std::process::id() };
        lock.write_pid().map_err(FileError::at("write", path))?;
        Ok(lock)
    }

    fn write_pid(&self) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", self.pid)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            // Closing would not do while a child of `fork` has the file open. If it fails, the
            // lock still goes with the process.
            let _ = self.file.unlock();
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("pid", &self.pid).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "identity_file_tests.rs"]
mod tests;
