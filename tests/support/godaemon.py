"""The Go implementation (release 1.18.0) as a test peer: its daemon and its command-line tool."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

__all__ = ["GoDaemon", "binary"]

_IPC_INFO = 0x0D
_READY_TIMEOUT = 20.0


def binary(name: str) -> Path | None:
    """Where the installed `pilotprotocol` package keeps `pilot-daemon` or `pilotctl`."""
    spec = importlib.util.find_spec("pilotprotocol")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / name
    return path if path.exists() else None


class GoDaemon:
    """One daemon with a home of its own, on loopback, that talks to nobody but us.

    Args:
        directory: Its home, socket and log. Short, for a socket path has about 100 characters.
        rendezvous: `host:port`, registry (TCP) and beacon (UDP) alike.
        hostname: The name it registers.
        listen: Its UDP address.
        flags: More flags of `pilot-daemon`.
        prefix: What stands before its commands: `nsenter` and a namespace.
        environment: More variables of the daemon's environment.
    """

    def __init__(
        self,
        directory: Path,
        rendezvous: str,
        hostname: str,
        *,
        public: bool = True,
        listen: str = "127.0.0.1:0",
        flags: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        daemon, tool = binary("pilot-daemon"), binary("pilotctl")
        if daemon is None or tool is None:
            msg = "the package pilotprotocol is not installed: make venv"
            raise RuntimeError(msg)
        self.hostname = hostname
        self.home = directory / hostname
        self.home.mkdir(parents=True, exist_ok=True)
        self.socket = self.home / "s"
        self.log = self.home / "daemon.log"
        self._tool = [*prefix, str(tool)]
        self._rendezvous = rendezvous
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            *prefix,
            *(str(daemon), "-registry", rendezvous, "-beacon", rendezvous),
            *("-hostname", hostname, "-listen", listen, "-email", f"{hostname}@example.com"),
            *("-socket", str(self.socket), "-identity", str(self.home / "identity.json")),
            *("-trust-auto-approve", "-no-skillinject", "-telemetry-url", "", "-motd-feed-url", ""),
            *(("-public",) if public else ()),
            *flags,
        ]
        # Nothing of the user's: no home, no runtime directory, no proxy.
        self._environment = {
            "HOME": str(self.home),
            "PATH": os.environ.get("PATH", ""),
            "PILOT_SOCKET": str(self.socket),
            **(environment or {}),
        }

    def start(self) -> GoDaemon:
        """Start it, and return when it is registered."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _READY_TIMEOUT
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                msg = f"{self.hostname} did not get ready:\n{self.log_tail()}"
                raise RuntimeError(msg)
            time.sleep(0.02)  # the daemon has no way to tell us
        return self

    def stop(self) -> None:
        """Ask it to end, as an operator would, and wait for that."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a last word, as a crash or a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again with the same identity."""
        self.kill()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> GoDaemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(self.info()["node_id"])
        return False

    def info(self) -> dict[str, Any]:
        """What the daemon says about itself over its local socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ipc:
            ipc.settimeout(5)
            ipc.connect(str(self.socket))
            ipc.sendall(struct.pack(">IB", 1, _IPC_INFO))
            (length,) = struct.unpack(">I", _receive(ipc, 4))
            answer: dict[str, Any] = json.loads(_receive(ipc, length)[1:])
            return answer

    @property
    def address(self) -> str:
        """Its virtual address, as text."""
        return str(self.info()["address"])

    @property
    def node_id(self) -> int:
        """Its node ID."""
        return int(self.info()["node_id"])

    async def pilotctl(self, *arguments: str, timeout: float = 40.0) -> str:
        """Run `pilotctl` against this daemon and return what it prints.

        Raises:
            AssertionError: It failed; the text has its output.
        """
        process = await asyncio.create_subprocess_exec(
            *self._tool,
            *arguments,
            env={**self._environment, "PILOT_REGISTRY": self._rendezvous},
            cwd=self.home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), timeout)
        except asyncio.TimeoutError:
            process.kill()
            output, errors = await process.communicate()
            errors += f"\nkilled after {timeout} s".encode()
        if process.returncode != 0:
            msg = (
                f"pilotctl {' '.join(arguments)}: exit code {process.returncode}\n"
                f"{output.decode()}{errors.decode()}"
            )
            raise AssertionError(msg)
        return output.decode()

    async def json(self, *arguments: str, timeout: float = 40.0) -> Any:
        """Run `pilotctl --json` and return the `data` of its answer."""
        answer = json.loads(await self.pilotctl("--json", *arguments, timeout=timeout))
        return answer.get("data", answer)

    def inbox(self) -> list[dict[str, Any]]:
        """The messages it stored, oldest first."""
        folder = self.home / ".pilot" / "inbox"
        messages = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
        return sorted(messages, key=lambda message: str(message["received_at"]))

    def received(self) -> list[Path]:
        """The files it stored, oldest first."""
        return sorted((self.home / ".pilot" / "received").glob("[!.]*"))

    def log_tail(self, lines: int = 30) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            text = self.log.read_text(encoding="utf-8", errors="replace")
            return f"--- {self.log}\n" + "\n".join(text.splitlines()[-lines:])
        return f"--- {self.log}: nothing"


def _receive(ipc: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = ipc.recv(size - len(data))
        if not chunk:
            msg = "the daemon closed its local socket"
            raise OSError(msg)
        data += chunk
    return data
