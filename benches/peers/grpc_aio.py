"""gRPC over TLS, grpcio's asyncio API, without protobuf: messages are bytes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .base import KIB, in_flight, timed
from .packages import PackagePeer, load
from .tls import NO_OPENSSL, certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["GrpcAio"]

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.ssl_target_name_override", "localhost"),
]


class GrpcAio(PackagePeer):
    """Unary calls, and a client's stream of messages for throughput, over one channel."""

    name = "gRPC aio, TLS"
    package = "grpcio"
    chunks = (256 * KIB, 1024 * KIB)

    @classmethod
    def missing(cls) -> str | None:
        return super().missing() or NO_OPENSSL

    async def serve(self) -> dict[str, Any]:
        grpc = load("grpc")
        grpc_aio = load("grpc.aio")

        async def echo(question: bytes, _: Any) -> bytes:
            return question

        async def give(question: bytes, _: Any) -> bytes:
            return bytes(int(question))

        async def sink(messages: Any, _: Any) -> bytes:
            async for _message in messages:
                pass
            return b"."

        handlers = {
            "echo": grpc.unary_unary_rpc_method_handler(echo),
            "give": grpc.unary_unary_rpc_method_handler(give),
            "sink": grpc.stream_unary_rpc_method_handler(sink),
        }
        server = grpc_aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
        crt, key = certificate(self.lab.directory)
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), crt.read_bytes())])
        port = server.add_secure_port(f"{self.lab.host}:0", credentials)
        await server.start()
        self.stack.push_async_callback(server.stop, 0)
        return {"target": f"{self.lab.host}:{port}"}

    async def connect(self, where: dict[str, Any]) -> None:
        self._grpc, self._aio = load("grpc"), load("grpc.aio")
        self._target = where["target"]
        self._channel = self.channel()
        self.stack.push_async_callback(self._channel.close)
        self._echo = self._channel.unary_unary("/bench/echo")
        self._give = self._channel.unary_unary("/bench/give")
        self._sink = self._channel.stream_unary("/bench/sink")
        await self._echo(b"")

    def channel(self) -> Any:
        crt = certificate(self.lab.directory)[0].read_bytes()
        credentials = self._grpc.ssl_channel_credentials(crt)
        return self._aio.secure_channel(self._target, credentials, options=_OPTIONS)

    async def send(self, size: int, chunk: int) -> float:
        start = time.perf_counter()
        await self._sink(_messages(size, chunk))
        return time.perf_counter() - start

    async def keep_sending(self) -> None:
        await self._sink(_messages(1 << 60, self.chunks[0]))

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await timed(count, lambda: self._echo(payload))

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        return await in_flight(count, depth, lambda: self._echo(payload))

    async def new_streams(self, count: int, payload: bytes) -> list[float]:
        return await self.round_trips(count, payload)  # each call is a stream of HTTP/2

    async def new_peers(self, count: int, payload: bytes) -> list[float]:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            async with self.channel() as channel:
                await channel.unary_unary("/bench/echo")(payload)
                times.append(time.perf_counter() - start)
        return times

    async def fetch(self, parallel: int, size: int) -> list[float]:
        start = time.perf_counter()

        async def one() -> float:
            await self._give(b"%d" % size)
            return time.perf_counter() - start

        return list(await asyncio.gather(*(one() for _ in range(parallel))))


async def _messages(size: int, chunk: int) -> AsyncIterator[bytes]:
    data = bytes(chunk)
    while size > 0:
        yield data if size >= chunk else data[:size]
        size -= chunk
