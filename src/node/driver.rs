//! The task that owns the socket's receiving side and the node's timers.

use std::future::pending;
use std::io;
use std::sync::Arc;

use super::core::Shared;
use crate::net::udp::RecvBatch;

/// Receive calls before other tasks of the runtime get their turn.
const RECEIVES_PER_TURN: usize = 16;

/// Runs until it is aborted: one input at a time, everything that follows from it, then sleep.
pub(super) async fn drive(shared: Arc<Shared>) {
    let mut batch = RecvBatch::default();
    loop {
        let (deadline, is_blocked) = shared.sleep_until();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            readable = shared.udp.readable() => {
                if readable.is_ok() {
                    receive(&shared, &mut batch);
                }
            }
            _ = shared.udp.writable(), if is_blocked => shared.act(|_, _| ()),
            () = timer => shared.act(|core, now| core.handle_timeout(now)),
            // A turn that was cut short goes on, or there is an earlier deadline.
            () = shared.rung() => shared.act(|_, _| ()),
        }
        tokio::task::consume_budget().await;
    }
}

fn receive(shared: &Shared, batch: &mut RecvBatch) {
    for _ in 0..RECEIVES_PER_TURN {
        match shared.udp.try_recv(batch) {
            Ok(()) => shared.act(|core, now| {
                batch.for_each(|from, datagram| {
                    core.endpoint.handle_datagram(now, from, datagram);
                });
            }),
            // Errors such as "port unreachable" belong to some datagram sent earlier; the socket
            // goes on.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {}
        }
    }
}
