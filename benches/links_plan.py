"""Which links, who sends over them, and what becomes of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.go import GoSdk
from peers.http1 import Aiohttp
from peers.http2 import Http2
from peers.native import NativeQuinn
from peers.ours import OurRequest, OurStream
from peers.sockets import AsyncioTcp, AsyncioTls

if TYPE_CHECKING:
    from peers import Peer

__all__ = [
    "BESIDE",
    "COUNT",
    "NEIGHBOURS",
    "PARALLEL",
    "RELAYED",
    "REQUESTERS",
    "REQUESTS",
    "SENDERS",
    "SIZE",
    "SMALL",
    "STREAMS",
    "Outcome",
    "Scene",
    "Sender",
]

PARALLEL, SIZE = 50, 200 << 10
"""Requests at once, and what each is answered with."""
SMALL, COUNT = 64, 300
"""Bytes of a small request, and how many there are with and without a stream beside them."""
MTU = 1500


@dataclass(frozen=True)
class Scene:
    """A link, the same both ways, with a queue of one round trip.

    Args:
        name: As in the table.
        mbit: Millions of bits per second.
        rtt: There and back, in milliseconds.
        loss: As `linkem` has it.
        seconds: How long a stream is watched.
        after: From when on the figure counts: a beginning is another matter than a rate.
    """

    name: str
    mbit: int
    rtt: int
    loss: str = "0%"
    seconds: float = 6.0
    after: float = 2.0

    def spec(self, *, share: int = 1, seed: int = 1) -> str:
        """As `linkem` has it; `share` links of the kind, one behind the other, are the scene."""
        queue = self.mbit * self.rtt * 125
        return f"rate={self.mbit}mbit,delay={self.rtt * 500 // share}us,queue={queue}B,seed={seed}"

    def shortened(self, seconds: float | None) -> Scene:
        """The same for a shorter time, if there is to be one."""
        if seconds is None or seconds >= self.seconds:
            return self
        return replace(self, seconds=seconds, after=self.after / self.seconds * seconds)

    @property
    def bytes_per_s(self) -> float:
        return self.mbit * 125_000.0


STREAMS = (
    Scene("100M 20ms", 100, 20),
    Scene("0.1%", 100, 20, "0.1%"),
    Scene("1%", 100, 20, "1%"),
    Scene("1% bursts", 100, 20, "1%/8"),
    Scene("100M 200ms", 100, 200, seconds=10, after=4),
    Scene("500M 100ms 0.1%", 500, 100, "0.1%", seconds=9, after=5),
)
BESIDE = STREAMS[:3]
"""Where small requests are asked beside a stream."""
REQUESTS = (
    Scene("0%", 100, 20),
    Scene("1%", 100, 20, "1%"),
    Scene("3%", 100, 20, "3%"),
    Scene("1G 0%", 1000, 20),
    Scene("1G 1%", 1000, 20, "1%"),
    Scene("1G 3%", 1000, 20, "3%"),
)


@dataclass(frozen=True)
class Sender:
    """A peer, and the kernel's congestion control if it is over TCP."""

    name: str
    peer: type[Peer]
    congestion: str = ""

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        if self.congestion:
            known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
            if self.congestion not in known.read_text(encoding="ascii").split():
                return f"this kernel has no {self.congestion}"
        return self.peer.missing()


SENDERS = (
    Sender("pilot-agent", OurStream),
    Sender("Go daemon", GoSdk),
    Sender("quinn (Rust)", NativeQuinn),
    Sender("TLS, BBR", AsyncioTls, "bbr"),
    Sender("TLS, CUBIC", AsyncioTls, "cubic"),
    Sender("TCP, BBR", AsyncioTcp, "bbr"),
    Sender("TCP, CUBIC", AsyncioTcp, "cubic"),
)
RELAYED = SENDERS[:2]
"""Those that have a relay."""
NEIGHBOURS = (
    Sender("pilot-agent, request()", OurRequest),
    Sender("pilot-agent, streams", OurStream),
    Sender("Go daemon, streams", GoSdk),
    Sender("HTTP/2, BBR", Http2, "bbr"),
    Sender("HTTP/2, CUBIC", Http2, "cubic"),
    Sender("TLS conn. each, BBR", AsyncioTls, "bbr"),
    Sender("TLS conn. each, CUBIC", AsyncioTls, "cubic"),
)
"""Those of which a stream and small requests go to the same peer."""
REQUESTERS = (
    Sender("pilot-agent, request()", OurRequest),
    Sender("pilot-agent, streams", OurStream),
    Sender("Go daemon, streams", GoSdk),
    Sender("quinn (Rust), streams", NativeQuinn),
    Sender("HTTP/2, BBR", Http2, "bbr"),
    Sender("HTTP/2, CUBIC", Http2, "cubic"),
    Sender("HTTP/2, Reno", Http2, "reno"),
    Sender("HTTP/1.1 one conn., BBR", Aiohttp, "bbr"),
    Sender("HTTP/1.1 one conn., CUBIC", Aiohttp, "cubic"),
    Sender("TLS conn. each, BBR", AsyncioTls, "bbr"),
    Sender("TLS conn. each, CUBIC", AsyncioTls, "cubic"),
)


@dataclass
class Outcome:
    """What one sender did in one scene; each round adds a value to each of the samples."""

    kind: str
    sender: str
    scene: str
    missing: str | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)
    links: list[dict[str, Any]] = field(default_factory=list)
    """What the links counted, round by round."""

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self.samples.setdefault(name, []).append(round(value, 4))

    def median(self, name: str) -> float | None:
        values = self.samples.get(name)
        return statistics.median(values) if values else None

    def add_flow(self, scene: Scene, times: list[float], piece: int) -> None:
        """What arrived when: the rate of the settled stream, of all of it, and its share."""
        late = sum(scene.after <= at for at in times) * piece
        rate = late / (scene.seconds - scene.after)
        whole = len(times) * piece / scene.seconds
        self.add(mb_per_s=rate / 1e6, whole_mb_per_s=whole / 1e6)
        self.add(percent=100 * rate / scene.bytes_per_s)

    def add_beside(self, alone: list[float], beside: list[float]) -> None:
        """How long small requests took without and with a stream beside them."""
        for name, times in (("alone", sorted(alone)), ("beside", sorted(beside))):
            p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
            self.add(**{f"{name}_p50_ms": p50 * 1e3, f"{name}_p99_ms": p99 * 1e3})

    def add_fetch(self, times: list[float]) -> None:
        """When each answer was there."""
        times = sorted(times)
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        self.add(all_s=times[-1], p50_s=p50, p99_s=p99, p99_by_p50=p99 / p50)
