//! Known peers: the identity key that each presented at first contact.
//!
//! A registry decides which key a node id or hostname has, and can change its mind, or be
//! replaced. So the first key is pinned, and a peer whose key changes is refused until somebody
//! who knows better removes the pin. Pins are kept in one file, for its owner only:
//!
//! ```text
//! {"version":1,"peers":{"worker-7":{"public_key":"<base64 of 32 bytes>","since":1750000000}}}
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::private_file::{self, FileError};

const VERSION: u32 = 1;

/// Which key belongs to which peer. Names are the caller's: hostnames, or addresses as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownPeers {
    peers: BTreeMap<String, Pin>,
}

/// A pinned key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The peer's Ed25519 key.
    pub key: [u8; 32],
    /// When it was pinned, in seconds since 1970.
    pub since: u64,
}

/// A peer presents another key than the pinned one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{who} presents the identity key {}, but {} is pinned since {since} (Unix time): its identity \
     was replaced, or somebody poses as it. If the change is expected, forget the pinned key of \
     {who} and connect again",
    STANDARD.encode(presented), STANDARD.encode(pinned)
)]
pub struct PinMismatch {
    /// The peer, by the name it is pinned under.
    pub who: String,
    /// The key we know.
    pub pinned: [u8; 32],
    /// The key that was presented.
    pub presented: [u8; 32],
    /// When the pinned key was pinned, in seconds since 1970.
    pub since: u64,
}

impl KnownPeers {
    /// Accepts the pinned key, or pins the first one. Returns whether a pin was added (so that
    /// the caller saves).
    ///
    /// # Errors
    /// Another key is pinned; nothing is changed.
    pub fn check_or_pin(
        &mut self,
        who: &str,
        key: &[u8; 32],
        unix_now: u64,
    ) -> Result<bool, PinMismatch> {
        match self.peers.get(who) {
            None => {
                self.peers.insert(who.to_owned(), Pin { key: *key, since: unix_now });
                Ok(true)
            }
            Some(pin) if pin.key == *key => Ok(false),
            Some(pin) => Err(PinMismatch {
                who: who.to_owned(),
                pinned: pin.key,
                presented: *key,
                since: pin.since,
            }),
        }
    }

    /// The pin of a peer.
    #[must_use]
    pub fn get(&self, who: &str) -> Option<&Pin> {
        self.peers.get(who)
    }

    /// Removes a pin, so that the next key is pinned anew. Returns what was pinned.
    pub fn forget(&mut self, who: &str) -> Option<Pin> {
        self.peers.remove(who)
    }

    /// All pins, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Pin)> {
        self.peers.iter().map(|(who, pin)| (who.as_str(), pin))
    }

    /// Reads the file; no file means no pins.
    ///
    /// # Errors
    /// The file cannot be read, is not ours, or can be changed by other users. Starting without
    /// the pins would be worse than not starting: everybody would be believed again.
    pub fn load(path: &Path) -> Result<Self, PinsError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(FileError::at("open", path)(error).into()),
        };
        let mode = private_file::bits_of_others(&file).map_err(FileError::at("read", path))?;
        if mode & 0o022 != 0 {
            return Err(PinsError::Exposed { path: path.to_owned(), mode });
        }
        let bytes = private_file::read(&file, path)?;
        decode(&bytes).map_err(|why| PinsError::Corrupt { path: path.to_owned(), why })
    }

    /// Writes the file, atomically, for its owner only.
    ///
    /// # Errors
    /// The file cannot be written; the old one is then still there.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let peers = self.peers.iter().map(|(who, pin)| {
            (who.clone(), PinJson { public_key: STANDARD.encode(pin.key), since: pin.since })
        });
        let json = PinsJson { version: VERSION, peers: peers.collect() };
        let text = serde_json::to_vec(&json).map_err(|e| FileError::at("write", path)(e.into()))?;
        if let Some(dir) = path.parent() {
            private_file::create_dir(dir)?;
        }
        private_file::write_atomic(path, &text)
    }
}

/// Why pins cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinsError {
    /// Others than its owner may change the file.
    #[error(
        "the pinned keys in {} can be changed by other users (mode {mode:04o}); look through \
         them, then: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits for group and others.
        mode: u32,
    },
    /// The file does not hold pins.
    #[error(
        "the pinned keys in {} are damaged: {why}; restore the file from a backup, or move it \
         away to trust the next key of every peer",
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

#[derive(Serialize, Deserialize)]
struct PinsJson {
    version: u32,
    peers: BTreeMap<String, PinJson>,
}

#[derive(Serialize, Deserialize)]
struct PinJson {
    public_key: String,
    since: u64,
}

fn decode(bytes: &[u8]) -> Result<KnownPeers, &'static str> {
    let json: PinsJson =
        serde_json::from_slice(bytes).map_err(|_| "it is not the JSON of a pin file")?;
    if json.version != VERSION {
        return Err("it was written by another version");
    }
    let mut peers = BTreeMap::new();
    for (who, pin) in json.peers {
        let key = STANDARD.decode(&pin.public_key).map_err(|_| "a key is not base64")?;
        let key = key.try_into().map_err(|_| "a key is not 32 bytes long")?;
        peers.insert(who, Pin { key, since: pin.since });
    }
    Ok(KnownPeers { peers })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_key_is_pinned_and_another_one_refused() {
        let mut peers = KnownPeers::default();
        assert_eq!(peers.check_or_pin("worker-7", &[1; 32], 100), Ok(true));
        assert_eq!(peers.check_or_pin("worker-7", &[1; 32], 200), Ok(false));
        let mismatch = peers.check_or_pin("worker-7", &[2; 32], 300).unwrap_err();
        assert_eq!((mismatch.pinned, mismatch.presented), ([1; 32], [2; 32]));
        let text = mismatch.to_string();
        assert!(text.contains("worker-7 presents") && text.contains("since 100"), "{text}");
        assert_eq!(peers.check_or_pin("worker-8", &[2; 32], 300), Ok(true));
        assert_eq!(peers.forget("worker-7").map(|pin| pin.since), Some(100));
        assert_eq!(peers.check_or_pin("worker-7", &[2; 32], 400), Ok(true));
    }

    #[test]
    fn pins_survive_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("home/known_peers.json");
        assert_eq!(KnownPeers::load(&path).unwrap(), KnownPeers::default());
        let mut peers = KnownPeers::default();
        for (i, who) in ["a", "b", "0:0000.A91F.7C2E"].into_iter().enumerate() {
            peers.check_or_pin(who, &[u8::try_from(i).unwrap(); 32], 5).unwrap();
            peers.save(&path).unwrap();
        }
        assert_eq!(KnownPeers::load(&path).unwrap(), peers);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn damaged_pins_are_an_error_not_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_peers.json");
        let short = r#"{"version":1,"peers":{"a":{"public_key":"AAAA","since":0}}}"#;
        for (content, why) in [
            ("", "not the JSON"),
            (r#"{"version":2,"peers":{}}"#, "another version"),
            (short, "not 32 bytes"),
        ] {
            private_file::write_atomic(&path, content.as_bytes()).unwrap();
            let text = KnownPeers::load(&path).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("backup"), "{content:?}: {text}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn pins_that_others_can_change_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_peers.json");
        KnownPeers::default().save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(matches!(KnownPeers::load(&path), Err(PinsError::Exposed { .. })));
    }
}
