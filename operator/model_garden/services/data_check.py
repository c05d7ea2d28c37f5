"""Checks every row of a data set with the trainer's reader, without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model_garden.services.errors import MissingPackages

if TYPE_CHECKING:
    from model_garden.contract.methods import Method
    from model_garden.contract.spec import EffectiveSpec
    from model_garden.datasets import CheckReport, Examples, TokenCounter
    from model_garden.datasets.fetched_pictures import Pictures
    from model_garden.datasets.mirror import Mirror
    from model_garden.services.manifest import Job

DATA_PACKAGES = ("PIL", "datasets", "jinja2", "numpy", "pyarrow", "tokenizers")
"""What the extra ``data`` installs, as it is imported."""
Use = Literal["training", "validation", "evaluation"]
_MEASURING: dict[Use, str] = {"validation": "validationDatasetPath", "evaluation": "evaluation.datasetPath"}
SAMPLED_ROWS = 20
"""The rows of each file that are read to find out whether a data set has images."""


@contextmanager
def trainer_packages() -> Iterator[None]:
    """A context that turns a missing package into the command that installs it.

    Raises:
        MissingPackages: an import failed in the block.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        extra = "data" if missing.name in DATA_PACKAGES else "trainer"
        what = f"the packages of the extra {extra} ({missing.name} is missing)"
        raise MissingPackages(f"this needs {what}: pip install 'model-garden[{extra}]'") from missing


@dataclass(frozen=True)
class Check:
    """A data set to check.

    Attributes:
        path: a file, a folder, or ``hf://datasets/ORG/NAME``.
        vision: whether the rows are for a vision-language model; None finds out from the first rows.
        split: the split, for a data set with several.
        base_model: the folder of the model whose tokenizer counts tokens; None counts no tokens.
        max_seq_length: the most tokens of a row.
        min_pixels: the smallest area of an image.
        max_pixels: the largest area of an image.
        train_on: which tokens carry loss.
        method: the training method, which decides the formats of rows; None reads the rows of each.
        template: ``chatTemplate``; None for the model's own.
        columns: ``columnMapping``; empty for none.
        root: the folder that data files and images may not leave; None allows any path.
        endpoint: the server of an s3:// or gs:// address; None for that of the environment.
        mirror: the folder of remote storage of a data set that was fetched to ``path``.
        pictures: the images at addresses, with ``fetchPictures``.
        use: what the rows are for.
        compared: whether the rows are compared with others of the job.
    """

    path: str
    vision: bool | None
    split: str = "train"
    base_model: str | None = None
    max_seq_length: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    train_on: Literal["responses", "all"] = "responses"
    method: Method | None = None
    template: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    endpoint: str | None = None
    mirror: Mirror | None = None
    pictures: Pictures | None = None
    use: Use = "training"
    compared: bool = False


@dataclass(frozen=True)
class Checked:
    """What was found of a data set (see ``check_data``), and its rows and their report, if it could be read."""

    values: dict[str, Any]
    rows: Examples | None = None
    report: CheckReport | None = None


def checks_of_job(job: Job) -> tuple[list[Check], list[str]]:
    """A check for each data set of a job, and the paths of the data sets that are not on this machine."""
    from model_garden.contract.addresses import HUB_DATASET, is_remote
    from model_garden.contract.defaults import effective_spec

    spec = effective_spec(job.spec, job.name)
    checks, absent = [], []
    uses: tuple[Use, ...] = ("training", "validation") if len(spec.datasets) > 1 else ("training",)
    for use, (path, split) in zip((*uses, "evaluation"), spec.all_datasets, strict=False):
        if path.startswith(HUB_DATASET) or is_remote(path) or Path(path).exists():
            checks.append(check_of(spec, path, split, use))
        else:
            absent.append(path)
    return checks, absent


def check_of(spec: EffectiveSpec, path: str, split: str = "train", use: Use = "training") -> Check:
    """The check of a data set that a job reads. Rows of ``evaluation`` may have any length."""
    from model_garden.datasets.fetched_pictures import Pictures

    trained = use != "evaluation"
    length, bounds = spec.hyperparameters.max_seq_length, spec.pixel_bounds
    endpoint = spec.storage.endpoint_url if spec.storage else None
    return Check(
        path,
        spec.vision,
        split,
        spec.base_model if trained else None,
        length if trained else None,
        *bounds,
        train_on=spec.train_on,
        method=spec.method,
        template=spec.chat_template if trained else None,
        columns=spec.columns,
        endpoint=endpoint,
        pictures=Pictures() if spec.fetch_pictures else None,
        use=use,
        compared=len(spec.all_datasets) > 1 or bool(spec.validation_fraction),
    )


def check_by_fields(path: str, fields: Mapping[str, Any]) -> Check:
    """The check of a data set as a job with some fields of the spec, in camelCase, reads it.

    Other fields have their defaults, but for these: without ``isVision``, the first rows decide the kind; without
    ``method``, the rows of each are read; tokens are counted only with ``baseModel``, and limited only with
    ``hyperparameters.maxSeqLength``.

    Raises:
        InvalidResource: the fields break a rule of the spec.
    """
    from model_garden.contract.defaults import effective_spec
    from model_garden.contract.resource import parse_spec

    method, vision = fields.get("method"), fields.get("isVision")
    needed: dict[str, Any] = {"isVision": True if vision is None else vision}
    needed |= {"rewards": {"functions": ["exact_match"]}} if method == "grpo" else {}
    needed |= {"baseModel": "./models/base", "datasetPath": "./data/rows.jsonl"}
    spec = effective_spec(parse_spec({**fields, **needed}), "check")
    return dataclasses.replace(
        check_of(spec, path, spec.dataset_split),
        vision=vision,
        method=method,
        base_model=fields.get("baseModel"),
        max_seq_length=(fields.get("hyperparameters") or {}).get("maxSeqLength"),
    )


def check_data(check: Check) -> dict[str, Any]:
    """Check every row, as ``examine`` does, and return its values."""
    return examine(check).values


def examine(check: Check) -> Checked:
    """Check every row.

    Returns:
        The rows, their report, and plain values: ``path``, ``ok``, ``problems`` (the first ones, one line each),
        ``problem_count`` and ``notes`` (what was not checked, and why, and what may be wrong). If the data set could
        be read, also ``kind`` (``text`` or ``vision``), its counts, its token lengths, and ``suggested_columns``: the
        ``columnMapping`` that reads the first broken row, if that row has no known format; else empty.

    Raises:
        MissingPackages: the packages that read data sets are not installed.
    """
    with trainer_packages():
        from model_garden.datasets import DamagedModelFile, DatasetError, check_examples

    name = check.mirror.named(check.path) if check.mirror else check.path
    try:
        vision = reads_images(check)
        examples = open_rows(check, vision=vision)
        counter, notes = _token_counter(check, vision)
        report = check_examples(
            examples,
            measure=counter,
            max_length=check.max_seq_length if counter else None,
            bounds=(check.min_pixels, check.max_pixels),
            digests=check.compared,
        )
    except (DatasetError, DamagedModelFile) as broken:
        problems = str(broken).splitlines()
        return refused(name, problems)
    kind = "vision" if vision else "text"
    found = dataclasses.asdict(report)
    notes += found.pop("warnings")
    del found["digests"]
    columns = examples.suggested_columns(report.broken_rows[0]) if report.broken_rows else {}
    values = {"path": name, "kind": kind, "ok": report.ok} | found | {"suggested_columns": columns, "notes": notes}
    return Checked(values, examples, report)


def refused(path: str, problems: list[str]) -> Checked:
    """The result for a data set that cannot be read."""
    return Checked({"path": path, "ok": False, "problem_count": len(problems), "problems": problems, "notes": []})


def compare_rows(spec: EffectiveSpec, checked: Mapping[Use, Checked]) -> None:
    """Add to the values of a job's data sets where rows that measure the model are trained on too, as the trainer does.

    A file with rows of both is a problem, as is a fraction that leaves nothing to train on; a repeated row is a note.
    """
    training = checked.get("training")
    if training is None or training.rows is None or training.report is None:
        return
    from model_garden.datasets.held_out import all_held_out, hold_out, picked, repeated_rows, shared_file

    kept, held_out = hold_out(len(training.rows), spec.validation_fraction, spec.hyperparameters.seed)
    if not kept:
        _add_problem(training, all_held_out(len(training.rows), spec.validation_fraction))
    measuring: list[tuple[str, Checked, Sequence[int]]] = (
        [("validationFraction", training, held_out)] if held_out else []
    )
    for use, name in _MEASURING.items():
        held = checked.get(use)
        if held is None or held.rows is None:
            continue
        measuring.append((name, held, range(len(held.rows))))
        if shared := shared_file(name, held.values["path"], held.rows, training.rows):
            _add_problem(held, shared)
    if not measuring:
        return
    if not all(one.values["ok"] for one in checked.values()):
        training.values["notes"].append("rows to train on are compared with others once every row can be read")
        return
    trained = picked(training.report.digests, kept)
    for name, held, indices in measuring:
        assert held.rows is not None and held.report is not None
        if repeated := repeated_rows(name, held.rows, held.report.digests, indices, trained):
            held.values["notes"].append(repeated)


def _add_problem(checked: Checked, problem: str) -> None:
    checked.values["ok"] = False
    checked.values["problem_count"] += 1
    checked.values["problems"].insert(0, problem)


def open_rows(check: Check, *, vision: bool) -> Examples:
    """The rows of a check, read as a job with its fields reads them.

    Raises:
        DatasetError: the data set cannot be read.
    """
    from model_garden.datasets import open_examples

    return open_examples(
        check.path,
        vision=vision,
        method=check.method,
        split=check.split,
        root=check.root,
        mirror=check.mirror,
        columns=check.columns,
        pictures=check.pictures,
    )


def count_tokens(check: Check, *, vision: bool) -> TokenCounter:
    """What counts the tokens of rows, with the tokenizer and the chat template of a check.

    Raises:
        UncountableError: the model's files do not suffice.
        DamagedModelFile: one of them is damaged.
    """
    from model_garden.datasets import TokenCounter

    return TokenCounter.load(
        str(check.base_model),
        vision=vision,
        min_pixels=check.min_pixels,
        max_pixels=check.max_pixels,
        train_on=check.train_on,
        template=check.template,
    )


def reads_images(check: Check) -> bool:
    """Whether the rows are for a vision-language model: as the check says, or as the keys of the first rows show."""
    if check.vision is not None:
        return check.vision
    if check.pictures or check.columns.keys() & {"image", "images"}:
        return True
    from model_garden.datasets.convert import has_pictures
    from model_garden.datasets.errors import RowError
    from model_garden.datasets.source import open_source

    for rows in open_source(check.path, check.split, check.root):
        for number in range(min(len(rows), SAMPLED_ROWS)):
            try:
                row = rows.read(number)
            except RowError:
                continue
            if has_pictures(row):
                return True
    return False


def _token_counter(check: Check, vision: bool) -> tuple[TokenCounter | None, list[str]]:
    """The token counter; or None and the reason, if the model's files are not on this machine or do not suffice."""
    from model_garden.datasets import UncountableError

    if check.base_model is None:
        unused = "the rows are not rendered with chatTemplate, since that needs the files of the base model"
        return None, [unused] if check.template else []
    if not Path(check.base_model).is_dir():
        return None, [f"{check.base_model}: not a local directory; token counts skipped"]
    try:
        return count_tokens(check, vision=vision), []
    except UncountableError as unknown:
        return None, [f"{unknown}; token counts skipped"]
