"""What the Python boundary costs: requests one at a time and many in flight, against plain asyncio.

Everything in one run, each other side in a process of its own, on loopback. Compare figures of
one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from peers.base import CHUNK, Lab, timed
from peers.ours import OurRequest, OurStream
from peers.sockets import AsyncioTls, AsyncioUdp
from pilot_agent import Node
from support.netns import NamespaceUnavailableError, enter_loopback_namespace
from support.ours import Rendezvous

PAYLOAD = bytes(64)
SINK = 4000
DEPTH = 64


class OurRequests(OurRequest):
    """The same with many tasks, each asking again as soon as it was answered."""

    async def in_flight(self, count: int) -> float:
        async def ask(times: int) -> None:
            for _ in range(times):
                await self.node.request(self.other, PAYLOAD)

        start = time.perf_counter()
        await asyncio.gather(*(ask(count // DEPTH) for _ in range(DEPTH)))
        return count // DEPTH * DEPTH / (time.perf_counter() - start)


class OurBulk(OurStream):
    """One way: what `Stream.write` takes and the other process throws away."""

    size = CHUNK

    async def start(self) -> None:
        await super().start()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, "--sink", self.lab.rendezvous, str(self.lab.directory)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None, "asked for"
        await self._process.stdout.readline()
        self._bulk = await self.node.open_stream("sink", SINK)

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()
        await super().stop()

    async def one_way(self, count: int) -> float:
        """MiB/s of `count` MiB."""
        chunk, writes = bytes(self.size), (count << 20) // self.size
        start = time.perf_counter()
        for _ in range(writes):
            await self._bulk.write(chunk)
        await self._bulk.drain()
        return (writes * self.size >> 20) / (time.perf_counter() - start)


class OurCalls(OurRequest):
    """What a call costs that needs no answer, by the way it takes into Rust and back."""

    async def resolved(self, count: int) -> float:
        """A look-up in memory as a future of pyo3-async-runtimes."""
        address = await self.node.resolve(self.other)
        return statistics.median(await timed(count, lambda: self.node.resolve(address))) * 1e6

    async def sent(self, count: int) -> float:
        """The same look-up and a datagram, polled where it is called."""
        address = await self.node.resolve(self.other)
        once = lambda: self.node.send_datagram(address, 9, PAYLOAD)  # noqa: E731
        return statistics.median(await timed(count, once)) * 1e6


class TlsMessages(AsyncioTls):
    """Messages of 64 bytes on one TLS connection, read one by one at both ends."""

    async def serve(self, *arguments: str) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, "--serve", *arguments), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None, "asked for"
        return int(await self._process.stdout.readline())

    async def in_flight(self, count: int) -> float:
        assert self.writer is not None, "started"
        start = time.perf_counter()
        for _ in range(DEPTH):
            self.writer.write(PAYLOAD)
        for _ in range(count - DEPTH):
            await self.reader.readexactly(len(PAYLOAD))
            self.writer.write(PAYLOAD)
        await self.reader.readexactly(DEPTH * len(PAYLOAD))
        return count / (time.perf_counter() - start)


async def serve_messages(*certificate: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(len(PAYLOAD)))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def serve_sink(rendezvous: str, home: str) -> None:
    async with (
        Node.start("sink", rendezvous=rendezvous, home=home) as node,
        node.listen(SINK) as listener,
    ):
        print("ready", flush=True)
        buffer = bytearray(CHUNK)
        async for stream in listener:
            while await stream.readinto(buffer):
                pass


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def report(
    label: str, unit: str, count: int, rounds: int, once: Callable[[int], Awaitable[float]]
) -> None:
    await once(count // 10)
    cpu = cpu_seconds()
    figures = [await once(count) for _ in range(rounds)]
    cpu = (cpu_seconds() - cpu) / rounds / count * 1e6
    text = " ".join(f"{figure:.0f}" for figure in sorted(figures))
    median = statistics.median(figures)
    print(f"{label:34} {median:9.0f} {unit:4} cpu here {cpu:6.1f} us each   ({text})", flush=True)


def median_of(
    round_trips: Callable[[int, bytes], Awaitable[list[float]]],
) -> Callable[[int], Awaitable[float]]:
    async def once(count: int) -> float:
        times = await round_trips(count, PAYLOAD)
        return statistics.median(times) * 1e6

    return once


async def run(options: argparse.Namespace) -> None:
    count, many, rounds = options.count, options.count * 10, options.rounds
    wanted = options.only.split(",")
    with tempfile.TemporaryDirectory(prefix="pb") as directory:
        root = Path(directory)
        with Rendezvous(root, "127.0.0.1:9000") as rendezvous:

            def lab(name: str) -> Lab:
                (root / name).mkdir()
                return Lab(root / name, rendezvous.address)

            for name, kind in (
                ("udp", AsyncioUdp),
                ("tls", TlsMessages),
                ("stream", OurStream),
                ("request", OurRequests),
                ("calls", OurCalls),
                ("bulk", OurBulk),
            ):
                if options.only and name not in wanted:
                    continue
                peer = kind(lab(name))
                try:
                    await peer.start()
                    if isinstance(peer, OurBulk):
                        for peer.size in (64 << 10, 256 << 10, 1 << 20):
                            label = f"write of {peer.size >> 10} KiB, one way"
                            await report(label, "MiB/s", options.mib, rounds, peer.one_way)
                        continue
                    if isinstance(peer, OurCalls):
                        await report("pyo3-async-runtimes", "us", count, rounds, peer.resolved)
                        await report("polled on the loop", "us", count, rounds, peer.sent)
                        continue
                    label = f"{name}, one at a time"
                    await report(label, "us", count, rounds, median_of(peer.round_trips))
                    if isinstance(peer, (TlsMessages, OurRequests)):
                        await report(
                            f"{name}, {DEPTH} in flight", "/s", many, rounds, peer.in_flight
                        )
                finally:
                    await peer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="round trips (ten times in flight)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=512, help="MiB of a bulk transfer")
    parser.add_argument("--only", default="", help="udp, tls, stream, request, calls, bulk")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--sink", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_messages(*options.serve))
        return
    if options.sink:
        asyncio.run(serve_sink(*options.sink))
        return
    with contextlib.suppress(NamespaceUnavailableError):
        enter_loopback_namespace()
    if options.uvloop:
        import uvloop  # noqa: PLC0415 - optional

        uvloop.run(run(options))
    else:
        asyncio.run(run(options))


if __name__ == "__main__":
    main()
