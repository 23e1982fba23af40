"""The command line, ``pilot``: one module a command.

Exit codes: 0 done, 1 the network said no (one line on standard error), 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from pilot_agent import PilotError, __version__

from . import find, info, listen, paths, ping, rendezvous, request, send

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="pilot",
        description="Agents that find each other and talk, encrypted.",
        epilog="Environment: PILOT_RENDEZVOUS (where agents meet), PILOT_HOME (identities).",
    )
    top.add_argument("--version", action="version", version=f"pilot-agent {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in (rendezvous, listen, ping, paths, send, request, find, info):
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The command line; `None` for that of the process.

    Returns:
        The exit code.
    """
    options = parser().parse_args(arguments)
    try:
        asyncio.run(options.run(options))
    except (PilotError, ValueError) as error:
        print(f"pilot: {error}", file=sys.stderr)
        return 1
    except TimeoutError as error:
        print(f"pilot: no answer in time {error}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
