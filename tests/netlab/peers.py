"""Who is behind the NATs of a matrix: nodes of ours, or daemons of the Go implementation."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Protocol

from support.godaemon import GoDaemon
from support.ours import AgentError, AgentProcess

if TYPE_CHECKING:
    from pathlib import Path

    from .lab import Lab

__all__ = ["GoPeer", "OurPeer", "Peer", "TroubleError"]

_ECHO_MEGABYTE = "1"
# Longer than any pair needs that gets through at all.
_PATIENCE = 12.0


class TroubleError(RuntimeError):
    """A peer could not reach another."""


class Peer(Protocol):
    """Somebody at a host, who is somebody else in each round, so that every pair begins cold."""

    is_go: bool

    async def renew(self) -> None:
        """Be somebody else, at another port, whom nobody knows yet."""

    async def first_contact(self, peer: Peer) -> float:
        """Ask the peer something; seconds until its answer. Raises `TroubleError`."""

    async def keep_busy(self, peer: Peer, seconds: float) -> int:
        """Send to it for so long; how many bytes were lost or wrong. Raises `TroubleError`."""

    async def throughput(self, peer: Peer, seconds: float) -> float:
        """Megabytes a second, sending as fast as it goes. Raises `TroubleError`."""

    async def close(self) -> None:
        """End."""

    @property
    def name(self) -> str:
        """What peers call it."""


class OurPeer:
    """A node of ours.

    Args:
        lab: Where it is.
        host: At which host.
        directory: Of its identities.
        rendezvous: `host:port`.
        rate: Bytes a second when it keeps busy.
    """

    is_go = False

    def __init__(
        self, lab: Lab, host: str, directory: Path, rendezvous: str, rate: float = 100e3
    ) -> None:
        self._names = (f"{host}-{number}" for number in itertools.count(1))
        self._process = AgentProcess(
            directory / host, rendezvous, next(self._names), prefix=lab.prefix(host)
        )
        self._rate = rate
        self._started = False

    @property
    def name(self) -> str:
        return self._process.hostname

    async def renew(self) -> None:
        if self._started:
            await self._process.renew(next(self._names))
        else:
            await self._process.start()
            self._started = True

    async def first_contact(self, peer: Peer) -> float:
        question: dict[str, object] = {"ping": peer.name}
        if not peer.is_go:
            question = {"to": peer.name, "request": "are you there?"}
        answer = await _or_trouble(self._process, timeout=_PATIENCE, **question)
        return float(answer["seconds"])

    async def keep_busy(self, peer: Peer, seconds: float) -> int:
        streamed = await self._pour(peer, seconds, self._rate)
        lost = streamed["bytes"] - streamed["arrived"]
        return int(lost) if streamed["intact"] else max(1, int(lost))

    async def throughput(self, peer: Peer, seconds: float) -> float:
        start = time.monotonic()
        streamed = await self._pour(peer, seconds, None)
        return float(streamed["arrived"] / (time.monotonic() - start) / 1e6)

    async def _pour(self, peer: Peer, seconds: float, rate: float | None) -> dict[str, float]:
        how = {("echo" if peer.is_go else "stream"): seconds, "to": peer.name, "rate": rate}
        return await _or_trouble(self._process, timeout=_PATIENCE, **how)

    async def close(self) -> None:
        await self._process.kill()


async def _or_trouble(process: AgentProcess, **fields: object) -> dict[str, float]:
    try:
        return await process.call(limit=90, **fields)
    except (AgentError, asyncio.TimeoutError) as error:
        raise TroubleError(str(error)) from error


class GoPeer:
    """A Go daemon, with its default ways and no others; see `OurPeer`."""

    is_go = True

    def __init__(
        self, lab: Lab, host: str, directory: Path, rendezvous: str, flags: tuple[str, ...] = ()
    ) -> None:
        self._lab = lab
        self._host = host
        self._directory = directory
        self._rendezvous = rendezvous
        self._flags = flags
        self._numbers = itertools.count(1)
        self._daemon: GoDaemon | None = None

    @property
    def name(self) -> str:
        return self._running.address

    @property
    def _running(self) -> GoDaemon:
        assert self._daemon is not None
        return self._daemon

    async def renew(self) -> None:
        await self.close()
        number = next(self._numbers)
        name = f"{self._host}-{number}"
        self._daemon = GoDaemon(
            self._directory,
            self._rendezvous,
            name,
            # It registers the port that it is given, so that must not be 0.
            listen=f"{self._lab.address(self._host)}:{4000 + number}",
            prefix=self._lab.prefix(self._host),
            flags=self._flags,
        )
        await asyncio.to_thread(self._daemon.start)

    async def first_contact(self, peer: Peer) -> float:
        start = time.monotonic()
        answer = await self._json("ping", peer.name, "--count", "1")
        if not answer.get("results"):
            raise TroubleError(f"no answer: {answer}")
        return time.monotonic() - start

    async def keep_busy(self, peer: Peer, seconds: float) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._bench(peer)
        return 0

    async def throughput(self, peer: Peer, seconds: float) -> float:
        start, megabytes = time.monotonic(), 0
        while time.monotonic() < start + seconds:
            await self._bench(peer)
            megabytes += 1
        return megabytes * 1.048576 / (time.monotonic() - start)

    async def _bench(self, peer: Peer) -> None:
        answer = await self._json("bench", peer.name, _ECHO_MEGABYTE)
        if not answer.get("complete"):
            raise TroubleError(f"incomplete: {answer}")

    async def _json(self, *arguments: str) -> dict[str, object]:
        try:
            answer: dict[str, object] = await self._running.json(*arguments, timeout=40)
        except AssertionError as error:
            raise TroubleError(str(error)) from error
        return answer

    async def close(self) -> None:
        if self._daemon is not None:
            await asyncio.to_thread(self._daemon.kill)
            self._daemon = None
