"""Plain asyncio on loopback: what a program without an overlay would use, and the ceiling."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

from .base import Peer, bulk, timed

__all__ = ["AsyncioTcp", "AsyncioTls", "AsyncioUdp"]

_SERVER = Path(__file__).parent.parent / "servers.py"


class _Socket(Peer):
    kind: str

    _process: asyncio.subprocess.Process | None = None

    async def serve(self, *arguments: str) -> int:
        """Start the echoing process; its port."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(_SERVER), self.kind, *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None, "asked for"
        return int(await self._process.stdout.readline())

    async def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                self._process.kill()
            await self._process.wait()


class AsyncioTcp(_Socket):
    """`asyncio.open_connection`."""

    name = "asyncio TCP"
    encrypted = False
    kind = "tcp"

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        port = await self.serve()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def stop(self) -> None:
        if self.writer is not None:
            self.writer.close()
        await super().stop()

    async def read(self, n: int) -> bytes:
        return await self.reader.read(n)

    async def write(self, data: bytes) -> None:
        assert self.writer is not None, "started"
        self.writer.write(data)
        await self.writer.drain()

    async def throughput(self, size: int) -> float:
        return await bulk(self, size)

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        async def once() -> None:
            await self.write(payload)
            await self.reader.readexactly(len(payload))

        return await timed(count, once)


class AsyncioTls(AsyncioTcp):
    """The same with TLS: what encryption costs a kernel stream in Python."""

    name = "asyncio TLS"
    encrypted = True
    kind = "tls"

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("openssl") else "openssl, for a certificate, is not installed"

    async def start(self) -> None:
        certificate, key = self.lab.directory / "tls.crt", self.lab.directory / "tls.key"
        await asyncio.to_thread(_make_certificate, certificate, key)
        port = await self.serve(str(certificate), str(key))
        trust = ssl.create_default_context(cafile=str(certificate))
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trust, server_hostname="localhost"
        )


class AsyncioUdp(_Socket, asyncio.DatagramProtocol):
    """Datagrams, with no reliability: the floor of the latency, and no throughput to speak of."""

    name = "asyncio UDP"
    encrypted = False
    kind = "udp"

    _transport: asyncio.DatagramTransport | None = None
    _waiting: asyncio.Future[bytes] | None = None

    async def start(self) -> None:
        port = await self.serve()
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, remote_addr=("127.0.0.1", port)
        )

    async def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()
        await super().stop()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(data)

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        async def once() -> None:
            assert self._transport is not None, "started"
            self._waiting = asyncio.get_running_loop().create_future()
            self._transport.sendto(payload)
            await self._waiting

        return await timed(count, once)


def _make_certificate(certificate: Path, key: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
