"""The command line, as a person or a script uses it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import pilot_agent
from pilot_agent import Request
from support.programs import running
from support.waits import soon

if TYPE_CHECKING:
    from pilot_agent import Node
    from pilot_agent.testing import LocalNetwork

PILOT = ("-m", "pilot_agent")


class Result(NamedTuple):
    code: int | None
    out: str
    err: str


async def pilot(network: LocalNetwork, *arguments: str) -> Result:
    """Runs a command to its end."""
    environment = {
        **os.environ,
        "PILOT_RENDEZVOUS": network.rendezvous,
        "PILOT_HOME": str(network.home),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *PILOT, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await soon(process.communicate(), 20)
    return Result(process.returncode, out.decode(), err.decode())


async def test_ping_prints_each_round_trip(pair: tuple[Node, Node], network: LocalNetwork) -> None:
    result = await pilot(network, "ping", "bob", "-c", "2", "--interval", "0", "--json")
    assert (result.code, result.err) == (0, "")
    pongs = [json.loads(line) for line in result.out.splitlines()]
    assert [pong["address"] for pong in pongs] == [pair[1].address] * 2
    result = await pilot(network, "ping", "bob", "-c", "1")
    assert pair[1].address in result.out
    assert "direct" in result.out


async def test_paths_prints_the_way_to_a_peer(
    pair: tuple[Node, Node], network: LocalNetwork
) -> None:
    result = await pilot(network, "paths", "bob", "-c", "0", "--json")
    assert (result.code, result.err) == (0, "")
    path = json.loads(result.out.splitlines()[0])
    assert (path["peer"], path["kind"], path["active"]) == (pair[1].address, "direct", True)
    result = await pilot(network, "paths", "bob", "-c", "0")
    assert result.out.startswith(f"direct via {pair[1].info().local_addr}")


async def test_send_delivers_text_and_files(
    pair: tuple[Node, Node], network: LocalNetwork, tmp_path: Path
) -> None:
    result = await pilot(network, "send", "bob", "hello")
    assert result == (0, "delivered to bob\n", "")
    assert (await soon(pair[1].recv())).text() == "hello"
    source = tmp_path / "notes.txt"
    source.write_text("notes")
    result = await pilot(network, "send", "bob", "--file", str(source), "--json")
    assert json.loads(result.out) == {"delivered": "bob"}
    assert (await soon(pair[1].recv())).filename == "notes.txt"
    result = await pilot(network, "send", "bob")
    assert result.code == 1
    assert "--file" in result.err


async def test_request_prints_the_answer(pair: tuple[Node, Node], network: LocalNetwork) -> None:
    @pair[1].on_request
    async def answer(request: Request) -> Any:
        return request.json() if request.kind == "json" else request.text().upper()

    assert await pilot(network, "request", "bob", '{"a": [1]}') == (0, '{"a":[1]}\n', "")
    assert await pilot(network, "request", "bob", "shout") == (0, "SHOUT\n", "")
    result = await pilot(network, "request", "bob", '{"a": 1}', "--json")
    assert json.loads(result.out)["answer"] == {"a": 1}


async def test_find_and_info_tell_what_is_known(network: LocalNetwork) -> None:
    papers = await network.node("papers", capabilities=["academic citations"])
    result = await pilot(network, "find", "academic", "citations", "--json")
    [found] = [json.loads(line) for line in result.out.splitlines()]
    assert (found["hostname"], found["address"]) == ("papers", papers.address)
    result = await pilot(network, "info", "--as", "me", "--json")
    assert json.loads(result.out)["hostname"] == "me"
    assert json.loads(result.out)["rendezvous"] == network.rendezvous
    assert "me" in (await pilot(network, "info", "--as", "me")).out


async def test_an_error_is_one_line_and_exit_code_1(network: LocalNetwork) -> None:
    result = await pilot(network, "send", "nobody", "hello")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("pilot: nobody is not known to the rendezvous")
    assert result.err.count("\n") == 1


async def test_wrong_usage_is_exit_code_2(network: LocalNetwork) -> None:
    assert (await pilot(network)).code == 2
    assert (await pilot(network, "fly")).code == 2


async def test_help_and_version(network: LocalNetwork) -> None:
    result = await pilot(network, "--version")
    assert result == (0, f"pilot-agent {pilot_agent.__version__}\n", "")
    for command in ("rendezvous", "listen", "ping", "send", "request", "find", "info"):
        assert (await pilot(network, command, "--help")).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_rendezvous_serves_until_it_is_told_to_stop(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = (*PILOT, "rendezvous", "--listen", "127.0.0.1:0", "--json")
    async with running(*command, PILOT_HOME=str(tmp_path)) as server:
        address = json.loads(await server.line())["address"]
        async with pilot_agent.Node.start("alice", rendezvous=address, home=tmp_path) as alice:
            assert alice.info().rendezvous == address
        server.process.send_signal(number)
        assert await server.end() == 0
    assert (tmp_path / "rendezvous.redb").exists()


async def test_a_taken_address_is_said(network: LocalNetwork, tmp_path: Path) -> None:
    result = await pilot(
        network, "rendezvous", "--listen", network.rendezvous, "--home", str(tmp_path)
    )
    assert result.code == 1
    assert network.rendezvous in result.err


async def test_listen_prints_messages_and_ends_cleanly_on_ctrl_c(network: LocalNetwork) -> None:
    alice = await network.node("alice")
    environment = {"PILOT_RENDEZVOUS": network.rendezvous, "PILOT_HOME": str(network.home)}
    async with running(*PILOT, "listen", "ears", "--json", **environment) as listener:
        assert listener.process.stderr is not None
        assert b"ears is" in await soon(listener.process.stderr.readline())
        await alice.send("ears", "hello")
        heard = json.loads(await listener.line())
        assert (heard["sender"], heard["kind"], heard["content"]) == (
            alice.address,
            "text",
            "hello",
        )
        listener.process.send_signal(signal.SIGINT)
        assert await listener.end() == 130
        assert await listener.process.stderr.read() == b""


async def test_the_console_script_is_installed() -> None:
    assert Path(sys.executable).with_name("pilot").exists()
