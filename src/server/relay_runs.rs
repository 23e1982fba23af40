//! Datagrams to be passed on, gathered into runs that leave with one system call each.
//!
//! A sender's datagrams arrive as runs of one size (GRO), and leave as such (GSO): what a relay
//! costs is system calls, and this makes one of up to 64.

use std::net::SocketAddr;

use crate::net::udp::UdpIo;

/// Bytes of a run; the kernel takes no more than 64 KiB at once.
const MAX_RUN: usize = 60_000;

/// A run being gathered.
#[derive(Debug, Default)]
pub(super) struct RelayRuns {
    to: Option<SocketAddr>,
    run: Vec<u8>,
    segment_size: usize,
    segments: usize,
}

impl RelayRuns {
    /// Adds a datagram; sends what was gathered if it does not fit into the same run. Call
    /// [`flush`](Self::flush) when no more come.
    pub(super) fn push(&mut self, socket: &UdpIo, to: SocketAddr, datagram: &[u8]) {
        let fits = self.to == Some(to)
            && datagram.len() <= self.segment_size
            && self.segments < socket.max_segments()
            && self.run.len() + datagram.len() <= MAX_RUN;
        if !fits {
            self.flush(socket);
            self.to = Some(to);
            self.segment_size = datagram.len();
        }
        self.run.extend_from_slice(datagram);
        self.segments += 1;
        if datagram.len() < self.segment_size {
            // Only the last one of a run may be shorter.
            self.flush(socket);
        }
    }

    /// Sends what was gathered. What finds no room is lost, as the network may lose it.
    pub(super) fn flush(&mut self, socket: &UdpIo) {
        if let Some(to) = self.to.take()
            && let Err(error) = socket.try_send(to, &self.run, self.segment_size)
        {
            tracing::debug!(%to, %error, "beacon cannot pass on");
        }
        self.run.clear();
        self.segments = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::udp::RecvBatch;
    use crate::net::watch::Interest;

    async fn sizes(socket: &UdpIo, count: usize) -> Vec<usize> {
        let (mut batch, mut got) = (RecvBatch::default(), Vec::new());
        let watch = socket.watch(Interest::Readable).unwrap();
        while got.len() < count {
            watch.ready().await.unwrap();
            if watch.attempt(|| socket.try_recv(&mut batch)).is_ok() {
                batch.for_each(|_, datagram| got.push(datagram.len()));
            }
        }
        got
    }

    #[tokio::test]
    async fn datagrams_of_any_sizes_and_destinations_arrive_each_as_it_was() {
        let bind = || UdpIo::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (relay, a, b) = (bind(), bind(), bind());
        let mut runs = RelayRuns::default();
        for size in [1_000, 1_000, 1_000, 400, 400, 900, 1_000] {
            runs.push(&relay, a.local_addr(), &vec![1; size]);
        }
        runs.push(&relay, b.local_addr(), &[2; 500]);
        (0..100).for_each(|_| runs.push(&relay, b.local_addr(), &[3; 1_200]));
        runs.flush(&relay);
        assert_eq!(sizes(&a, 7).await, [1_000, 1_000, 1_000, 400, 400, 900, 1_000]);
        let mut expected = vec![500];
        expected.extend([1_200; 100]);
        assert_eq!(sizes(&b, 101).await, expected);
    }
}
