//! What must not be in the tree: package registries, index addresses, and paths of somebody's
//! machine. Where packages come from is the configuration of the machine that builds.

use std::fs;
use std::path::{Path, PathBuf};

/// In two parts, so that this file does not contain what it looks for.
const FORBIDDEN: [(&str, &str, &str); 12] = [
    ("py", "pi.org", "name the package, not where it is"),
    ("python", "hosted.org", "name the package, not where it is"),
    ("static.crates", ".io", "name the package, not where it is"),
    ("index.crates", ".io", "name the package, not where it is"),
    ("proxy.go", "lang.org", "name the package, not where it is"),
    ("deb.deb", "ian.org", "name the package, not where it is"),
    ("--index", "-url", "pip's own configuration says which index"),
    ("--find", "-links", "pip's own configuration says which index"),
    ("PIP_INDEX", "_URL", "pip's own configuration says which index"),
    ("/ro", "ot/", "a path of one machine; make it relative or take it from the environment"),
    ("/home", "/", "a path of one machine; make it relative or take it from the environment"),
    ("/work", "/", "a path of one machine; make it relative or take it from the environment"),
];

/// Made by tools, or not text.
const EXEMPT: [&str; 1] = ["Cargo.lock"];
const NOT_OURS: [&str; 5] = ["target", "bench-results", "__pycache__", "corpus", "artifacts"];

#[test]
fn no_registry_host_and_no_path_of_this_machine_is_in_the_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkout = format!("{}/", root.display());
    let mut findings = Vec::new();
    for path in files(root) {
        let name = path.strip_prefix(root).expect("below the root").display().to_string();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let hit = FORBIDDEN
                .iter()
                .map(|(head, tail, why)| (format!("{head}{tail}"), *why))
                .chain([(checkout.clone(), "the path of this checkout")])
                .find(|(needle, _)| mentions(line, needle));
            if let Some((needle, why)) = hit {
                findings.push(format!("{name}:{}: `{needle}`: {why}", number + 1));
            }
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn a_machine_path_is_seen_only_where_a_path_starts() {
    let work = ["/work", "/"].concat();
    assert!(mentions(&format!("cd {work}tree"), &work));
    assert!(mentions(&format!("PATH=\"{work}tree\""), &work));
    assert!(!mentions(&format!("frame{work}tree"), &work));
    assert!(!mentions("nothing", &work));
}

/// Whether `line` has `needle`, and for a path, whether it starts there (`a/b/` has no `/b/`).
fn mentions(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !needle.starts_with('/')
            || !before.is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
    })
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable directory") {
        let path = entry.expect("readable directory").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci";
            if !hidden && !NOT_OURS.contains(&name.as_str()) {
                found.extend(files(&path));
            }
        } else if !EXEMPT.contains(&name.as_str()) && name != ".git" {
            found.push(path);
        }
    }
    found
}
