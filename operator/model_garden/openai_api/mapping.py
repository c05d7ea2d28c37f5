"""A request of OpenAI's API as a TrainingJob, and back. Pure functions.

OpenAI's ``batch_size`` counts the rows of an optimizer step, and its ``learning_rate_multiplier`` is relative to the
default learning rate.
"""

from __future__ import annotations

import json
import re
from typing import Any

from model_garden.contract.defaults import defaults, merge
from model_garden.contract.fields import snake_case
from model_garden.contract.names import ANNOTATION_METADATA
from model_garden.contract.resource import parse_spec
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.openai_api.request import EXTENSION, CreateJob, Hyperparameters, Invalid
from model_garden.services.job_document import read_document
from model_garden.services.manifest import Job
from model_garden.services.repeatable import flat

_PARAMETERS = {
    "base_model": "model",
    "dataset_path": "training_file",
    "validation_dataset_path": "validation_file",
    "name": "suffix",
    "hyperparameters.seed": "seed",
    "hyperparameters.num_epochs": "n_epochs",
    "hyperparameters.learning_rate": "learning_rate_multiplier",
    "hyperparameters.batch_size": "batch_size",
    "hyperparameters.gradient_accumulation_steps": "batch_size",
}
"""The parameter that each field of the TrainingJob is made from."""


def parameter(field: str) -> str:
    """The parameter of the request for a field of the TrainingJob, such as ``base_model``."""
    return _PARAMETERS.get(field, f"{EXTENSION}.{field}")


def says_kind(request: CreateJob) -> bool:
    """Whether a request says if it is for a vision-language model."""
    return bool(extension_of(request).keys() & {"is_vision", "model_type"})


def extension_of(request: CreateJob) -> dict[str, Any]:
    """The further fields of the TrainingJob that a request gives, in snake_case."""
    found: dict[str, Any] = snake_case(request.model_garden or {}, TrainingJobSpec)
    return found


def training_job(request: CreateJob, dataset: str, validation: str | None, *, vision: bool) -> Job:
    """The TrainingJob that a request describes.

    Args:
        request: the request, checked.
        dataset: the data set that ``training_file`` names.
        validation: the data set that ``validation_file`` names.
        vision: whether to train a vision-language model, if the request does not say it.

    Raises:
        Invalid: two parameters contradict each other.
        InvalidResource: a value breaks a rule of the TrainingJob.
    """
    extension = extension_of(request)
    document: dict[str, Any] = {"base_model": request.model, "dataset_path": dataset}
    if validation is not None:
        document["validation_dataset_path"] = validation
    if not says_kind(request):
        document["is_vision"] = vision
    if request.suffix is not None:
        document["name"] = _kubernetes_name(request.suffix)
    spec = {key: value for key, value in merge(document, extension).items() if key not in ("name", "labels")}
    tuned = _hyperparameters(request.tuned, parse_spec(spec))
    if request.seed is not None:
        tuned["seed"] = request.seed
    document["hyperparameters"] = tuned
    for field in sorted(flat(document).keys() & flat(extension).keys()):
        raise Invalid(f"{EXTENSION}.{field}", f"contradicts {parameter(field)}; give one of them")
    job = read_document(merge(document, extension))
    if request.metadata:
        job.metadata["annotations"] = {ANNOTATION_METADATA: json.dumps(request.metadata, sort_keys=True)}
    return job


def _kubernetes_name(suffix: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", suffix.lower()).strip("-")
    if not name:
        raise Invalid("suffix", f"{suffix!r} has no letter or digit; give one with some")
    return name


def _hyperparameters(tuned: Hyperparameters, spec: TrainingJobSpec) -> dict[str, Any]:
    """The hyperparameters of the TrainingJob in snake_case, for those that the request gives.

    >>> _hyperparameters(Hyperparameters(batch_size=6), TrainingJobSpec(base_model="a/b", dataset_path="./x.jsonl"))
    {'batch_size': 2, 'gradient_accumulation_steps': 3}

    Raises:
        Invalid: the rows of a step cannot be divided among the GPUs.
    """
    usual = defaults(vision=spec.vision, base_model=spec.base_model)["hyperparameters"]
    found: dict[str, Any] = {}
    if isinstance(tuned.n_epochs, int):
        found["num_epochs"] = float(tuned.n_epochs)
    if isinstance(tuned.batch_size, int):
        share, rest = divmod(tuned.batch_size, _processes(spec))
        if rest or not share:
            problem = f"{tuned.batch_size} rows cannot be divided among {_processes(spec)} GPUs; give a multiple"
            raise Invalid("batch_size", problem)
        micro = next(size for size in range(usual["batchSize"], 0, -1) if share % size == 0)
        found |= {"batch_size": micro, "gradient_accumulation_steps": share // micro}
    if isinstance(tuned.learning_rate_multiplier, float | int):
        found["learning_rate"] = _six_digits(tuned.learning_rate_multiplier * usual["learningRate"])
    return found


def shown_hyperparameters(spec: EffectiveSpec) -> dict[str, Any]:
    """The hyperparameters of a job as OpenAI's API shows them."""
    h = spec.hyperparameters
    usual = defaults(vision=spec.vision, base_model=spec.base_model)["hyperparameters"]
    return {
        "n_epochs": int(h.num_epochs) if h.num_epochs == int(h.num_epochs) else h.num_epochs,
        "batch_size": h.batch_size * h.gradient_accumulation_steps * _processes(spec),
        "learning_rate_multiplier": _six_digits(h.learning_rate / usual["learningRate"]),
    }


def _processes(spec: TrainingJobSpec) -> int:
    """How many processes train, each with its own micro-batches."""
    return max(1, spec.gpus) * (spec.num_nodes or 1)


def _six_digits(value: float) -> float:
    """Without what binary fractions add: 0.1 x 0.0002 is 2e-05, not 2.0000000000000002e-05."""
    return float(f"{value:.6g}")


def metadata_of(job: dict[str, Any]) -> dict[str, str]:
    """The metadata that the request gave."""
    text = (job["metadata"].get("annotations") or {}).get(ANNOTATION_METADATA)
    try:
        found = json.loads(text) if text else {}
    except ValueError:  # somebody else wrote it
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
