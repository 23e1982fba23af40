//! A rendezvous, nodes, and a peer that speaks data exchange byte by byte.

use std::future::poll_fn;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use pilot_agent::node::{Message, Node, NodeConfig, NodeError, NodeStream, PeerRef};
use pilot_agent::server::{Rendezvous, RendezvousConfig};
use pilot_agent::wire::frames::data::{DataFrame, DataFrameDecoder};

pub(crate) const LIMIT: Duration = Duration::from_secs(10);
pub(crate) const DATA: u16 = 1_001;
pub(crate) const HANDSHAKE: u16 = 444;

/// A rendezvous and a directory for identities and inboxes; both go with it.
pub(crate) struct Network {
    rendezvous: Rendezvous,
    home: tempfile::TempDir,
}

impl Network {
    pub(crate) async fn new() -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let rendezvous = Rendezvous::bind(RendezvousConfig::new(listen)).await.unwrap();
        Self { rendezvous, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn config(&self, hostname: &str) -> NodeConfig {
        NodeConfig {
            hostname: Some(hostname.to_owned()),
            rendezvous: Some(self.rendezvous.local_addr().to_string()),
            home: Some(self.home.path().to_owned()),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..NodeConfig::default()
        }
    }

    pub(crate) async fn node(&self, hostname: &str) -> Node {
        Node::start(self.config(hostname)).await.unwrap()
    }

    pub(crate) async fn private(&self, hostname: &str) -> Node {
        Node::start(NodeConfig { public: false, ..self.config(hostname) }).await.unwrap()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    pub(crate) fn inbox(&self, hostname: &str) -> PathBuf {
        self.home.path().join("inbox").join(hostname)
    }

    /// Every file below the home directory except the nodes' own.
    pub(crate) fn received(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.home()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with("identities") {
                    dirs.push(path);
                } else if !path.is_dir() {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }
}

pub(crate) fn peer(name: &str) -> PeerRef {
    name.parse().unwrap()
}

pub(crate) async fn message(node: &Node) -> Message {
    let next = tokio::time::timeout(LIMIT, poll_fn(|cx| node.poll_message(cx)));
    next.await.expect("a message within the limit").unwrap()
}

/// A connection to a service, used without any of its rules.
pub(crate) struct Wire {
    pub(crate) stream: NodeStream,
    decoder: DataFrameDecoder,
}

impl Wire {
    pub(crate) async fn open(node: &Node, to: &str, port: u16) -> Self {
        let stream = node.open_stream(&peer(to), port, true, LIMIT).await.unwrap();
        Self { stream, decoder: DataFrameDecoder::default() }
    }

    pub(crate) async fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // Who gets too much of a bad thing may hang up before its end.
            let Ok(written) = self.stream.try_write(bytes) else { return };
            match written {
                0 => poll_fn(|cx| self.stream.poll_writable(cx)).await.unwrap(),
                written => bytes = &bytes[written..],
            }
        }
    }

    /// Each piece is acknowledged before the next, so that it is a segment of its own.
    pub(crate) async fn write_in_pieces(&self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size) {
            self.write(piece).await;
            poll_fn(|cx| self.stream.poll_drained(cx)).await.unwrap();
        }
    }

    pub(crate) async fn send(&self, frame: &DataFrame) {
        self.write(&encoded(frame)).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn receive(&mut self) -> Option<DataFrame> {
        let receiving = async {
            loop {
                if let Some(frame) = self.decoder.next_frame().unwrap() {
                    return Some(frame);
                }
                match self.stream.try_read(1 << 16) {
                    Ok(Some(chunk)) if chunk.is_empty() => return None,
                    Ok(Some(chunk)) => self.decoder.feed(chunk),
                    Ok(None) => match poll_fn(|cx| self.stream.poll_readable(cx)).await {
                        Ok(()) => {}
                        Err(NodeError::StreamReset(_)) => return None,
                        Err(error) => panic!("{error}"),
                    },
                    Err(NodeError::StreamReset(_)) => return None,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(LIMIT, receiving).await.expect("an answer within the limit")
    }

    /// Sends a frame and returns the text of the answer.
    pub(crate) async fn ask(&mut self, frame: &DataFrame) -> String {
        self.send(frame).await;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> String {
        match self.receive().await {
            Some(DataFrame::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn encoded(frame: &DataFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn frame(kind: u32, payload: &[u8]) -> DataFrame {
    DataFrame::Unknown { kind, payload: Bytes::copy_from_slice(payload) }
}
