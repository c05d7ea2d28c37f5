"""Counts the tokens of examples with a model's files, without torch, for ``validate``, ``preview`` and the preflight.

Text is rendered with the model's chat template and tokenized with its tokenizer. The tokens of an image are computed
from its size, as in Qwen's image processors (``smart_resize`` in transformers' ``image_processing_qwen2_vl``). The
image is scaled to the bounds of ``imageOptions``, then to those of the processor, where both sides become multiples
of patch_size x merge_size. Each merged patch is one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from model_garden.datasets.answer_spans import Span
from model_garden.datasets.chat_format import ChatFormat, check_files, read_tokenizer
from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Example
from model_garden.datasets.model_files import read_json
from model_garden.datasets.rendering import Renderer, check_trained, trained_tokens
from model_garden.datasets.sizes import Size, bounded
from model_garden.estimate.image_tokens import smart_resize
from model_garden.families import COUNTED_IMAGE_PROCESSORS


class UncountableError(ValueError):
    """The model's files do not suffice to count tokens; only the loaded processor can."""


@dataclass(frozen=True)
class ImageTokens:
    """Counts the tokens of an image as a Qwen-style image processor does. Areas are in pixels.

    Args:
        patch_size, merge_size: sides of a patch, in pixels, and of a merged token, in patches.
        smallest, largest: the processor's own bounds.
        min_pixels, max_pixels: the job's ``imageOptions``, which are applied first.
    """

    patch_size: int
    merge_size: int
    smallest: int
    largest: int
    min_pixels: int | None = None
    max_pixels: int | None = None

    def __call__(self, size: Size) -> int:
        """Tokens of an image: 224 x 224 with patches of 14 merged 2 x 2 gives 8 x 8 = 64."""
        width, height = self.resized(bounded(size, self.min_pixels, self.max_pixels))
        return (width // self.patch_size) * (height // self.patch_size) // self.merge_size**2

    def resized(self, size: Size) -> Size:
        """The size to which the processor scales an image."""
        factor = self.patch_size * self.merge_size
        return smart_resize(*size, factor, self.smallest, self.largest)

    @classmethod
    def load(cls, folder: Path, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageTokens:
        """Read a model's processor.

        Raises:
            UncountableError: the model has no image processor, or one of another kind.
        """
        nested = read_json(folder / "processor_config.json").get("image_processor")
        config = nested or read_json(folder / "preprocessor_config.json")
        kind = str(config.get("image_processor_type", ""))
        if not kind.startswith(COUNTED_IMAGE_PROCESSORS):
            raise UncountableError(
                f"{folder}: image tokens can be counted only for Qwen's image processors, not for {kind or 'none'}"
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
class Tokens:
    """The tokens of a row, each image as one token: the text, and for each token its id, its offsets in the text, and
    whether it carries loss."""

    text: str
    ids: list[int]
    offsets: list[Span]
    trained: list[bool]


@dataclass(frozen=True)
class TokenCounter:
    """Counts the tokens of an example with the files in a model's folder. It can be pickled.

    Args:
        folder: the model's folder.
        images: counts the tokens of an image; None for a text model.
        train_on: which tokens carry loss.
        template: ``chatTemplate``; None for the model's own.
    """

    folder: Path
    images: ImageTokens | None = None
    train_on: Literal["responses", "all"] = "responses"
    template: str | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        vision: bool,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        train_on: Literal["responses", "all"] = "responses",
        template: str | None = None,
    ) -> TokenCounter:
        """Check that the model's files suffice to count tokens.

        Raises:
            UncountableError: they do not (no tokenizer.json, no chat template, another kind of image processor).
            DamagedModelFile: one of them cannot be read.
        """
        folder = Path(folder)
        if not (folder / "tokenizer.json").is_file():
            raise UncountableError(f"{folder}: has no tokenizer.json")
        check_files(folder)
        counter = cls(folder, ImageTokens.load(folder, min_pixels, max_pixels) if vision else None, train_on, template)
        if counter.chat_format.template is None and vision:
            raise UncountableError(f"{folder}: has no chat template")
        return counter

    def __call__(self, example: Example, sizes: Sequence[Size]) -> tuple[int, int]:
        """Text tokens and image tokens of an example whose images have ``sizes``; of two answers, of the longer one.

        Raises:
            RowError: the example would not be trained as written, or the text has fewer or more places than images.
        """
        return max((self._lengths(each, sizes) for each in example.sequences), key=sum)

    def _lengths(self, example: Example, sizes: Sequence[Size]) -> tuple[int, int]:
        tokens = self.encode(example)
        if self.images is None:
            return len(tokens.ids), 0
        places = tokens.ids.count(self.image_token_id)
        if places != len(sizes):
            raise RowError(
                f"the row has {len(sizes)} images, but the model's chat template writes {places} placeholder(s)",
                "move the images to user turns",
            )
        return len(tokens.ids) - places, sum(self.images(size) for size in sizes)

    def encode(self, example: Example) -> Tokens:
        """The tokens of an example, with one for each image.

        Raises:
            RowError: the example would not be trained as written.
        """
        rendered = self._renderer(example)
        encoding = self._tokenizer.encode(rendered.text, add_special_tokens=False)
        offsets = [(start, end) for start, end in encoding.offsets]
        trained = trained_tokens(offsets, rendered.spans)
        check_trained(rendered.text, offsets, trained, rendered.spans)
        return Tokens(rendered.text, list(encoding.ids), offsets, trained)

    @cached_property
    def image_token_id(self) -> int:
        """The id of the token of an image."""
        return int(read_json(self.folder / "config.json")["image_token_id"])

    @cached_property
    def chat_format(self) -> ChatFormat:
        """How the model reads text."""
        return ChatFormat.load(self.folder, vision=self.images is not None, template=self.template)

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.chat_format, self.train_on)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = read_tokenizer(self.folder)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "images": self.images, "train_on": self.train_on, "template": self.template}
