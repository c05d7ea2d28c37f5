"""Rows of a data set for people: turns, thumbnails, what is trained on, and what is wrong with a broken row."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_garden.services.data_check import Check, check_data, open_rows, reads_images, trainer_packages
from model_garden.storage.interface import (
    THUMBNAIL,
    DatasetQuestion,
    Preview,
    PreviewPart,
    PreviewRequest,
    PreviewRow,
    PreviewTurn,
    Reading,
)

if TYPE_CHECKING:
    from model_garden.datasets import Example, Examples, ImageRef

MAX_TEXT = 10_000
"""Characters of a text that are shown."""
MAX_THUMBNAILS = 8
"""Thumbnails of one row."""
BROKEN = 5
"""Broken rows that a check shows."""
Spell = Callable[[str], str]
"""Turns the paths of this machine in a text into those of the workspace."""


def preview(question: PreviewRequest, path: Path, root: Path, spell: Spell) -> Preview:
    """The rows that are asked for.

    Args:
        question: which rows.
        path: the data set on this machine.
        root: the folder that its files may not leave.
        spell: applied to every path and message.

    Raises:
        MissingPackages: the packages that read data sets are not installed.
    """
    with trainer_packages():
        from model_garden.datasets import DatasetError
    check = _check(question, path, root)
    try:
        vision = reads_images(check)
        examples = open_rows(check, vision=vision)
    except DatasetError as broken:
        return Preview(path=question.path, rows=[], total=0, images=0, problems=[spell(one) for one in broken.problems])
    wanted = range(question.start, min(question.start + question.count, len(examples)))
    rows = [_Shower(examples, question.train_on == "all", spell).row(index) for index in wanted]
    parts = [part for row in rows for turn in row.turns for part in turn.parts]
    return Preview(
        path=question.path,
        kind="vision" if vision else "text",
        rows=rows,
        total=len(examples),
        images=sum(part.name is not None for part in parts),
        problems=[],
    )


def check(question: DatasetQuestion, path: Path, root: Path, spell: Spell, model: Path | None = None) -> dict[str, Any]:
    """``check_data``'s report, with ``broken``: the first broken rows as ``preview`` shows them.

    ``model`` is the folder on this machine of the question's ``base_model``.

    Raises:
        MissingPackages: the packages that read data sets are not installed.
    """
    asked = dataclasses.replace(_check(question, path, root), base_model=str(model) if model else None)
    report = spelled(check_data(asked), spell)
    rows: list[PreviewRow] = []
    if broken := report.get("broken_rows"):
        examples = open_rows(asked, vision=report["kind"] == "vision")
        rows = [_Shower(examples, question.train_on == "all", spell).row(index) for index in broken[:BROKEN]]
    return report | {"broken": [row.model_dump(mode="json") for row in rows]}


def spelled(report: dict[str, Any], spell: Spell) -> dict[str, Any]:
    """A report with the workspace's paths."""
    texts = {key: [spell(line) for line in report[key]] for key in ("problems", "notes")}
    return report | texts | {"path": spell(report["path"])}


def _check(question: DatasetQuestion, path: Path, root: Path) -> Check:
    return dataclasses.replace(
        check_as(question, path, root),
        split=question.split,
        max_seq_length=question.max_seq_length,
        min_pixels=question.min_pixels,
        max_pixels=question.max_pixels,
        train_on=question.train_on,
        template=question.chat_template,
    )


def check_as(reading: Reading, path: Path, root: Path) -> Check:
    """The check of a data set that is read in a way."""
    columns: dict[str, str] = dict(reading.column_mapping.items())
    from model_garden.datasets.fetched_pictures import Pictures

    pictures = Pictures() if reading.fetch_pictures else None
    return Check(str(path), reading.vision, method=reading.method, columns=columns, root=root, pictures=pictures)


@dataclass(frozen=True)
class _Shower:
    examples: Examples
    all_text: bool
    spell: Spell

    def row(self, index: int) -> PreviewRow:
        """One row; a broken one with its problem and its images."""
        from model_garden.datasets.errors import RowError
        from model_garden.datasets.pictures import verify

        origin = self.examples.origin(index)
        place = {"file": self.spell(origin.file), "row": origin.row}
        try:
            converted = self.examples.convert(index)
        except RowError as broken:
            images = [self._image(image) for image in self.examples.images_named(index)[:MAX_THUMBNAILS]]
            turns = [PreviewTurn(role="user", trained=False, parts=images)] if images else []
            words = self.spell(broken.at(origin))
            return PreviewRow(**place, problem=words, turns=turns, ignored=[], raw=self._raw(index))
        problem = raw = None
        try:
            for image in converted.example.images:
                if image.is_here:
                    verify(image)
        except RowError as broken:
            problem, raw = self.spell(broken.at(origin)), self._raw(index)
        return PreviewRow(
            **place,
            format=converted.format,
            problem=problem,
            turns=self._turns(converted.example),
            ignored=list(converted.ignored),
            raw=raw,
        )

    def _turns(self, example: Example) -> list[PreviewTurn]:
        left = MAX_THUMBNAILS
        turns = []
        last = len(example.messages)
        if example.tools:
            tools = [PreviewPart(text=_json(tool.get("function", tool)), label="tool") for tool in example.tools]
            turns.append(PreviewTurn(role="tools", trained=self.all_text, parts=tools))
        for number, message in enumerate((*example.messages, *example.rejected[-1:]), 1):
            details, parts = message.details, []
            if details.reasoning:
                parts.append(PreviewPart(text=cut(details.reasoning), label="reasoning"))
            for part in message.parts:
                if not isinstance(part, str):
                    parts.append(self._image(part, shown=left > 0))
                    left -= 1
                elif part or not details.tool_calls:
                    parts.append(PreviewPart(text=cut(part)))
            for call in details.tool_calls:
                parts.append(PreviewPart(text=f"{call.name} {_json(call.arguments)}", label="tool call"))
            role: str = "text" if example.kind == "text" else message.role
            if example.rejected and number >= last:
                role = "chosen" if number == last else "rejected"
            turns.append(PreviewTurn(role=role, trained=self.all_text or message.answers, parts=parts))
        return turns

    def _image(self, image: ImageRef, *, shown: bool = True) -> PreviewPart:
        from model_garden.datasets.errors import RowError, without_secrets
        from model_garden.datasets.pictures import name_of, thumbnail, verify

        if not image.is_here:
            return PreviewPart(name=without_secrets(str(image.source)))
        small = thumbnail(image, THUMBNAIL) if shown else None
        uri = f"data:image/jpeg;base64,{base64.b64encode(small).decode()}" if small else None
        try:
            width, height = verify(image)
        except RowError:
            return PreviewPart(image=uri, name=self.spell(name_of(image)))
        return PreviewPart(image=uri, name=self.spell(name_of(image)), width=width, height=height)

    def _raw(self, index: int) -> str | None:
        """The row as JSON; None for one that is not JSON, whose problem quotes it."""
        from model_garden.datasets.errors import RowError

        try:
            return cut(json.dumps(self.examples.read(index), ensure_ascii=False, default=_bytes))
        except RowError:
            return None


def _json(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False))


def _bytes(value: Any) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def cut(text: str) -> str:
    """``text``, cut where it is too long to show."""
    more = len(text) - MAX_TEXT
    return text if more <= 0 else f"{text[:MAX_TEXT]}… ({more:,} more characters)"
