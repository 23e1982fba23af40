//! One direction: from a device, through a link, to another device.

use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use linkem::{Counters, Link, LinkParams};

use crate::sys::{self, Tun};

/// Packets read before those that are due are looked at again.
const BATCH: usize = 32;
/// A device's largest MTU.
const BUFFER: usize = 65_535;

/// What the control and the thread of a direction tell each other.
#[derive(Debug)]
pub(crate) struct Direction {
    pub(crate) name: &'static str,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    params: LinkParams,
    is_changed: bool,
    counters: Counters,
    delivery: Delivery,
}

/// How the far device took what was due.
#[derive(Debug, Clone, Copy, Default)]
struct Delivery {
    /// Packets that it did not take.
    refused: u64,
    /// How late packets were, as we do not wake up at once.
    late: Duration,
    latest: Duration,
}

impl Direction {
    pub(crate) fn new(name: &'static str, params: LinkParams) -> Self {
        let (counters, delivery) = (Counters::default(), Delivery::default());
        let shared = Mutex::new(Shared { params, is_changed: true, counters, delivery });
        Self { name, shared }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn params(&self) -> LinkParams {
        self.shared().params
    }

    /// For packets that are sent from now on.
    pub(crate) fn change(&self, params: LinkParams) {
        let mut shared = self.shared();
        shared.params = params;
        shared.is_changed = true;
    }

    pub(crate) fn counters(&self) -> Counters {
        self.shared().counters
    }

    /// Carries packets for as long as the process lives.
    pub(crate) fn run(&self, from: &Tun, to: &Tun) -> ! {
        sys::be_punctual();
        let mut link = Link::new(Instant::now(), LinkParams::default());
        let mut delivery = Delivery::default();
        let (mut buffer, mut spare) = (vec![0; BUFFER], Vec::new());
        loop {
            self.exchange(&mut link, delivery);
            deliver(&mut link, to, &mut delivery, &mut spare);
            if !take(&mut link, from, &mut buffer, &mut spare) {
                self.exchange(&mut link, delivery);
                let next = link.next_arrival();
                from.wait(next.map(|at| at.saturating_duration_since(Instant::now())));
            }
        }
    }

    fn exchange(&self, link: &mut Link, delivery: Delivery) {
        let mut shared = self.shared();
        if shared.is_changed {
            shared.is_changed = false;
            link.set_params(shared.params);
        }
        shared.counters = link.counters();
        shared.delivery = delivery;
    }

    /// What has happened, as JSON; `unread` is what its device lost before we saw it.
    pub(crate) fn report(&self, unread: u64) -> String {
        let shared = self.shared();
        let (counters, delivery) = (shared.counters, shared.delivery);
        let mut text = format!("{{\"spec\":\"{}\"", shared.params);
        let mean = delivery.late.as_secs_f64() / counters.delivered.max(1) as f64;
        for (name, value) in [
            ("sent", counters.sent),
            ("sent_bytes", counters.sent_bytes),
            ("delivered", counters.delivered),
            ("delivered_bytes", counters.delivered_bytes),
            ("lost", counters.lost),
            ("dropped", counters.dropped),
            ("too_big", counters.too_big),
            ("cut", counters.cut),
            ("corrupted", counters.corrupted),
            ("duplicated", counters.duplicated),
            ("reordered", counters.reordered),
            ("unread", unread),
            ("refused", delivery.refused),
            ("late_us_mean", (mean * 1e6) as u64),
            ("late_us_max", delivery.latest.as_micros() as u64),
        ] {
            let _ = write!(text, ",\"{name}\":{value}");
        }
        text.push('}');
        text
    }
}

/// Hands over what is due.
fn deliver(link: &mut Link, to: &Tun, delivery: &mut Delivery, spare: &mut Vec<Vec<u8>>) {
    let now = Instant::now();
    while let Some(due) = link.next_arrival() {
        let Some(packet) = link.receive(now) else { break };
        let late = now.saturating_duration_since(due);
        delivery.late += late;
        delivery.latest = delivery.latest.max(late);
        if to.write(&packet).is_err() {
            delivery.refused += 1;
        }
        if spare.len() < BATCH {
            spare.push(packet);
        }
    }
}

/// Takes a batch from the device; `false` if there was less.
fn take(link: &mut Link, from: &Tun, buffer: &mut [u8], spare: &mut Vec<Vec<u8>>) -> bool {
    for _ in 0..BATCH {
        match from.read(buffer) {
            Ok(size) => {
                let mut packet = spare.pop().unwrap_or_default();
                packet.clear();
                packet.extend_from_slice(&buffer[..size]);
                link.send(Instant::now(), packet);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}
