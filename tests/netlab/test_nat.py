"""Each kind of NAT behaves as it should, seen from behind it, and does what gateways do."""

from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import ANY

import pytest

from netlab import CORE, Behaviour, Internet, Lab, Nat, Prober, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab.nat import Kind

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

NATS = {
    "cone": Nat("full-cone"),
    "cone-turn": Nat("full-cone", hairpins=True),
    "cone-new": Nat("full-cone", keeps_ports=False),
    "addr": Nat("restricted"),
    "port": Nat("port-restricted"),
    "port-turn": Nat("port-restricted", hairpins=True),
    "port-new": Nat("port-restricted", keeps_ports=False),
    "sym": Nat("symmetric"),
    "linux": Nat("linux"),
    "linux-new": Nat("linux", keeps_ports=False),
    "wall": Nat("firewall"),
    "no-udp": Nat("udp-blocked"),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    net = Internet()
    net.public("probe", more=("5.77.2.1",), plain=True)
    net.public("open", plain=True)
    for name, nat in NATS.items():
        net.home(nat, name)
    net.home("double", "double")
    with Lab(net.topology()) as running:
        yield running


@pytest.fixture(scope="module")
def prober(lab: Lab) -> Prober:
    return Prober(lab, "probe")


def test_each_kind_maps_filters_and_hairpins_as_it_says(prober: Prober) -> None:
    expected = {name: nat.behaviour() for name, nat in NATS.items()}
    expected["open"] = Behaviour("none", "independent")
    # The carrier's hairpins, but the home's filters what comes from an outside port unasked.
    expected["double"] = Behaviour("independent", "port")
    assert prober.behaviours(*expected) == expected


# Sends a datagram to the probe's server whenever it is told to, and prints how that saw it.
SAY = """
import sys
sys.path.insert(0, sys.argv[1])
from nat_probe import Asker
asker = Asker(tuple(sys.argv[2:]))
for line in sys.stdin:
    print(asker.ask((0, 0)), flush=True)
"""


class Sayer:
    """A socket that keeps its port, behind a NAT."""

    def __init__(self, lab: Lab, host: str) -> None:
        arguments = (str(Path(__file__).parent), *lab.addresses("probe"))
        self._process = lab.popen(
            host,
            *(sys.executable, "-c", SAY, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def seen(self) -> tuple[str, int] | None:
        """Its address and port outside, now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        answer: tuple[str, int] | None = ast.literal_eval(self._process.stdout.readline().decode())
        return answer

    def __enter__(self) -> Sayer:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()


@pytest.mark.usefixtures("prober")
@pytest.mark.parametrize("host", ["cone", "port", "linux", "sym"])
def test_a_port_outlives_a_reboot_only_where_it_is_kept(lab: Lab, host: str) -> None:
    with Sayer(lab, host) as sayer:
        before = sayer.seen()
        assert before == sayer.seen()
        lab.gateway(f"{host}.gw").reboot()
        assert (sayer.seen() == before) == (host != "sym")


@pytest.mark.usefixtures("prober")
@pytest.mark.parametrize("host", ["port", "linux"])
def test_a_reboot_can_give_new_ports(lab: Lab, host: str) -> None:
    gateway = lab.gateway(f"{host}.gw")
    with Sayer(lab, host) as sayer:
        before = sayer.seen()
        gateway.load(replace(gateway.nat, keeps_ports=False))
        after = sayer.seen()
        assert before is not None
        assert after is not None
        assert (before[0], before[1] != after[1]) == (after[0], True)
    gateway.load(NATS[host])


def test_a_mapping_is_forgotten_after_its_time() -> None:
    """Seen from inside as a new port, for the old one is not kept."""
    net = Internet()
    net.public("probe", more=("5.77.2.1",), plain=True)
    kinds: tuple[Kind, ...] = ("port-restricted", "symmetric", "linux")
    for kind in kinds:
        net.home(Nat(kind, timeout=1, keeps_ports=False), kind[:8])
    with Lab(net.topology()) as lab:
        Prober(lab, "probe")
        with contextlib.ExitStack() as stack:
            sayers = [stack.enter_context(Sayer(lab, kind[:8])) for kind in kinds]
            before = [sayer.seen() for sayer in sayers]
            assert None not in before
            time.sleep(2.5)  # nothing tells when a NAT forgets
            assert all(old != sayer.seen() for old, sayer in zip(before, sayers, strict=True))


@pytest.mark.parametrize("kind", ["linux", "port-restricted"])
def test_addresses_change_and_hosts_move(kind: Kind) -> None:
    net = Internet()
    net.public("probe", more=("5.77.2.1",), plain=True)
    net.home(kind, "a")
    net.home("linux", "b")
    net.home("firewall", "c")
    with Lab(net.topology()) as lab:
        Prober(lab, "probe")
        with Sayer(lab, "a") as sayer, Sayer(lab, "c") as behind_wall:
            assert sayer.seen() == (lab.address("a.gw"), ANY)
            lab.readdress("a.gw", "5.77.3.1")
            assert sayer.seen() == ("5.77.3.1", ANY)
            lab.readdress("a", lab.address("a").rpartition(".")[0] + ".77")
            assert sayer.seen() == ("5.77.3.1", ANY)
            lab.move("a", "b.gw", lab.address("b").rpartition(".")[0] + ".9")
            assert sayer.seen() == (lab.address("b.gw"), ANY)
            assert behind_wall.seen() == (lab.address("c"), ANY)
            lab.readdress("c", "5.77.3.3")
            assert behind_wall.seen() == ("5.77.3.3", ANY)


def test_the_public_router_counts_each_direction() -> None:
    net = Internet()
    net.public("probe", more=("5.77.2.1",), plain=True)
    net.home("linux", "a")
    with Lab(net.topology()) as lab:
        Prober(lab, "probe")
        with Sayer(lab, "a") as sayer:
            sayer.seen()
            before = lab.flows(CORE)
            sayer.seen()
            sayer.seen()
        seen = lab.flows(CORE).since(before)
    here, there = lab.address("a.gw"), lab.address("probe")
    assert seen.between(here, there).packets == 2
    assert seen.between(there, here).packets == 2
    assert set(seen.all()) == {(here, there, "udp"), (there, here, "udp")}


def test_a_blocked_home_has_tcp_and_only_where_allowed() -> None:
    net = Internet()
    net.public("server", plain=True)
    net.home("udp-blocked", "a")
    with Lab(net.topology()) as lab:
        server = lab.address("server")
        serving = lab.popen(
            "server", sys.executable, "-c", LISTEN, server, "443", "80", stdout=subprocess.PIPE
        )
        assert serving.stdout is not None
        with serving.stdout:
            assert serving.stdout.readline() == b"ready\n"
        assert can_connect(lab, "a", server, 443)
        assert can_connect(lab, "a", server, 80)
        lab.gateway("a.gw").load(Nat("udp-blocked", only_to=(f"{server}:443",)))
        assert can_connect(lab, "a", server, 443)
        assert not can_connect(lab, "a", server, 80)


LISTEN = """
import signal, socket, sys
listening = [socket.create_server((sys.argv[1], int(port))) for port in sys.argv[2:]]
print("ready", flush=True)
signal.pause()
"""


def can_connect(lab: Lab, host: str, address: str, port: int) -> bool:
    program = f"import socket; socket.create_connection(({address!r}, {port}), 0.5)"
    command = [*lab.prefix(host), sys.executable, "-c", program]
    return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0
