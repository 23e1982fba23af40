"""ZeroMQ with CURVE encryption, by pyzmq's blocking API and by its asyncio one."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from .base import KIB, timed
from .packages import PackagePeer, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from .base import Driver

__all__ = ["ZmqAsyncio", "ZmqCurve"]

_DEPTH = 64
"""Messages that a socket takes before it makes the sender wait."""


class ZmqCurve(PackagePeer):
    """Pairs of sockets: one for requests, one for bulk."""

    name = "ZeroMQ, CURVE, blocking"
    driver: ClassVar[Driver] = "blocking"
    package = "pyzmq"
    chunks = (256 * KIB, 1024 * KIB)

    @classmethod
    def missing(cls) -> str | None:
        if reason := super().missing():
            return reason
        return None if load("zmq").has("curve") else "this pyzmq has no CURVE"

    def socket(self, **keys: bytes) -> Any:
        zmq = load("zmq")
        socket = zmq.Context.instance().socket(zmq.PAIR)
        socket.linger = 0
        socket.set_hwm(_DEPTH)
        for name, value in keys.items():
            setattr(socket, f"curve_{name}", value)
        self.stack.callback(socket.close)
        return socket

    async def serve(self) -> dict[str, Any]:
        public, secret = load("zmq").curve_keypair()
        where: dict[str, Any] = {"public": public.decode()}
        for name, serving in {"echo": _echo, "bulk": _take, "beside": _drop}.items():
            socket = self.socket(secretkey=secret)
            socket.curve_server = True
            port = socket.bind_to_random_port(f"tcp://{self.lab.host}")
            where[name] = f"tcp://{self.lab.host}:{port}"
            self.answer(serving, socket)
        return where

    def answer(self, serving: Callable[[Any], None], socket: Any) -> None:
        threading.Thread(target=serving, args=(socket,), daemon=True).start()

    async def connect(self, where: dict[str, Any]) -> None:
        self._where = where
        self._echoing, self._bulk = self.connected("echo"), self.connected("bulk")
        await self.round_trips(1, b"?")

    def connected(self, name: str) -> Any:
        public, secret = load("zmq").curve_keypair()
        server = self._where["public"].encode()
        socket = self.socket(secretkey=secret, publickey=public, serverkey=server)
        socket.connect(self._where[name])
        return socket

    async def send(self, size: int, chunk: int) -> float:
        def send() -> float:
            data = bytes(chunk)
            start = time.perf_counter()
            self._bulk.send(b"%d" % size)
            for left in range(size, 0, -chunk):
                self._bulk.send(data if left >= chunk else data[:left], copy=False)
            self._bulk.recv()
            return time.perf_counter() - start

        return await asyncio.to_thread(send)

    async def keep_sending(self) -> None:
        stop = threading.Event()
        socket = self.connected("beside")
        socket.sndtimeo = 1000

        def send() -> None:
            data = bytes(self.chunks[0])
            while not stop.is_set():
                socket.send(data, copy=False)

        try:
            await asyncio.to_thread(send)
        finally:
            stop.set()

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        def run() -> list[float]:
            times = []
            for _ in range(count):
                start = time.perf_counter()
                self._echoing.send(payload)
                self._echoing.recv()
                times.append(time.perf_counter() - start)
            return times

        return await asyncio.to_thread(run)

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        def run() -> float:
            start = time.perf_counter()
            for number in range(count + depth):
                if number >= depth:
                    self._echoing.recv()
                if number < count:
                    self._echoing.send(payload)
            return time.perf_counter() - start

        return await asyncio.to_thread(run)


class ZmqAsyncio(ZmqCurve):
    """The requests from an event loop, at both ends, as in a program that does more than this."""

    name = "ZeroMQ, CURVE, asyncio"
    driver = "asyncio"

    def answer(self, serving: Callable[[Any], None], socket: Any) -> None:
        if serving is not _echo:
            super().answer(serving, socket)
            return
        task = asyncio.create_task(_echo_asyncio(_asynchronous(socket)))
        self.stack.callback(task.cancel)

    async def connect(self, where: dict[str, Any]) -> None:
        self._where = where
        self._echoing, self._bulk = _asynchronous(self.connected("echo")), self.connected("bulk")
        await self.round_trips(1, b"?")

    async def send(self, size: int, chunk: int) -> float:
        raise NotImplementedError

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        async def once() -> None:
            await self._echoing.send(payload)
            await self._echoing.recv()

        return await timed(count, once)

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        start = time.perf_counter()
        for number in range(count + depth):
            if number >= depth:
                await self._echoing.recv()
            if number < count:
                await self._echoing.send(payload)
        return time.perf_counter() - start


def _asynchronous(socket: Any) -> Any:
    return load("zmq.asyncio").Socket.from_socket(socket)


async def _echo_asyncio(socket: Any) -> None:
    while True:
        await socket.send(await socket.recv())


def _echo(socket: Any) -> None:
    while True:
        socket.send(socket.recv())


def _take(socket: Any) -> None:
    while True:
        left = int(socket.recv())
        while left > 0:
            left -= len(socket.recv(copy=False))
        socket.send(b".")


def _drop(socket: Any) -> None:
    while True:
        socket.recv(copy=False)
