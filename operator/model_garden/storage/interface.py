"""What front doors ask of a workspace's data sets and models, and what they get.

Paths are those of a job's ``datasetPath`` and ``outputDir``: ``./data/receipts/receipts.jsonl``, ``./models/receipts``.

Besides the errors below, operations raise ``services.errors.NotFound``, ``Conflict`` and ``MissingPackages``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from model_garden.contract import rules
from model_garden.contract.methods import Method
from model_garden.services.errors import ServiceError

MAX_PREVIEWED = 50
"""Most rows of one preview."""
THUMBNAIL = 256
"""Longest side of a thumbnail in pixels."""


class InvalidPath(ServiceError):
    """A name or path breaks a rule of ``paths``; the problem begins with the path."""


class UploadRefused(ServiceError):
    """The upload is not what was announced (size, digest), or is larger than allowed. Nothing of it is kept."""


class StorageFailed(ServiceError):
    """The storage itself cannot be read or written: it is full, read-only or not there."""


class BrokenDataset(ServiceError):
    """The uploaded data set breaks a rule; ``problems`` names files and rows. Nothing of it is kept."""

    def __init__(self, report: UploadReport) -> None:
        super().__init__(*[problem for check in report.checks for problem in check["problems"]])
        self.report = report


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredDataset(_Value):
    """A data file in ``./data``, or a folder there that holds data files."""

    name: str = Field(description="Name of the file or folder in ./data.")
    path: str = Field(description="Value for a job's dataset_path: the folder's only data file, else the folder.")
    data_files: list[str] = Field(description="Paths of the files that hold rows.")
    files: int = Field(description="Number of files, images included.")
    size: int = Field(description="Size of all files in bytes.")
    modified: datetime = Field(description="When a file last changed.")


ModelKind = Literal["adapter", "merged", "gguf", "model"]


class StoredModel(_Value):
    """A folder in ``./models``."""

    name: str = Field(description="Name of the folder in ./models.")
    path: str = Field(description="The folder, as a job's output_dir or base_model names it.")
    kinds: list[ModelKind] = Field(
        description="What the folder holds; model is a whole model that was put there. Empty: no finished model."
    )
    files: int = Field(description="Number of files that a download brings.")
    size: int = Field(description="Size of these files in bytes; checkpoints are not counted.")
    modified: datetime = Field(description="When a file last changed.")
    base_model: str | None = Field(None, description="The model that was fine-tuned.")
    dataset_path: str | None = Field(None, description="The data set of the training.")
    trained_steps: int | None = Field(None, description="Optimizer steps of the training.")
    final_loss: float | None = Field(None, description="Training loss at the end.")
    best_step: int | None = Field(None, description="Step of the saved weights, if the validation loss chose them.")
    best_eval_loss: float | None = Field(None, description="Validation loss of the saved weights, at best_step.")
    verified: bool | None = Field(
        None, description="Whether the model was loaded again after training and answered a row."
    )


ColumnKey = Literal[
    "messages", "prompt", "response", "system", "image", "images", "reasoning", "tools", "chosen", "rejected", "label"
]
"""A key of ``columnMapping``."""
Column = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class Reading(_Value):
    """How a job reads the rows of any data set."""

    vision: bool | None = Field(
        None, description="Whether a vision-language model is trained. Default: as the first rows show."
    )
    method: Method | None = Field(
        None, description="The training method. Default: the rows of each are read, but for those of prompts alone."
    )
    column_mapping: dict[ColumnKey, Column] = Field(
        default_factory=dict, description="The job's column_mapping: the data set's own columns."
    )

    fetch_pictures: bool = Field(
        False,
        description="The job's fetch_pictures: images at addresses are accepted, and neither fetched nor checked.",
    )

    @field_validator("column_mapping")
    @classmethod
    def _follows_the_rules(cls, columns: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if columns and (problem := rules.problem_of_columns(columns, info.data.get("method"))):
            raise ValueError(problem)
        return columns


AS_IT_IS = Reading()
"""Without a job."""


class DatasetQuestion(Reading):
    """A data set, and how a job would read it."""

    path: str = Field(description="A data file or folder in ./data.")
    split: str = Field("train", max_length=100, description="Split of a folder with several.")
    train_on: Literal["responses", "all"] = Field("responses", description="Which text is trained on.")
    base_model: str | None = Field(
        None,
        description="A model folder in ./models, whose tokenizer counts the tokens of a check. Default: not counted.",
    )
    chat_template: str | None = Field(
        None, max_length=1024, description="The job's chat_template, which a check with base_model reads."
    )
    max_seq_length: PositiveInt | None = Field(None, description="Most tokens of a row. Default: no limit.")
    min_pixels: PositiveInt | None = Field(None, description="Smallest area of an image in pixels.")
    max_pixels: PositiveInt | None = Field(None, description="Largest area of an image in pixels.")


class PreviewRequest(DatasetQuestion):
    """Which rows to show."""

    start: NonNegativeInt = Field(0, description="Rows to skip.")
    count: Annotated[PositiveInt, Field(le=MAX_PREVIEWED)] = Field(5, description="Rows to show.")


class PreviewPart(_Value):
    """A text, or an image."""

    label: Literal["reasoning", "tool call", "tool"] | None = Field(
        None, description="What a text is that is not content: reasoning, a tool call, or the definition of a tool."
    )
    text: str | None = Field(None, description="The text; a long one is cut.")
    image: str | None = Field(None, description="A JPEG thumbnail as a data URI; null if it cannot be shown.")
    name: str | None = Field(None, description="The image as the row names it.")
    width: int | None = Field(None, description="Width of the whole image in pixels.")
    height: int | None = Field(None, description="Height of the whole image in pixels.")


class PreviewTurn(_Value):
    """One turn of a row."""

    role: str = Field(
        description="system, user, assistant or tool; tools for definitions; text for text without turns; chosen or "
        "rejected for the answers of a row of preferences."
    )
    trained: bool = Field(description="Whether the model is trained to write it.")
    parts: list[PreviewPart] = Field(description="Texts and images in order.")


class PreviewRow(_Value):
    """One row as it is trained on; a broken one with its problem and what can be shown of it."""

    file: str = Field(description="The data file.")
    row: int = Field(description="Number of the row in its file, from 1.")
    format: str | None = Field(None, description="The row's format, as docs/08 names it.")
    problem: str | None = Field(None, description="Why the row cannot be trained on, and the fix.")
    turns: list[PreviewTurn] = Field(description="Turns in order; for a broken row its images at least.")
    ignored: list[str] = Field(description="Keys that no format reads.")
    raw: str | None = Field(None, description="The text of a broken row in the file, cut if it is long.")


class Preview(_Value):
    """Rows of a data set."""

    path: str = Field(description="The data set.")
    kind: Literal["text", "vision"] | None = Field(None, description="The kind of model that the rows are read for.")
    rows: list[PreviewRow] = Field(description="The rows from start.")
    total: int = Field(description="Rows of the data set.")
    images: int = Field(description="Images of the rows shown.")
    problems: list[str] = Field(description="Why the data set cannot be read at all.")


class FileDigest(_Value):
    """A file of an upload."""

    path: str = Field(description="Relative path in the folder, such as images/cat.jpg.")
    size: NonNegativeInt = Field(description="Bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the content, in hexadecimal.")


class UploadReport(_Value):
    """What an upload stored."""

    folder: str = Field(description="The folder, such as ./data/receipts.")
    path: str = Field(description="Value for a job's dataset_path: the only data file of the upload, else the folder.")
    stored: bool = Field(description="Whether the folder is in ./data now.")
    added: int = Field(description="Files that arrived.")
    replaced: int = Field(description="Files that arrived in the place of one with other content.")
    skipped: int = Field(description="Files that were there already with the same content.")
    size: int = Field(description="Bytes that arrived.")
    checks: list[dict[str, Any]] = Field(description="The report of model-garden validate on each data file.")


class Upload(Protocol):
    """Files on their way into a folder of ``./data``. Files that the folder holds already stay, unless replaced."""

    async def missing(self, files: list[FileDigest]) -> list[FileDigest]:
        """Those of ``files`` that the folder does not hold with this content. ``add`` checks the others' digests.

        Raises:
            InvalidPath: a path breaks a rule.
        """
        ...

    async def add(self, path: str, size: int, content: AsyncIterator[bytes]) -> None:
        """Receive one file of ``size`` bytes.

        Raises:
            InvalidPath: ``path`` breaks a rule.
            UploadRefused: the content has another size, or another digest than ``missing`` was told.
            Conflict: the file is there with other content, and a job still reads the folder.
            StorageFailed: it cannot be written.
        """
        ...

    async def finish(self, reading: Reading = AS_IT_IS, *, keep_invalid: bool = False) -> UploadReport:
        """Check the data set, then make the folder visible at once. Nothing can be added afterwards.

        Args:
            reading: how a job would read it.
            keep_invalid: keep a data set that cannot be trained on.

        Raises:
            BrokenDataset: it cannot be trained on.
            Conflict: the folder was changed in the meantime.
            MissingPackages: the packages that read data sets are not installed.
            StorageFailed: it cannot be written.
        """
        ...


class Storage(Protocol):
    """The data sets and models of one workspace."""

    async def datasets(self) -> list[StoredDataset]:
        """The data sets by name."""
        ...

    async def models(self) -> list[StoredModel]:
        """The models by name."""
        ...

    async def preview(self, request: PreviewRequest) -> Preview:
        """Rows of a data set, broken ones among them; a data set that cannot be read has ``problems``.

        Raises:
            InvalidPath: the path breaks a rule.
            NotFound: there is no such file.
            MissingPackages: the packages that read data sets are not installed.
        """
        ...

    async def check(self, question: DatasetQuestion) -> dict[str, Any]:
        """``services.data_check.check_data``'s report, with ``broken``: the first broken rows, each a ``PreviewRow``.

        Raises:
            InvalidPath, NotFound, MissingPackages: as ``preview``.
        """
        ...

    def upload(self, folder: str, used_by: Sequence[str] = ()) -> AbstractAsyncContextManager[Upload]:
        """Begin an upload into ``./data/FOLDER``. Leaving the context without ``finish`` discards all of it.

        Args:
            folder: the folder's name, with or without ``./data/`` before it.
            used_by: jobs that still read the folder; with any, no file that is there is replaced.

        Raises:
            InvalidPath: the name breaks a rule.
            Conflict: the name is that of a file.
            MissingPackages: the packages that read data sets are not installed.
            StorageFailed: nothing can be written.
        """
        ...

    async def remove(self, path: str) -> None:
        """Delete a data set or a model: ``./data/receipts``, or its only data file, or ``./models/receipts``.

        Raises:
            InvalidPath: the path breaks a rule.
            NotFound: there is no such data set or model.
            Conflict: more would be deleted than the path says.
        """
        ...

    def archive(self, path: str) -> AsyncIterator[bytes]:
        """A tar stream of a model (without checkpoints), of a folder in it, or of a data set, in blocks.

        Its last member, ``SHA256SUMS``, has the digest of every file.

        Raises:
            InvalidPath: the path breaks a rule.
            NotFound: there is no such data set or model.
            StorageFailed: a file cannot be read, or changed meanwhile. The stream has no end then.
        """
        ...
