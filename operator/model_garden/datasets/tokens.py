"""Lengths of examples in tokens from a model's files alone, without torch, for ``validate`` and the preflight.

Text goes through the model's own chat template and tokenizer. A picture's tokens follow from its size, as Qwen's image
processors compute them: both sides rounded to multiples of patch_size x merge_size, the area kept within the limits
by scaling (``smart_resize`` in transformers' ``image_processing_qwen2_vl``), one token a merged patch. Before that, a
picture is brought between the bounds of ``imageOptions``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Tokenizer

from model_garden.datasets.errors import RowError, shown
from model_garden.datasets.example import Example
from model_garden.datasets.sizes import Size, bounded
from model_garden.estimate.image_tokens import resized


class UncountableError(ValueError):
    """The model's files do not let tokens be counted without loading it; its own processor has to."""


@dataclass(frozen=True)
class ImageTokens:
    """The resizing of a Qwen-style image processor. Areas are in pixels.

    Args:
        patch_size, merge_size: sides of a patch, in pixels, and of a merged token, in patches.
        smallest, largest: the processor's own bounds.
        min_pixels, max_pixels: the job's ``imageOptions``, which come first.
    """

    patch_size: int
    merge_size: int
    smallest: int
    largest: int
    min_pixels: int | None = None
    max_pixels: int | None = None

    def __call__(self, size: Size) -> int:
        """Tokens of a picture: 224 x 224 with patches of 14 merged 2 x 2 gives 8 x 8 = 64."""
        width, height = self.resized(bounded(size, self.min_pixels, self.max_pixels))
        return (width // self.patch_size) * (height // self.patch_size) // self.merge_size**2

    def resized(self, size: Size) -> Size:
        """The size that the processor scales a picture to."""
        factor = self.patch_size * self.merge_size
        return resized(*size, factor, self.smallest, self.largest)

    @classmethod
    def load(cls, folder: Path, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageTokens:
        """Read a model's processor.

        Raises:
            UncountableError: the processor is missing or of another kind.
        """
        nested = _json(folder / "processor_config.json").get("image_processor")
        config = nested or _json(folder / "preprocessor_config.json")
        kind = str(config.get("image_processor_type", ""))
        if not kind.startswith("Qwen2VLImageProcessor"):
            raise UncountableError(
                f"{folder}: pictures' tokens are known for Qwen's processors; this is {kind or 'none'}"
            )
        size = config.get("size") or {}
        return cls(
            patch_size=config.get("patch_size", 14),
            merge_size=config.get("merge_size", 2),
            smallest=config.get("min_pixels") or size.get("shortest_edge") or 56 * 56,
            largest=config.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )


@dataclass(frozen=True)
class TokenCounter:
    """Counts an example's tokens with the files of a model's folder; can be pickled.

    Args:
        folder: the model's folder on disk.
        images: how its pictures count; None for a text model.
    """

    folder: Path
    images: ImageTokens | None = None

    @classmethod
    def load(
        cls, folder: str | Path, *, vision: bool, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> TokenCounter:
        """Check that a model's files suffice, and read them.

        Raises:
            UncountableError: they do not (no tokenizer.json, no chat template, another kind of image processor).
        """
        folder = Path(folder)
        if not (folder / "tokenizer.json").is_file():
            raise UncountableError(f"{folder}: has no tokenizer.json")
        counter = cls(folder, ImageTokens.load(folder, min_pixels, max_pixels) if vision else None)
        if vision and counter._template is None:
            raise UncountableError(f"{folder}: has no chat template")
        return counter

    def __call__(self, example: Example, sizes: Sequence[Size]) -> tuple[int, int]:
        """Text tokens and image tokens of an example whose pictures have ``sizes``.

        Raises:
            RowError: the model's chat template refuses the row, or has not one place for each picture.
        """
        if example.kind == "chat":
            ids = self._tokenizer.encode(self._rendered(example), add_special_tokens=False).ids
        else:  # laid end to end, and closed by the end-of-text token
            text = "".join(str(part) for message in example.messages for part in message.parts)
            return len(self._tokenizer.encode(text).ids) + 1, 0
        if self.images is None:
            return len(ids), 0
        places = ids.count(self._image_token_id)
        if places != len(sizes):
            raise RowError(
                f"the model's chat template makes {places} places for {len(sizes)} pictures",
                "remove the model's own image tokens from the text, or move pictures to user turns",
            )
        return len(ids) - places, sum(self.images(size) for size in sizes)

    def _rendered(self, example: Example) -> str:
        if self._template is None:
            raise RowError("the model has no chat template, which this format needs", 'write the row as "text"')
        from transformers.utils.chat_template_utils import render_jinja_template  # a second to load, and no torch

        messages = chat_messages(example, structured=self.images is not None)
        try:
            rendered, _ = render_jinja_template([messages], chat_template=self._template, **self._special_tokens)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RowError(
                f"the model's chat template refuses the row: {shown(str(error), 160)}", "change its turns or roles"
            ) from None
        return str(rendered[0])

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _tokenizer_config(self) -> dict[str, Any]:
        return _json(self.folder / "tokenizer_config.json")

    @cached_property
    def _image_token_id(self) -> int:
        return int(_json(self.folder / "config.json")["image_token_id"])

    @cached_property
    def _special_tokens(self) -> dict[str, Any]:
        tokens = {
            name: self._tokenizer_config.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        }
        return {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items() if token}

    @cached_property
    def _template(self) -> str | None:
        file = self.folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else None
        source = source or _json(self.folder / "chat_template.json").get("chat_template")
        source = source or self._tokenizer_config.get("chat_template")
        if isinstance(source, list):  # several named ones
            source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
        return source

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "images": self.images}


def chat_messages(example: Example, *, structured: bool) -> list[dict[str, Any]]:
    """An example's turns as chat templates take them.

    ``structured`` gives each turn a list of ``{"type": "text", "text"}`` and ``{"type": "image"}`` parts, as the
    templates of vision models do; otherwise it is one text.
    """
    if not structured:
        return [
            {"role": message.role, "content": "".join(str(part) for part in message.parts)}
            for message in example.messages
        ]
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in message.parts
            ],
        }
        for message in example.messages
    ]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
