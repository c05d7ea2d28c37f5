"""Renders an example to the text that a model is trained on, and finds the characters of it that carry loss.

``validate``, ``preview``, the preflight and training all use this renderer. It refuses a row unless the text contains
each answer as the row has it, followed by a token that ends generation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

from model_garden.datasets.answer_spans import Chat, Span, UnsuitableTemplate, answer_spans, common_start, prompt_before
from model_garden.datasets.chat_format import ChatFormat
from model_garden.datasets.chat_templates import training_template
from model_garden.datasets.errors import RowError, shown
from model_garden.datasets.example import PLAIN, Example, Message
from model_garden.datasets.kept import check_kept
from model_garden.datasets.origin import Origin
from model_garden.datasets.template_messages import chat_messages, refuse_lists

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SHOWN = 120
_BEFORE = 20


@dataclass(frozen=True)
class Rendered:
    """An example as text, with the spans (start, end) of characters that carry loss.

    ``prompt`` is the text that a server sends for the last of its answers. Some templates end it otherwise than they
    begin an answer: with ``<think>``, or with a marker of the role that the span of the answer has too.
    """

    text: str
    spans: list[Span]
    prompt: str

    def other_start(self) -> tuple[str, str] | None:
        """The end of the prompt, and the other text that begins the answer in its place; None where it is the same.

        Both show at most ``_BEFORE`` characters before they differ.
        """
        if self.text.startswith(self.prompt):
            return None
        differ = common_start(self.prompt, self.text)
        shown_from = max(0, differ - _BEFORE)
        return self.prompt[shown_from:], self.text[shown_from : differ + _BEFORE]


class Renderer:
    """Renders examples for one model.

    Args:
        chat_format: how the model reads text.
        train_on: ``responses`` gives loss to answers, ``all`` to all text.
    """

    def __init__(self, chat_format: ChatFormat, train_on: Literal["responses", "all"] = "responses") -> None:
        self.format, self.train_on = chat_format, train_on
        self._controls = sorted(chat_format.controls)

    def __call__(self, example: Example) -> Rendered:
        """Render an example.

        Raises:
            RowError: the template refuses it, or it would not be trained as the row gives it.
        """
        rendered = self._chat(example) if example.kind == "chat" else self._plain(example)
        if self.train_on == "all":
            _refuse_excluded(example)
            return replace(rendered, spans=[(0, len(rendered.text))])
        return rendered

    def _plain(self, example: Example) -> Rendered:
        """The prompt and the answer, joined. A begin or end token that the row has already is not added again."""
        if not self.format.end:
            raise RowError(
                "the model's tokenizer has no end-of-text token, so the model could not learn where an answer ends",
                "set eos_token in the model's tokenizer_config.json",
            )
        *before, answer = (message.text for message in example.messages)
        prompt = "".join(before)
        if not (prompt or answer).startswith(self.format.opening or "\0"):
            prompt = self.format.opening + prompt
        if not answer.rstrip().endswith(tuple(self.format.stops)):
            answer += self.format.end
        return Rendered(prompt + answer, [(len(prompt), len(prompt + answer))], prompt)

    def _chat(self, example: Example) -> Rendered:
        if not self.format.template:
            raise RowError(
                "the model has no chat template, which rows with turns need",
                "use an instruction-tuned model, set chatTemplate, or write rows of prompt and completion or of text",
            )
        self._refuse_control_tokens(example)
        try:
            return self._trained_whole(example)
        except RowError as refused:
            name = self._training_template_for(example)
            if name is None:
                raise
            raise RowError(refused.reason, f"set chatTemplate: {name}, which keeps it; or {refused.fix}") from refused

    def _training_template_for(self, example: Example) -> str | None:
        """TRL's template for training that trains a row which the model's own does not; None if there is none."""
        name, template = training_template(self.format.template or "") or (None, None)
        if template is None:
            return None
        try:
            Renderer(replace(self.format, template=template), self.train_on)._trained_whole(example)
        except RowError:
            return None
        return name

    def _trained_whole(self, example: Example) -> Rendered:
        """The row as the template renders it.

        Of a model that reads images, the contents are lists of parts. Some templates read the contents of all roles,
        or of some, as text: only turns with images are given as lists then.
        """
        try:
            return self._rendered(example, structured=self.format.structured)
        except RowError:
            if self.format.structured:
                with suppress(RowError):
                    return self._rendered(example, structured=False)
            raise

    def _rendered(self, example: Example, *, structured: bool) -> Rendered:
        try:
            found = self._found(example, structured=structured)
        except UnsuitableTemplate as error:
            raise RowError(f"{error}", "change the turn, or use a model or chatTemplate that keeps it") from error
        except Exception as error:  # a template can raise any exception
            raise RowError(
                f"the model's chat template refuses the row: {shown(str(error), 160)}", "change its turns or roles"
            ) from error
        check_kept(example, found.text, [found.text[start:end] for start, end in found.spans])
        return self._with_ends(found)

    def _found(self, example: Example, *, structured: bool) -> Rendered:
        """The text of a chat and its answers. Some templates read the arguments of calls as text."""
        try:
            return self._with_spans(example, structured=structured, arguments_as_text=False)
        except Exception:  # a template can raise any exception
            if not any(message.details.tool_calls for message in example.messages):
                raise
            return self._with_spans(example, structured=structured, arguments_as_text=True)

    def _with_spans(self, example: Example, *, structured: bool, arguments_as_text: bool) -> Rendered:
        from transformers.utils.chat_template_utils import render_jinja_template  # a second to load, and no torch

        template = self.format.template or ""
        options: dict[str, Any] = {"chat_template": template, **self.format.special_tokens}
        if example.tools:
            options["tools"] = list(example.tools)

        def render(messages: Chat, add_generation_prompt: bool = False) -> str:
            [text], _ = render_jinja_template([messages], add_generation_prompt=add_generation_prompt, **options)
            return str(text)

        chat = chat_messages(example, structured=structured, template=template, arguments_as_text=arguments_as_text)
        prompt_of = cache(partial(prompt_before, render, chat))
        answers = [index for index, message in enumerate(example.messages) if message.role == "assistant"]
        trained = [index for index in answers if example.messages[index].answers]
        if _GENERATION.search(template):
            [text], [marked] = render_jinja_template([chat], return_assistant_tokens_mask=True, **options)
            refuse_lists(chat, text)
            others = [index for index in answers if index not in trained]
            excluded = answer_spans(render, chat, text, others, prompt_of)
            pieces = _joined(marked)
            spans = [(a, b) for a, b in pieces if not any(a < end and start < b for start, end in excluded)]
        else:
            text = render(chat)
            refuse_lists(chat, text)
            spans = answer_spans(render, chat, text, trained, prompt_of)
        prompt = prompt_of(trained[-1]) if trained else ""
        if prompt is None:
            prompt = text[: spans[-1][0]] if spans else ""
        return Rendered(text, spans, prompt)

    def _refuse_control_tokens(self, example: Example) -> None:
        for number, message in enumerate(example.messages, 1):
            text = message.text
            if message.details is not PLAIN:
                calls = [
                    f"{call.name}{json.dumps(call.arguments, ensure_ascii=False)}"
                    for call in message.details.tool_calls
                ]
                text = "\n".join((text, message.details.reasoning, *calls))
            self._refuse_controls(text, f"turn {number} ({message.role})")
        if example.tools:
            self._refuse_controls(json.dumps(example.tools, ensure_ascii=False), '"tools"')

    def _refuse_controls(self, text: str, name: str) -> None:
        found = next((token for token in self._controls if token in text), None)
        if found:
            raise RowError(
                f"{name} contains {found}, which is a control token of the model",
                "remove it from the row; the chat template adds control tokens",
            )

    def _with_ends(self, found: Rendered) -> Rendered:
        """The text and its spans, each extended to a token that ends generation.

        That token is the template's own end of the turn; or the marker of the next role, if the model stops at it; or,
        for the last answer, the end-of-text token, which is added. Where the last answer ends with a token that the
        model's files list as an end, and with it alone, another control token is no end of an earlier one: gpt-oss's
        template ends the turns of a conversation with a token after which generation goes on.

        Raises:
            RowError: no such token follows an answer.
        """
        text, spans = found.text, found.spans
        stops, controls = sorted(self.format.stops), tuple(sorted(self.format.controls))
        last = text[slice(*spans[-1])].rstrip() if spans else ""
        stop = next((token for token in stops if last.endswith(token)), None)
        if stop and not last.removesuffix(stop).rstrip().endswith(controls):
            controls = ()
        ended: list[Span] = []
        for number, (start, end) in enumerate(spans, 1):
            rest = text[end:].lstrip()
            following = next((token for token in stops if rest.startswith(token)), None)
            if text[:end].rstrip().endswith((*stops, *controls)):
                ended.append((start, len(text[:end].rstrip())))
            elif following:
                ended.append((start, len(text) - len(rest) + len(following)))
            elif not rest and self.format.end:
                text += self.format.end
                ended.append((start, len(text)))
            else:
                raise RowError(
                    f"the model's chat template writes no end token after answer {number} of {len(spans)} (end tokens: "
                    f"{', '.join(stops) or 'none'}), so the model would not learn to stop there",
                    'split the row so that it ends with that answer, or write "weight": 0 in that turn'
                    if number < len(spans) and self.format.end
                    else "use a model whose chat template ends each turn with one of its end tokens",
                )
        return replace(found, text=text, spans=ended)

    def unlisted_end(self) -> str | None:
        """The token with which the template ends an answer, if the model's files do not list it as an end token."""
        turns = (Message("user", ("Hi",)), Message("assistant", ("Ho",)))
        try:
            rendered = self._chat(Example("chat", turns, Origin("probe", 1)))
        except RowError:
            return None
        answer = rendered.text[slice(*rendered.spans[-1])].rstrip()
        if answer.endswith(tuple(self.format.stops)):
            return None
        return next((token for token in self.format.controls if answer.endswith(token)), None)


def _joined(pieces: Sequence[Span]) -> list[Span]:
    """The pieces, those without text between them as one: a template may mark reasoning and answer apart."""
    joined: list[Span] = []
    for start, end in pieces:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _refuse_excluded(example: Example) -> None:
    for number, message in enumerate(example.messages, 1):
        if message.role == "assistant" and not message.details.trained:
            raise RowError(
                f"turn {number} ({message.role}) is marked as not trained, and trainOn: all trains on all text",
                "set trainOn: responses, or remove the mark",
            )


def trained_tokens(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Whether each token carries loss: a token with a character of a span does.

    So does a token that contains the end of a prompt and the start of an answer. The first token of a row does not,
    since it is never predicted.

    Args:
        offsets: start and end of each token in the text, which are equal for a token without characters.
        spans: start and end of each part of the text that carries loss.
    """
    trained = [any(start < last and end > first for first, last in spans) and end > start for start, end in offsets]
    if trained:
        trained[0] = False
    return trained


def check_trained(text: str, offsets: Sequence[Span], trained: Sequence[bool], spans: Sequence[Span]) -> None:
    """Check that the trained tokens contain every character of every span, apart from white space.

    Raises:
        RowError: they do not; the message shows the missing characters.
    """
    if not any(trained):
        raise RowError("the row has no answer to train on", "add an answer or remove the row")
    covered = bytearray(len(text))
    for number, (start, end) in enumerate(offsets):
        if trained[number] or number == 0:  # the first token of a row is never predicted
            covered[start:end] = b"\1" * (end - start)
    for start, end in spans:
        lost = "".join(text[at] for at in range(start, end) if not covered[at] and not text[at].isspace())
        if lost:
            raise RowError(
                f"the model's tokenizer has no token for {shown(lost, _SHOWN)} in an answer, so training would skip it",
                "use a model with another tokenizer, or remove those characters",
            )
