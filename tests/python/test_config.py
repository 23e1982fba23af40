"""Settings: argument before environment before file before default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilot_agent import InvalidArgument, Node
from pilot_agent.config import home_directory, settings

if TYPE_CHECKING:
    from pilot_agent.testing import LocalNetwork


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILOT_HOME", raising=False)
    monkeypatch.delenv("PILOT_RENDEZVOUS", raising=False)


def test_the_home_is_argument_then_environment_then_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert home_directory() == Path.home() / ".pilot-agent"
    monkeypatch.setenv("PILOT_HOME", str(tmp_path / "environment"))
    assert home_directory() == tmp_path / "environment"
    assert home_directory(tmp_path / "argument") == tmp_path / "argument"
    assert home_directory("~/there") == Path.home() / "there"


def test_the_rendezvous_is_argument_then_environment_then_file_then_embedded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings(tmp_path, {"rendezvous": None})["rendezvous"] == "embedded"
    (tmp_path / "config.toml").write_text('rendezvous = "file:1"\npublic = false\n')
    assert settings(tmp_path, {})["rendezvous"] == "file:1"
    monkeypatch.setenv("PILOT_RENDEZVOUS", "environment:1")
    assert settings(tmp_path, {})["rendezvous"] == "environment:1"
    found = settings(tmp_path, {"rendezvous": "argument:1", "public": True})
    assert (found["rendezvous"], found["public"]) == ("argument:1", True)
    assert settings(tmp_path, {"public": None})["public"] is False


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rendezvous = ", "not TOML"),
        ('rendezvouz = "x:1"', "no setting 'rendezvouz'; there are rendezvous, listen"),
        ("rendezvous = 7", "rendezvous is a int"),
    ],
)
def test_a_file_that_makes_no_sense_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidArgument, match=complaint):
        settings(tmp_path, {})


async def test_a_node_reads_all_three(
    network: LocalNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PILOT_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(
        f'rendezvous = "{network.rendezvous}"\nlisten = "127.0.0.1:0"\n'
    )
    async with Node.start("alice") as alice:
        assert alice.info().local_addr.startswith("127.0.0.1:")
        assert alice.info().rendezvous == network.rendezvous
    assert any((tmp_path / "identities").iterdir())
