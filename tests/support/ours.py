"""Our own programs as separate processes: the rendezvous, and a node that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["AgentProcess", "Rendezvous"]

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
            with contextlib.suppress(OSError):
                socket.create_connection((host, int(port)), 1).close()
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                text = self.log.read_text(encoding="utf-8", errors="replace")
                msg = f"the rendezvous did not get ready:\n{text}"
                raise RuntimeError(msg)
            time.sleep(0.02)  # a listening socket cannot be awaited from outside

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


class AgentProcess:
    """A node of ours in a process of its own (support/agent.py), so that it can die."""

    def __init__(self, home: Path, rendezvous: str, hostname: str) -> None:
        self.hostname = hostname
        self.home = home
        self.address = ""
        self._arguments = [str(home), rendezvous, hostname]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> AgentProcess:
        """Start it, and return when its node has started."""
        script = Path(__file__).with_name("agent.py")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.address = str((await self.next("ready"))["address"])
        return self

    async def next(self, event: str) -> dict[str, Any]:
        """The next event of this kind; others before it are dropped."""
        if self._process is None or self._process.stdout is None:
            msg = "the agent process does not run"
            raise RuntimeError(msg)
        while True:
            line = await asyncio.wait_for(self._process.stdout.readline(), _READY_TIMEOUT)
            if not line:
                msg = f"the agent process {self.hostname} ended, waiting for {event!r}"
                raise RuntimeError(msg)
            record: dict[str, Any] = json.loads(line)
            if record["event"] == event:
                return record

    async def command(self, **fields: object) -> None:
        """Tell it to do something; see support/agent.py."""
        if self._process is None or self._process.stdin is None:
            msg = "the agent process does not run"
            raise RuntimeError(msg)
        self._process.stdin.write(json.dumps(fields).encode() + b"\n")
        await self._process.stdin.drain()

    async def kill(self) -> None:
        """End it without a last word."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def __aenter__(self) -> AgentProcess:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
