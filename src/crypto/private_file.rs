//! Files that only their owner may read: written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use zeroize::Zeroizing;

/// A file of ours is never larger than this; more is not ours.
const MAX_BYTES: u64 = 16 << 20;

/// An operation on a file failed. The message says what was tried, why it failed, what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}; {}", path.display(), remedy(source))]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl FileError {
    pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "give this user access to it, or choose another directory with home= or PILOT_HOME"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "choose a directory on a writable file system with home= or PILOT_HOME"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space, or choose another directory with home= or PILOT_HOME"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => {
            "something else is in its place: move that away, or choose another directory with \
             home= or PILOT_HOME"
        }
        _ => "check the directory, or choose another one with home= or PILOT_HOME",
    }
}

/// Makes `dir` and its missing parents, readable by their owner only.
pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(FileError::at("create the directory", dir))
}

/// The permission bits by which others than its owner can use the file; 0 where there are none.
pub(crate) fn bits_of_others(file: &File) -> io::Result<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(file.metadata()?.permissions().mode() & 0o077)
    }
    #[cfg(not(unix))]
    {
        file.metadata().map(|_| 0)
    }
}

/// Opens a file for reading and writing, making it (owner only) if it is missing.
pub(crate) fn open_or_create(path: &Path) -> Result<File, FileError> {
    private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .open(path)
        .map_err(FileError::at("open", path))
}

/// Reads an open file of at most 16 MiB. What is read may be secret, so it is wiped when dropped.
pub(crate) fn read(file: &File, path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(FileError::at("read", path))?;
    Ok(bytes)
}

/// Replaces `path` by a file with this content, for its owner only. After a crash or a full disk
/// there is the old file or the new one, never half of one.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_name(path);
    let written = write_new(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(FileError::at("write", path));
    if written.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The rename survives a power cut only once the directory is on disk. Not every file system
    // can do that for a directory, and those that cannot say so: nothing is lost by going on.
    if let Some(dir) = path.parent() {
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
    }
    Ok(())
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A name beside `path` that no other writer uses: process and a running number.
fn temporary_name(path: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number}.tmp", std::process::id()))
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = FileError {
            action: "write",
            path: "/srv/ada/.pilot/known_peers.json".into(),
            source: ErrorKind::StorageFull.into(),
        };
        let text = error.to_string();
        assert!(text.contains("cannot write /srv/ada/.pilot/known_peers.json"), "{text}");
        assert!(text.contains("no storage space") && text.contains("free some space"), "{text}");
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("kept"), "").unwrap();
        assert_eq!(write_atomic(&path, b"new").unwrap_err().action, "write");
        let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["target"]);
    }
}
