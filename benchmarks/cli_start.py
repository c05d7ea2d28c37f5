"""How soon the command line answers: seconds from the start of the process to its end, median and worst of 20.

python -m benchmarks.cli_start            # prints the table; exits 1 if --help takes 0.3 s or more
python -m benchmarks.cli_start --write    # and writes it to docs/benchmarks.md
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.sections import machine, table, write_section

RUNS = 20
AIM = 0.3
MODEL_GARDEN = str(Path(sys.executable).parent / "model-garden")
JOB = ("--base-model", "Qwen/Qwen2.5-VL-3B-Instruct", "--dataset", "./data/x.jsonl")
COMMANDS = (("--help",), ("train-vision", "--help"), ("submit", "--dry-run", "client", *JOB), ("version",))


def seconds(arguments: tuple[str, ...]) -> list[float]:
    """How long each run took, the shortest first; the first run of all, which fills caches, is left out."""
    taken = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        environment = os.environ | {"NO_COLOR": "1"}
        subprocess.run([MODEL_GARDEN, *arguments], check=True, capture_output=True, env=environment)
        taken.append(time.perf_counter() - started)
    return sorted(taken[1:])


def main() -> None:
    """Measure, print, and fail if the aim is missed."""
    measured = {arguments: seconds(arguments) for arguments in COMMANDS}
    rows = [
        [f"`model-garden {' '.join(arguments[:3])}`", f"{statistics.median(times):.2f}", f"{times[-1]:.2f}"]
        for arguments, times in measured.items()
    ]
    content = f"{table(['command', 'median s', 'worst s'], rows)}\n\n{machine()}; {RUNS} runs each."
    print(content)
    if "--write" in sys.argv:
        write_section("cli_start", f"## How soon the command line answers\n\n{content}")
    sys.exit(int(statistics.median(measured["--help",]) >= AIM))


if __name__ == "__main__":
    main()
