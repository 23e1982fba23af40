"""Small programs in processes of their own, which report lines and can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Program", "running"]

LIMIT = 20.0


class Program:
    """A Python program that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), LIMIT)
        if not line:
            assert self.process.stderr is not None
            complaint = (await self.process.stderr.read()).decode()
            message = f"the program ended: {complaint}"
            raise AssertionError(message)
        return line.decode().rstrip("\n")

    async def kill(self) -> None:
        """Ends it without a last word."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await asyncio.wait_for(self.process.wait(), LIMIT)

    async def end(self) -> int:
        """Waits until it has ended; its exit code."""
        return await asyncio.wait_for(self.process.wait(), LIMIT)


@contextlib.asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[Program]:
    """Runs `python ARGUMENTS`; kills it at the end if need be."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
    )
    program = Program(process)
    try:
        yield program
    finally:
        await program.kill()
        # Ends the pipes' transports, which would complain later.
        await process.communicate()
