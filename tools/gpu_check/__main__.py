"""Time the trainer's steps on a GPU, then try every path that needs one.

    python -m tools.gpu_check --out FOLDER [--packages dist/gpu-packages]    a machine with a GPU, from the checkout
    python -m tools.gpu_check --out FOLDER --quick                           any machine: tiny models, on the CPU

The machine needs PyTorch, transformers and accelerate; what else is needed comes from --packages (make gpu-wheels) or
is installed. Nothing is downloaded: models are random. FOLDER gets rows.jsonl, a line as soon as a section has ended;
report.md; log.txt; and a trace of one step of each backend. A section that fails is told with the end of its log, and
the rest is run. The exit code is 0 if nothing failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tools.gpu_check import lanes
from tools.gpu_check.plan import BACKENDS, plan

NEEDED_GB = 20
CPUS_PER_LANE = 2
"""A lane of checks compiles, which takes several."""


class Results:
    """The rows so far, written to the folder of results as they come."""

    def __init__(self, out: Path) -> None:
        self.rows: list[lanes.Row] = []
        self._out, self._lock = out, threading.Lock()

    def __call__(self, row: lanes.Row, said: str = "") -> None:
        """Keep, write and print a row."""
        with self._lock:
            self.rows.append(row)
            with (self._out / "rows.jsonl").open("a") as file:
                file.write(json.dumps(asdict(row)) + "\n")
            with (self._out / "log.txt").open("a") as file:
                file.write(f"===== {row.section}: {row.result}\n{said}\n")
            print(f"{row.result:8}{row.seconds:7.1f} s  {row.section}  {'; '.join(row.problems)[:300]}", flush=True)


def main() -> None:
    """Run what was asked for; the exit code says whether all of it passed."""
    options = _options()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    for name in ("rows.jsonl", "log.txt", "report.md"):
        (out / name).unlink(missing_ok=True)
    results = Results(out)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        folder = Path(scratch)
        if not options.quick and shutil.disk_usage(folder).free < NEEDED_GB * 1e9:
            sys.exit(f"error: {folder} has less than {NEEDED_GB} GB free; set TMPDIR to another folder")
        (folder / "cache").mkdir()
        runs = lanes.Runs(
            folder=folder,
            out=out,
            deadline=time.monotonic() + 60 * (options.minutes or (60 if options.quick else 20)),
            quick=options.quick,
            environment=lanes.environment(options.packages, quick=options.quick, folder=folder),
            tell=results,
        )
        text = _run(options, runs, results)
    (out / "report.md").write_text(text)
    print(f"\n{text}")
    failed = [row.section for row in results.rows if row.result == "failed"]
    print(f"failed: {'; '.join(failed)}" if failed else "all passed")
    sys.exit(1 if failed else 0)


def _run(options: argparse.Namespace, runs: lanes.Runs, results: Results) -> str:
    """Write the models, then measure one after the other, then check in parallel; the report.

    Measurements come first: they need the GPU alone, and checks take what is left of the time.
    """
    at_once = 1 if options.quick else max(1, (os.cpu_count() or 1) // CPUS_PER_LANE // len(BACKENDS))
    make, checks, measured = plan(quick=options.quick, only=options.only, at_once=at_once)
    for lane in (make, *measured):
        lanes.run(lane, runs)
    with ThreadPoolExecutor(1 if options.quick else max(1, len(checks))) as pool:
        list(pool.map(lambda lane: lanes.run(lane, runs), checks))
    from tools.gpu_check.report import agreement_rows, report

    for row in agreement_rows(results.rows):
        results(row)
    timed = [section for lane in (*checks, *measured) for section in lane.sections if section.timed]
    return report(results.rows, timed, runs.folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out = os.environ.get("OUT")
    parser.add_argument("--out", type=Path, default=out, required=out is None, help="folder of results (default $OUT)")
    parser.add_argument("--packages", type=Path, help="folder of packages that the machine lacks")
    parser.add_argument("--only", default="", metavar="REGEX", help="sections in whose name it is found")
    parser.add_argument(
        "--minutes", type=float, help="what is not done by then has failed (default 20, with --quick 60)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny models on the CPU: shows that the checks work")
    options = parser.parse_args()
    if options.packages:
        options.packages = options.packages.absolute()
        if not (options.packages / "unsloth").is_dir():
            parser.error(f"--packages {options.packages}: no folder of make gpu-wheels; it has no unsloth")
        sys.path.insert(0, str(options.packages))
    sys.path[:0] = [str(lanes.ROOT), str(lanes.ROOT / "operator"), str(lanes.ROOT / "trainer-image")]
    return options


if __name__ == "__main__":
    main()
