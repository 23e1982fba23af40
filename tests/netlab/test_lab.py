"""The lab's links are what they are asked to be, and nothing stays behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netlab import Host, Lab, Link, Topology, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

# Sends numbered datagrams to the other end's `echo` and says, in JSON, which came back and when.
PROBE = """
import json, select, socket, sys, time
peer, count, gap, size = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
# Sizes above a link's MTU: let the kernel say so instead of cutting them (IP_MTU_DISCOVER, DO).
probe.setsockopt(socket.IPPROTO_IP, 10, 2)
try:
    probe.connect((peer, 7))
except OSError:  # no route
    print(json.dumps([count, []]))
    sys.exit()
back, sent, failed, deadline = [], {}, 0, time.monotonic() + 1.0 + count * gap
for number in range(count + 1):
    until = deadline if number == count else time.monotonic() + gap
    if number < count:
        sent[number] = time.monotonic()
        try:
            probe.send(number.to_bytes(4, "big") + bytes(size - 4))
        except OSError:
            failed += 1
    while len(back) < count and select.select([probe], [], [], max(0, until - time.monotonic()))[0]:
        number = int.from_bytes(probe.recv(65536)[:4], "big")
        back.append((number, time.monotonic() - sent[number]))
print(json.dumps([failed, back]))
"""
ECHO = """
import socket, sys
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind(("0.0.0.0", 7))
print("ready", flush=True)
while True:
    data, peer = echo.recvfrom(65536)
    echo.sendto(data, peer)
"""


def serve_echo(lab: Lab, host: str) -> None:
    echo = lab.popen(host, sys.executable, "-c", ECHO, stdout=subprocess.PIPE)
    assert echo.stdout is not None
    with echo.stdout:
        assert echo.stdout.readline() == b"ready\n"


def probe(
    lab: Lab, source: str, to: str, count: int = 50, *, gap: float = 0.001, size: int = 100
) -> tuple[int, list[tuple[int, float]]]:
    """How many could not be sent; and which came back in this order, each after how long."""
    arguments = [lab.address(to), str(count), str(gap), str(size)]
    failed, back = json.loads(lab.run(source, sys.executable, "-c", PROBE, *arguments))
    return failed, back


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with Lab(Topology.line("a", "b")) as lab:
        serve_echo(lab, "b")
        yield lab


def numbers(result: tuple[int, list[tuple[int, float]]]) -> list[int]:
    return [number for number, _ in result[1]]


def test_a_link_without_limits_carries_everything_and_nothing_else(pair: Lab) -> None:
    before = pair.wire("a", "b").counters(toward="b")
    assert sorted(numbers(probe(pair, "a", "b"))) == list(range(50))
    after = pair.wire("a", "b").counters(toward="b")
    assert after.sent - before.sent == after.delivered - before.delivered == 50
    assert (after.unread, after.refused) == (0, 0)


def test_nothing_arrives_before_its_time(pair: Lab) -> None:
    wire = pair.wire("a", "b")
    wire.toward("b", "delay=20ms")
    wire.toward("a", "delay=10ms")
    _, back = probe(pair, "a", "b")
    wire.both("delay=0s")
    assert len(back) == 50
    assert min(after for _, after in back) >= 0.030


def test_a_seed_loses_the_same_packets_again() -> None:
    def run(seed: int) -> list[int]:
        topology = Topology.line("a", "b", f"loss=20%,delay=1ms,seed={seed}")
        with Lab(topology) as lab:
            serve_echo(lab, "b")
            back = numbers(probe(lab, "a", "b", 100))
            counters = lab.wire("a", "b").counters(toward="b")
            assert (counters.sent, counters.lost > 5) == (100, True)
            return sorted(back)

    first = run(1)
    assert first == run(1)
    assert first != run(2)


def test_a_full_queue_drops_and_its_counter_says_so(pair: Lab) -> None:
    wire = pair.wire("a", "b")
    before = wire.counters(toward="b").dropped
    wire.toward("b", "rate=1mbit,queue=5kB")
    back = numbers(probe(pair, "a", "b", 100, gap=0, size=1000))
    wire.toward("b", "rate=none,queue=none")
    dropped = wire.counters(toward="b").dropped - before
    assert dropped > 0
    assert len(back) + dropped == 100


def test_a_link_goes_down_and_up(pair: Lab) -> None:
    wire = pair.wire("a", "b")
    wire.toward("b", "down")
    assert numbers(probe(pair, "a", "b", 3)) == []
    wire.toward("b", "up")
    assert numbers(probe(pair, "a", "b", 3)) == [0, 1, 2]


def test_a_wrong_command_is_an_error_and_changes_nothing(pair: Lab) -> None:
    with pytest.raises(ValueError, match="speed"):
        pair.wire("a", "b").both("delay=1s,speed=3")
    assert len(numbers(probe(pair, "a", "b", 3))) == 3


def test_a_small_mtu_is_an_error_at_the_sender_and_a_black_hole_is_not() -> None:
    # 28 bytes of headers.
    with Lab(Topology.line("a", "b", mtu=1280)) as lab:
        serve_echo(lab, "b")
        assert probe(lab, "a", "b", 3, size=1253)[0] == 3
        assert len(probe(lab, "a", "b", 3, size=1252)[1]) == 3
    with Lab(Topology.line("a", "b", "mtu=1280")) as lab:
        serve_echo(lab, "b")
        assert probe(lab, "a", "b", 3, size=1253) == (0, [])
        assert len(probe(lab, "a", "b", 3, size=1252)[1]) == 3


def test_only_hosts_that_forward_are_on_the_way() -> None:
    links = (Link("a", "router"), Link("router", "b"), Link("a", "wall"), Link("wall", "c"))
    with Lab(Topology(links, (Host("router", forwards=True),))) as lab:
        for host in ("b", "c", "wall"):
            serve_echo(lab, host)
        assert len(probe(lab, "a", "b", 3)[1]) == 3
        assert len(probe(lab, "a", "wall", 3)[1]) == 3
        assert probe(lab, "a", "c", 3) == (3, []), "there is no route"


def test_this_process_can_be_a_host() -> None:
    with Lab(Topology.line("us", "them"), here="us") as lab:
        assert lab.prefix("us") == ()
        serve_echo(lab, "them")
        assert len(probe(lab, "us", "them", 3)[1]) == 3
    shown = subprocess.run(["ip", "addr"], check=True, capture_output=True, text=True).stdout
    assert "5.77.0.1" not in shown
    assert "to-them" not in shown


# Holds a lab until it is ended, and says which namespace is its own.
OWNER = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from netlab import Lab, Topology
with Lab(Topology.line("a", "b")) as lab:
    program = lab.popen("a", "sleep", "1000")
    print(lab.prefix("a")[1].split("/")[-1], program.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_lab_whose_owner_dies_is_swept(how: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(Path(__file__).parents[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        name, program = owner.stdout.readline().split()
        assert Path("/run/netns", name).exists()
        owner.send_signal(how)
        owner.wait(20)
    if how == signal.SIGKILL:
        assert Path("/run/netns", name).exists(), "nobody could clean up yet"
        with Lab(Topology.line("a", "b")):
            pass
    assert not Path("/run/netns", name).exists()
    assert ended(int(program))


def ended(pid: int) -> bool:
    """Whether a process ends that was killed; whoever inherited it may not have noticed yet."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        except OSError:
            return True
        if state.split()[0] in "ZX":
            return True
        time.sleep(0.01)
    return False
