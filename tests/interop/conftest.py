"""Fixtures: a network namespace with loopback only, our rendezvous in it, Go daemons, our nodes."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pilot_agent import Node
from support.godaemon import GoDaemon, binary
from support.netns import NamespaceUnavailableError, enter_loopback_namespace
from support.ours import Rendezvous

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from pathlib import Path

# Fixed, because the namespace is ours alone.
RENDEZVOUS = "127.0.0.1:9000"

_daemons: list[GoDaemon] = []
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Enter the namespace before any test runs: a thread that exists by then stays outside."""
    reason = None
    if binary("pilot-daemon") is None:
        reason = "the package pilotprotocol is not installed: make venv"
    else:
        try:
            enter_loopback_namespace()
        except NamespaceUnavailableError as error:
            reason = str(error)
    if reason is not None:
        for item in items:
            if "interop" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001  (pluggy passes by name)
    call: pytest.CallInfo[None],  # noqa: ARG001
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"log of {go.hostname}", go.log_tail()) for go in _daemons]
    return report


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where homes and logs are; pytest keeps the last three."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def rendezvous(lab: Path) -> Iterator[Rendezvous]:
    with Rendezvous(lab, RENDEZVOUS) as server:
        yield server


@contextlib.contextmanager
def go_daemon(lab: Path, rendezvous: Rendezvous, hostname: str) -> Iterator[GoDaemon]:
    daemon = GoDaemon(lab, rendezvous.address, hostname)
    _daemons.append(daemon)
    try:
        with daemon:
            yield daemon
    finally:
        _daemons.remove(daemon)


@pytest.fixture(scope="session")
def go(lab: Path, rendezvous: Rendezvous) -> Iterator[GoDaemon]:
    """A Go daemon, shared: leave it running."""
    with go_daemon(lab, rendezvous, "go-a") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def other_go(lab: Path, rendezvous: Rendezvous) -> Iterator[GoDaemon]:
    """A second one, shared as well."""
    with go_daemon(lab, rendezvous, "go-b") as daemon:
        yield daemon


@pytest.fixture
def mortal_go(lab: Path, rendezvous: Rendezvous) -> Iterator[GoDaemon]:
    """A Go daemon of one test, which may kill it."""
    with go_daemon(lab, rendezvous, "go-mortal") as daemon:
        yield daemon


@pytest_asyncio.fixture
async def node(tmp_path: Path, rendezvous: Rendezvous) -> AsyncIterator[Node]:
    """A node of ours, new for each test, with a new name: Go remembers names for a minute."""
    name = f"ours-{next(_numbers)}"
    async with Node.start(name, rendezvous=rendezvous.address, home=tmp_path) as started:
        yield started
