//! A stream between two hosts that carries numbered bytes both ways and checks each.

use std::time::Duration;

use pilot_agent::proto::endpoint::StreamId;
use pilot_agent::proto::path::TrafficClass;

use crate::world::{PORT, World};

/// Bytes of one write.
const PIECE: usize = 600;

pub(crate) struct Traffic {
    hosts: [usize; 2],
    ids: [Option<StreamId>; 2],
    /// Bytes written by, and read at, each.
    pub(crate) written: [usize; 2],
    pub(crate) read: [usize; 2],
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

impl Traffic {
    pub(crate) fn new(world: &mut World, from: usize, to: usize) -> Self {
        let id = world.connect(from, to);
        Self { hosts: [from, to], ids: [Some(id), None], written: [0; 2], read: [0; 2] }
    }

    pub(crate) fn write(&mut self, world: &mut World, end: usize) {
        self.write_much(world, end, PIECE);
    }

    pub(crate) fn write_much(&mut self, world: &mut World, end: usize, bytes: usize) {
        let Some(id) = self.ids[end] else { return };
        let at = self.written[end];
        let data: Vec<u8> = (at..at + bytes).map(byte).collect();
        let written = world.at(self.hosts[end], |endpoint, now| endpoint.write(now, id, &data));
        self.written[end] += written.expect("the stream is open");
    }

    /// Says what the dialer's bytes are.
    pub(crate) fn set_class(&self, world: &mut World, class: TrafficClass) {
        let id = self.ids[0].expect("dialed");
        world.at(self.hosts[0], |endpoint, _| endpoint.set_class(id, class));
    }

    /// Reads what is there, at both ends.
    pub(crate) fn read(&mut self, world: &mut World) {
        for end in 0..2 {
            let host = self.hosts[end];
            if self.ids[end].is_none() {
                self.ids[end] = world.at(host, |endpoint, _| endpoint.accept(PORT));
            }
            let Some(id) = self.ids[end] else { continue };
            while let Some(data) = world.at(host, |endpoint, now| {
                endpoint.read_chunk(now, id, 1 << 16).expect("the stream is open")
            }) {
                assert!(!data.is_empty(), "the stream is open");
                let at = self.read[end];
                assert!(data.iter().enumerate().all(|(i, b)| *b == byte(at + i)), "other bytes");
                self.read[end] += data.len();
            }
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.read == [self.written[1], self.written[0]]
    }

    /// Waits until all that was written has arrived.
    pub(crate) fn settle(&mut self, world: &mut World, limit: Duration) -> bool {
        world.run_until(limit, |world| {
            self.read(world);
            self.is_done()
        })
    }

    /// A piece there, and one back.
    pub(crate) fn exchange(&mut self, world: &mut World, limit: Duration) -> bool {
        self.write(world, 0);
        if !self.settle(world, limit) {
            return false;
        }
        self.write(world, 1);
        self.settle(world, limit)
    }
}
