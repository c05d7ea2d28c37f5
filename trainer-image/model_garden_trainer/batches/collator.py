"""From examples to the tensors a model takes: the collator of both trainers, and the one place that decides which
tokens are trained on.

A batch is rendered by the model's chat template, tokenized with character offsets (pictures expanded by the model's own
processor), and labelled: a token is trained on if and only if it begins inside an answer. It runs in the data loader's
workers, so that a picture is decoded when its batch is made and dropped with it.
"""

from __future__ import annotations

import copy
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from transformers.utils.chat_template_utils import render_jinja_template

from model_garden.contract.spec import SelectiveLoss
from model_garden.datasets.example import Example, ImageRef, Message
from model_garden.datasets.pictures import decode
from model_garden_trainer.batches.answer_spans import Span, UnsuitableTemplate, answer_spans, expanded_spans
from model_garden_trainer.batches.selective_loss import EVALUATION_LEVEL, structure_tokens
from model_garden_trainer.errors import TrainingError

IGNORED = -100
"""The label of a token without loss, as torch's cross entropy and transformers have it."""

Batch = dict[str, torch.Tensor]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PICTURE_TOKENS = (
    "image_token_id",
    "video_token_id",
    "boi_token_id",
    "eoi_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
)


@dataclass(frozen=True)
class Rendered:
    """An example as text, with the spans that carry loss, and its decoded pictures."""

    text: str
    spans: list[Span]
    images: list[Image.Image]


class Encoder:
    """The collator: a list of examples -> input_ids, attention_mask, labels (each batch x length) and what the model's
    processor makes of the pictures.

    Args:
        processor: the model's tokenizer, or for a vision model its processor.
        vision: whether content is a list of parts with pictures.
        train_on: ``responses`` trains on answers, ``all`` on all text.
        selective_loss: which tokens of a JSON answer carry none.
        min_pixels, max_pixels: a picture's area is brought between them, its shape kept; the processor's own bounds
            hold besides.
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
    ) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer if vision else processor
        self.vision = vision
        self.train_on = train_on
        self.selective_loss: SelectiveLoss = selective_loss
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.template = getattr(processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        if not self.tokenizer.is_fast:
            raise TrainingError(
                "InvalidModel",
                f"{type(self.tokenizer).__name__} gives no character offsets, which answers are found by; "
                "use a model with a tokenizer.json",
            )
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        first = self.tokenizer("a")["input_ids"][0]
        self._opening = self.tokenizer.bos_token if first == self.tokenizer.bos_token_id else ""
        self._picture_tokens = self._ids_of_picture_tokens()

    def __call__(self, examples: list[Example]) -> Batch:
        """Encode a batch, padded on the right.

        Raises:
            TrainingError: InvalidDataset for a row that cannot be rendered or keeps no trained token.
        """
        rendered = [self.render(example) for example in examples]
        places = [self._placeholder(item, example) for item, example in zip(rendered, examples, strict=True)]
        heard, encoded = self._tokenize([item.text for item in rendered], [item.images for item in rendered])
        offsets = encoded.pop("offset_mapping")
        labels = encoded["input_ids"].clone()
        for row, (example, item) in enumerate(zip(examples, rendered, strict=True)):
            spans, pictures = self._spans_in(heard[row], item, places[row], example)
            labels[row][~self._trained(encoded, offsets, row, spans, pictures)] = IGNORED
            self._check(example, encoded["input_ids"][row], labels[row], heard[row], spans)
            if self.selective_loss != "none":
                tokens = [(start, end) for start, end in offsets[row].tolist()]
                labels[row, structure_tokens(tokens, heard[row], spans, self.selective_loss)] = IGNORED
        return {**encoded, "labels": labels}

    def for_evaluation(self) -> Encoder:
        """The same with a mask that no ``selective_loss`` changes, so that evaluations can be compared."""
        other = copy.copy(self)
        other.selective_loss = EVALUATION_LEVEL
        return other

    def render(self, example: Example) -> Rendered:
        """An example as text with its loss spans; pictures are decoded here."""
        images = [self._open(image, example) for image in example.images]
        if example.kind != "chat":
            return self._render_plain(example)
        if not self.template:
            raise TrainingError(
                "InvalidModel",
                f"{example.origin}: the base model has no chat template, which rows with turns need; "
                "use an instruction-tuned model, or rows of prompt and completion or of text",
            )
        chat = [{"role": message.role, "content": self._content(message)} for message in example.messages]
        try:
            text, spans = self._render_chat(chat)
        except Exception as error:  # a template raises what it likes; the row and its words are what helps
            raise TrainingError(
                "InvalidDataset", f"{example.origin}: the model's chat template refuses it: {error}"
            ) from error
        if self.train_on == "all":
            spans = [(0, len(text))]
        return Rendered(text, spans, images)

    def _render_plain(self, example: Example) -> Rendered:
        prompt = self._opening + "".join(_text(message) for message in example.messages[:-1])
        answer = _text(example.messages[-1]) + (self.tokenizer.eos_token or "")
        start = len(prompt) if self.train_on == "responses" else 0
        return Rendered(prompt + answer, [(start, len(prompt + answer))], [])

    def _render_chat(self, chat: list[dict[str, Any]]) -> tuple[str, list[Span]]:
        special = self.tokenizer.special_tokens_map

        def render(messages: list[dict[str, Any]], add_generation_prompt: bool = False) -> str:
            [text], _ = render_jinja_template(
                [messages], chat_template=self.template, add_generation_prompt=add_generation_prompt, **special
            )
            return str(text)

        if _GENERATION.search(self.template or ""):
            [text], [spans] = render_jinja_template(
                [chat], chat_template=self.template, return_assistant_tokens_mask=True, **special
            )
            return text, [(start, end) for start, end in spans]
        text = render(chat)
        return text, answer_spans(render, chat, text)

    def _content(self, message: Message) -> str | list[dict[str, str]]:
        if not self.vision:
            return _text(message)
        return [
            {"type": "image"} if isinstance(part, ImageRef) else {"type": "text", "text": part}
            for part in message.parts
        ]

    def _tokenize(self, texts: list[str], images: list[list[Image.Image]]) -> tuple[list[str], Batch]:
        """The texts as the tokenizer saw them (pictures expanded), and what tokenizer and processor made of them."""
        options: dict[str, Any] = {
            "return_offsets_mapping": True,
            "return_tensors": "pt",
            "padding": True,
            "padding_side": "right",
            "add_special_tokens": False,  # chat templates write their own, _render_plain too
        }
        if not self.vision:
            return texts, dict(self.tokenizer(texts, **options))
        heard: list[str] = []
        with _Overheard(self.processor, heard):
            encoded = self.processor(text=texts, images=images if any(images) else None, **options)
        return heard, dict(encoded)

    def _placeholder(self, item: Rendered, example: Example) -> str:
        """What stands for a picture in the rendered text; empty where there is none.

        Raises:
            TrainingError: InvalidDataset where the text has not one for each picture.
        """
        names = ("image_token", "boi_token")
        tokens: list[str] = [token for name in names if (token := getattr(self.processor, name, None))]
        counts = [item.text.count(token) for token in tokens]
        if not item.images and not any(counts):
            return ""
        if item.images and len(item.images) in counts:
            return tokens[counts.index(len(item.images))]
        raise TrainingError(
            "InvalidDataset",
            f"{example.origin}: its text has {max(counts, default=0)} placeholder(s) such as {tokens[:1]} for "
            f"{len(item.images)} picture(s); a text may not write the model's own placeholder",
        )

    def _spans_in(
        self, heard: str, item: Rendered, placeholder: str, example: Example
    ) -> tuple[list[Span], list[Span]]:
        """Where answers and pictures stand in the text as the tokenizer saw it."""
        if not placeholder:
            return item.spans, []
        try:
            if self.train_on == "all":  # all text but the pictures, so no span may be asked to hold none
                _, pictures = expanded_spans([], item.text, heard, placeholder)
                return [(0, len(heard))], pictures
            return expanded_spans(item.spans, item.text, heard, placeholder)
        except UnsuitableTemplate as error:
            raise TrainingError("InvalidDataset", f"{example.origin}: {error}") from error

    def _trained(
        self, encoded: Batch, offsets: torch.Tensor, row: int, spans: list[Span], pictures: list[Span]
    ) -> torch.Tensor:
        """Which tokens of a row carry loss (length,): those that begin inside a span, are text and are not padding."""
        starts, ends = offsets[row, :, 0], offsets[row, :, 1]
        trained = torch.zeros(len(starts), dtype=torch.bool)
        for start, end in spans:
            trained |= (starts >= start) & (starts < end)
        for start, end in pictures:
            trained &= ~((starts >= start) & (starts < end))
        trained &= (ends > starts) & encoded["attention_mask"][row].bool()
        trained &= ~torch.isin(encoded["input_ids"][row], self._picture_tokens)
        trained[0] = False  # nothing comes before the first token, so it is never predicted
        return trained

    def _check(
        self,
        example: Example,
        ids: torch.Tensor,
        labels: torch.Tensor,
        text: str,
        spans: list[Span],
    ) -> None:
        """Some token of the row is trained on, and the trained tokens spell the answers, no more and no less."""
        trained = labels != IGNORED
        if not trained.any():
            raise TrainingError(
                "InvalidDataset",
                f"{example.origin}: no token of the answer is left to train on; give the row an answer or remove it",
            )
        if self.train_on == "all":
            return
        spelled = _bare(self.tokenizer.decode(ids[trained], skip_special_tokens=False))
        answers = _bare("".join(text[start:end] for start, end in spans))
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
            source = image.source if not isinstance(image.source, bytes) else "picture"
            raise TrainingError("InvalidDataset", f"{example.origin}: {source} cannot be read: {error}") from error

    def _ids_of_picture_tokens(self) -> torch.Tensor:
        owners = (self.processor, self.tokenizer)
        ids = {getattr(owner, name, None) for owner in owners for name in _PICTURE_TOKENS}
        if self.vision:
            vocabulary = self.tokenizer.get_added_vocab()
            ids |= {vocabulary.get(token) for token in ("<|vision_start|>", "<|vision_end|>")}
        return torch.tensor(sorted(token for token in ids if isinstance(token, int)), dtype=torch.long)


class _Overheard:
    """Within it, ``heard`` gets the texts that ``processor`` hands its tokenizer: the only public seam through which
    every processor shows how it expands a picture."""

    def __init__(self, processor: Any, heard: list[str]) -> None:
        self._processor, self._heard, self._tokenizer = processor, heard, processor.tokenizer

    def __enter__(self) -> None:
        self._processor.tokenizer = _Listener(self._tokenizer, self._heard)

    def __exit__(self, *_: object) -> None:
        self._processor.tokenizer = self._tokenizer


class _Listener:
    def __init__(self, tokenizer: Any, heard: list[str]) -> None:
        self._tokenizer, self._heard = tokenizer, heard

    def __call__(self, text: Any, **options: Any) -> Any:
        self._heard[:] = [text] if isinstance(text, str) else text
        return self._tokenizer(text, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _text(message: Message) -> str:
    return "".join(part for part in message.parts if isinstance(part, str))


def _bare(text: str) -> str:
    """``text`` without white space, in one Unicode form: what no tokenizer changes."""
    return "".join(unicodedata.normalize("NFC", text).split())
