"""``create-dataset``, ``create-vision-dataset`` and ``validate``; torch is not needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_garden.cli.output import FAILED, CommandError, error, note, print_json, print_rows, warn
from model_garden.cli.spec_flags import named_by_flag
from model_garden.services import format
from model_garden.services.data_check import Check, check_by_fields, checks_of_job, compare_rows, trainer_packages
from model_garden.services.remote_data import examine_anywhere

if TYPE_CHECKING:
    from model_garden.services.manifest import Job

CURVE_WIDTH = 32


def create(output: str, number: int, *, vision: bool) -> None:
    """Write a sample data set and print its path.

    Raises:
        CommandError: the file cannot be written, or has other content already.
        MissingPackages: the packages that write it are not installed.
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
    written = format.count(number, "row")
    note(f"{written} written. Train with: model-garden {command} --base-model MODEL --dataset {path}")


def fields_of(
    flags: dict[str, Any], vision: bool | None, base_model: str | None = None, max_seq_length: int | None = None
) -> dict[str, Any]:
    """The fields of the spec, in camelCase, that the flags of a command about data give."""
    fields = flags | ({} if vision is None else {"isVision": vision})
    fields |= {"baseModel": base_model} if base_model else {}
    return fields | ({"hyperparameters": {"maxSeqLength": max_seq_length}} if max_seq_length else {})


def is_job(path: str) -> bool:
    """Whether an argument names a TrainingJob rather than a data set."""
    return path == "-" or Path(path).suffix.lower() in (".yaml", ".yml")


def validate(path: str, fields: dict[str, Any], *, output: str) -> None:
    """Check a data set, or a TrainingJob and its data sets, and exit with 0, or with 1 for bad data.

    Args:
        path: a data set, or the file of a TrainingJob.
        fields: fields of the spec, which override those of the TrainingJob.
        output: ``table`` or ``json``.

    Raises:
        InvalidResource: the fields or the TrainingJob break a rule of the spec.
    """
    with named_by_flag():
        job = _read_job(path, fields) if is_job(path) else None
        checks = _checks_of_job(job) if job else [check_by_fields(path, fields)]
    checked = {check.use: examine_anywhere(check) for check in checks}
    if job:
        from model_garden.contract.defaults import effective_spec

        with trainer_packages():
            compare_rows(effective_spec(job.spec, job.name), checked)
    results = [one.values for one in checked.values()]
    if output == "json":
        print_json(results if len(results) > 1 else results[0] if results else {"path": path, "ok": True})
    else:
        for result in results:
            _print_result(result)
        if not results:
            print_rows([("result", "the TrainingJob is valid; no data set was checked")])
    sys.exit(0 if all(result["ok"] for result in results) else FAILED)


def _read_job(file: str, fields: dict[str, Any]) -> Job:
    """The TrainingJob of a file; what no pod can read is named on stderr."""
    from model_garden.contract.spec import outside_workspace
    from model_garden.services.manifest import read_job

    job = read_job(file, fields)
    note(f"{file}: TrainingJob {job.name} is valid")
    for problem in outside_workspace(job.spec):
        warn(f"{problem}; a run on this machine accepts any path")
    return job


def _checks_of_job(job: Job) -> list[Check]:
    """Checks for the data sets of a job that are on this machine; the others are named on stderr."""
    checks, absent = checks_of_job(job)
    for path in absent:
        note(f"{path}: not on this machine; rows not checked")
    return checks


def _print_result(result: dict[str, Any]) -> None:
    tokens, count = result.get("tokens"), result["problem_count"]
    ignored = (f"{name} ({format.count(rows, 'row')})" for name, rows in result.get("ignored_columns", {}).items())
    dropped = (format.count(lines, kind) for kind, lines in result.get("dropped", {}).items())
    for line in result["notes"]:
        note(line)
    print_rows(
        [
            ("data set", result["path"] + (f"  ({result['kind']})" if "kind" in result else "")),
            ("rows", _figure(result, "rows")),
            ("turns", _figure(result, "turns")),
            ("images", _figure(result, "images") if result.get("images") else ""),
            ("tokens", _lengths(tokens) if tokens else ""),
            ("ignored keys", ", ".join(ignored)),
            ("ignored", ", ".join(dropped)),
            ("result", "ok" if result["ok"] else format.count(count, "problem")),
        ]
    )
    for problem in result["problems"]:
        error(problem)
    if count > len(result["problems"]):
        note(f"and {format.count(count - len(result['problems']), 'more problem')}")


def _figure(result: dict[str, Any], key: str) -> str:
    return f"{result[key]:,}" if key in result else ""


def _lengths(tokens: dict[str, Any]) -> str:
    curve = format.sparkline([bucket["rows"] for bucket in tokens["histogram"]], CURVE_WIDTH)
    figures = "shortest {minimum:,}, median {median:,}, 95% of rows at most {p95:,}, longest {maximum:,}".format(
        **tokens
    )
    return f"{figures}  {curve}"
