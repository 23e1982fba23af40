"""Zenoh over TLS between two sessions, no router. It publishes and subscribes; its API blocks."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

from .base import KIB, free_port
from .packages import PackagePeer, load
from .tls import NO_OPENSSL, certificate

__all__ = ["ZenohTls"]


class ZenohTls(PackagePeer):
    """Requests are a publication that the other side answers with another, from a callback."""

    name = "Zenoh, TLS, blocking"
    driver = "blocking"
    package = "eclipse-zenoh"
    chunks = (256 * KIB, 1024 * KIB)

    _received = 0
    _expected = -1

    @classmethod
    def missing(cls) -> str | None:
        return super().missing() or NO_OPENSSL

    def session(self, **where: list[str]) -> Any:
        self._zenoh = load("zenoh")
        crt, key = certificate(self.lab.directory)
        config = self._zenoh.Config()
        settings: dict[str, object] = {
            "mode": "peer",
            "scouting/multicast/enabled": False,
            "scouting/gossip/enabled": False,
            "transport/shared_memory/enabled": False,  # nothing is encrypted there
            "listen/endpoints": where.get("listen", []),
            "connect/endpoints": where.get("connect", []),
            "transport/link/tls/root_ca_certificate": str(crt),
            "transport/link/tls/listen_certificate": str(crt),
            "transport/link/tls/listen_private_key": str(key),
            "transport/link/tls/verify_name_on_connect": False,
        }
        for name, value in settings.items():
            config.insert_json5(name, json.dumps(value))
        return self._zenoh.open(config)

    def publisher(self, session: Any, key: str) -> Any:
        # Express: sent at once, not batched with what may come.
        return session.declare_publisher(
            key,
            congestion_control=self._zenoh.CongestionControl.BLOCK,
            express=not key.endswith("sink"),
        )

    async def serve(self) -> dict[str, Any]:
        port = free_port(self.lab.host)
        endpoint = f"tls/{self.lab.host}:{port}"
        session = await asyncio.to_thread(self.session, listen=[endpoint])
        self.stack.callback(session.close)
        reply = self.publisher(session, "bench/reply")
        done = self.publisher(session, "bench/done")

        def check() -> None:
            if self._received == self._expected:
                self._received, self._expected = 0, -1
                done.put(b".")

        def expect(sample: Any) -> None:
            self._expected = int(sample.payload.to_bytes())
            check()

        def take(sample: Any) -> None:
            self._received += len(sample.payload.to_bytes())
            check()

        session.declare_subscriber("bench/echo", lambda sample: reply.put(sample.payload))
        session.declare_subscriber("bench/expect", expect)
        session.declare_subscriber("bench/sink", take)
        session.declare_subscriber("bench/bulk", lambda sample: len(sample.payload.to_bytes()))
        return {"endpoint": endpoint}

    async def connect(self, where: dict[str, Any]) -> None:
        self._where = where
        await asyncio.to_thread(self._connect)

    def _connect(self) -> None:
        session = self.session(connect=[self._where["endpoint"]])
        self.stack.callback(session.close)
        self._session = session
        self._echo = self.publisher(session, "bench/echo")
        self._expect = self.publisher(session, "bench/expect")
        self._sink = self.publisher(session, "bench/sink")
        self._bulk = self.publisher(session, "bench/bulk")
        self._reply = session.declare_subscriber("bench/reply")
        self._done = session.declare_subscriber("bench/done")
        _first(self._echo, self._reply)

    async def send(self, size: int, chunk: int) -> float:
        def send() -> float:
            data = bytes(chunk)
            start = time.perf_counter()
            for left in range(size, 0, -chunk):
                self._sink.put(data if left >= chunk else data[:left])
            self._expect.put(b"%d" % size)
            self._done.recv()
            return time.perf_counter() - start

        return await asyncio.to_thread(send)

    async def keep_sending(self) -> None:
        stop = threading.Event()

        def send() -> None:
            data = bytes(self.chunks[0])
            while not stop.is_set():
                self._bulk.put(data)

        try:
            await asyncio.to_thread(send)
        finally:
            stop.set()

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        def run() -> list[float]:
            times = []
            for _ in range(count):
                start = time.perf_counter()
                self._echo.put(payload)
                self._reply.recv()
                times.append(time.perf_counter() - start)
            return times

        return await asyncio.to_thread(run)

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        def run() -> float:
            start = time.perf_counter()
            for number in range(count + depth):
                if number >= depth:
                    self._reply.recv()
                if number < count:
                    self._echo.put(payload)
            return time.perf_counter() - start

        return await asyncio.to_thread(run)


def _first(echo: Any, reply: Any) -> None:
    """Until the subscriptions are known at both sides, publications go nowhere."""
    while True:
        echo.put(b"?")
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            if reply.try_recv() is not None:
                time.sleep(0.3)
                while reply.try_recv() is not None:
                    pass
                return
            time.sleep(0.01)
