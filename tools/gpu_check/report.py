"""The tables: what passed, and how long a step takes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.gpu_check.checks import disagreements
from tools.gpu_check.lanes import Row
from tools.gpu_check.plan import AGREEMENTS, EFFECTIVE_BATCH, REAL, WARM_UP, Section

PARTS = ("data", "forward", "backward", "optimizer")
AIM = "Aim on one H100: at most 0.1 s a step and 6 GiB."


def agreement_rows(rows: list[Row]) -> list[Row]:
    """A row for each pair of runs that must report the same."""
    found = {row.section: row for row in rows}
    result = []
    for agreement in AGREEMENTS:
        pair = [found.get(name) for name in (agreement.one, agreement.other)]
        if not all(pair):
            continue  # not asked for
        if not all(row and row.found.get("steps") for row in pair):
            result.append(Row(agreement.name, "skipped", problems=["one of the two runs has no figures"]))
            continue
        one, other = (row.found for row in pair if row)
        wrong = disagreements(agreement, one, other)
        result.append(Row(agreement.name, "failed" if wrong else "passed", problems=wrong))
    return result


def report(rows: list[Row], timed: list[Section], folder: Path) -> str:
    """Everything for a person to read, as Markdown."""
    machine = next((row.found for row in rows if "torch" in row.found), {})
    counts = {result: sum(row.result == result for row in rows) for result in ("passed", "failed", "skipped")}
    checks = table(["section", "result", "s", "found"], [_line(row) for row in rows])
    pieces = [
        "# GPU check",
        ", ".join(f"{name} {value}" for name, value in machine.items()),
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped",
        checks,
        step_times(rows, timed, folder),
        *(f"## {row.section}: last lines of its log\n\n```\n{chr(10).join(row.log)}\n```" for row in rows if row.log),
    ]
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _line(row: Row) -> list[str]:
    return [row.section, row.result, f"{row.seconds:.0f}" if row.seconds else "", "; ".join(row.problems) or _told(row)]


def _told(row: Row) -> str:
    """The figures of a section that passed, in a few words."""
    found = row.found
    if "seconds" in found:
        times = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in found["seconds"].items())
        return f"{times}; attention {', '.join(f'{name} {kind}' for name, kind in found['attention'].items())}"
    if not found.get("steps"):
        return ""
    steps = found["steps"]
    words = [f"{found['batch']}, loss {steps[0]['loss']:.3f} to {steps[-1]['loss']:.3f}"]
    words.append(f"gradient norm {min(step['gradNorm'] for step in steps):.3g} and more")
    words.append(f"first step {steps[0]['secondsPerStep']:.1f} s")
    if memory := found["memory"].get("training"):
        words.append("training " + ", ".join(f"{kind} {gib:.2f} GiB" for kind, gib in memory.items()))
    if found.get("leftOverGiB") is not None:
        words.append(f"{found['leftOverGiB']:.3f} GiB left")
    if (difference := found.get("verification", {}).get("difference")) is not None:
        words.append(f"merged differs by {difference:.2g}")
    if waits := (found.get("trace") or {}).get("waits"):
        words.append(f"{sum(waits.values())} waits and {found['trace']['kernels']} launches in a step")
    return "; ".join(words)


def step_times(rows: list[Row], timed: list[Section], folder: Path) -> str:
    """The table of step times; empty where none was measured."""
    found = {row.section: row.found for row in rows if row.found.get("steps")}
    parts = next((row.found for row in rows if "imageTokens" in row.found), None)
    lines = [
        _step_time(section, found[section.name], parts, _gpu(rows), folder)
        for section in timed
        if section.name in found
    ]
    if not lines:
        return ""
    header = ["", "batch", "s/step", *PARTS, "samples/s", "of peak", "GiB reserved", "GiB allocated", "first step, s"]
    work = (
        f"A step is {EFFECTIVE_BATCH} samples: {parts['tokens']} tokens, {parts['imageTokens']} of them of images and "
        f"{parts['trainedTokens']} trained. "
        if parts
        else ""
    )
    text = (
        f"{work}Medians of the steps after {WARM_UP}, in seconds. Memory is the peak while training; with "
        f"autoBatchSize the batches that were tried count too. {AIM}"
    )
    return f"## Step time\n\n{text}\n\n{table(header, lines)}"


def _step_time(
    section: Section, found: Mapping[str, Any], parts: Mapping[str, Any] | None, gpu: str, folder: Path
) -> list[str]:
    counted = [step for step in found["steps"][WARM_UP:] if not (section.traced and step is found["steps"][-1])]

    def median(name: str) -> str:
        values = [step[name] for step in counted if name in step]
        return f"{statistics.median(values):.4f}" if values else ""

    seconds = statistics.median(step["secondsPerStep"] for step in counted)
    memory = found["memory"].get("training", {})
    return [
        section.name,
        "packed" if found["packing"] else found["batch"],
        median("secondsPerStep"),
        *(median(f"{part}Seconds") for part in PARTS),
        f"{EFFECTIVE_BATCH / seconds:.1f}",
        share_of_peak(section, seconds, parts, gpu, folder),
        *(f"{memory[kind]:.2f}" if kind in memory else "" for kind in ("reserved", "allocated")),
        f"{found['steps'][0]['secondsPerStep']:.1f}",
    ]


def share_of_peak(section: Section, seconds: float, parts: Mapping[str, Any] | None, gpu: str, folder: Path) -> str:
    """The share of the GPU's peak that a step of ``seconds`` reaches; empty where either is unknown."""
    if parts is None:
        return ""
    from tools.gpu_check.flops import Work, peak_flops, step_flops

    peak = peak_flops(gpu)
    if peak is None:
        return ""
    from model_garden.estimate.estimate import estimate
    from model_garden.estimate.model_shape import read_model
    from tools.gpu_check.worker import effective

    config = json.loads((folder / REAL / "config.json").read_text())
    work = Work(parts["tokens"], parts["trainedTokens"], parts["imageTokens"], parts["patches"])
    adapters = estimate(effective(section, quick=False), config).trained_parameters
    return f"{step_flops(read_model(config), adapters, work) / seconds / peak:.1%}"


def _gpu(rows: list[Row]) -> str:
    return next((row.found.get("gpu") or "" for row in rows if "gpu" in row.found), "")
