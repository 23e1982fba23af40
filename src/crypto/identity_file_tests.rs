//! What may be wrong with an identity on disk, and what we say then.

use std::fs;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

fn open(dir: &Path, hostname: &str) -> Result<StoredIdentity, IdentityError> {
    StoredIdentity::load_or_create(dir, hostname, &mut StdRng::seed_from_u64(1))
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_identity_is_made_once_and_then_stays() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("identities");
    let first = open(&dir, "worker-7").unwrap();
    assert!(first.is_new());
    let key = first.identity().public_key();
    drop(first);
    let mut other_seed = StdRng::seed_from_u64(2);
    let again = StoredIdentity::load_or_create(&dir, "worker-7", &mut other_seed).unwrap();
    assert!(!again.is_new());
    assert_eq!(again.identity().public_key(), key);
    let neighbour = StoredIdentity::load_or_create(&dir, "worker-8", &mut other_seed).unwrap();
    assert_ne!(neighbour.identity().public_key(), key);
}

#[test]
#[cfg(unix)]
fn only_the_owner_can_read_what_is_written() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a/b");
    let stored = open(&dir, "alice").unwrap();
    assert_eq!((mode(&dir), mode(&home.path().join("a"))), (0o700, 0o700));
    assert_eq!((mode(stored.path()), mode(&dir.join("alice.lock"))), (0o600, 0o600));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn the_file_is_the_one_of_release_1_18() {
    let dir = tempfile::tempdir().unwrap();
    let seed: [u8; 32] = std::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap());
    let path = dir.path().join("go.json");
    let text = "{\"private_key\":\"oKGio6SlpqeoqaqrrK2ur7CxsrO0tba3uLm6u7y9vr9P0JnM1H14k9/p7CRBTssNm1Qg\
                IyqtMNkcRlvjPL5lxA==\",\"public_key\":\"T9CZzNR9eJPf6ewkQU7LDZtUICMqrTDZHEZb4zy+ZcQ=\"}";
    private_file::write_atomic(&path, text.as_bytes()).unwrap();
    let stored = open(dir.path(), "go").unwrap();
    assert_eq!(stored.identity().secret(), &seed);
    drop(stored);
    // And what we write reads the same.
    fs::remove_file(&path).unwrap();
    let ours = open(dir.path(), "go").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(ours.path()).unwrap()).unwrap();
    assert_eq!(json["public_key"], ours.identity().public_key_base64());
    assert_eq!(STANDARD.decode(json["private_key"].as_str().unwrap()).unwrap().len(), 64);
}

#[test]
fn a_second_user_is_told_who_holds_the_identity() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), "alice").unwrap();
    let error = open(dir.path(), "alice").unwrap_err();
    assert!(matches!(error, IdentityError::InUse { pid: Some(p), .. } if p == std::process::id()));
    let text = error.to_string();
    assert!(text.contains(&format!("({})", std::process::id())), "{text}");
    assert!(text.contains("another hostname"), "{text}");
    assert!(open(dir.path(), "bob").is_ok(), "another identity is free");
    drop(first);
    assert!(open(dir.path(), "alice").is_ok(), "free again");
}

#[test]
fn a_lock_file_left_behind_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("alice.lock"), "4000000000\n").unwrap();
    assert!(open(dir.path(), "alice").is_ok());
}

#[test]
#[cfg(unix)]
fn a_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = open(dir.path(), "alice").unwrap().path().to_owned();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = open(dir.path(), "alice").unwrap_err();
    assert!(matches!(error, IdentityError::Exposed { mode: 0o044, .. }));
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn damage_is_named_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = open(dir.path(), "alice").unwrap().path().to_owned();
    let good = fs::read_to_string(&path).unwrap();
    let half = &good[..good.len() / 2];
    let foreign = {
        let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
        json["public_key"] = Identity::from_seed(&[9; 32]).public_key_base64().into();
        json.to_string()
    };
    for (content, why) in [
        ("", "it is empty"),
        (half, "it is not JSON"),
        ("[]", "it is not JSON"),
        (r#"{"private_key":"AAAA","public_key":"AAAA"}"#, "not 64 bytes"),
        (r#"{"private_key":"?","public_key":"AAAA"}"#, "not base64"),
        (&foreign, "do not belong together"),
    ] {
        fs::write(&path, content).unwrap();
        let text = open(dir.path(), "alice").unwrap_err().to_string();
        assert!(text.contains(why) && text.contains("backup"), "{content:?}: {text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("identities"), "alice").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot create the directory"), "{text}");
    assert!(text.contains("PILOT_HOME"), "{text}");
}

#[test]
fn a_hostname_that_leaves_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["", "..", "../x", "a/b", "a\\b", ".hidden", "a\0b", "ü", &"x".repeat(101)] {
        assert!(matches!(open(dir.path(), bad), Err(IdentityError::Hostname { .. })), "{bad:?}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}
