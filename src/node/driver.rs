//! The task that owns the node's timers, and receives unless an event loop does
//! ([`attend`](super::attend)).

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::core::Shared;
use crate::net::udp::UdpIo;
use crate::net::watch::{Interest, Watch};

/// Receive calls before other tasks of the runtime get their turn.
const RECEIVES_PER_TURN: usize = 16;
/// Pause before the machine is asked again for a descriptor that it did not have.
const WATCH_RETRY: Duration = Duration::from_millis(10);

/// Runs until it is aborted: one input at a time, everything that follows from it, then sleep.
pub(super) async fn drive(shared: Arc<Shared>) {
    let mut arrivals: Option<Watch> = None;
    loop {
        let sleep = shared.sleep_until();
        if sleep.is_attended {
            arrivals = None;
        } else if arrivals.is_none() {
            arrivals = shared.udp.watch(Interest::Readable).ok();
        }
        let timer = async {
            match sleep.deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = arrived(arrivals.as_ref(), sleep.is_attended) => {
                if let Some(watch) = &arrivals {
                    receive(&shared, watch);
                }
            }
            () = room(sleep.blocked.as_deref()), if sleep.blocked.is_some() => shared.act(|_, _| ()),
            () = timer => shared.act(|core, now| core.handle_timeout(now)),
            // A turn that was cut short goes on, or there is an earlier deadline.
            () = shared.rung() => shared.act(|_, _| ()),
        }
        tokio::task::consume_budget().await;
    }
}

async fn arrived(watch: Option<&Watch>, is_attended: bool) {
    match watch {
        Some(watch) => {
            if watch.ready().await.is_err() {
                pending::<()>().await;
            }
        }
        None if is_attended => pending().await,
        None => tokio::time::sleep(WATCH_RETRY).await,
    }
}

async fn room(udp: Option<&UdpIo>) {
    let Some(udp) = udp else { return };
    let ready = match udp.watch(Interest::Writable) {
        Ok(watch) => watch.ready().await,
        Err(error) => Err(error),
    };
    if ready.is_err() {
        tokio::time::sleep(WATCH_RETRY).await;
    }
}

fn receive(shared: &Shared, watch: &Watch) {
    for _ in 0..RECEIVES_PER_TURN {
        match watch.attempt(|| shared.receive()) {
            Ok(()) => {}
            // Errors such as "port unreachable" belong to some datagram sent earlier; the socket
            // goes on.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {}
        }
    }
}
