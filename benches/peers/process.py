"""The two processes of a peer, and what the comparison says to them.

A process is `python -m peers serve NAME LAB` or `python -m peers connect NAME LAB WHERE`, LAB being
a `Lab` as JSON and WHERE what the serving one printed; or a program that behaves like it. It prints
JSON lines: first `{"value": WHERE}`, or null when connected; then an answer to each line it reads,
`[METHOD, ARGUMENT...]`. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Lab, Peer

__all__ = ["PeerError", "Process", "Session"]

LIMIT = 25.0
"""Seconds that a start, or any one measurement, may take."""

_LINE = 64 << 20
_BENCHES = Path(__file__).resolve().parent.parent
_TICK = os.sysconf("SC_CLK_TCK")


class PeerError(RuntimeError):
    """A peer's process failed; the text is its last words."""


class Process:
    """One side of a peer in a process of its own.

    Args:
        kind: The peer.
        lab: Where.
        prefix: What stands before the command: `ip netns exec` and a namespace.
    """

    def __init__(self, kind: type[Peer], lab: Lab, prefix: tuple[str, ...] = ()) -> None:
        self._kind = kind
        self._lab = lab
        self._prefix = prefix
        self._process: asyncio.subprocess.Process | None = None

    async def serve(self) -> Any:
        """Start the serving side; returns what `connect` needs."""
        return await self._start("serve")

    async def connect(self, where: Any) -> None:
        """Start the measuring side."""
        await self._start("connect", json.dumps(where))

    async def _start(self, role: str, *arguments: str) -> Any:
        command = (*self._prefix, *self._kind.command(role, self._lab), *arguments)
        tests = _BENCHES.parent / "tests"
        path = [str(_BENCHES), str(tests), os.environ.get("PYTHONPATH", "")]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE,
            start_new_session=True,
        )
        return await self._answer()

    async def call(self, method: str, *arguments: Any) -> Any:
        """Have a measurement made; payloads are given as their size.

        Raises:
            NotImplementedError: The peer has no such thing.
            PeerError: It failed.
        """
        assert self._process is not None, "started"
        assert self._process.stdin is not None, "asked for"
        self._process.stdin.write(json.dumps([method, *arguments]).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> Any:
        assert self._process is not None, "started"
        assert self._process.stdout is not None, "asked for"
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), LIMIT)
        except asyncio.TimeoutError:
            raise PeerError(f"no answer within {LIMIT:.0f} s") from None
        if not line:
            raise PeerError(await self._last_words())
        answer = json.loads(line)
        if answer.get("missing"):
            raise NotImplementedError
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["value"]

    async def _last_words(self) -> str:
        assert self._process is not None, "started"
        assert self._process.stderr is not None, "asked for"
        with suppress(asyncio.TimeoutError):
            text = (await asyncio.wait_for(self._process.stderr.read(), 5)).decode(errors="replace")
            return text.strip().rpartition("\n")[2] or "it ended without a word"
        return "it ended"

    def cpu(self) -> float:
        """Seconds of processor time, of the process and all that it started."""
        assert self._process is not None, "started"
        return _cpu(self._process.pid)

    async def stop(self) -> None:
        """End it, kindly if it listens."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None, "asked for"
        process.stdin.close()
        try:
            await asyncio.wait_for(process.communicate(), 10)
        except (asyncio.TimeoutError, ConnectionError):
            with suppress(ProcessLookupError):  # with what it started
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


class Session:
    """Both sides of a peer, side by side; `async with`."""

    def __init__(self, kind: type[Peer], lab: Lab) -> None:
        lab.directory.mkdir(parents=True, exist_ok=True)
        self.server = Process(kind, lab)
        self.client = Process(kind, lab)

    async def __aenter__(self) -> Session:
        try:
            await self.client.connect(await self.server.serve())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.stop()
        await self.server.stop()

    def cpu(self) -> float:
        """Seconds of processor time that both sides have used so far."""
        return self.server.cpu() + self.client.cpu()


def _cpu(pid: int) -> float:
    """User and system time of a process, of its dead children, and of its living ones."""
    ticks, children = {}, defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end meanwhile
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
            children[int(fields[1])].append(int(stat.parent.name))
    todo, total = [pid], 0
    while todo:
        process = todo.pop()
        total += ticks.get(process, 0)
        todo += children[process]
    return total / _TICK
