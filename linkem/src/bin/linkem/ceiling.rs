//! What a link without limits carries on this machine: figures of others mean nothing without it.

use std::error::Error;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use linkem::LinkParams;

use crate::control::Wire;
use crate::options::End;
use crate::sys;

const TIME: Duration = Duration::from_millis(700);
const MTU: u32 = 9000;
/// Of a UDP payload; the large ones fill a packet of 1500 and one of 9000 bytes.
const SIZES: [usize; 3] = [64, 1472, 8972];

/// Prints, for each size, how many packets arrive while one program sends what it can to another.
pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let end = |device: &str, last: u8| -> Result<End, Box<dyn Error>> {
        let namespace = sys::new_namespace()?;
        let address = Some(([10, 255, 0, last].into(), 24));
        Ok(End { namespace, device: device.to_owned(), address, mtu: MTU })
    };
    let ends = [end("a0", 1)?, end("b0", 2)?];
    let wire = Wire::start(&ends, [LinkParams::default(); 2])?;
    sys::enter(&ends[1].namespace)?;
    let receiver = UdpSocket::bind("10.255.0.2:9000")?;
    receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
    sys::enter(&ends[0].namespace)?;
    let sender = Arc::new(UdpSocket::bind("10.255.0.1:0")?);
    sender.connect("10.255.0.2:9000")?;
    let mut lines = Vec::new();
    for size in SIZES {
        let is_over = Arc::new(AtomicBool::new(false));
        let flood = thread::spawn({
            let (sender, is_over) = (sender.clone(), is_over.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    // A full queue: the next one may fit.
                    let _ = sender.send(&[0; MTU as usize][..size]);
                }
            }
        });
        let before = wire.directions[0].counters().delivered;
        let (start, mut received, mut buffer) = (Instant::now(), 0u64, [0; MTU as usize]);
        while start.elapsed() < TIME {
            received += u64::from(receiver.recv(&mut buffer).is_ok());
        }
        let seconds = start.elapsed().as_secs_f64();
        let delivered = wire.directions[0].counters().delivered - before;
        is_over.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| "the sender panicked")?;
        let rate = delivered as f64 / seconds;
        lines.push(format!(
            "{{\"udp_payload\":{size},\"packets_per_s\":{rate:.0},\"mb_per_s\":{:.1},\
             \"received_per_s\":{:.0}}}",
            rate * size as f64 / 1e6,
            received as f64 / seconds,
        ));
        while receiver.recv(&mut buffer).is_ok() {}
    }
    println!("[{}]", lines.join(",\n "));
    Ok(())
}
