"""``pilot info``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ._common import caller, command, node, show

if TYPE_CHECKING:
    import argparse

    from ._common import Commands


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(commands, "info", run, "register at the rendezvous and print what that gives")
    caller(parser, 10.0)


async def run(options: argparse.Namespace) -> None:
    """Prints."""
    async with node(options, timeout=options.timeout) as self:
        info = self.info()
    facts = asdict(info)
    facts["public_key"] = facts["public_key"].hex()
    names = ("address", "node_id", "hostname", "public_key", "rendezvous", "local_addr")
    rows = [f"{name:<14}{facts[name]}" for name in (*names, "observed_addr", "hosts_rendezvous")]
    rows.append(f"{'nat':<14}{info.nat.description}")
    rows += [f"{'candidate':<14}{known.address} ({known.kind})" for known in info.candidates]
    show(options, facts, "\n".join(rows))
