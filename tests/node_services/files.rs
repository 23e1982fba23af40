//! Files of data exchange: both ways of sending, and names chosen by an enemy.

use std::path::Path;

use bytes::Bytes;
use pilot_agent::node::NodeError;
use pilot_agent::wire::frames::data::DataFrame;
use pilot_agent::wire::frames::file_stream::{FileStep, FileStream};
use sha2::{Digest, Sha256};

use super::network::{DATA, LIMIT, Network, Wire, message, peer};

fn file(name: &str, data: &'static [u8]) -> DataFrame {
    DataFrame::File { name: name.to_owned(), data: Bytes::from_static(data) }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at >> 13) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_all_sizes_arrive_under_their_names() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let source = tempfile::tempdir().unwrap();
    for size in [0, 1, 256 << 10, (256 << 10) + 1, (512 << 10) * 17 + 5, 20 << 20] {
        let path = source.path().join("data.tar.gz");
        let content = pattern(size);
        std::fs::write(&path, &content).unwrap();
        a.send_file(&peer("b"), &path, LIMIT).await.unwrap();
        let message = message(&b).await;
        let (name, stored) = message.file.unwrap();
        assert_eq!((name.as_str(), message.sender), ("data.tar.gz", a.address()));
        assert_eq!(stored.parent(), Some(network.inbox("b").as_path()));
        let stored_name = stored.file_name().unwrap().to_str().unwrap();
        assert!(stored_name.starts_with("data.tar-") && stored_name.ends_with(".gz"));
        assert!(std::fs::read(&stored).unwrap() == content, "{size}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&stored), mode(&network.inbox("b"))), (0o600, 0o700));
        }
    }
    assert_eq!(network.received().len(), 6, "nothing unfinished is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_sent_says_why() {
    let network = Network::new().await;
    let (a, _b) = (network.node("a").await, network.node("b").await);
    let error = a.send_file(&peer("b"), Path::new("/no/such/file"), LIMIT).await.unwrap_err();
    assert!(matches!(error, NodeError::Io(_)) && error.to_string().contains("/no/such/file"));
    let error = a.send_file(&peer("b"), &network.home(), LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
    // The name is nothing that the peer would store.
    let path = network.home().join("...");
    std::fs::write(&path, "x").unwrap();
    let error = a.send_file(&peer("b"), &path, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("invalid file name"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_leads_out_of_the_inbox() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let mut wire = Wire::open(&a, "b", DATA).await;
    let long = format!("{}.txt", "n".repeat(251));
    let absolute = network.home().join("absolute.txt");
    for name in [
        "../up.txt",
        "../../../../../../../../tmp/up.txt",
        absolute.to_str().unwrap(),
        r"..\..\back.txt",
        r"C:\Windows\system32\drivers.txt",
        "C:drive.txt",
        ".bashrc",
        "-rf.txt",
        "CON",
        "nul.txt",
        "\u{202e}txt.exe",
        "a\u{2215}b",
        "trailing.txt. . ",
        "$(touch x);`id`.txt",
        "%2e%2e%2fup",
        &long,
    ] {
        assert_eq!(wire.ask(&file(name, b"evil")).await, "ACK FILE 4 bytes", "{name:?}");
        let (told, stored) = message(&b).await.file.unwrap();
        assert_eq!(stored.parent(), Some(network.inbox("b").as_path()), "{name:?}");
        assert_eq!(std::fs::read(&stored).unwrap(), b"evil");
        assert!(Path::new(&told).components().count() == 1 && !told.starts_with(['.', '-']));
    }
    for name in ["..", ".", "/", "a/..", "x\0y", "a\nb", "  ", &"x".repeat(256), &"/".repeat(70)] {
        let answer = wire.ask(&file(name, b"evil")).await;
        assert_eq!(answer, "ERR FILE save failed: invalid file name", "{name:?}");
    }
    assert_eq!(wire.ask(&file("", b"evil")).await, "ACK FILE 4 bytes", "as both generations say");
    assert_eq!(wire.ask(&file("empty", b"")).await, "ACK FILE 0 bytes");
    assert_eq!(message(&b).await.file.unwrap().0, "empty");
    assert!(b.try_message().unwrap().is_none());
    let received = network.received();
    assert_eq!(received.len(), 17, "{received:?}");
    assert!(received.iter().all(|path| path.parent() == Some(network.inbox("b").as_path())));
}

/// One transfer, told step by step.
struct Transfer {
    wire: Wire,
    id: [u8; 16],
    sha256: [u8; 32],
}

impl Transfer {
    async fn new(node: &pilot_agent::node::Node, content: &[u8]) -> Self {
        let sha256: [u8; 32] = Sha256::digest(content).into();
        let wire = Wire::open(node, "b", DATA).await;
        Self { wire, id: sha256[..16].try_into().unwrap(), sha256 }
    }

    async fn step(&mut self, step: FileStep) -> Option<FileStep> {
        let transfer = self.id;
        self.wire.send(&DataFrame::FileStream(FileStream { transfer, step })).await;
        match self.wire.receive().await? {
            DataFrame::FileStream(answer) => {
                assert_eq!(answer.transfer, transfer);
                Some(answer.step)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn init(&mut self, size: u64, name: &str) -> Option<FileStep> {
        let (sha256, name) = (self.sha256, name.to_owned());
        self.step(FileStep::Init { size, sha256, chunk_size: 49_152, name }).await
    }

    async fn chunk(&mut self, offset: u64, data: &'static [u8]) -> Option<FileStep> {
        self.step(FileStep::Chunk { offset, data: Bytes::from_static(data) }).await
    }
}

fn is_abort(step: Option<FileStep>) -> bool {
    matches!(step, Some(FileStep::Abort { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_pieces_is_checked_at_every_step() {
    let network = Network::new().await;
    let (a, b) = (network.node("a").await, network.node("b").await);
    let started = Some(FileStep::InitAck { offset: 0 });
    let ack = |offset| Some(FileStep::Ack { offset });

    let mut good = Transfer::new(&a, b"abcdef").await;
    assert_eq!(good.init(6, "../pieces.txt").await, started);
    assert_eq!(good.chunk(0, b"abc").await, ack(3));
    assert_eq!(good.chunk(0, b"abc").await, ack(3), "a repeated piece changes nothing");
    assert_eq!(good.chunk(3, b"def").await, ack(6));
    let done = good.step(FileStep::Done).await;
    assert_eq!(done, Some(FileStep::Complete { status: 0, message: String::new() }));
    let (name, path) = message(&b).await.file.unwrap();
    assert_eq!((name.as_str(), std::fs::read(path).unwrap()), ("pieces.txt", b"abcdef".to_vec()));
    assert!(is_abort(good.step(FileStep::Done).await), "it is over");

    let mut wrong = Transfer::new(&a, b"abcdef").await;
    assert!(is_abort(wrong.chunk(0, b"abc").await), "not begun");
    assert_eq!(wrong.init(6, "x").await, started);
    assert!(is_abort(wrong.chunk(3, b"def").await), "a gap");
    assert_eq!(wrong.init(6, "x").await, started);
    assert!(is_abort(wrong.chunk(0, b"abcdefg").await), "more than announced");
    assert_eq!(wrong.init(6, "x").await, started);
    assert_eq!(wrong.chunk(0, b"abcdeX").await, ack(6));
    let bad_hash = wrong.step(FileStep::Done).await;
    assert!(
        matches!(bad_hash, Some(FileStep::Complete { status: 1, message }) if message.contains("hash"))
    );
    assert_eq!(wrong.init(6, "x").await, started);
    assert_eq!(wrong.chunk(0, b"abc").await, ack(3));
    let short = wrong.step(FileStep::Done).await;
    assert!(matches!(short, Some(FileStep::Complete { status: 1, .. })));
    assert!(is_abort(wrong.init(6, "..").await), "no name");
    assert!(is_abort(wrong.init(u64::MAX, "x").await), "no room");
    wrong.id = [0; 16];
    assert!(is_abort(wrong.init(6, "x").await), "not the id of that hash");

    let mut gone = Transfer::new(&a, b"abcdef").await;
    assert_eq!(gone.init(6, "gone").await, started);
    assert_eq!(gone.chunk(0, b"abc").await, ack(3));
    // What only a receiver says ends the session, and the unfinished file with it.
    assert_eq!(gone.step(FileStep::Ack { offset: 3 }).await, None);
    drop((wrong, good));
    assert!(b.try_message().unwrap().is_none());
    let only_one = async {
        while network.received().len() != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, only_one).await.expect("nothing unfinished is left");
}
