"""Draws the record of a run as bars: `plot.py [RECORD [SVG]]`, the newest record without one.

SVG by hand, for a picture in a README has to be readable in light and in dark, which a style sheet
inside it can do.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from plan import Result  # noqa: E402
from report import OURS, figures  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH, MARGIN, GAP = 1000, 20, 24
HEAD, ROW, BAR = 92, 22, 14
NAMES, VALUES = 144, 52
STYLE = """
text { font: 12px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.soft { fill: #59636e; font-size: 11px }
.card { fill: #ffffff; stroke: #d1d9e0 }
.ours { fill: #d9480f } .other { fill: #5b7fa6 } .plain { fill: #b4bdc6 }
.name-ours { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .soft { fill: #9198a1 } .card { fill: #0d1117; stroke: #3d444d }
  .ours { fill: #ff7b3a } .other { fill: #6c95c4 } .plain { fill: #596470 }
}
"""


@dataclass(frozen=True)
class Panel:
    figure: str
    title: str
    note: str
    rust: bool = True


PANELS = (
    Panel("MB/s", "One stream, MB/s", "one way, packets as large as loopback takes"),
    Panel("64 B p50, us", "64 bytes and back, µs", "median, one at a time; shorter is better"),
    Panel("64 in flight, 1/s", "64 requests in flight, 1000/s", "64 bytes each", rust=False),
)

SHORT = (
    ("pilot-agent, ", "pilot-agent "),
    ("Go daemon, its SDK", "Go 1.18.0, SDK"),
    ("Go daemon, pilotctl bench (echo)", ""),
    (", TLS, blocking", " TLS, blocking"),
    (", TLS", " TLS"),
    ("ZeroMQ, CURVE, asyncio", "ZeroMQ CURVE"),
    ("ZeroMQ, CURVE, blocking", "ZeroMQ, blocking"),
    (" (h2)", ""),
)


def short(name: str) -> str:
    """The name as it fits; nothing if the peer is not drawn."""
    for long, brief in SHORT:
        name = name.replace(long, brief)
    return name


def bars(panel: Panel, results: list[Result]) -> list[tuple[str, float, str]]:
    """Name, value and kind, the best on top."""
    figure = figures()[panel.figure]
    found = []
    for result in results:
        name, value = short(result.name), figure.value(result)
        if name and value is not None and (panel.rust or result.driver != "Rust"):
            ours = "ours" if result.name.startswith(OURS) else "other"
            found.append((name, value, ours if result.encrypted else "plain"))
    return sorted(found, key=lambda bar: bar[1], reverse=not figure.smaller_is_better)


def draw(panel: Panel, found: list[tuple[str, float, str]], left: float, width: float) -> str:
    scale = (width - NAMES - VALUES) / max((value for _, value, _ in found), default=1)
    thousands = panel.title.endswith("1000/s")
    lines = [
        f'<text class="title" x="{left}" y="{HEAD - 36}">{escape(panel.title)}</text>',
        f'<text class="soft" x="{left}" y="{HEAD - 19}">{escape(panel.note)}</text>',
    ]
    for number, (name, value, kind) in enumerate(found):
        top = HEAD + number * ROW
        base, start = top + BAR - 3, left + NAMES
        length = max(value * scale, 1.5)
        shown = value / 1000 if thousands else value
        text = f"{shown:,.0f}" if shown >= 10 else f"{shown:.1f}"
        size = f'width="{length:.1f}" height="{BAR}" rx="2"'
        end = f'x="{start - 6}" y="{base}" text-anchor="end"'
        lines += [
            f'<text class="name-{kind}" {end}>{escape(name)}</text>',
            f'<rect class="{kind}" x="{start}" y="{top}" {size}/>',
            f'<text class="soft" x="{start + length + 5:.1f}" y="{base}">{text}</text>',
        ]
    return "\n".join(lines)


def legend(top: float) -> Iterator[str]:
    left = float(MARGIN)
    for kind, text in (("ours", OURS), ("other", "encrypted"), ("plain", "not encrypted")):
        yield f'<rect class="{kind}" x="{left}" y="{top - 10}" width="12" height="12" rx="2"/>'
        yield f'<text class="soft" x="{left + 17}" y="{top}">{text}</text>'
        left += 34 + 7 * len(text)


def absent(results: list[Result]) -> str:
    """Whom a reader looks for in vain: what is missing is said, not left out."""
    names = [result.name for result in results if result.missing]
    names += [f"{result.name}, {step}" for result in results for step in result.failed]
    return f"Missing or failed at times: {'; '.join(names)}" if names else ""


def svg(record: dict[str, Any]) -> str:
    """The picture."""
    results = [Result.from_json(each) for each in record["results"]]
    found = [bars(panel, results) for panel in PANELS]
    height = HEAD + ROW * max(map(len, found)) + 50
    column = (WIDTH - 2 * MARGIN - GAP * (len(PANELS) - 1)) / len(PANELS)
    machine = record["machine"]
    place = f"{machine['cpu']}, {machine['cores']} cores, {record['time'][:10]}; "
    place += f"two processes, driven from Python {machine['python']} unless it says Rust"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Throughput and latency of pilot-agent and others on one machine</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        *legend(28),
        f'<text class="soft" x="{MARGIN}" y="{height - 30}">{escape(place)}</text>',
        f'<text class="soft" x="{MARGIN}" y="{height - 14}">{escape(absent(results))}</text>',
    ]
    for number, (panel, each) in enumerate(zip(PANELS, found, strict=True)):
        parts.append(draw(panel, each, MARGIN + number * (column + GAP), column))
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    records = sorted((ROOT / "bench-results").glob("compare-*.json"))
    record = Path(sys.argv[1]) if len(sys.argv) > 1 else records[-1]
    picture = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "performance.svg"
    picture.write_text(svg(json.loads(record.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"{record} -> {picture}")


if __name__ == "__main__":
    main()
