"""The schemas that the OpenAPI document names: those of the contract and services, and documents of this API alone."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from model_garden.api.problems import Problem
from model_garden.contract.spec import TrainingJobSpec
from model_garden.services.job_document import TrainingJobDocument, TrainingJobRequest
from model_garden.services.planning import EstimateRequest, EstimateResponse
from model_garden.services.waiting import TrainingQueue
from model_garden.storage.interface import (
    DatasetQuestion,
    Preview,
    PreviewRow,
    StoredDataset,
    StoredModel,
    UploadReport,
)

_NEXT: dict[str, Any] = {
    "continue": (str | None, Field(None, description="Token of the next page; missing on the last one."))
}
TrainingJobList = create_model(
    "TrainingJobList",
    __doc__="One page of jobs.",
    items=(list[TrainingJobDocument], Field(description="Jobs of the page.")),
    **_NEXT,
)


_SPEC: dict[str, Any] = {
    name: (cast(Any, field.annotation) | None, Field(None, description=field.description))
    for name, field in TrainingJobSpec.model_fields.items()
}
"""Every field of the spec, none of them required."""
Defaults = create_model("Defaults", __doc__="The defaults of a job, by the fields of its spec.", **_SPEC)
RerunRequest = create_model(
    "RerunRequest",
    __config__=ConfigDict(extra="forbid"),
    __doc__="What a new job has that the old one has not; null removes a field.",
    name=(str | None, Field(None, description="Name of the new job. Default: the next free one, such as receipts-2.")),
    **_SPEC,
)


class Rendered(BaseModel):
    """The same job for each front door."""

    yaml: str = Field(description="A file for kubectl apply and model-garden submit.")
    curl: str = Field(description="A command that posts it to this API.")
    command: str = Field(description="A model-garden submit command.")
    python: str = Field(description="A script that posts it to this API.")


class DatasetList(BaseModel):
    """The data sets of the workspace."""

    items: list[StoredDataset] = Field(description="Data sets by name.")


class ModelList(BaseModel):
    """The models of the workspace."""

    items: list[StoredModel] = Field(description="Models by name.")


class DatasetReport(BaseModel):
    """What a check of every row found, as ``model-garden validate`` prints it."""

    path: str = Field(description="The data set.")
    ok: bool = Field(description="Whether it can be trained on.")
    problem_count: int = Field(description="Number of problems.")
    problems: list[str] = Field(description="The first problems: file, row, reason and fix.")
    notes: list[str] = Field(description="What was not checked, and why.")
    broken: list[PreviewRow] = Field(description="The first broken rows.")
    kind: Literal["text", "vision"] | None = Field(None, description="Missing if the data set cannot be read at all.")
    rows: int | None = Field(None, description="Rows.")
    turns: int | None = Field(None, description="Turns of all rows.")
    images: int | None = Field(None, description="Images of all rows.")
    ignored_columns: dict[str, int] | None = Field(None, description="Keys that no format reads, and in how many rows.")
    dropped: dict[str, int] | None = Field(None, description="Skipped lines by reason.")


MODELS: dict[str, type[BaseModel]] = {
    "TrainingJobRequest": TrainingJobRequest,
    "TrainingJob": TrainingJobDocument,
    "TrainingJobList": TrainingJobList,
    "TrainingQueue": TrainingQueue,
    "Defaults": Defaults,
    "EstimateRequest": EstimateRequest,
    "EstimateResponse": EstimateResponse,
    "RerunRequest": RerunRequest,
    "Rendered": Rendered,
    "DatasetList": DatasetList,
    "DatasetQuestion": DatasetQuestion,
    "DatasetReport": DatasetReport,
    "Preview": Preview,
    "UploadReport": UploadReport,
    "ModelList": ModelList,
    "Problem": Problem,
}
"""The schemas that routes name."""
