"""Our own programs as separate processes: the rendezvous, and a node that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["AgentError", "AgentProcess", "Rendezvous"]

_READY_TIMEOUT = 20.0


class Rendezvous:
    """`pilot rendezvous --listen ADDRESS` with a home of its own."""

    def __init__(
        self,
        directory: Path,
        address: str,
        *,
        listen: str | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.address = address
        self._prefix = prefix
        self._listen = listen or address
        self.home = directory / "rendezvous"
        self.home.mkdir(parents=True, exist_ok=True)
        self.log = self.home / "rendezvous.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def certificate(self) -> Path:
        """The certificate that it made for itself, for `SSL_CERT_FILE`."""
        return self.home / "rendezvous.tls.pem"

    def start(self) -> Rendezvous:
        """Start it, and return when it accepts connections."""
        program = Path(sys.executable).with_name("pilot")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, str(program), "rendezvous", "--listen", self._listen],
                env={**os.environ, "HOME": str(self.home), "PILOT_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        host, _, port = self.address.rpartition(":")
        deadline = time.monotonic() + _READY_TIMEOUT
        while True:
            if self._accepts(host, int(port)):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                text = self.log.read_text(encoding="utf-8", errors="replace")
                msg = f"the rendezvous did not get ready:\n{text}"
                raise RuntimeError(msg)
            time.sleep(0.02)  # a listening socket cannot be awaited from outside

    def _accepts(self, host: str, port: int) -> bool:
        if not self._prefix:
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), 1).close()
                return True
            return False
        attempt = f"import socket; socket.create_connection(({host!r}, {port}), 1)"
        command = [*self._prefix, sys.executable, "-c", attempt]
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0

    def kill(self) -> None:
        """End it without a last word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same state."""
        self.kill()
        self.start()

    def __enter__(self) -> Rendezvous:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


class AgentError(RuntimeError):
    """An agent process could not do what it was told."""


class AgentProcess:
    """A node of ours in a process of its own (support/agent.py), so that it can die.

    Args:
        home: Directory of its identities.
        rendezvous: `host:port`.
        hostname: The name it registers.
        prefix: What stands before its command: `nsenter` and a namespace.
        environment: More variables of its environment.
    """

    def __init__(
        self,
        home: Path,
        rendezvous: str,
        hostname: str,
        *,
        prefix: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.hostname = hostname
        self.home = home
        self.address = ""
        script = Path(__file__).with_name("agent.py")
        self._program = [*prefix, sys.executable, str(script), str(home), rendezvous]
        self._environment = {**os.environ, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> AgentProcess:
        """Start it, and return when its node has started."""
        self._process = await asyncio.create_subprocess_exec(
            *self._program,
            self.hostname,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=1 << 24,
        )
        assert self._process.stdout is not None
        self._events = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen(self._process.stdout))
        self.address = str((await self.next("ready"))["address"])
        return self

    async def next(self, event: str) -> dict[str, Any]:
        """The next event of this kind; others before it are dropped."""
        while True:
            record = await asyncio.wait_for(self._events.get(), _READY_TIMEOUT)
            if record["event"] == event:
                return record
            if record["event"] == "ended":
                self._events.put_nowait(record)
                msg = f"the agent process {self.hostname} ended, waiting for {event!r}"
                raise RuntimeError(msg)

    async def command(self, **fields: object) -> None:
        """Tell it to do something; see support/agent.py."""
        if self._process is None or self._process.stdin is None:
            msg = "the agent process does not run"
            raise RuntimeError(msg)
        self._process.stdin.write(json.dumps(fields).encode() + b"\n")
        await self._process.stdin.drain()

    async def call(self, *, limit: float = 60.0, **fields: object) -> dict[str, Any]:
        """Tell it to do something and return its answer, whatever else it does meanwhile.

        Raises:
            AgentError: It could not.
        """
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self.command(id=number, **fields)
            record: dict[str, Any] = await asyncio.wait_for(answer, limit)
        finally:
            del self._answers[number]
        if record["event"] in ("failed", "ended"):
            raise AgentError(f"{self.hostname}: {record.get('error', 'it ended')}")
        return record

    async def renew(self, hostname: str) -> None:
        """Close its node, and start another one with a new identity, name and port."""
        self.hostname = hostname
        self.address = str((await self.call(renew=hostname))["address"])

    async def kill(self) -> None:
        """End it without a last word."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None
        if self._listening is not None:
            await self._listening
            self._listening = None

    async def _listen(self, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            record: dict[str, Any] = json.loads(line)
            answer = self._answers.get(record.get("id", 0))
            if answer is not None and not answer.done():
                answer.set_result(record)
            else:
                self._events.put_nowait(record)
        ended = {"event": "ended"}
        self._events.put_nowait(ended)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(ended)

    async def __aenter__(self) -> AgentProcess:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
