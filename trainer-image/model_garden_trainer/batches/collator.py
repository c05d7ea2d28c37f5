"""From examples to the tensors a model takes: the collator of both trainers, and the one place that decides which
tokens are trained on.

A batch is rendered (``datasets/rendering.py``), tokenized with character offsets (images expanded by the model's own
processor), and labeled: a token is trained on if and only if it holds a character of an answer. It runs in the data
loader's workers, so that an image is decoded when its batch is made and dropped with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from model_garden.contract.spec import SelectiveLoss
from model_garden.datasets.answer_spans import Span, UnsuitableTemplate, expanded_spans
from model_garden.datasets.chat_format import ChatFormat
from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Example, ImageRef
from model_garden.datasets.kept import bare
from model_garden.datasets.pictures import decode
from model_garden.datasets.rendering import Rendered, Renderer, check_trained, trained_tokens
from model_garden.families import PICTURE_TOKENS
from model_garden_trainer.batches.selective_loss import EVALUATION_LEVEL, structure_tokens
from model_garden_trainer.errors import TrainingError

IGNORED = -100
"""The label of a token without loss, as torch's cross entropy and transformers have it."""

IMAGE_MASK = "cross_attention_mask"
"""The input of a model whose images are not among its tokens (Llama 3.2 Vision): which token sees which image."""

Batch = dict[str, torch.Tensor]
MakeBatch = Callable[[list[dict[str, Any]]], Batch]
"""Makes a batch of rows: ``messages`` with PIL images among their parts, the ``images``, and the rendered ``text``."""


class Collator:
    """The collator: a list of examples -> input_ids, attention_mask, labels (each batch x length) and what the model's
    processor makes of the images.

    Args:
        processor: the model's tokenizer, or its processor if the model reads images.
        vision: whether rows may have images.
        train_on: ``responses`` trains on answers, ``all`` on all text.
        selective_loss: which tokens of a JSON answer carry none.
        min_pixels, max_pixels: an image's area is brought between them, its shape kept; the processor's own bounds
            hold besides.
        template: ``chatTemplate``; None for the model's own.
    """

    def __init__(
        self,
        processor: Any,
        *,
        vision: bool,
        train_on: Literal["responses", "all"] = "responses",
        selective_loss: SelectiveLoss = "none",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        template: str | None = None,
    ) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.vision = vision
        self._reads_images = self.tokenizer is not processor
        self._images_row_by_row = IMAGE_MASK in getattr(processor, "model_input_names", ())
        self._make: MakeBatch | None = None
        self.train_on = train_on
        self.selective_loss: SelectiveLoss = selective_loss
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        if not self.tokenizer.is_fast:
            raise TrainingError(
                "InvalidModel",
                f"the tokenizer ({type(self.tokenizer).__name__}) gives no character offsets, which are needed to find "
                "the answers; use a model with a tokenizer.json",
            )
        if self.tokenizer.pad_token is None:  # any will do: padding is masked
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.convert_ids_to_tokens(0)
        folder = Path(self.tokenizer.name_or_path)
        self.template = template
        self.renderer = Renderer(ChatFormat.load(folder, vision=self._reads_images, template=template), train_on)
        if template:
            self.processor.chat_template = self.tokenizer.chat_template = self.renderer.format.template
        self.picture_tokens = self._ids_of_picture_tokens()

    def __call__(self, examples: list[Example]) -> Batch:
        """Encode a batch, padded on the right.

        Raises:
            TrainingError: InvalidDataset for a row that cannot be rendered or keeps no trained token.
        """
        rendered = [self.render(example) for example in examples]
        images = [[self._open(image, example) for image in example.images] for example in examples]
        placeholders = [
            self._placeholder(item.text, len(pictures), example)
            for item, pictures, example in zip(rendered, images, examples, strict=True)
        ]
        with _listening(self) as heard:
            encoded = self._make_batch(examples, [item.text for item in rendered], images)
        texts, offsets = heard.texts, heard.offsets
        labels = encoded["input_ids"].clone()
        for row, (example, item) in enumerate(zip(examples, rendered, strict=True)):
            spans, pictures = self._spans_in(texts[row], item, placeholders[row], example)
            places = [(int(start), int(end)) for start, end in offsets[row]]
            labels[row][~self._trained(encoded, places, row, spans, pictures)] = IGNORED
            self._check(example, encoded["input_ids"][row], labels[row], places, texts[row], spans)
            if self.selective_loss != "none":
                labels[row, structure_tokens(places, texts[row], spans, self.selective_loss)] = IGNORED
        return {**encoded, "labels": labels}

    def prompts(self, examples: list[Example]) -> Batch:
        """Encode the prompts for the last answers of rows, padded on the left, for ``generate``.

        Raises:
            TrainingError: InvalidDataset for a row that cannot be rendered.
        """
        texts = [self.render(example).prompt for example in examples]
        images = [[self._open(image, example) for image in example.images] for example in examples]
        for text, pictures, example in zip(texts, images, examples, strict=True):
            self._placeholder(text, len(pictures), example)
        return self._processed(texts, images, padding_side="left")

    def for_evaluation(self) -> Collator:
        """The same with a mask that no ``selective_loss`` changes, so that evaluations can be compared."""
        other = copy.copy(self)
        other.selective_loss = EVALUATION_LEVEL
        return other

    def with_batches_of(self, make: MakeBatch, processor: Any) -> Collator:
        """The same with batches that ``make`` makes of rendered rows, by calling ``processor`` once for all of them.

        This collator still renders the rows and decides which tokens of the batch carry loss.
        """
        other = copy.copy(self)
        other._make, other.processor, other.tokenizer = make, processor, processor.tokenizer
        return other

    def render(self, example: Example) -> Rendered:
        """An example as text with the spans that carry loss.

        Raises:
            TrainingError: InvalidDataset for a row that would not be trained as it is given.
        """
        try:
            return self.renderer(example)
        except RowError as error:
            raise TrainingError("InvalidDataset", error.at(example.origin)) from error

    def _make_batch(self, examples: list[Example], texts: list[str], images: list[list[Image.Image]]) -> Batch:
        """What tokenizer and processor make of the rows."""
        if self._make and not (self._images_row_by_row and any(images) and not all(images)):
            rows = [
                {"messages": _messages(example, pictures), "images": pictures, "text": text}
                for example, text, pictures in zip(examples, texts, images, strict=True)
            ]
            return dict(self._make(rows))
        return self._processed(texts, images, padding_side="right")

    def _processed(self, texts: list[str], images: list[list[Image.Image]], padding_side: str) -> Batch:
        options: dict[str, Any] = {
            "return_tensors": "pt",
            "padding": True,
            "padding_side": padding_side,
            "add_special_tokens": False,  # chat templates write their own, and the renderer does for other rows
        }
        if self._images_row_by_row and any(images) and not all(images):
            return self._make_mixed(texts, images, options)
        if not self._reads_images:
            return dict(self.tokenizer(texts, **options))
        return dict(self.processor(text=texts, images=images if any(images) else None, **options))

    def _make_mixed(self, texts: list[str], images: list[list[Image.Image]], options: dict[str, Any]) -> Batch:
        """Rows with and without images, for a processor that takes no such batch.

        What it makes of the images of some rows (those rows x ...) is laid into zeros (all rows x ...). The model's
        layers that look at images add nothing to a row whose mask of them is zero.
        """
        rows = [row for row, pictures in enumerate(images) if pictures]
        pictured = self.processor(text=[texts[row] for row in rows], images=[images[row] for row in rows], **options)
        batch = dict(self.processor.tokenizer(texts, **options))
        for name in pictured.keys() - batch.keys():
            found = pictured[name]
            shape = [len(texts), *found.shape[1:]]
            if name == IMAGE_MASK:  # rows x length x images x tiles
                shape[1] = batch["input_ids"].shape[1]
            batch[name] = found.new_zeros(shape)
            place = [slice(size) for size in found.shape[1:]]
            if name == IMAGE_MASK and options["padding_side"] == "left":
                place[0] = slice(shape[1] - found.shape[1], None)
            batch[name][rows, *place] = found
        return batch

    def _placeholder(self, text: str, pictures: int, example: Example) -> str:
        """What stands for an image in the rendered text; empty where there is none.

        Raises:
            TrainingError: InvalidDataset where the text has not one for each image.
        """
        names = ("image_token", "boi_token")
        tokens: list[str] = [token for name in names if (token := getattr(self.processor, name, None))]
        counts = [text.count(token) for token in tokens]
        if not pictures and not any(counts):
            return ""
        if pictures and pictures in counts:
            return tokens[counts.index(pictures)]
        raise TrainingError(
            "InvalidDataset",
            f"{example.origin} has {pictures} image(s), but its text has {max(counts, default=0)} placeholder(s) such "
            f"as {tokens[:1]}; remove the model's image placeholder from the text",
        )

    def _spans_in(self, text: str, item: Rendered, placeholder: str, example: Example) -> tuple[list[Span], list[Span]]:
        """Where answers and images stand in the text as the tokenizer saw it."""
        if not placeholder:
            return item.spans, []
        try:
            if self.train_on == "all":  # all text but the images, so no span may be asked to hold none
                _, pictures = expanded_spans([], item.text, text, placeholder)
                return [(0, len(text))], pictures
            return expanded_spans(item.spans, item.text, text, placeholder)
        except UnsuitableTemplate as error:
            raise TrainingError("InvalidDataset", f"{example.origin}: {error}") from error

    def _trained(
        self, encoded: Batch, places: list[Span], row: int, spans: list[Span], pictures: list[Span]
    ) -> torch.Tensor:
        """Which tokens of a row carry loss (length,): those of a span that are text and no padding."""
        trained = torch.tensor(trained_tokens(places, spans))
        starts = torch.tensor([start for start, _ in places])
        for start, end in pictures:
            trained &= ~((starts >= start) & (starts < end))
        trained &= encoded["attention_mask"][row].bool()
        return trained & ~torch.isin(encoded["input_ids"][row], self.picture_tokens)

    def _check(
        self,
        example: Example,
        ids: torch.Tensor,
        labels: torch.Tensor,
        places: list[Span],
        text: str,
        spans: list[Span],
    ) -> None:
        """The trained tokens hold every answer whole, and spell it: no more and no less."""
        trained = (labels != IGNORED).tolist()
        try:
            check_trained(text, places, trained, spans if self.train_on == "responses" else [])
        except RowError as error:
            raise TrainingError("InvalidDataset", error.at(example.origin)) from error
        if self.train_on == "all":
            return
        spelled = bare(self.tokenizer.decode(ids[labels != IGNORED], skip_special_tokens=False))
        carrying = [place for place, carries in zip(places, trained, strict=True) if carries]
        answers = bare("".join(text[start:end] for start, end in _joined(carrying)))
        if spelled not in answers and "\ufffd" not in spelled:
            raise TrainingError(
                "InvalidModel",
                f"{example.origin}: the trained tokens spell {spelled[:80]!r}, the answers {answers[:80]!r}; "
                "the tokenizer's character offsets cannot be relied on",
            )

    def _open(self, image: ImageRef, example: Example) -> Image.Image:
        try:
            return decode(image, self.min_pixels, self.max_pixels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            source = image.source if not isinstance(image.source, bytes) else "image"
            raise TrainingError("InvalidDataset", f"{example.origin}: {source} cannot be read: {error}") from error

    def _ids_of_picture_tokens(self) -> torch.Tensor:
        owners = (self.processor, self.tokenizer)
        ids = {getattr(owner, name, None) for owner in owners for name in PICTURE_TOKENS}
        if self._reads_images:
            vocabulary = self.tokenizer.get_added_vocab()
            ids |= {vocabulary.get(token) for token in ("<|vision_start|>", "<|vision_end|>")}
        return torch.tensor(sorted(token for token in ids if isinstance(token, int)), dtype=torch.long)


def _messages(example: Example, images: list[Image.Image]) -> list[dict[str, Any]]:
    """The turns as OpenAI messages with the images in them, as Unsloth's collator takes them."""
    left = iter(images)
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": next(left)}
                for part in message.parts or ("",)
            ],
        }
        for message in example.messages
    ]


@contextmanager
def _listening(collator: Collator) -> Iterator[_ListeningTokenizer]:
    """Within it, the collator's tokenizer tells the texts that it gets and where their tokens stand.

    It is the only public seam through which every processor shows how it expands an image.
    """
    tokenizer, processor = collator.tokenizer, collator.processor
    listening = _ListeningTokenizer(tokenizer)
    if processor is tokenizer:
        collator.tokenizer = listening
    else:
        processor.tokenizer = listening
    try:
        yield listening
    finally:
        collator.tokenizer = tokenizer
        if processor is not tokenizer:
            processor.tokenizer = tokenizer


class _ListeningTokenizer:
    """A tokenizer that keeps the ``texts`` of its last call, and of each the ``offsets`` of its tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.texts: list[str] = []
        self.offsets: list[list[Span]] = []

    def __call__(self, text: Any, **options: Any) -> Any:
        self.texts = [text] if isinstance(text, str) else list(text)
        encoded = self._tokenizer(text, **options, return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")
        self.offsets = offsets.tolist() if isinstance(offsets, torch.Tensor) else offsets
        return encoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _joined(places: list[Span]) -> list[Span]:
    """The stretches of text that tokens hold together; several tokens of one character hold it once."""
    joined: list[Span] = []
    for start, end in places:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
