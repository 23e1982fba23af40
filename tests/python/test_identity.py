"""Identity: an address that stays, names that are taken once, keys that are pinned."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import (
    HostnameTaken,
    IdentityError,
    IdentityInUse,
    IdentityMismatch,
    InvalidArgument,
    Node,
    PilotError,
    Rendezvous,
)
from support.programs import running
from support.waits import soon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pilot_agent.testing import LocalNetwork

HOLDER = """
import asyncio, sys
from pilot_agent import Node

async def main(rendezvous, home):
    async with Node.start("alice", rendezvous=rendezvous, home=home) as node:
        print(node.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_same_identity_keeps_its_address(network: LocalNetwork) -> None:
    addresses = set()
    for _ in range(3):
        async with await network.node("alice") as alice:
            addresses.add((alice.address, alice.node_id, alice.public_key))
    assert len(addresses) == 1


async def test_the_address_belongs_to_the_key_not_to_the_rendezvous(tmp_path: Path) -> None:
    addresses = set()
    for _ in range(2):
        async with (
            Rendezvous.start("127.0.0.1:0") as rendezvous,
            Node.start("alice", rendezvous=rendezvous.address, home=tmp_path) as alice,
        ):
            addresses.add(alice.address)
    assert len(addresses) == 1


async def test_a_rendezvous_with_a_store_remembers(tmp_path: Path) -> None:
    store = tmp_path / "rendezvous.redb"
    async with Rendezvous.start("127.0.0.1:0", store=store) as rendezvous:
        address = rendezvous.address
        alice = await Node.start("alice", rendezvous=address, home=tmp_path)
    async with (
        alice,
        Rendezvous.start(address, store=store),
        Node.start(rendezvous=address) as caller,
    ):
        assert await caller.resolve("alice") == alice.address


async def test_a_node_without_a_name_leaves_no_file(network: LocalNetwork) -> None:
    async with await network.node() as node:
        assert node.hostname is None
    assert not any(network.home.rglob("*.json"))


async def test_the_identity_is_for_its_owner_only(network: LocalNetwork) -> None:
    await network.node("alice")
    files = [path for path in network.home.rglob("*alice*") if path.is_file()]
    assert files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_a_hostname_is_taken_once(network: LocalNetwork, tmp_path: Path) -> None:
    await network.node("alice")
    with pytest.raises(HostnameTaken, match="alice"):
        await network.node("alice", home=tmp_path)


async def test_two_nodes_of_one_process_do_not_share_an_identity(network: LocalNetwork) -> None:
    await network.node("alice")
    with pytest.raises(IdentityInUse, match="alice") as caught:
        await network.node("alice")
    assert isinstance(caught.value, IdentityError)


async def test_two_processes_do_not_share_an_identity(network: LocalNetwork) -> None:
    home = str(network.home)
    async with running("-c", HOLDER, network.rendezvous, home) as other:
        address = await other.line()
        with pytest.raises(IdentityInUse, match=str(other.process.pid)):
            await network.node("alice")
        await other.kill()
        # A lock dies with its process.
        assert (await network.node("alice")).address == address


async def test_a_directory_that_is_a_file_says_so(network: LocalNetwork, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("not a directory")
    with pytest.raises(IdentityError, match="home"):
        await network.node("alice", home=home)
    # Nothing else is disturbed.
    await network.node("alice")


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path]:
    """A file system of its own: permissions and quotas do not bind root, who runs CI."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs to mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(command, check=False).returncode != 0:
        pytest.skip("may not mount a file system here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


async def test_a_read_only_directory_says_so(network: LocalNetwork, tmp_path: Path) -> None:
    with mounted(tmp_path, "ro") as home, pytest.raises(IdentityError, match=r"(?i)read-only"):
        await network.node("alice", home=home)


def fill(path: Path) -> None:
    with path.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


async def test_a_full_disk_says_so(network: LocalNetwork, tmp_path: Path) -> None:
    with mounted(tmp_path, "size=64k") as home:
        with pytest.raises(OSError, match="space"):
            fill(home / "filler")
        with pytest.raises(IdentityError, match=r"(?i)space"):
            await network.node("alice", home=home)


async def test_a_broken_identity_file_is_not_overwritten(network: LocalNetwork) -> None:
    async with await network.node("alice"):
        pass
    [path] = [p for p in network.home.rglob("alice*.json") if "peers" not in p.name]
    path.write_bytes(b"{broken")
    with pytest.raises(IdentityError, match=str(path)):
        await network.node("alice")
    assert path.read_bytes() == b"{broken"


@pytest.mark.parametrize("hostname", ["", "../up", "a/b", "x" * 300, "white space", "\x00"])
async def test_a_hostname_that_cannot_be_is_refused(network: LocalNetwork, hostname: str) -> None:
    with pytest.raises(InvalidArgument):
        await network.node(hostname)


async def test_a_peer_whose_key_changed_is_refused_until_it_is_forgotten(tmp_path: Path) -> None:
    """Bob comes back at his old node id with another key: nobody should talk to him."""
    home = tmp_path / "alice"
    async with (
        Rendezvous.start("127.0.0.1:0") as rendezvous,
        Node.start("bob", rendezvous=rendezvous.address, home=tmp_path / "bob") as bob,
        Node.start("alice", rendezvous=rendezvous.address, home=home) as alice,
    ):
        await alice.send("bob", "hello")
        address = bob.address
    [pins] = home.rglob("alice.peers.json")
    text = pins.read_text()
    other = "A" * 42 + "E="
    key = base64.b64encode(bob.public_key).decode()
    if key in text:
        text = text.replace(key, other)
    else:
        text = text.replace(bob.public_key.hex(), "11" * 32)
    pins.write_text(text)
    async with (
        Rendezvous.start("127.0.0.1:0") as rendezvous,
        Node.start("bob", rendezvous=rendezvous.address, home=tmp_path / "bob") as bob,
        Node.start("alice", rendezvous=rendezvous.address, home=home) as alice,
    ):
        assert bob.address == address
        with pytest.raises(IdentityMismatch, match="key"):
            await alice.send("bob", "hello", timeout=3)
        assert alice.forget("bob")
        assert not alice.forget("bob")
        await soon(alice.send("bob", "hello again"))
        assert (await soon(bob.recv())).text() == "hello again"


async def test_start_refuses_what_makes_no_sense(network: LocalNetwork) -> None:
    nonsense: list[dict[str, Any]] = [
        {"listen": "nonsense"},
        {"rendezvous": "no port"},
        {"peer_timeout": -1.0},
        {"timeout": 0.0},
        {"capabilities": "one text"},
        {"capabilities": ["x" * 65]},
        {"capabilities": ["x"] * 17},
    ]
    for options in nonsense:
        with pytest.raises((InvalidArgument, PilotError)):
            await network.node("alice", **options)
    await network.node("alice")
