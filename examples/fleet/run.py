"""Runs the fleet: a coordinator and three specialists, four processes. `make demo` calls this.

The processes share nothing but a network of their own: a directory for their identities that is
removed afterwards, and a rendezvous that one of them hosts (set PILOT_HOME or PILOT_RENDEZVOUS to
use yours). Each finds the others through it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXAMPLES = Path(__file__).resolve().parent.parent
_SPECIALISTS = ("papers", "fx", "weather")
_TIME_LIMIT = 28.0
_GRACE = 3.0


class FleetError(Exception):
    """The fleet did not do its work; the message says which part of it, and why."""


def main() -> int:
    """Run the fleet to its end and return its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _environment() as environment:
            return _run(environment)
    except FleetError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo interrupted", file=sys.stderr)
        return 130


def _run(environment: dict[str, str]) -> int:
    with contextlib.ExitStack() as fleet:
        specialists = {
            name: fleet.enter_context(_process(environment, "specialist", name, "--follow-stdin"))
            for name in _SPECIALISTS
        }
        coordinator = fleet.enter_context(_process(environment, "coordinator"))
        deadline = time.monotonic() + _TIME_LIMIT
        while coordinator.poll() is None:
            for name, specialist in specialists.items():
                if specialist.poll() is not None:
                    raise FleetError(f"specialist-{name} ended with {_status(specialist)}")
            if time.monotonic() > deadline:
                raise FleetError(f"the coordinator was not done after {_TIME_LIMIT:.0f} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                coordinator.wait(0.1)
        if coordinator.returncode:
            raise FleetError(f"the coordinator ended with {_status(coordinator)}")
    return 0


@contextlib.contextmanager
def _process(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A member of the fleet, which is gone when the block is left, however it is left."""
    module, *rest = arguments
    process = subprocess.Popen(
        [sys.executable, "-m", f"fleet.{module}", *rest],
        env=environment,
        stdin=subprocess.PIPE,
        # Ctrl-C reaches this process only, which then ends the others in order.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        # Specialists stop when their standard input ends.
        with contextlib.suppress(OSError):
            process.stdin.close()
    for stop in (process.terminate, process.kill):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return
        stop()
    process.wait()


@contextlib.contextmanager
def _environment() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="pilot-demo-") as home:
        environment = {"PILOT_HOME": home, **os.environ}
        environment.setdefault("PILOT_RENDEZVOUS", f"embedded:{_free_port()}")
        path = [str(_EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(path)
        yield environment


def _free_port() -> int:
    # The rendezvous takes the same number for TCP and UDP; what is free for one nearly always is
    # for the other.
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _status(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


if __name__ == "__main__":
    sys.exit(main())
