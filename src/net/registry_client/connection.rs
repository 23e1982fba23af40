//! One connection of a [`super::RegistryClient`]: calls out, answers in, in order.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Job, RegistryError, Shared};
use crate::net::dial::BoxedIo;
use crate::wire::registry::Response;
use crate::wire::registry::framing::split_frame;

/// Calls in flight at once on the connection.
const MAX_IN_FLIGHT: usize = 64;
/// Room made for each read.
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Connection<'a> {
    shared: &'a Shared,
    reader: ReadHalf<BoxedIo>,
    writer: WriteHalf<BoxedIo>,
    /// Sent, or in `outgoing`; answers come in this order.
    in_flight: VecDeque<InFlight>,
    outgoing: Vec<u8>,
    /// TLS may hold back what it has taken.
    is_unflushed: bool,
    incoming: Vec<u8>,
    answered: u64,
}

struct InFlight {
    job: Job,
    deadline: Instant,
}

/// Why a connection is over.
enum Broken {
    /// It ended, or failed: calls in flight may be repeated.
    Closed(String),
    /// No answer in time.
    Hung,
    /// An answer that is none.
    Nonsense(String),
}

impl<'a> Connection<'a> {
    pub(super) fn new(shared: &'a Shared, stream: BoxedIo) -> Self {
        let (reader, writer) = split(stream);
        Self {
            shared,
            reader,
            writer,
            in_flight: VecDeque::new(),
            outgoing: Vec::new(),
            is_unflushed: false,
            incoming: Vec::new(),
            answered: 0,
        }
    }

    /// Whether anything sensible ever came back.
    pub(super) fn has_answered(&self) -> bool {
        self.answered > 0
    }

    /// Hands the calls in flight back to be repeated, without blaming the registry.
    pub(super) fn abandon(&mut self, waiting: &mut VecDeque<Job>) {
        self.give_up(Broken::Closed("the network has changed".into()), waiting);
    }

    /// Serves the calls in `waiting`, then those from `queue`, until the connection breaks; calls
    /// to repeat are then in `waiting`. False if all handles are gone.
    pub(super) async fn serve(
        &mut self,
        waiting: &mut VecDeque<Job>,
        queue: &mut mpsc::Receiver<Job>,
    ) -> bool {
        for job in waiting.drain(..) {
            self.send(job);
        }
        let broken = loop {
            let deadline = self.in_flight.front().map(|front| front.deadline);
            let has_room = self.in_flight.len() < MAX_IN_FLIGHT;
            self.incoming.reserve(READ_BYTES);
            tokio::select! {
                job = queue.recv(), if has_room => match job {
                    Some(job) => self.send(job),
                    None => return false,
                },
                written = write(&mut self.writer, &self.outgoing),
                    if !self.outgoing.is_empty() || self.is_unflushed =>
                {
                    match written {
                        Ok(len) => {
                            self.is_unflushed = !self.outgoing.is_empty();
                            self.outgoing.drain(..len);
                        }
                        Err(error) => break Broken::Closed(error.to_string()),
                    }
                }
                read = self.reader.read_buf(&mut self.incoming) => {
                    if let Err(broken) = self.received(read) {
                        break broken;
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    break Broken::Hung;
                }
            }
        };
        self.give_up(broken, waiting);
        true
    }

    fn send(&mut self, job: Job) {
        let now = Instant::now();
        if job.reply.is_closed() || job.deadline <= now {
            return;
        }
        if let Err(error) = job.request.encode(&mut self.outgoing) {
            let request = job.request.kind();
            job.finish(Err(RegistryError::TooLong { request, reason: error.to_string() }));
            return;
        }
        let deadline = now + self.shared.timeouts.reply;
        self.in_flight.push_back(InFlight { job, deadline });
    }

    /// Takes the answers out of what was read.
    fn received(&mut self, read: io::Result<usize>) -> Result<(), Broken> {
        match read {
            Ok(0) => return Err(Broken::Closed("end of stream".into())),
            Ok(_) => {}
            Err(error) => return Err(Broken::Closed(error.to_string())),
        }
        let mut consumed = 0;
        loop {
            let rest = self.incoming.get(consumed..).unwrap_or_default();
            let nonsense = |error: &dyn std::fmt::Display| Broken::Nonsense(error.to_string());
            let Some((body, len)) = split_frame(rest).map_err(|e| nonsense(&e))? else { break };
            let response = Response::parse(body).map_err(|e| nonsense(&e))?;
            consumed += len;
            self.answer(response)?;
        }
        self.incoming.drain(..consumed);
        Ok(())
    }

    fn answer(&mut self, response: Response) -> Result<(), Broken> {
        let Some(InFlight { job, .. }) = self.in_flight.pop_front() else {
            return Err(Broken::Nonsense("an answer that nobody asked for".into()));
        };
        let kind = response.kind();
        if !matches!(response, Response::Error { .. })
            && kind.strip_suffix("_ok") != Some(job.request.kind())
        {
            let reason = format!("`{kind}` is no answer to that");
            self.in_flight.push_front(InFlight { job, deadline: Instant::now() });
            return Err(Broken::Nonsense(reason));
        }
        self.answered += 1;
        job.finish(Ok(response));
        // The next answer was held up by this one; its time begins now.
        if let Some(next) = self.in_flight.front_mut() {
            next.deadline = next.deadline.max(Instant::now() + self.shared.timeouts.reply);
        }
        Ok(())
    }

    /// Ends the calls in flight, or hands them back to be repeated.
    fn give_up(&mut self, broken: Broken, waiting: &mut VecDeque<Job>) {
        for InFlight { mut job, .. } in self.in_flight.drain(..) {
            let (addr, request) = (self.shared.addr.clone(), job.request.kind());
            let error = match &broken {
                Broken::Closed(_) if !job.is_repeated => {
                    job.is_repeated = true;
                    waiting.push_back(job);
                    continue;
                }
                Broken::Closed(reason) => {
                    RegistryError::Disconnected { addr, request, reason: reason.clone() }
                }
                Broken::Hung => self.shared.hung(request, self.shared.timeouts.reply),
                Broken::Nonsense(reason) => {
                    RegistryError::Nonsense { addr, request, reason: reason.clone() }
                }
            };
            job.finish(Err(error));
        }
    }
}

/// Writes some bytes, or flushes if there are none.
async fn write(writer: &mut WriteHalf<BoxedIo>, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(bytes).await }
}
