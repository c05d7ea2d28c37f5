"""``evaluation.harnessTasks``: tasks of lm-evaluation-harness, run by its own package ``lm_eval``.

Its scores are what ``lm_eval`` would compute of the saved model on the command line, without a chat template. No torch
here: the preflight loads the tasks, so that the training pod finds their data sets in the cache.
Source: https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/python-api.md
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from model_garden.contract.evaluation import EffectiveEvaluation
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import EvaluationScore
from model_garden_trainer.atomic_file import write_atomically
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report, report_stage, report_warning
from model_garden_trainer.hub_retry import patiently

FILE = "harness.json"
"""In the output folder: what ``lm_eval`` returned, without the rows."""
_KEPT = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better", "lm_eval_version")


def check(spec: EffectiveSpec, report: Report, *, begun: bool = False) -> None:
    """See before training that the package is there and that each task and its data set can be loaded.

    Args:
        spec: the job's.
        report: gets the stage, and a warning each time that the Hub does not answer.
        begun: whether an earlier start has trained already: a Hub that does not answer then ends nothing.

    Raises:
        TrainingError: InvalidSpec, with the fix; HubUnreachable.
    """
    asked = spec.evaluation
    if asked is None or not asked.harness_tasks:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise TrainingError(
            "InvalidSpec",
            "spec.evaluation.harnessTasks: needs the package lm_eval, which is not installed where the trainer runs; "
            "use the image of `make images`, install model-garden[harness], or remove harnessTasks",
        )
    report_stage(report, "dataset", f"loading {', '.join(asked.harness_tasks)} of lm-evaluation-harness")
    manager = _manager(asked)
    known = set(manager.all_tasks)
    if unknown := [name for name in asked.harness_tasks if name not in known]:
        place = f" and not in {asked.harness_tasks_path}" if asked.harness_tasks_path else ""
        raise TrainingError(
            "InvalidSpec",
            f"spec.evaluation.harnessTasks: {', '.join(unknown)} is no task of lm-evaluation-harness{place}; "
            "`lm_eval ls tasks` lists its tasks, and a task of your own is a YAML file in the folder harnessTasksPath",
        )
    warn = partial(report_warning, report)
    try:
        for name in asked.harness_tasks:
            _load(manager, name, warn)
    except TrainingError as error:
        if error.reason != "HubUnreachable" or not begun:
            raise
        warn(f"{error}; training goes on, and tasks whose data sets are not in the cache will fail after it")


def scores(
    spec: EffectiveSpec, model: Any, base: Any, tokenizer: Any, output: Path, report: Report
) -> list[EvaluationScore]:
    """Let the base model, if it is compared, and the trained one do the tasks, and write ``FILE`` into ``output``.

    Args:
        spec: one with ``harnessTasks``.
        model: the trained model, in evaluation mode.
        base: gives the base model.
        tokenizer: the model's.
        output: the output folder.
        report: gets the stage, and a warning for each score that is no finite number.

    Raises:
        RuntimeError: memory does not suffice for one row.
        OSError: the file cannot be written.
    """
    asked = spec.evaluation
    assert asked is not None
    before = None
    if asked.compare_base:
        with base() as untrained:
            before = _results(asked, untrained, tokenizer, "base model", report)
    after = _results(asked, model, tokenizer, "trained model", report)
    content = {"trained": after} | ({"base": before} if before else {})
    write_atomically(output / FILE, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")
    return list(scores_of(after, before, asked.harness_tasks or (), partial(report_warning, report)))


def scores_of(
    after: Mapping[str, Any], before: Mapping[str, Any] | None, asked: Collection[str], warn: Callable[[str], None]
) -> Iterator[EvaluationScore]:
    """The scores in results of ``lm_eval``, whose keys are ``acc,none`` and ``acc_stderr,none``: metric and filter.

    Those of the tasks ``asked`` come first, then those of groups. One that is no finite number is left out and told.
    """
    groups = after.get("groups") or {}
    for task in sorted(after["results"], key=lambda name: (name not in asked, name not in groups)):
        found, old = after["results"][task], before["results"][task] if before else {}
        for key, value in found.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            name = metric if kind == "none" else f"{metric} ({kind})"
            if not math.isfinite(value):
                warn(f"evaluation.harnessTasks: the score {name} of {task} is {value} and is left out")
                continue
            yield EvaluationScore(
                task=task,
                metric=name,
                value=round(value, 4),
                base_value=_rounded(old.get(key)),
                standard_error=_rounded(found.get(f"{metric}_stderr,{kind}")),
            )


def _rounded(value: Any) -> float | None:
    return round(value, 4) if isinstance(value, int | float) and math.isfinite(value) else None


def _manager(asked: EffectiveEvaluation) -> Any:
    """The tasks of ``harnessTasksPath`` alone where they are all that is asked for, else those of the package too."""
    folder = asked.harness_tasks_path
    if folder and set(asked.harness_tasks or ()) <= set(_index(folder, defaults=False).all_subtasks):
        return _index(folder, defaults=False)
    return _index(folder, defaults=True)


@cache
def _index(folder: str | None, *, defaults: bool) -> Any:
    """An index of tasks. The package has some ten thousand YAML files, and reads all of them in 7 s of a CPU."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder, include_defaults=defaults)


def _load(manager: Any, name: str, warn: Callable[[str], None]) -> None:
    try:
        tasks = patiently(lambda: manager.load([name])["tasks"], f"spec.evaluation.harnessTasks {name}", warn)
    except TrainingError:
        raise
    except Exception as error:  # whatever a task's YAML or its own code raises
        words = (str(error).splitlines() or [""])[0]
        raise TrainingError(
            "InvalidSpec",
            f"spec.evaluation.harnessTasks: {name} cannot be loaded: {type(error).__name__}: {words}; correct "
            "the task, make its data set reachable, or remove it",
        ) from error
    if unsafe := [one for one, task in tasks.items() if getattr(task, "UNSAFE_CODE", False)]:
        raise TrainingError(
            "InvalidSpec",
            f"spec.evaluation.harnessTasks: {unsafe[0]} runs code that the model writes, which the trainer does not "
            "do; remove it",
        )


def _results(asked: EffectiveEvaluation, model: Any, tokenizer: Any, who: str, report: Report) -> dict[str, Any]:
    """What ``lm_eval`` returns for a model. A batch that needs too much memory is halved."""
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    tasks, size = list(asked.harness_tasks or ()), asked.batch_size
    report_stage(report, "verifying", f"{', '.join(tasks)} of lm-evaluation-harness by the {who}")
    while True:
        try:
            return _evaluated(asked, model, tokenizer, tasks, size)
        except RuntimeError as error:
            if size == 1 or not should_reduce_batch_size(error):
                raise
            size //= 2
        clear_device_cache(garbage_collection=True)


def _evaluated(
    asked: EffectiveEvaluation, model: Any, tokenizer: Any, tasks: list[str], batch_size: int
) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model.tie_weights = lambda *_, **__: None  # HFLM ties them again: an adapter may have trained one of two apart
    try:
        found = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size),
            tasks=tasks,
            task_manager=_manager(asked),
            limit=asked.harness_limit,
            log_samples=False,
        )
    finally:
        del model.tie_weights
    return {key: found[key] for key in _KEPT if key in found}
