//! Notices that this machine's addresses or routes have changed, or that it slept.
//!
//! On Linux the kernel tells (rtnetlink), so a change is known within milliseconds; elsewhere, and
//! where the kernel does not let us listen, the addresses are compared once a second. Sleep is
//! seen by the clocks: the monotonic one stands still in it, the other does not.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::debug;

use super::clock;
use super::interfaces::{HostAddr, Reach, host_addrs, source_toward};

#[cfg(target_os = "linux")]
mod netlink;

#[cfg(not(target_os = "linux"))]
mod netlink {
    //! Nothing tells us here.

    use std::io;

    use super::Losses;

    #[derive(Debug)]
    pub(super) struct Kernel;

    impl Kernel {
        pub(super) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) async fn news(&self, _losses: &mut Losses) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

use netlink::Kernel;

/// How often the clocks are compared.
const TICK: Duration = Duration::from_secs(1);
/// The clocks went apart by this much: the machine slept.
const SLEPT: Duration = Duration::from_secs(3);
/// Changes come in flocks: an address, its routes, the interface. This long after the first one
/// the rest should have come, too.
const SETTLE: Duration = Duration::from_millis(50);

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// There are other addresses, but those in use have stayed.
    Addresses,
    /// What was sent from here may come from elsewhere now, and what was on its way be lost.
    Moved,
}

/// Where this machine is in the network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    /// Its addresses, as [`host_addrs`] gives them, sorted.
    pub addrs: Vec<HostAddr>,
    /// The one from which packets to the rendezvous leave.
    pub source: Option<IpAddr>,
}

impl Surroundings {
    /// Looks around, with `rendezvous` in mind.
    #[must_use]
    pub fn look(rendezvous: SocketAddr) -> Self {
        let mut addrs = host_addrs().unwrap_or_default();
        addrs.sort_unstable_by_key(|addr| (addr.index, addr.ip));
        // Without a way to it there may still be one to another address of the same name.
        let source = source_toward(rendezvous).or_else(|| source_toward(other_family(rendezvous)));
        Self { addrs, source }
    }

    /// What it means to be in `new` after having been here.
    fn change_to(&self, new: &Self, losses: &Losses) -> Option<Change> {
        // Offline: what there is to do waits for an address.
        new.source?;
        let counts = |addr: &&HostAddr| addr.reach != Reach::Bridge;
        let has_lost = self
            .addrs
            .iter()
            .filter(counts)
            .any(|addr| losses.interfaces.contains(&addr.index) || !new.addrs.contains(addr));
        if losses.slept || losses.route || has_lost || self.source != new.source {
            Some(Change::Moved)
        } else if self.addrs != new.addrs {
            Some(Change::Addresses)
        } else {
            None
        }
    }
}

/// What was lost since the last look, even if it is there again.
#[derive(Debug, Default)]
struct Losses {
    /// Interfaces that lost an address, or their link.
    interfaces: Vec<u32>,
    /// A default route.
    route: bool,
    slept: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct LinkWatch {
    rendezvous: SocketAddr,
    kernel: Option<Kernel>,
    current: Surroundings,
    losses: Losses,
    /// Something happened, and we have not looked yet.
    is_stirred: bool,
    clocks: (Instant, Duration),
}

impl LinkWatch {
    /// Watches from now on, with the way to `rendezvous` in mind.
    #[must_use]
    pub fn new(rendezvous: SocketAddr) -> Self {
        // Listening first: what changes after the look is told.
        let kernel = Kernel::open().ok();
        Self {
            rendezvous,
            kernel,
            current: Surroundings::look(rendezvous),
            losses: Losses::default(),
            is_stirred: false,
            clocks: (clock::now(), clock::unix_time()),
        }
    }

    /// Where the machine is now.
    #[must_use]
    pub fn current(&self) -> &Surroundings {
        &self.current
    }

    /// The rendezvous is elsewhere.
    pub fn set_rendezvous(&mut self, rendezvous: SocketAddr) {
        self.rendezvous = rendezvous;
        self.current.source = Surroundings::look(rendezvous).source;
    }

    /// Waits for the next change.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Change {
        loop {
            if !self.is_stirred {
                tokio::select! {
                    () = sleep(TICK) => self.tick(),
                    told = told(self.kernel.as_ref(), &mut self.losses) => {
                        self.is_stirred = true;
                        if let Err(error) = told {
                            debug!(%error, "the kernel does not tell of changes of the network");
                            self.kernel = None;
                        }
                    }
                }
                continue;
            }
            sleep(SETTLE).await;
            if let Some(change) = self.look() {
                return change;
            }
        }
    }

    fn tick(&mut self) {
        let (now, wall) = (clock::now(), clock::unix_time());
        let (then, wall_then) = std::mem::replace(&mut self.clocks, (now, wall));
        let awake = now.saturating_duration_since(then);
        self.losses.slept |= wall.saturating_sub(wall_then) > awake + SLEPT;
        self.is_stirred = self.losses.slept || self.kernel.is_none();
    }

    fn look(&mut self) -> Option<Change> {
        self.is_stirred = false;
        let new = Surroundings::look(self.rendezvous);
        let change = self.current.change_to(&new, &self.losses);
        self.current = new;
        self.losses = Losses::default();
        change
    }
}

/// An address of the family that `addr` is not of. It is nobody's; only the way to it matters.
fn other_family(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(),
        SocketAddr::V6(_) => ([192, 0, 2, 1], 9).into(),
    }
}

/// Returns when the kernel has told something that may matter.
async fn told(kernel: Option<&Kernel>, losses: &mut Losses) -> io::Result<()> {
    match kernel {
        Some(kernel) => kernel.news(losses).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(ip: &str, index: u32, reach: Reach) -> HostAddr {
        HostAddr { ip: ip.parse().unwrap(), index, reach }
    }

    fn at(source: Option<&str>, addrs: &[HostAddr]) -> Surroundings {
        Surroundings { addrs: addrs.to_vec(), source: source.map(|ip| ip.parse().unwrap()) }
    }

    #[test]
    fn what_changes_says_what_it_means() {
        let wifi = addr("192.168.1.5", 2, Reach::Network);
        let cable = addr("10.0.0.5", 3, Reach::Network);
        let bridge = addr("172.17.0.1", 4, Reach::Bridge);
        let none = Losses::default();
        let before = at(Some("192.168.1.5"), std::slice::from_ref(&wifi));

        assert_eq!(before.change_to(&before, &none), None);
        let docked = at(Some("192.168.1.5"), &[wifi.clone(), cable.clone()]);
        assert_eq!(before.change_to(&docked, &none), Some(Change::Addresses));
        let preferred = at(Some("10.0.0.5"), &[wifi.clone(), cable.clone()]);
        assert_eq!(docked.change_to(&preferred, &none), Some(Change::Moved));
        assert_eq!(docked.change_to(&before, &none), Some(Change::Moved));
        let bridged = at(Some("192.168.1.5"), &[wifi.clone(), bridge.clone()]);
        assert_eq!(bridged.change_to(&before, &none), Some(Change::Addresses));
        // The bridge of a container that ends is no news for anybody.
        let lost_bridge = Losses { interfaces: vec![4], ..Losses::default() };
        assert_eq!(bridged.change_to(&bridged, &lost_bridge), None);
    }

    #[test]
    fn another_network_with_the_same_address_is_a_move() {
        let here = at(Some("192.168.1.5"), &[addr("192.168.1.5", 2, Reach::Network)]);
        let lost = Losses { interfaces: vec![2], ..Losses::default() };
        assert_eq!(here.change_to(&here, &lost), Some(Change::Moved));
        let slept = Losses { slept: true, ..Losses::default() };
        assert_eq!(here.change_to(&here, &slept), Some(Change::Moved));
        let rerouted = Losses { route: true, ..Losses::default() };
        assert_eq!(here.change_to(&here, &rerouted), Some(Change::Moved));
    }

    #[test]
    fn being_offline_is_told_when_it_is_over() {
        let here = at(Some("192.168.1.5"), &[addr("192.168.1.5", 2, Reach::Network)]);
        let offline = at(None, &[]);
        assert_eq!(here.change_to(&offline, &Losses::default()), None);
        assert_eq!(offline.change_to(&here, &Losses::default()), Some(Change::Moved));
    }
}
