"""Other loops: uvloop, several at once, loops that watch no descriptors; and signals."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent.testing import LocalNetwork
from support.waits import native_threads, soon

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent import Node, Request, Stream


class Blind(asyncio.SelectorEventLoop):
    """A loop that watches no descriptors of others, as the proactor loop."""

    def add_reader(self, *_: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def uvloop_loop() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop")
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop_loop,
    "blind": Blind,
}


def run(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def everything() -> None:
    """One of each: message, request, stream, connection, datagram, find, close."""
    async with LocalNetwork() as network:
        alice, bob = await network.nodes("alice", "bob")
        await bob.set_capabilities(["talking"])

        @bob.on_request
        async def answer(request: Request) -> bytes:
            return request.payload * 2

        await soon(alice.send("bob", "hello"))
        assert (await soon(bob.recv())).text() == "hello"
        assert (await soon(alice.request("bob", b"ab"))).payload == b"abab"
        assert (await soon(alice.find("talking")))[0].hostname == "bob"
        async with bob.listen(4000) as listener:
            async with alice.open_stream("bob", 4000) as stream:
                theirs: Stream = await soon(listener.accept())
                writing = asyncio.ensure_future(stream.write(bytes(3 << 20)))
                assert len(await soon(theirs.readexactly(3 << 20))) == 3 << 20
                await soon(writing)
                await theirs.close()
            reader, writer = await soon(alice.open_connection("bob", 4000))
            theirs = await soon(listener.accept())
            writer.write(b"line\n")
            assert await soon(theirs.readline()) == b"line\n"
            await theirs.close()
            assert await soon(reader.read()) == b""
            writer.close()
            await soon(writer.wait_closed())
        async with bob.datagrams(5000) as port:
            await alice.send_datagram("bob", 5000, b"x")
            assert (await soon(port.recv())).data == b"x"
        waiting = asyncio.ensure_future(alice.recv())
        await asyncio.sleep(0)
        waiting.cancel()


@pytest.mark.parametrize("name", LOOPS)
def test_everything_works_on_every_loop(name: str) -> None:
    run(LOOPS[name](), everything())
    assert native_threads(0) == 0


def test_loops_in_several_threads_do_not_disturb_each_other() -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(3):
                run(LOOPS[name](), everything())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("asyncio", "uvloop")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert errors == []
    assert not any(thread.is_alive() for thread in threads)
    assert native_threads(0) == 0


async def test_a_node_of_another_loop_says_so(pair: tuple[Node, Node]) -> None:
    alice, _ = pair
    for call in (lambda: alice.send("bob", b"x"), alice.recv, lambda: alice.find("x")):

        def use(call: Any = call) -> None:
            run(asyncio.new_event_loop(), call())

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(use)


INTERRUPTED = """
import asyncio, functools
from pilot_agent.testing import LocalNetwork

async def main():
    async with LocalNetwork() as network:
        node, other = await network.nodes("alice", "bob")
        other.on_request(lambda request: asyncio.Event().wait())
        try:
            # Said by the loop once this task waits.
            ready = functools.partial(print, "ready", flush=True)
            asyncio.get_running_loop().call_soon(ready)
            await WAIT
        finally:
            print("cleaning up", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("wait", ["node.recv()", "node.request('bob', b'', timeout=None)"])
def test_ctrl_c_ends_a_program_that_waits(wait: str) -> None:
    script = INTERRUPTED.replace("WAIT", wait)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    assert out == "cleaning up\n"
    assert process.returncode == -signal.SIGINT
    assert err.splitlines()[-1] == "KeyboardInterrupt"
