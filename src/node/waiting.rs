//! Who waits for what, and what must happen once the lock is released: nothing is woken under it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::oneshot;

use super::types::{Datagram, Message};
use crate::proto::messenger::Outcome;

/// Who waits for a stream.
#[derive(Debug, Default)]
pub(super) struct StreamWaiters {
    pub(super) read: Option<Waker>,
    pub(super) write: Option<Waker>,
    pub(super) other: Vec<Waker>,
}

impl StreamWaiters {
    pub(super) fn take_all(&mut self, into: &mut Vec<Waker>) {
        into.extend(self.read.take());
        into.extend(self.write.take());
        into.append(&mut self.other);
    }
}

/// Datagrams that wait for the application.
#[derive(Debug, Default)]
pub(super) struct DatagramQueue {
    pub(super) queue: VecDeque<Datagram>,
    pub(super) waker: Option<Waker>,
    pub(super) dropped: u64,
}

/// Messages that came by data exchange, and who waits for messages and requests of any kind.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) foreign: VecDeque<Message>,
    foreign_bytes: usize,
    pub(super) message: Vec<Waker>,
    pub(super) request: Vec<Waker>,
    /// Who waits for room among the messages of data exchange.
    pub(super) room: Vec<Waker>,
    /// A message was taken since the last look at `room`.
    pub(super) has_room: bool,
}

impl Inbox {
    /// Takes a message of data exchange out of `message`; `false` if that would exceed `limit`
    /// bytes. One message always fits.
    pub(super) fn offer(&mut self, message: &mut Option<Message>, limit: usize) -> bool {
        let Some(offered) = message.take() else { return true };
        let total = self.foreign_bytes.saturating_add(cost(&offered));
        if total > limit && !self.foreign.is_empty() {
            *message = Some(offered);
            return false;
        }
        self.foreign_bytes = total;
        self.foreign.push_back(offered);
        true
    }

    /// The next message of data exchange.
    pub(super) fn take_foreign(&mut self) -> Option<Message> {
        let message = self.foreign.pop_front()?;
        self.foreign_bytes -= cost(&message);
        self.has_room = true;
        Some(message)
    }
}

/// What a message counts against the limit of the inbox: its bytes and what surrounds them.
fn cost(message: &Message) -> usize {
    let headers = message.payload.headers.iter().map(|(key, value)| key.len() + value.len());
    message.payload.data.len() + headers.sum::<usize>() + 512
}

/// Takes what has become of things sent, for someone who is no task of the runtime.
pub trait Sink: Send + Sync {
    /// `None`: the node was closed. Called without any lock, on any thread.
    fn settle(self: Arc<Self>, number: u64, outcome: Option<Outcome>);
}

/// Who waits for what has become of something sent.
pub(super) enum Waiter {
    Task(oneshot::Sender<Outcome>),
    Sink(Arc<dyn Sink>),
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Task(_) => "Task",
            Self::Sink(_) => "Sink",
        })
    }
}

impl Waiter {
    fn tell(self, number: u64, outcome: Option<Outcome>) {
        match (self, outcome) {
            // Nobody may be waiting any more.
            (Self::Task(sender), Some(outcome)) => drop(sender.send(outcome)),
            (Self::Task(sender), None) => drop(sender),
            (Self::Sink(sink), outcome) => sink.settle(number, outcome),
        }
    }
}

/// What must happen after the lock is released.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) wake: Vec<Waker>,
    pub(super) outcomes: Vec<(Waiter, u64, Option<Outcome>)>,
}

impl Effects {
    pub(super) fn carry_out(self) {
        for (waiter, number, outcome) in self.outcomes {
            waiter.tell(number, outcome);
        }
        for waker in self.wake {
            waker.wake();
        }
    }
}
