"""``pilot info``."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ._common import caller, command, node, show

if TYPE_CHECKING:
    import argparse

    from pilot_agent import Node

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "info", run, "register at the rendezvous and print what that gives")
    parser.add_argument(
        "--wait", type=float, default=3.0, metavar="S", help="for the kind of NAT, %(default)g s"
    )
    caller(parser, 10.0)


async def run(options: argparse.Namespace) -> None:
    """Prints."""
    async with node(options, timeout=options.timeout) as self:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_nat_known(self), options.wait)
        info = self.info()
    facts = asdict(info)
    facts["public_key"] = facts["public_key"].hex()
    names = ("address", "node_id", "hostname", "public_key", "rendezvous", "local_addr")
    rows = [f"{name:<17}{facts[name]}" for name in (*names, "observed_addr", "hosts_rendezvous")]
    rows.append(f"{'nat':<17}{info.nat.description}")
    rows += [f"{'candidate':<17}{known.address} ({known.kind})" for known in info.candidates]
    show(options, facts, "\n".join(rows))


async def _nat_known(self: Node) -> None:
    """Waits until it is found out; on loopback there is nothing to find out."""
    while (info := self.info()).nat.mapping == "unknown":
        seen = (info.observed_addr or "").rpartition(":")[0].strip("[]")
        if seen and ip_address(seen).is_loopback:
            return
        await asyncio.sleep(0.05)
