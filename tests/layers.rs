//! The layout is a rule, and this is its guard: modules import downwards only, the protocol layers
//! do no I/O, Python stays in one module, files stay short.
//!
//! Works on tokens (comments and literals removed), not on types, so it needs no compiler and
//! says which line to change. Test code may read the clock, because a virtual clock needs a base.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. A module may name those before it, never those after it; see `src/lib.rs`.
const LAYERS: [&str; 7] = ["wire", "crypto", "proto", "net", "server", "node", "py"];

/// Layers whose inputs are time, bytes and randomness. The rest is for those above.
const SANS_IO: [&str; 3] = ["wire", "crypto", "proto"];

/// Paths (or parts of one) a sans-IO layer must not name, and what to do instead.
const NOT_IN_SANS_IO: [(&str, &str); 20] = [
    ("tokio", "hand out what to send and when to call again; `net` and `node` run it"),
    ("socket2", "sockets live in `net`"),
    ("quinn_udp", "sockets live in `net`"),
    ("UdpSocket", "sockets live in `net`"),
    ("TcpStream", "sockets live in `net`"),
    ("TcpListener", "sockets live in `net`"),
    ("Instant::now", "take `now: Instant` as an argument"),
    ("SystemTime", "take the wall time as an argument"),
    ("std::thread", "threads belong to `node` and `py`"),
    ("thread::spawn", "threads belong to `node` and `py`"),
    ("thread::sleep", "hand out a deadline by `poll_timeout`"),
    ("std::env", "configuration comes in as an argument"),
    ("std::process", "processes are none of a protocol's business"),
    ("std::fs", "files belong to `server` and `node`; here only to the identity and the pins"),
    ("getrandom", "take the random generator as an argument"),
    ("OsRng", "take the random generator as an argument"),
    ("SysRng", "take the random generator as an argument"),
    ("ThreadRng", "take the random generator as an argument"),
    ("rand::rng", "take the random generator as an argument"),
    ("rand::random", "take the random generator as an argument"),
];

/// The places in a sans-IO layer that own a file: a secret key (locked by a process, which the lock
/// names), and pinned keys.
const MAY_USE_FILES: [&str; 3] = ["crypto/identity", "crypto/pins", "crypto/private_file"];

/// Aim at 150-350 lines; split by concept long before this.
const MAX_LINES: usize = 700;

#[test]
fn imports_point_downwards_and_protocol_layers_do_no_io() {
    let mut findings = String::new();
    for file in Tree::read(&root().join("src")).shipped() {
        for finding in check(&file.module, &without_tests(lex(&file.text)).kept) {
            let _ = writeln!(findings, "  src/{}:{finding}", file.module);
        }
    }
    assert!(findings.is_empty(), "\n{findings}");
}

#[test]
fn files_stay_short() {
    let tree = Tree::read(&root().join("src"));
    let rust = tree.shipped().map(|file| {
        let lines = file.text.lines().count() - without_tests(lex(&file.text)).lines;
        (format!("src/{}", file.module), lines)
    });
    let python =
        files(&root().join("python/pilot_agent"), &["py", "pyi"]).into_iter().map(|path| {
            let lines = fs::read_to_string(&path).expect("source is UTF-8").lines().count();
            (path.strip_prefix(root()).expect("below the root").display().to_string(), lines)
        });
    let long: Vec<_> = rust
        .chain(python)
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines without tests, split by concept: {long:#?}");
}

#[test]
fn the_guard_sees_each_way_to_climb() {
    let findings = |file: &str, source: &str| check(file, &lex(source)).len();
    for source in [
        "use crate::node::Node;",
        "use crate::{wire, proto::tunnel::{self, Tunnel}};",
        "fn f() -> crate::node::Error { g() }",
        "use super::super::net::udp;",
        "pub use crate :: net;",
    ] {
        assert_eq!(findings("crypto/suite.rs", source), 1, "{source}");
    }
    for source in [
        "use std::time::Instant; fn f() { Instant::now(); }",
        "use std::{net::UdpSocket, fmt};",
        "use std::{thread, fmt};",
        "let x = tokio::spawn(f);",
        "use std::fs;",
        "use rand::{rng, Rng};",
    ] {
        assert_eq!(findings("proto/peer.rs", source), 1, "{source}");
    }
    assert_eq!(findings("node/mod.rs", "use pyo3::prelude::*;"), 1);
    assert_eq!(findings("gadget/mod.rs", ""), 1, "a module that the table does not know");
}

#[test]
fn the_guard_lets_honest_code_pass() {
    for (file, source) in [
        ("crypto/suite.rs", "use crate::{wire::{Addr, cursor}, crypto::aead}; use super::replay;"),
        ("proto/peer.rs", "// tokio::spawn, crate::node\nconst S: &str = \"crate::node\";"),
        ("proto/peer.rs", "/* crate::py /* nested */ pyo3 */ fn f<'a>(c: char) { c == '\"' }"),
        (
            "proto/peer.rs",
            "use std::net::{IpAddr, SocketAddr}; use std::time::{Duration, Instant};",
        ),
        ("proto/peer.rs", "const R: &str = r#\"std::fs \"quoted\" crate::node\"#; fn f(r: u8) {}"),
        ("proto/peer.rs", "pub(crate) fn f(rng: &mut impl rand::Rng) { rng.random::<u8>(); }"),
        ("crypto/identity.rs", "use std::fs;"),
        ("node/driver.rs", "use crate::{net, server}; let t = std::time::Instant::now();"),
        ("py/node.rs", "use pyo3::prelude::*; use crate::node::Node;"),
    ] {
        assert_eq!(check(file, &lex(source)), Vec::<String>::new(), "{file}: {source}");
    }
    let tests = "fn f() {} #[cfg(test)] mod tests { use crate::node; fn g() { Instant::now(); } }";
    assert_eq!(check("proto/peer.rs", &without_tests(lex(tests)).kept), Vec::<String>::new());
}

/// What is wrong with one file, as `line: message`.
fn check(module: &str, tokens: &[Token]) -> Vec<String> {
    let layer = module.split(['/', '.']).next().expect("split yields at least one");
    if layer == "lib" {
        return Vec::new();
    }
    let Some(level) = LAYERS.iter().position(|name| *name == layer) else {
        return vec![format!(
            "1: `{layer}` is not in the tables of src/lib.rs and tests/layers.rs"
        )];
    };
    let mut findings = Vec::new();
    for (line, path) in paths(tokens) {
        if let Some(target) = absolute(module, &path)
            && LAYERS.iter().position(|name| *name == target).is_some_and(|to| to > level)
        {
            findings.push(format!("{line}: `{layer}` imports `{target}`, a layer above it"));
        }
        if layer != "py" && path.first().is_some_and(|name| name == "pyo3") {
            findings.push(format!("{line}: names `pyo3`; only src/py may"));
        }
        if SANS_IO.contains(&layer) {
            let text = format!("::{}::", path.join("::"));
            let allowed = |name: &str| {
                ["std::fs", "std::process"].contains(&name)
                    && MAY_USE_FILES.iter().any(|file| module.starts_with(file))
            };
            let hit = NOT_IN_SANS_IO
                .iter()
                .find(|(name, _)| text.contains(&format!("::{name}::")) && !allowed(name));
            if let Some((name, instead)) = hit {
                findings.push(format!("{line}: `{layer}` names `{name}`: {instead}"));
            }
        }
    }
    // One group may climb to the same place twice.
    findings.dedup();
    findings
}

/// The top-level module that a path leads to, if it starts at the crate's root.
fn absolute<'a>(module: &str, path: &'a [String]) -> Option<&'a str> {
    let supers = path.iter().take_while(|name| *name == "super").count();
    let stem = module.trim_end_matches(".rs").trim_end_matches("/mod");
    let rooted = match path.first()?.as_str() {
        "crate" => 1,
        "super" if supers >= stem.split('/').count() => supers,
        _ => return None,
    };
    path.get(rooted).map(String::as_str)
}

/// Every path in the code with its line, groups spelled out: `a::{b, c::d}` is `a::b`, `a::c::d`.
fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if tokens[at].is_name() { path(tokens, at, &[], &mut found) } else { at + 1 };
    }
    found
}

/// Reads the path that starts at `at`; returns where it ended.
fn path(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut names = prefix.to_vec();
    let line = tokens[at].line;
    loop {
        names.push(tokens[at].text.clone());
        at += 1;
        let separated = tokens.get(at).is_some_and(|token| token.text == "::");
        match tokens.get(at + 1) {
            Some(next) if separated && next.is_name() => at += 1,
            Some(next) if separated && next.text == "{" => {
                at += 2;
                while at < tokens.len() && tokens[at].text != "}" {
                    at =
                        if tokens[at].is_name() { path(tokens, at, &names, found) } else { at + 1 };
                }
                return at + 1;
            }
            _ => break,
        }
    }
    found.push((line, names));
    at
}

#[derive(Debug, Clone)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Names, `::` and single punctuation characters; comments, literals and lifetimes are left out.
fn lex(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let get = |at: usize| text.get(at).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let start = at;
        match (get(at), get(at + 1)) {
            ('/', '/') => {
                while at < text.len() && get(at) != '\n' {
                    at += 1;
                }
            }
            ('/', '*') => at = end_of_block_comment(&text, at),
            ('"', _) => at = end_of_string(&text, at + 1),
            ('b', '"') => at = end_of_string(&text, at + 2),
            ('r', '"' | '#') if raw_hashes(&text, at + 1).is_some() => {
                at = end_of_raw_string(&text, at + 1);
            }
            ('b', 'r') if raw_hashes(&text, at + 2).is_some() => {
                at = end_of_raw_string(&text, at + 2);
            }
            ('\'', '\\') => {
                at += 3;
                while at < text.len() && get(at) != '\'' {
                    at += 1;
                }
                at += 1;
            }
            ('\'', _) if get(at + 2) == '\'' => at += 3,
            ('\'', _) => {
                at += 1;
                while word(get(at)) {
                    at += 1;
                }
            }
            (c, _) if word(c) => {
                while word(get(at)) {
                    at += 1;
                }
                tokens.push(Token { line, text: text[start..at].iter().collect() });
            }
            (':', ':') => {
                tokens.push(Token { line, text: "::".into() });
                at += 2;
            }
            (c, _) => {
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.into() });
                }
                at += 1;
            }
        }
        line += text[start..at.min(text.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn end_of_block_comment(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_string(text: &[char], mut at: usize) -> usize {
    while at < text.len() && text[at] != '"' {
        at += 1 + usize::from(text[at] == '\\');
    }
    at + 1
}

/// How many `#` a raw string has whose `r` stands before `at`.
fn raw_hashes(text: &[char], at: usize) -> Option<usize> {
    let hashes = text.get(at..)?.iter().take_while(|c| **c == '#').count();
    (text.get(at + hashes) == Some(&'"')).then_some(hashes)
}

fn end_of_raw_string(text: &[char], at: usize) -> usize {
    let hashes = raw_hashes(text, at).expect("checked by the caller");
    let mut end = at + hashes + 1;
    while end < text.len() {
        let follow = text[end + 1..].iter().take(hashes).take_while(|c| **c == '#').count();
        if text[end] == '"' && follow == hashes {
            break;
        }
        end += 1;
    }
    end + 1 + hashes
}

struct WithoutTests {
    kept: Vec<Token>,
    /// How many lines the test items take.
    lines: usize,
    /// The modules among them.
    modules: Vec<String>,
}

/// Takes the items marked `#[cfg(test)]` out.
fn without_tests(tokens: Vec<Token>) -> WithoutTests {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut result = WithoutTests { kept: Vec::new(), lines: 0, modules: Vec::new() };
    let mut at = 0;
    while at < tokens.len() {
        let head = tokens[at..].iter().take(marker.len()).map(|token| token.text.as_str());
        if !head.eq(marker) {
            result.kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let first = tokens[at].line;
        at += marker.len();
        let mut depth = 0;
        // Up to the end of the item: its `;`, or its closing brace.
        while let Some(token) = tokens.get(at) {
            match token.text.as_str() {
                "mod" if depth == 0 => {
                    result.modules.extend(tokens.get(at + 1).map(|name| name.text.clone()));
                }
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(token.text.as_str(), ";" | "}") {
                result.lines += token.line + 1 - first;
                break;
            }
        }
    }
    result
}

struct Source {
    /// Path below `src`.
    module: String,
    text: String,
}

struct Tree(Vec<Source>);

impl Tree {
    fn read(root: &Path) -> Self {
        let read = |path: PathBuf| Source {
            text: fs::read_to_string(&path).expect("source is UTF-8"),
            module: path.strip_prefix(root).expect("below src").display().to_string(),
        };
        let tree = Self(files(root, &["rs"]).into_iter().map(read).collect());
        assert!(tree.0.len() > LAYERS.len(), "found too few sources below {}", root.display());
        tree
    }

    /// Files that are part of the library, not those that a `#[cfg(test)] mod x;` names.
    fn shipped(&self) -> impl Iterator<Item = &Source> {
        let mut tests = BTreeSet::new();
        for file in &self.0 {
            let directory = match file.module.rsplit_once('/') {
                Some((directory, "mod.rs")) => format!("{directory}/"),
                None if file.module == "lib.rs" => String::new(),
                _ => format!("{}/", file.module.trim_end_matches(".rs")),
            };
            for name in without_tests(lex(&file.text)).modules {
                tests.insert(format!("{directory}{name}.rs"));
                tests.insert(format!("{directory}{name}/"));
            }
        }
        self.0.iter().filter(move |file| !tests.iter().any(|test| file.module.starts_with(test)))
    }
}

fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.expect("readable directory").path();
        if path.is_dir() {
            found.extend(files(&path, extensions));
        } else if path.extension().is_some_and(|e| extensions.iter().any(|known| e == *known)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
