"""The body of a request to create a job, checked. Source: https://platform.openai.com/docs/api-reference/fine-tuning"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

EXTENSION = "model_garden"
"""The field that OpenAI does not have: further fields of the TrainingJob, spelled as in the REST API."""
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512


_OPENAI_MODEL = re.compile(r"(ft:.*|gpt-\d[^/]*|babbage-[^/]*|davinci-[^/]*|o\d(-[^/]*)?)")


class Invalid(Exception):
    """A parameter of a request has a wrong value; ``param`` is its name."""

    def __init__(self, param: str, problem: str) -> None:
        super().__init__(f"{param}: {problem}")
        self.param = param


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Hyperparameters(_Body):
    """What may be tuned; ``auto`` and None leave the default."""

    n_epochs: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None


class Supervised(_Body):
    """The options of the method ``supervised``."""

    hyperparameters: Hyperparameters | None = None


class Method(_Body):
    """How to train."""

    type: str
    supervised: Supervised | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class CreateJob(_Body):
    """A job to create."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    seed: int | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    metadata: dict[str, str] | None = None
    integrations: list[Any] | None = None
    model_garden: dict[str, Any] | None = None

    @property
    def tuned(self) -> Hyperparameters:
        """The hyperparameters, from the place where the request has them."""
        return self._of_method or self.hyperparameters or Hyperparameters()

    @property
    def _of_method(self) -> Hyperparameters | None:
        return self.method.supervised.hyperparameters if self.method and self.method.supervised else None

    def check(self) -> None:
        """Refuse what is not available here.

        Raises:
            Invalid: the first such parameter.
        """
        if _OPENAI_MODEL.fullmatch(self.model):
            raise Invalid(
                "model",
                f"{self.model!r} is a model of OpenAI, whose weights are not public; give a model of the Hugging Face "
                "Hub such as Qwen/Qwen2.5-7B-Instruct",
            )
        if self.integrations:
            raise Invalid("integrations", "is not available; remove it, and read the figures from the job's events")
        if self.method and self.method.type != "supervised":
            raise Invalid("method.type", f"{self.method.type!r} is not available; use supervised")
        if self._of_method and self.hyperparameters and self._of_method != self.hyperparameters:
            raise Invalid("hyperparameters", "differ from method.supervised.hyperparameters; give one of them")
        metadata = self.metadata or {}
        if len(metadata) > MAX_METADATA:
            raise Invalid("metadata", f"has {len(metadata)} pairs; give at most {MAX_METADATA}")
        for key, value in metadata.items():
            if len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
                raise Invalid(
                    "metadata",
                    f"{key[:MAX_METADATA_KEY]!r} is too long; a key has at most {MAX_METADATA_KEY} characters, and a "
                    f"value {MAX_METADATA_VALUE}",
                )


def read_request(body: object) -> CreateJob:
    """Check a request.

    Raises:
        Invalid: the first parameter that is wrong.
    """
    try:
        request = CreateJob.model_validate(body)
    except ValidationError as wrong:
        raise _first(wrong) from wrong
    request.check()
    return request


def _first(wrong: ValidationError) -> Invalid:
    """The first problem. A location also has parts that name a choice of a union, such as ``literal['auto']``."""
    item = wrong.errors(include_url=False)[0]
    param = ".".join(str(part) for part in item["loc"] if str(part).isidentifier() and part not in ("int", "float"))
    match item["type"]:
        case "missing":
            return Invalid(param, "required parameter is missing")
        case "extra_forbidden":
            return Invalid(param, f"unknown parameter; fields of a TrainingJob go into {EXTENSION}")
        case _:
            return Invalid(param or "body", f"{item['msg']}; got {item['input']!r}")
