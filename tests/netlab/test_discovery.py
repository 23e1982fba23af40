"""A node finds out where it is, behind real NATs, and tells the right people."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from netlab import Internet, Lab, Nat, missing
from support.ours import AgentProcess, Rendezvous

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

NATS = {
    "cone": Nat("full-cone", keeps_ports=False),
    "port": Nat("port-restricted"),
    "port-new": Nat("port-restricted", keeps_ports=False),
    "sym": Nat("symmetric"),
    "linux": Nat("linux"),
    "wall": Nat("firewall"),
}
# With one server a full cone cannot be told from a restricted one.
EXPECTED = {
    "cone": "restricted cone, random ports",
    "port": "port-restricted cone, keeps ports",
    "port-new": "port-restricted cone, random ports",
    "sym": "symmetric, random ports",
    "linux": "port-restricted cone, keeps ports",
    "wall": "none, but a firewall",
}


@contextlib.asynccontextmanager
async def agents(lab: Lab, directory: Path, names: list[str]) -> AsyncIterator[dict[str, Any]]:
    """Agents in the hosts of these names, at a rendezvous in `server`."""
    address = f"{lab.address('server')}:7470"
    with Rendezvous(directory, address, prefix=lab.prefix("server")):
        running = {
            name: AgentProcess(directory / name, address, name, prefix=lab.prefix(name))
            for name in names
        }
        try:
            await asyncio.gather(*(agent.start() for agent in running.values()))
            yield running
        finally:
            await asyncio.gather(*(agent.kill() for agent in running.values()))


async def told(agent: AgentProcess, field: str) -> str:
    """One field of `node.info()` or of what it consists of, as Python writes it."""
    info = str((await agent.call(info=True))["info"])
    found = re.search(rf"\b{field}=('[^']*'|None|[\w.]+)", info)
    assert found, info
    return found[1].strip("'")


async def until(agent: AgentProcess, field: str, is_so: Callable[[str], bool]) -> str:
    """Asks until it is so; asserts that it becomes so."""
    deadline = time.monotonic() + 45
    while True:
        value = await told(agent, field)
        if is_so(value):
            return value
        assert time.monotonic() < deadline, f"{field} is still {value}"
        await asyncio.sleep(0.1)  # nobody tells when an answer of the beacon came


async def test_the_kind_of_each_nat_is_found(tmp_path: Path) -> None:
    net = Internet(uplink="delay=10ms")
    net.public("server", plain=True)
    for name, nat in NATS.items():
        net.home(nat, name)
    net.public("open")
    with Lab(net.topology()) as lab:
        async with agents(lab, tmp_path, [*NATS, "open"]) as running:
            for name, agent in running.items():
                kind = await until(agent, "description", lambda kind: kind != "unknown")
                assert kind.startswith(EXPECTED.get(name, "none")), name
                observed = await told(agent, "observed_addr")
                gateway = name if name in ("wall", "open") else f"{name}.gw"
                assert observed.startswith(f"{lab.address(gateway)}:"), name


async def test_after_the_nat_was_rebooted_the_new_port_is_known(tmp_path: Path) -> None:
    net = Internet(uplink="delay=10ms")
    net.public("server", plain=True)
    net.public("open")
    net.home(Nat("full-cone", keeps_ports=False), "cone")
    with Lab(net.topology()) as lab:
        async with agents(lab, tmp_path, ["cone", "open"]) as running:
            before = await until(running["cone"], "observed_addr", lambda seen: seen != "None")
            lab.gateway("cone.gw").reboot()
            await until(running["cone"], "observed_addr", lambda seen: seen != before)
            answer = await running["open"].call(limit=30, request="?", to="cone")
            assert answer["text"] == "?"


async def test_who_moves_says_so_at_once(tmp_path: Path) -> None:
    net = Internet(uplink="delay=10ms")
    net.public("server", plain=True)
    net.public("open")
    net.home("port-restricted", "first", "mobile")
    net.home(Nat("port-restricted", keeps_ports=False), "second")
    with Lab(net.topology()) as lab:
        async with agents(lab, tmp_path, ["mobile", "open"]) as running:
            mobile = running["mobile"]
            before = f"{lab.address('first.gw')}:"
            await until(mobile, "observed_addr", lambda seen: seen.startswith(before))
            lab.move("mobile", "second.gw", "192.168.1.77")
            after, begun = f"{lab.address('second.gw')}:", time.monotonic()
            await until(mobile, "observed_addr", lambda seen: seen.startswith(after))
            # Noticed at once, not by the next keepalive.
            assert time.monotonic() - begun < 5
            # Somebody who asks the registry only now finds it.
            answer = await running["open"].call(limit=30, request="?", to="mobile")
            assert answer["text"] == "?"
