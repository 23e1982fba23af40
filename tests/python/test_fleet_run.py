"""The demo as people run it: four processes, from `run.py` to the last line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MARK = "PILOT_DEMO_TEST"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """An environment that marks every process of the demo; none of them may be left."""
    mark = uuid.uuid4().hex
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PILOT_")}
    yield kept | {MARK: mark, "COLUMNS": "120"}
    left = marked(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def marked(mark: str) -> list[int]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment.split(b"\0"):
            found.append(int(directory.name))
    return found


def start(environment: dict[str, str], script: str = "fleet/run.py") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_fleet_answers_and_ends_by_itself(environment: dict[str, str]) -> None:
    started = time.monotonic()
    with start(environment) as demo:
        output, errors = demo.communicate(timeout=40)
    assert (demo.returncode, errors) == (0, ""), output + errors
    assert time.monotonic() - started < 30
    for name in ("specialist-papers", "specialist-fx", "specialist-weather"):
        found = re.search(
            rf"^{name}  (0:[0-9A-F]{{4}}\.[0-9A-F]{{4}}\.[0-9A-F]{{4}})  (direct|relay) "
            r"\S+:\d+  round trip \d+\.\d\d ms",
            output,
            re.MULTILINE,
        )
        assert found, output
        assert found[2] == "direct"
    assert "1 EUR = 1.599 USD on 2008-07-15" in output
    assert "Vaswani et al. (2017). Attention Is All You Need." in output
    assert "KJFK, 2020-01-05 23:51Z: wind 320° 13 gusting 20 kt" in output
    assert "error: no reference rates for XAU" in output
    assert "13 questions to 3 specialists, 12 answered" in output
    assert "\x1b" not in output


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nobody_behind(
    environment: dict[str, str], number: signal.Signals, status: int
) -> None:
    with start(environment) as demo:
        deadline = time.monotonic() + 10
        while len(marked(environment[MARK])) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        demo.send_signal(number)
        demo.communicate(timeout=20)
    assert demo.returncode == status


def test_a_fleet_that_cannot_start_says_why(environment: dict[str, str]) -> None:
    environment["PILOT_RENDEZVOUS"] = "not a rendezvous"
    with start(environment) as demo:
        _, errors = demo.communicate(timeout=40)
    assert demo.returncode == 1
    assert re.search(
        r"demo failed: (the coordinator|specialist-\w+) ended with exit status 1", errors
    )
    assert "not a rendezvous" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("hello.py", r"(?s)^0:[0-9A-F.]{14}\n.*'rate': '1\.599'.*Attention Is All You Need"),
        ("echo_stream.py", r"^16\.8 MB to 0:[0-9A-F.]{14} and back in "),
        ("broadcast_datagrams.py", r"(?m)^4 of 4 answered$"),
    ],
)
def test_the_small_examples(
    environment: dict[str, str], tmp_path: Path, script: str, expected: str
) -> None:
    environment |= {"PILOT_HOME": str(tmp_path), "PILOT_RENDEZVOUS": f"embedded:{free_port()}"}
    with start(environment, script) as example:
        output, errors = example.communicate(timeout=40)
    assert (example.returncode, errors) == (0, ""), output + errors
    assert re.search(expected, output), output


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
