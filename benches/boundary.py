"""What the Python boundary costs: calls into Rust and back, against plain asyncio.

`compare.py` compares with other libraries; this looks inside our own calls. Everything in one
run, each other side in a process of its own, on loopback. Compare figures of one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pilot_agent import Node, Rendezvous, Request
from support.netns import NamespaceUnavailableError, enter_loopback_namespace

PAYLOAD = bytes(64)
DEPTH = 64
KIB = 1024
PORT = 4000
OTHER_CPU = "BOUNDARY_OTHER_CPU"


class Echo(asyncio.DatagramProtocol):
    """Sends back what comes."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


class Answer(asyncio.DatagramProtocol):
    """Wakes who waits."""

    waiting: asyncio.Future[bytes]

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        self.waiting.set_result(data)


async def serve_udp(_root: Path) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    await ready(transport.get_extra_info("sockname")[1])


async def serve_tls(root: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(len(PAYLOAD)))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(root / "tls.crt", root / "tls.key")
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    await ready(server.sockets[0].getsockname()[1])


async def serve_node(root: Path) -> None:
    async with (
        Rendezvous.start("127.0.0.1:0") as rendezvous,
        Node.start("server", rendezvous=rendezvous.address, home=root) as node,
        node.listen(PORT) as listener,
    ):

        @node.on_request
        async def answer(request: Request) -> bytes:
            return request.payload

        async def sink() -> None:
            buffer = bytearray(256 * KIB)
            async for stream in listener:
                while await stream.readinto(buffer):
                    pass

        sinking = asyncio.create_task(sink())
        await ready(rendezvous.address)
        await sinking


async def ready(where: object) -> None:
    print(where, flush=True)
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def served(kind: str, root: Path) -> AsyncIterator[str]:
    """The other side, in a process of its own; where it is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--serve", kind, str(root)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None, "asked for"
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


class Measurement:
    """Runs things a number of times and prints what came of it."""

    def __init__(self, count: int, rounds: int) -> None:
        self.count = count
        self.rounds = rounds

    async def rate(
        self, label: str, unit: str, count: int, once: Callable[[int], Awaitable[float]]
    ) -> None:
        await once(max(count // 10, 1))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        figures = [await once(count) for _ in range(self.rounds)]
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
        each = cpu / self.rounds / count * 1e6
        spread = " ".join(f"{figure:.0f}" for figure in sorted(figures))
        median = statistics.median(figures)
        print(f"{label:44} {median:8.0f} {unit:5} {each:7.1f} us CPU ({spread})", flush=True)

    async def latency(self, label: str, call: Callable[[], Awaitable[object]]) -> None:
        async def once(count: int) -> float:
            times = []
            for _ in range(count):
                start = time.perf_counter()
                await call()
                times.append(time.perf_counter() - start)
            return statistics.median(times) * 1e6

        await self.rate(label, "us", self.count, once)


async def udp(measure: Measurement, root: Path) -> None:
    async with served("udp", root) as port:
        loop = asyncio.get_running_loop()
        transport, answer = await loop.create_datagram_endpoint(
            Answer, remote_addr=("127.0.0.1", int(port))
        )

        async def once() -> None:
            answer.waiting = loop.create_future()
            transport.sendto(PAYLOAD)
            await answer.waiting

        await measure.latency("asyncio UDP echo", once)
        transport.close()


async def tls(measure: Measurement, root: Path) -> None:
    certificate = (
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"),
        *("subjectAltName=DNS:localhost", "-keyout", "tls.key", "-out", "tls.crt"),
    )
    await asyncio.to_thread(subprocess.run, certificate, cwd=root, check=True, capture_output=True)
    async with served("tls", root) as port:
        trust = ssl.create_default_context(cafile=str(root / "tls.crt"))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(port), ssl=trust, server_hostname="localhost"
        )

        async def once() -> None:
            writer.write(PAYLOAD)
            await reader.readexactly(len(PAYLOAD))

        async def many(count: int) -> float:
            start = time.perf_counter()
            for _ in range(DEPTH):
                writer.write(PAYLOAD)
            for _ in range(count - DEPTH):
                await reader.readexactly(len(PAYLOAD))
                writer.write(PAYLOAD)
            await reader.readexactly(DEPTH * len(PAYLOAD))
            return count / (time.perf_counter() - start)

        await measure.latency("asyncio TLS echo", once)
        await measure.rate(f"asyncio TLS echo, {DEPTH} in flight", "/s", measure.count * 10, many)
        writer.close()


async def ours(measure: Measurement, root: Path, mib: int) -> None:
    async with (
        served("node", root) as rendezvous,
        Node.start("client", rendezvous=rendezvous, home=root) as node,
    ):
        address = await node.resolve("server")

        async def many(count: int) -> float:
            async def ask() -> None:
                for _ in range(count // DEPTH):
                    await node.request("server", PAYLOAD)

            start = time.perf_counter()
            await asyncio.gather(*(ask() for _ in range(DEPTH)))
            return count // DEPTH * DEPTH / (time.perf_counter() - start)

        await measure.latency("request()", lambda: node.request("server", PAYLOAD))
        await measure.rate(f"request(), {DEPTH} in flight", "/s", measure.count * 10, many)
        # The same look-up in memory: as a future of pyo3-async-runtimes, and polled where it is
        # called, with a datagram sent on top.
        await measure.latency("pyo3-async-runtimes: resolve()", lambda: node.resolve(address))
        await measure.latency(
            "polled on the loop: send_datagram()", lambda: node.send_datagram(address, 9, PAYLOAD)
        )
        async with node.open_stream("server", PORT) as stream:
            for size in (64 * KIB, 256 * KIB, 1024 * KIB):
                await bulk(measure, mib, size, stream.write, stream.drain)


async def bulk(
    measure: Measurement,
    mib: int,
    size: int,
    write: Callable[[bytes], Awaitable[None]],
    drain: Callable[[], Awaitable[None]],
) -> None:
    chunk = bytes(size)

    async def once(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count * KIB * KIB // size):
            await write(chunk)
        await drain()
        return count / (time.perf_counter() - start)

    await measure.rate(f"Stream.write of {size // KIB} KiB, one way", "MiB/s", mib, once)


async def run(options: argparse.Namespace) -> None:
    measure = Measurement(options.count, options.rounds)
    with tempfile.TemporaryDirectory(prefix="pb") as directory:
        root = Path(directory)
        if not options.ours:
            await udp(measure, root)
            await tls(measure, root)
        await ours(measure, root, options.mib)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="calls (ten times in flight)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--mib", type=int, default=512, help="MiB of a stream")
    parser.add_argument("--ours", action="store_true", help="without plain asyncio")
    parser.add_argument("--uvloop", action="store_true", help="on uvloop, this side")
    parser.add_argument(
        "--pin",
        action="store_true",
        help="each side on one CPU of its own: left to itself, the scheduler may put both on one",
    )
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pin:
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[:1])
        os.environ[OTHER_CPU] = str(cpus[1])
    if options.serve:
        if cpu := os.environ.get(OTHER_CPU):
            os.sched_setaffinity(0, [int(cpu)])
        kind, root = options.serve
        serve = {"udp": serve_udp, "tls": serve_tls, "node": serve_node}[kind]
        asyncio.run(serve(Path(root)))
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
