"""Machine instructions per operation of the hot parts, next to those on record.

Time on a shared machine moves by tens of percent; the number of instructions does not. Each case of
``cargo bench --bench hot`` is run under callgrind with two counts, and the difference is what the
operations cost without their set-up. ``--record`` writes ``benches/instructions.json``. Nothing
fails here: it prints what changed by more than 2 %.

callgrind knows no AVX-512, so sealing takes the path of an older processor.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benches" / "instructions.json"
NOTEWORTHY = 0.02
COUNTS = {"mib": (4, 12)}
"""Operations of the two runs, by a part of the case's name."""
DEFAULT_COUNTS = (200, 1_200)


def executable() -> str:
    """Builds the benchmark and returns its path."""
    built = subprocess.run(
        ["cargo", "bench", "--locked", "--bench", "hot", "--no-run", "--message-format=json"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    messages = (json.loads(line) for line in built.stdout.splitlines())
    paths = [m["executable"] for m in messages if m.get("target", {}).get("name") == "hot"]
    return str(paths[-1])


def instructions(program: str, case: str, count: int) -> int:
    """Instructions that the program executes to do `case` so many times."""
    with tempfile.TemporaryDirectory() as directory:
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out"]
        done = subprocess.run(
            [*valgrind, program, "--run", case, str(count)],
            check=True,
            capture_output=True,
            text=True,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        message = f"no count in what callgrind says: {done.stderr[-500:]}"
        raise RuntimeError(message)
    return int(found[1])


def per_operation(program: str, case: str) -> float:
    few, many = next((c for part, c in COUNTS.items() if part in case), DEFAULT_COUNTS)
    spent = instructions(program, case, many) - instructions(program, case, few)
    return round(spent / (many - few), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="*", help="cases whose name contains one of these")
    parser.add_argument("--record", action="store_true", help="write down what was counted")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("this needs valgrind (Debian package valgrind)")
    program = executable()
    listed = subprocess.run([program, "--list"], check=True, capture_output=True, text=True)
    cases = listed.stdout.split()
    chosen = [c for c in cases if not options.words or any(w in c for w in options.words)]
    record: dict[str, float] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for case in chosen:
        now, before = per_operation(program, case), record.get(case)
        change = "" if before is None else f"{now / before - 1:+8.1%}"
        mark = " <" if before is not None and abs(now / before - 1) > NOTEWORTHY else ""
        print(f"{case:<32} {now:>14,.1f} {change}{mark}", flush=True)
        record[case] = now
    if options.record:
        kept = {case: record[case] for case in cases if case in record}
        RECORD.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
