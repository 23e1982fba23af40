//! The command line.

use std::net::{IpAddr, Ipv4Addr};

use pilot_agent::proto::stream::CongestionControl;

use super::Result;

pub(crate) const HELP: &str = "\
Measures the native path: two processes, one stream, bytes one way.

  throughput [run] [OPTIONS]          start a server process, send to it, print JSON, end both
  throughput serve [OPTIONS]          only the server, until it is killed; prints one line of
                                      JSON, {\"rendezvous\": \"ADDRESS:PORT\"}, when it is ready
  throughput send ADDRESS:PORT [OPTIONS]
                                      only the client, with that rendezvous

  --bytes N      bytes to send (default 1000000000)
  --payload N    payload bytes of a segment: 1402 fills packets of MTU 1500 over IPv4 (20 IP +
                 8 UDP + 20 seal + 34 packet header + 16 tag), 60000 suits loopback; without it,
                 whatever the path allows
  --congestion C bbr, cubic or newreno (default: that of the library)
  --max-buffer N most bytes of a stream's buffers (default: that of the library)
  --bind IP      address of the node's socket, and of the server's rendezvous (default 127.0.0.1)
  --until-eof    a server ends with its standard input, so that none is left behind
  --write N      bytes of one write (default 262144)
  --threads N    threads of each process (default: one per processor)
  --latency      also measure requests of 64 bytes on a second stream to the same peer: alone,
                 and while the bytes are sent

The result has bytes, seconds, mb_per_s (10^6 bytes), and for client and server cpu_s_per_gb, the
processor time (user + system) of the whole process for 10^9 bytes; with --latency, p50 and p99
of the round trip in microseconds, idle and loaded.

Both processes on one machine share its processors. For a link between them, start `serve` and
`send` in two network namespaces, each with --bind.";

/// What to do.
pub(crate) enum Mode {
    Run,
    Serve,
    Send(String),
}

/// The options.
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) bytes: u64,
    pub(crate) payload: Option<u16>,
    pub(crate) congestion: Option<CongestionControl>,
    pub(crate) max_buffer: Option<usize>,
    pub(crate) until_eof: bool,
    pub(crate) bind: IpAddr,
    pub(crate) write: usize,
    pub(crate) threads: usize,
    pub(crate) latency: bool,
}

impl Args {
    /// `None`: help is wanted.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut args = Self {
            mode: Mode::Run,
            bytes: 1_000_000_000,
            payload: None,
            congestion: None,
            max_buffer: None,
            until_eof: false,
            bind: Ipv4Addr::LOCALHOST.into(),
            write: 256 << 10,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            latency: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "run" => args.mode = Mode::Run,
                "serve" => args.mode = Mode::Serve,
                "send" => args.mode = Mode::Send(value()?),
                "--bytes" => args.bytes = value()?.parse()?,
                "--payload" => args.payload = Some(value()?.parse()?),
                "--congestion" => args.congestion = Some(value()?.parse()?),
                "--max-buffer" => args.max_buffer = Some(value()?.parse()?),
                "--until-eof" => args.until_eof = true,
                "--bind" => args.bind = value()?.parse()?,
                "--write" => args.write = value()?.parse()?,
                "--threads" => args.threads = value()?.parse()?,
                "--latency" => args.latency = true,
                "-h" | "--help" => return Ok(None),
                _ => return Err(format!("unknown argument {word}; see --help").into()),
            }
        }
        Ok(Some(args))
    }
}
