"""Which congestion control a node's and a stream's sending has."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, cast

import pytest

from pilot_agent import InvalidArgument
from support.waits import soon

if TYPE_CHECKING:
    from pilot_agent.stream import Congestion
    from pilot_agent.testing import LocalNetwork

DATA = bytes(range(256)) * 8192


@pytest.mark.parametrize("congestion", ["bbr", "cubic", "newreno"])
async def test_each_carries_bytes_also_when_changed_in_the_middle(
    network: LocalNetwork, congestion: Congestion
) -> None:
    sender = await network.node("sender", congestion=congestion)
    receiver = await network.node("receiver")
    async with (
        receiver.listen(4000) as listener,
        sender.open_stream("receiver", 4000) as stream,
        await soon(listener.accept()) as accepted,
    ):
        reading = asyncio.create_task(accepted.read())
        await soon(stream.write(DATA))
        stream.set_congestion("cubic" if congestion == "bbr" else "bbr")
        await soon(stream.write(DATA))
        await stream.send_eof()
        got = await soon(reading)
    assert hashlib.sha256(got).digest() == hashlib.sha256(DATA * 2).digest()


async def test_an_unknown_one_is_an_error_that_names_the_known(network: LocalNetwork) -> None:
    with pytest.raises(InvalidArgument, match="newreno"):
        await network.node("sender", congestion=cast("Congestion", "vegas"))
    sender, receiver = await network.nodes("a", "b")
    async with receiver.listen(4000), sender.open_stream("b", 4000) as stream:
        with pytest.raises(InvalidArgument, match="newreno"):
            stream.set_congestion(cast("Congestion", "vegas"))
