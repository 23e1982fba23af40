"""`make bench` on very little: it runs and says what it should, whatever it measures."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

BENCHES = Path(__file__).parent.parent.parent / "benches"


def python(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHES / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("results")
    only = "pilot-agent, stream;asyncio TCP;asyncio UDP"
    printed = python("compare.py", "--plan", "tiny", "--only", only, "--out", str(out), "--json")
    (path,) = out.glob("compare-*.json")
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(printed) == written
    return written


def test_every_peer_gives_the_figures_that_it_can(record: dict[str, Any]) -> None:
    ours, tcp, udp = record["results"]
    assert [ours["missing"], tcp["missing"], udp["missing"]] == [None, None, None]
    for metric in ("request_p50_us", "requests_per_s"):
        assert all(result["medians"][metric] > 0 for result in (ours, tcp, udp))
    for metric in ("mb_per_s@65536/262144", "new_stream_p50_us", "beside_bulk_p99_us"):
        assert all(result["medians"][metric] > 0 for result in (ours, tcp))
    assert "mb_per_s@65536/262144" not in udp["medians"]


def test_the_table_has_a_line_for_a_peer_that_is_missing(
    record: dict[str, Any], tmp_path: Path
) -> None:
    absent = {**record["results"][0], "name": "absent", "missing": "not there", "samples": {}}
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**record, "results": [*record["results"], absent]}))
    table = python("report.py", str(path))
    assert "absent: not there" in table
    assert "asyncio TCP (not encrypted)" in table


def test_the_plot_is_a_picture_with_a_bar_for_each_figure(
    record: dict[str, Any], tmp_path: Path
) -> None:
    path, picture = tmp_path / "record.json", tmp_path / "plot.svg"
    path.write_text(json.dumps(record))
    python("plot.py", str(path), str(picture))
    root = ET.fromstring(picture.read_text(encoding="utf-8"))
    classes = [element.get("class") for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert classes.count("ours") == 4  # its mark in the legend, and one in each of three panels
    assert classes.count("plain") == 1 + 2 + 3
