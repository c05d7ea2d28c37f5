"""Figures of a run as text, the same for local runs, ``watch``, ``get`` and ``list``. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """``values`` as a curve of at most ``width`` characters; '' for fewer than two values."""
    if len(values) < 2:
        return ""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in values)


def duration(seconds: float) -> str:
    """Seconds as text: ``8s``, ``2m 5s``, ``3h 12m``, ``4d 2h``."""
    whole = max(0, round(seconds))
    for unit, size, small, parts in (("d", 86_400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // parts
            return f"{whole // size}{unit} {rest}{small}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """The ``duration`` since an RFC 3339 timestamp; '' without one."""
    seconds = seconds_between(timestamp, (now or datetime.now(UTC)).isoformat())
    return "" if seconds is None else duration(seconds)


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one RFC 3339 timestamp to another, None where one is missing."""
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def size(count: float | None) -> str:
    """Bytes as text: ``512 B``, ``12.3 MiB``; '' without a count."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def count(number: int, noun: str) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def loss(value: float | None) -> str:
    """A loss with four decimal digits; '' without one."""
    return "" if value is None else f"{value:.4f}"


def steps(progress: Mapping[str, Any]) -> str:
    """``12/30``; '' before the first report."""
    return f"{progress['step']}/{progress['totalSteps']}" if progress.get("totalSteps") else ""


def percent(progress: Mapping[str, Any]) -> int:
    """Share of the steps that are done, rounded down: 100 is shown only after the last step; 0 before the first report.

    >>> percent({"step": 199, "totalSteps": 200})
    99
    """
    return 100 * int(progress["step"]) // int(progress["totalSteps"]) if progress.get("totalSteps") else 0


def seconds_left(progress: Mapping[str, Any], now: datetime | None = None) -> float | None:
    """Seconds until the estimated end of the run; without that, of training, from the duration of a step."""
    end = progress.get("estimatedCompletionTime")
    if end:
        return seconds_between((now or datetime.now(UTC)).isoformat(), end)
    pace = progress.get("secondsPerStep")
    return pace * (progress["totalSteps"] - progress["step"]) if pace and progress.get("totalSteps") else None


def details(progress: Mapping[str, Any]) -> list[str]:
    """The figures of a step besides its number and its loss."""
    parts = (
        ("eval loss {:.4f}", "evalLoss"),
        ("lr {:.1e}", "learningRate"),
        ("epoch {:.2f}", "epoch"),
        ("{:.2f} s/step", "secondsPerStep"),
        ("{:,.0f} tokens/s", "tokensPerSecond"),
        ("{:.1f} GiB", "gpuMemoryGiB"),
    )
    return [text.format(progress[key]) for text, key in parts if progress.get(key) is not None]


def step_line(progress: Mapping[str, Any], *, running: bool = True) -> str:
    """A line for a step: ``step 12/30 (40%)  loss 2.3104  lr 1.8e-05  … 21s left``; the time left only if running."""
    parts = [f"step {steps(progress)}"]
    if progress.get("totalSteps"):
        parts[0] += f" ({percent(progress)}%)"
    if progress.get("loss") is not None:
        parts.append(f"loss {loss(progress['loss'])}")
    parts += details(progress)
    left = seconds_left(progress) if running else None
    if left is not None and left >= 1:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)


def dataset_line(dataset: Mapping[str, Any]) -> str:
    """A line with the measured sizes of a data set."""
    parts = [f"{dataset['rows']:,} rows"]
    if dataset.get("validationRows"):
        parts.append(f"{dataset['validationRows']:,} for evaluation")
    if dataset.get("images"):
        parts.append(f"{dataset['images']:,} images")
    if dataset.get("tokens"):
        parts.append(
            "tokens: median {median:,}, 95% of rows at most {p95:,}, longest {maximum:,}".format(**dataset["tokens"])
        )
    return ", ".join(parts)


def usage_line(usage: Mapping[str, Any]) -> str:
    """The GPU time of a job and its cost.

    >>> usage_line({"gpuHours": 1.5, "trainingGpuHours": 1.25, "cost": 3.75, "currency": "USD"})
    '1.50 GPU-hours, 1.25 of them training; 3.75 USD'
    """
    cost = f"; {usage['cost']:.2f} {usage['currency']}" if "cost" in usage else ""
    return f"{usage['gpuHours']:.2f} GPU-hours, {usage['trainingGpuHours']:.2f} of them training{cost}"


def memory_line(estimate: Mapping[str, Any]) -> str:
    """A line with the estimated memory of training."""
    gpu = f"; fits a GPU of {estimate['smallestGpu']} GB" if estimate.get("smallestGpu") else ""
    return "{totalGiB:.1f} GiB, between {minGiB:.1f} and {maxGiB:.1f}".format(**estimate) + gpu


def output(made: Mapping[str, Any]) -> str:
    """The path of a model, its size, and whether it was verified."""
    remarks = [size(made.get("sizeBytes")), "verified" if made.get("verified") else ""]
    said = ", ".join(remark for remark in remarks if remark)
    places = [made["path"], *(made[key] for key in ("hubUrl", "remoteUrl") if made.get(key))]
    return "  ".join(places) + (f"  ({said})" if said else "")


def weights(made: Mapping[str, Any]) -> str:
    """Which step's weights a model has; '' if the last step's, without a validation loss to choose them.

    >>> weights({"trainedSteps": 500, "bestStep": 300, "bestEvalLoss": 0.25})
    'of step 300 of 500, the lowest validation loss (0.2500)'
    """
    if made.get("bestStep") is None:
        return ""
    chosen = f"of step {made['bestStep']} of {made['trainedSteps']}, the lowest validation loss"
    return f"{chosen} ({loss(made['bestEvalLoss'])})"


def output_rows(made: Mapping[str, Any], *, vision: bool) -> list[tuple[str, str]]:
    """Rows of a label and a value for the output of a run: the model, its usage, and its sample answers."""
    rows = [("output", output(made))]
    rows += [("weights", chosen)] if (chosen := weights(made)) else []
    rows.append(("usage", load_hint(made, vision=vision)))
    rows += [(one["name"], one.get("url") or one["path"]) for one in made.get("trackers") or ()]
    return rows + sample_rows(made.get("samples") or {})


def sample_rows(samples: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of a label and a value for the scores of the sample answers, one for each kind of rows."""
    labels = {"train": "training rows", "validation": "validation rows"}
    return [(label, scores(samples[split])) for split, label in labels.items() if samples.get(split)]


def scores(scored: Mapping[str, Any]) -> str:
    """A line with the scores of the sample answers before and after training."""
    exact = f"exact {scored['exactMatchBefore']:.0%} → {scored['exactMatchAfter']:.0%}"
    similarity = f"similarity {scored['similarityBefore']:.2f} → {scored['similarityAfter']:.2f}"
    return f"{scored['rows']} answered before and after training: {exact}, {similarity}"


def evaluation_line(found: Mapping[str, Any]) -> str:
    """A line with the scores of an evaluation."""
    parts = [f"{score_name(one)} {score_change(one)}" for one in found["scores"] if not one.get("field")]
    answered = f"{count(found['rows'], 'row')} answered: " if found.get("rows") is not None else ""
    return f"{answered}{', '.join(parts)}"


def evaluation_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of a label and a value for an evaluation: what was answered, and a row for each score."""
    answered = "tasks of lm-evaluation-harness"
    if found.get("rows") is not None:
        answered = f"{found['rows']:,} of {count(found['totalRows'], 'row')} of {found['datasetPath']} answered"
    rows = [("evaluation", answered + (f"; answers in {found['path']}" if found.get("path") else ""))]
    return rows + [("", f"{score_name(one)} {score_change(one)}") for one in found["scores"]]


def score_name(one: Mapping[str, Any]) -> str:
    """``hellaswag: acc``, ``json_fields_accuracy of total``, or the name of the score alone."""
    task = f"{one['task']}: " if one.get("task") else ""
    return f"{task}{one['metric']}" + (f" of {one['field']}" if one.get("field") else "")


def score_change(one: Mapping[str, Any]) -> str:
    """``0.10 → 0.95``: the score of the base model, if there is one, and that of the trained model."""
    before = f"{one['baseValue']:.2f} → " if one.get("baseValue") is not None else ""
    return f"{before}{one['value']:.2f}"


def load_hint(made: Mapping[str, Any], *, vision: bool) -> str:
    """The command, or the line of Python, that loads a model."""
    if made.get("ggufPath") and vision:
        return f"llama-mtmd-cli -m {made['ggufPath']} --mmproj {made['path']}/mmproj-*.gguf"
    if made.get("ggufPath"):
        return f"llama-cli -m {made['ggufPath']}"
    path = json.dumps(made.get("mergedPath") or made.get("adapterPath") or made["path"])
    return f"transformers.{model_class(made, vision=vision)}.from_pretrained({path})"


def model_class(made: Mapping[str, Any], *, vision: bool) -> str:
    """The class of transformers that loads a model: text can be trained on a model that reads images too."""
    return made.get("modelClass") or ("AutoModelForImageTextToText" if vision else "AutoModelForCausalLM")
