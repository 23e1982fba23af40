"""HTTP/2 over TLS on one connection: the package h2 on asyncio, at both ends."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, cast

from .base import CHUNK, in_flight, timed
from .packages import PackagePeer, load
from .sockets import choose_congestion
from .tls import NO_OPENSSL, client_context, server_context

__all__ = ["Http2"]

_WINDOW = 64 << 20
"""Flow control of HTTP/2 itself must not be what limits."""
_FRAME = 64 << 10


class _Connection(asyncio.Protocol):
    """What both ends have in common: bodies out as the windows allow, bodies in as they come."""

    transport: asyncio.Transport

    def __init__(self, *, client: bool) -> None:
        self._events = load("h2.events")
        config = load("h2.config").H2Configuration(
            client_side=client, validate_inbound_headers=False
        )
        self.h2 = load("h2.connection").H2Connection(config=config)
        self.out: dict[int, tuple[memoryview, bool]] = {}
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(4 << 20)
        codes = load("h2.settings").SettingCodes
        self.h2.initiate_connection()
        self.h2.update_settings({codes.INITIAL_WINDOW_SIZE: _WINDOW, codes.MAX_FRAME_SIZE: _FRAME})
        self.h2.increment_flow_control_window(_WINDOW)
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.transport.write(data)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.pump()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, self._events.DataReceived):
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.on_data(event.stream_id, event.data)
            elif isinstance(event, self._events.RequestReceived):
                self.on_headers(event.stream_id, dict(event.headers))
            elif isinstance(event, self._events.StreamEnded):
                self.on_end(event.stream_id)
        self.pump()

    def body(self, stream: int, data: bytes, *, last: bool = True) -> None:
        """Send this when the peer's windows let us; call `pump` or return to the event loop."""
        self.out[stream] = (memoryview(data), last)

    def pump(self) -> None:
        """One frame of each stream after the other."""
        progress = True
        while progress and self._writable and self.out:
            progress = False
            for stream, (data, last) in list(self.out.items()):
                room = min(
                    self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size
                )
                if len(data) > 0 and room <= 0:
                    continue
                rest = data[room:]
                self.h2.send_data(stream, data[:room].tobytes(), end_stream=last and not rest)
                progress = True
                if rest:
                    self.out[stream] = (rest, last)
                else:
                    del self.out[stream]
                    self.on_sent(stream)
            self.flush()
        self.flush()

    def on_headers(self, stream: int, headers: dict[bytes, bytes]) -> None: ...

    def on_data(self, stream: int, data: bytes) -> None: ...

    def on_end(self, stream: int) -> None: ...

    def on_sent(self, stream: int) -> None: ...


class _Server(_Connection):
    """Answers `give` with as many bytes as it asks for, `echo` with itself, `sink` with nothing."""

    def __init__(self) -> None:
        super().__init__(client=False)
        self._asked: dict[int, tuple[str, bytearray]] = {}

    def on_headers(self, stream: int, headers: dict[bytes, bytes]) -> None:
        self._asked[stream] = (headers[b":path"].decode(), bytearray())

    def on_data(self, stream: int, data: bytes) -> None:
        path, body = self._asked[stream]
        if path == "/echo":
            body += data

    def on_end(self, stream: int) -> None:
        path, body = self._asked.pop(stream)
        self.h2.send_headers(stream, [(":status", "200")])
        self.body(stream, bytes(int(path[6:])) if path.startswith("/give/") else bytes(body))


class _Client(_Connection):
    def __init__(self) -> None:
        super().__init__(client=True)
        self._answers: dict[int, tuple[int, asyncio.Future[int]]] = {}
        self._sent: dict[int, asyncio.Future[None]] = {}

    def connection_lost(self, error: Exception | None) -> None:
        reason = error or ConnectionError("the connection ended")
        for _, answer in self._answers.values():
            if not answer.done():
                answer.set_exception(reason)
        for sent in self._sent.values():
            if not sent.done():
                sent.set_exception(reason)

    def ask(self, path: str, body: bytes | None) -> tuple[int, asyncio.Future[int]]:
        """Send a request; the future is the size of its answer. Without a body, `give_body` it."""
        stream = self.h2.get_next_available_stream_id()
        method = "GET" if path.startswith("/give/") else "POST"
        fields = [(":method", method), (":path", path), (":scheme", "https")]
        end = method == "GET"
        self.h2.send_headers(stream, [*fields, (":authority", "localhost")], end_stream=end)
        answer = asyncio.get_running_loop().create_future()
        self._answers[stream] = (0, answer)
        if body is not None and not end:
            self.body(stream, body)
        self.pump()
        return stream, answer

    async def give_body(self, stream: int, data: bytes, *, last: bool) -> None:
        self._sent[stream] = sent = asyncio.get_running_loop().create_future()
        self.body(stream, data, last=last)
        self.pump()
        await sent

    def on_sent(self, stream: int) -> None:
        if (sent := self._sent.pop(stream, None)) is not None and not sent.done():
            sent.set_result(None)

    def on_data(self, stream: int, data: bytes) -> None:
        size, answer = self._answers[stream]
        self._answers[stream] = (size + len(data), answer)

    def on_end(self, stream: int) -> None:
        size, answer = self._answers.pop(stream)
        if not answer.done():
            answer.set_result(size)


class Http2(PackagePeer):
    """Requests are streams of one connection."""

    name = "HTTP/2 (h2), TLS"
    package = "h2"

    @classmethod
    def missing(cls) -> str | None:
        return super().missing() or NO_OPENSSL

    async def serve(self) -> dict[str, Any]:
        listening = socket.create_server((self.lab.host, 0), backlog=128)
        choose_congestion(listening, self.lab.congestion)
        tls = server_context(self.lab.directory, "h2")
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Server, sock=listening, ssl=tls)
        self.stack.callback(server.close)
        return {"host": self.lab.host, "port": listening.getsockname()[1]}

    async def connect(self, where: dict[str, Any]) -> None:
        self._where = where
        self._client = await self.client()
        await self.echo(b"?")

    async def client(self) -> _Client:
        endpoint = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        endpoint.setblocking(False)
        choose_congestion(endpoint, self.lab.congestion)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(endpoint, (self._where["host"], self._where["port"]))
        transport, client = await loop.create_connection(
            _Client,
            sock=endpoint,
            ssl=client_context(self.lab.directory, "h2"),
            server_hostname="localhost",
        )
        self.stack.callback(transport.close)
        return client

    async def echo(self, payload: bytes) -> None:
        await self._client.ask("/echo", payload)[1]

    async def send(self, size: int, chunk: int) -> float:
        data, client = bytes(chunk), self._client
        start = time.perf_counter()
        stream, answer = client.ask("/sink", None)
        for left in range(size, 0, -chunk):
            await client.give_body(stream, data[:left], last=left <= chunk)
        await answer
        return time.perf_counter() - start

    async def keep_sending(self) -> None:
        await self.send(1 << 60, CHUNK)

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await timed(count, lambda: self.echo(payload))

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        return await in_flight(count, depth, lambda: self.echo(payload))

    async def new_peers(self, count: int, payload: bytes) -> list[float]:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            client = await self.client()
            await client.ask("/echo", payload)[1]
            times.append(time.perf_counter() - start)
            client.transport.close()
        return times

    async def fetch(self, parallel: int, size: int) -> list[float]:
        start = time.perf_counter()

        async def one() -> float:
            got = await self._client.ask(f"/give/{size}", None)[1]
            assert got == size, f"{got} bytes, not {size}"
            return time.perf_counter() - start

        return list(await asyncio.gather(*(one() for _ in range(parallel))))
