//! What the kernel is asked for: namespaces, devices, precise waiting, signals.
#![allow(unsafe_code, reason = "system calls that the standard library has no name for")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_ulong, ifreq};

use crate::options::End;

/// Packets that the kernel keeps for us while we do not run; its default of 500 overflows in bursts.
const QUEUE_PACKETS: c_int = 20_000;

/// A device whose packets are ours to read, and that takes ours as if they came from outside.
#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
    name: String,
    /// `/proc/net/dev` of the device's namespace; what it shows is decided when it is opened.
    statistics: File,
}

impl Tun {
    /// Makes it, in a namespace that this thread enters. The device lives as long as this value.
    pub(crate) fn make(end: &End) -> io::Result<Self> {
        enter(&end.namespace)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        let statistics = File::open("/proc/thread-self/net/dev")?;
        let device = Device::named(&end.device)?;
        let mut request = device.request;
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request)?;
        // Or the kernel sends packets of its own from the device's first moment on, which would take
        // the places of ours in the sequence of fates. Without IPv6 there is nothing to write to.
        let own = format!("/proc/sys/net/ipv6/conf/{}/addr_gen_mode", end.device);
        let _ = std::fs::write(own, "1");
        device.set(libc::SIOCSIFMTU, |request| request.ifr_ifru.ifru_mtu = end.mtu as c_int)?;
        // `ifr_qlen` is an int in the union, as the metric.
        let queue = |request: &mut ifreq| request.ifr_ifru.ifru_metric = QUEUE_PACKETS;
        device.set(libc::SIOCSIFTXQLEN, queue)?;
        if let Some((address, prefix)) = end.address {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            device.set(libc::SIOCSIFADDR, |request| {
                request.ifr_ifru.ifru_addr = socket_address(address);
            })?;
            device.set(libc::SIOCSIFNETMASK, |request| {
                request.ifr_ifru.ifru_netmask = socket_address(mask.into());
            })?;
        }
        device.set(libc::SIOCSIFFLAGS, |request| {
            request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        })?;
        Ok(Self { file, name: end.device.clone(), statistics })
    }

    /// The next packet; [`io::ErrorKind::WouldBlock`] if there is none.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<usize> {
        (&self.file).write(packet)
    }

    /// Waits for a packet, but no longer than this.
    pub(crate) fn wait(&self, limit: Option<Duration>) {
        let mut fds = [poll_in(self.file.as_raw_fd())];
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: pointers to one pollfd and to a timespec or null, both alive during the call.
        // A failure (a signal) is a wait that ended early.
        unsafe { libc::ppoll(fds.as_mut_ptr(), 1, limit, ptr::null()) };
    }

    /// Packets that the kernel dropped because we read too slowly.
    pub(crate) fn unread(&self) -> u64 {
        let mut text = String::new();
        let mut file = &self.statistics;
        if io::Seek::rewind(&mut file).and_then(|()| file.read_to_string(&mut text)).is_err() {
            return 0;
        }
        let line = text.lines().find_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            (name.trim() == self.name).then_some(numbers)
        });
        // Eight columns of what it received (from us), then bytes, packets, errors, drops.
        line.and_then(|line| line.split_whitespace().nth(11)?.parse().ok()).unwrap_or(0)
    }
}

/// A device by its name, and a socket to ask through.
struct Device {
    control: OwnedFd,
    request: ifreq,
}

impl Device {
    fn named(name: &str) -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe {
            libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
        })?;
        // SAFETY: just made, and nobody else's.
        let control = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain old data, for which zero is a value.
        let mut request: ifreq = unsafe { mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::other(format!("the device's name is too long: {name}")));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Self { control, request })
    }

    fn set(&self, what: c_ulong, fill: impl FnOnce(&mut ifreq)) -> io::Result<()> {
        let mut request = self.request;
        fill(&mut request);
        ioctl(self.control.as_raw_fd(), what as libc::Ioctl, &mut request)
    }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: plain old data, for which zero is a value.
    let mut raw: libc::sockaddr = unsafe { mem::zeroed() };
    raw.sa_family = libc::AF_INET as libc::sa_family_t;
    // As in sockaddr_in: two bytes of port first.
    for (to, from) in raw.sa_data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    raw
}

fn ioctl(fd: RawFd, what: libc::Ioctl, request: &mut ifreq) -> io::Result<()> {
    // SAFETY: every request we make takes a pointer to an ifreq.
    check(unsafe { libc::ioctl(fd, what, ptr::from_mut(request)) }).map(drop)
}

/// Moves this thread, and what it starts from now on, to a namespace.
pub(crate) fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// A new namespace, which this thread enters. It lives as long as the file is open.
pub(crate) fn new_namespace() -> io::Result<File> {
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    File::open("/proc/thread-self/ns/net")
}

/// Wakes this thread when it asked to be woken, and before others: it is the network.
pub(crate) fn be_punctual() {
    // SAFETY: no pointers. Without the right to it we are as punctual as the kernel lets us be.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as c_ulong);
        libc::setpriority(libc::PRIO_PROCESS, 0, -15);
    }
}

/// What may end the program, as a file to wait for; instead of ending it on the spot.
pub(crate) fn termination() -> io::Result<OwnedFd> {
    // SAFETY: `set` is plain old data that sigemptyset fills; pointers to it live during the calls.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        check(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Waits until the input or the other one has something; whether it is the other one.
pub(crate) fn wait_for_input_or(other: &OwnedFd) -> bool {
    let mut fds = [poll_in(libc::STDIN_FILENO), poll_in(other.as_raw_fd())];
    // SAFETY: a pointer to two pollfds, alive during the call.
    unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) };
    fds[1].revents != 0
}

fn poll_in(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
