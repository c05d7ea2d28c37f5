"""``create-dataset``, ``create-vision-dataset`` and ``validate``: data sets by the trainer's own code, no torch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_garden.cli.output import FAILED, CommandError, error, note, print_json, print_rows, warn
from model_garden.services import format

CURVE_WIDTH = 32
LOOKED_AT = 20
"""Rows read to find out whether a data set has pictures."""


@contextmanager
def trainer_packages() -> Iterator[None]:
    """Turn a missing package into the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise CommandError(
            f"this needs the trainer's packages ({missing.name} is missing): pip install 'model-garden[trainer]'",
            FAILED,
        ) from missing


def create(output: str, number: int, *, vision: bool) -> None:
    """Write a sample data set and print its path.

    Raises:
        CommandError: it cannot be written, or would write over something else.
    """
    with trainer_packages():
        from model_garden.datasets.samples import create_text_samples, create_vision_samples
    try:
        path = (create_vision_samples if vision else create_text_samples)(output, number)
    except OSError as failed:
        reason = f"{failed.filename}: {failed.strerror}" if failed.strerror else str(failed)
        raise CommandError(reason, FAILED) from failed
    print(path)
    command = "train-vision" if vision else "train"
    note(f"{number} rows written; train on them with: model-garden {command} --dataset {path} --base-model …")


@dataclass(frozen=True)
class Check:
    """A data set to be checked: where it is, for what kind of model (None: found out), and how it is measured."""

    path: str
    vision: bool | None
    split: str = "train"
    base_model: str | None = None
    max_seq_length: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


def validate(
    path: str,
    *,
    vision: bool | None,
    split: str,
    base_model: str | None,
    max_seq_length: int | None,
    output: str,
) -> None:
    """Check a data set, or a TrainingJob and its data sets, and exit: 0 if all is well, 1 for bad data.

    Raises:
        CommandError: the TrainingJob breaks a rule of the spec, with exit code 2.
    """
    if path == "-" or Path(path).suffix.lower() in (".yaml", ".yml"):
        checks = _checks_of_job(path)
    else:
        checks = [Check(path, vision, split, base_model, max_seq_length)]
    results = [check_data(check) for check in checks]
    if output == "json":
        print_json(results if len(results) > 1 else results[0] if results else {"path": path, "ok": True})
    else:
        for result in results:
            _print_result(result)
        if not results:
            print_rows([("result", "ok, as far as the spec goes")])
    sys.exit(0 if all(result["ok"] for result in results) else FAILED)


def _checks_of_job(file: str) -> list[Check]:
    """The data sets that a valid job names and that are on this machine."""
    from model_garden.contract.defaults import effective_spec
    from model_garden.contract.spec import HUB_DATASET, outside_workspace
    from model_garden.services.manifest import read_job

    job = read_job(file)
    note(f"{file}: TrainingJob {job.name} keeps every rule of the spec")
    for problem in outside_workspace(job.spec):
        warn(f"{problem} (only a cluster minds)")
    spec = effective_spec(job.spec, job.name)
    image = spec.image_options
    checks = []
    for path, split in spec.datasets:
        if not path.startswith(HUB_DATASET) and not Path(path).exists():
            note(f"{path}: not on this machine, so its rows are checked where the job runs")
            continue
        length = spec.hyperparameters.max_seq_length if spec.hyperparameters else None
        sizes = (image.min_pixels, image.max_pixels) if image else (None, None)
        checks.append(Check(path, spec.vision, split, spec.base_model, length, *sizes))
    return checks


def check_data(check: Check) -> dict[str, Any]:
    """Check every row: what the data set holds, in plain values, with ``ok`` and ``problems``."""
    with trainer_packages():
        from model_garden.datasets import DatasetError, check_examples, open_examples

    try:
        vision = has_pictures(check) if check.vision is None else check.vision
        examples = open_examples(check.path, vision=vision, split=check.split)
        measure = _measure(check, vision)
        report = check_examples(
            examples,
            measure=measure,
            max_length=check.max_seq_length if measure else None,
            bounds=(check.min_pixels, check.max_pixels),
        )
    except DatasetError as broken:
        return {"path": check.path, "ok": False, "problem_count": len(broken.problems), "problems": broken.problems}
    kind = "vision" if vision else "text"
    return {"path": check.path, "kind": kind, "ok": report.ok} | dataclasses.asdict(report)


def has_pictures(check: Check) -> bool:
    """Whether the first rows have pictures, as far as their keys tell."""
    from model_garden.datasets.convert import has_pictures as row_has_pictures
    from model_garden.datasets.errors import RowError
    from model_garden.datasets.source import open_source

    for rows in open_source(check.path, check.split, None):
        for number in range(min(len(rows), LOOKED_AT)):
            try:
                row = rows.read(number)
            except RowError:
                continue
            if row_has_pictures(row):
                return True
    return False


def _measure(check: Check, vision: bool) -> Any:
    """What counts tokens, None where the model's files are not on this machine."""
    from model_garden.datasets import TokenCounter, UncountableError

    if check.base_model is None:
        return None
    if not Path(check.base_model).is_dir():
        note(f"{check.base_model}: not a folder of this machine, so lengths are not measured")
        return None
    try:
        return TokenCounter.load(
            check.base_model, vision=vision, min_pixels=check.min_pixels, max_pixels=check.max_pixels
        )
    except UncountableError as unknown:
        note(f"{unknown}, so lengths are not measured")
        return None


def _print_result(result: dict[str, Any]) -> None:
    tokens = result.get("tokens")
    count = result["problem_count"]
    ignored = (f"{name} ({rows:,} rows)" for name, rows in result.get("ignored_columns", {}).items())
    dropped = (f"{rows:,} × {reason}" for reason, rows in result.get("dropped", {}).items())
    print_rows(
        [
            ("data set", result["path"] + (f"  ({result['kind']})" if "kind" in result else "")),
            ("rows", _count(result, "rows")),
            ("turns", _count(result, "turns")),
            ("pictures", _count(result, "images") if result.get("images") else ""),
            ("tokens", _lengths(tokens) if tokens else ""),
            ("ignored", ", ".join(ignored)),
            ("left out", ", ".join(dropped)),
            ("result", "ok" if result["ok"] else f"{count:,} problem{'s' if count != 1 else ''}"),
        ]
    )
    for problem in result["problems"]:
        error(problem)
    if count > len(result["problems"]):
        note(f"and {count - len(result['problems']):,} more")


def _count(result: dict[str, Any], key: str) -> str:
    return f"{result[key]:,}" if key in result else ""


def _lengths(tokens: dict[str, Any]) -> str:
    curve = format.sparkline([bucket["rows"] for bucket in tokens["histogram"]], CURVE_WIDTH)
    figures = "shortest {minimum:,}, median {median:,}, 95% below {p95:,}, longest {maximum:,}".format(**tokens)
    return f"{figures}  {curve}"
