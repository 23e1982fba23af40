"""`make bench-links` on very little: it runs and says what it should, whatever it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from netlab import missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

LINKS = Path(__file__).parents[2] / "benches" / "links.py"


def links(out: Path, *arguments: str) -> str:
    command = [sys.executable, str(LINKS), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_kind_gives_its_figures(tmp_path: Path) -> None:
    senders = "pilot-agent;TCP, CUBIC"
    # Those beside a stream take half a minute.
    kinds = "stream,relayed stream,requests"
    chosen = ("--kind", kinds, "--scene", "1%", "--only", senders)
    table = links(tmp_path, *chosen, "--seconds", "1")
    (path,) = tmp_path.glob("links-*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [(outcome["kind"], outcome["sender"]) for outcome in record["outcomes"]] == [
        ("stream", "pilot-agent"),
        ("stream", "TCP, CUBIC"),
        ("relayed stream", "pilot-agent"),
        ("requests", "pilot-agent, request()"),
        ("requests", "pilot-agent, streams"),
    ]
    for outcome in record["outcomes"]:
        assert outcome["missing"] is None
        figure = "all_s" if outcome["kind"] == "requests" else "mb_per_s"
        assert outcome["samples"][figure][0] > 0
        assert sum(link["lost"] for link in outcome["links"]) > 0
        assert outcome["sender"] in table
    assert "ceiling" in table
    assert links(tmp_path, "--show", str(path)) == table
