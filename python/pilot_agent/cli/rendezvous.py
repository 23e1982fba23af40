"""``pilot rendezvous --listen ADDR``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
from typing import TYPE_CHECKING

from pilot_agent import Rendezvous
from pilot_agent.config import home_directory

if TYPE_CHECKING:
    import argparse

    from ._common import Commands

SUMMARY = "run a rendezvous: where agents register and find each other"


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser("rendezvous", help=SUMMARY, description=SUMMARY)
    parser.add_argument(
        "--listen",
        default="127.0.0.1:7470",
        metavar="ADDR",
        help="TCP and UDP, default %(default)s",
    )
    store = parser.add_mutually_exclusive_group()
    store.add_argument("--store", metavar="PATH", help="database; default <home>/rendezvous.redb")
    store.add_argument("--memory", action="store_true", help="keep nothing across restarts")
    parser.add_argument(
        "--tls-listen", metavar="ADDR", help="one more TCP address, e.g. 0.0.0.0:443"
    )
    parser.add_argument(
        "--tls-cert", metavar="PEM", help="certificate chain; default: makes and keeps its own"
    )
    parser.add_argument("--tls-key", metavar="PEM", help="its key; default: in the same file")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="ADDR",
        help="another rendezvous of the cluster, host:port; may be repeated",
    )
    parser.add_argument(
        "--advertise", metavar="ADDR", help="where agents reach this one, if not at --listen"
    )
    parser.add_argument("--home", metavar="DIR", help="directory of the database")
    parser.add_argument("--json", action="store_true", help="print the address as JSON")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> None:
    """Serves until SIGINT or SIGTERM."""
    store = None if options.memory else options.store
    if store is None and not options.memory:
        home = home_directory(options.home)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = home / "rendezvous.redb"
    _allow_many_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Rendezvous.start(
        options.listen,
        store=store,
        tls_listen=options.tls_listen,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        peers=options.peer,
        advertise=options.advertise,
    ) as server:
        print(_describe(server, as_json=options.json), flush=True)
        await stop.wait()


def _allow_many_connections() -> None:
    """Every agent keeps a connection; the usual limit of open files is for programs with few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _describe(server: Rendezvous, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(
            {
                "address": server.address,
                "tls_address": server.tls_address,
                "fingerprint": server.fingerprint,
            }
        )
    line = f"rendezvous at {server.address}"
    if server.tls_address is not None:
        line += f" and {server.tls_address}"
    return line
