"""The Modelfile with which Ollama serves a GGUF file: the model's own chat template as a template of Go.

Source: https://docs.ollama.com/modelfile and https://docs.ollama.com/template
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_garden_trainer.exports.outputs import Exports

FILE = "Modelfile"

Message = dict[str, str]
Render = Callable[[list[Message], bool], str]
"""Renders messages with a chat template, with or without the start of the next answer."""

_SYSTEM, _QUESTION, _ANSWER, _NEXT = "@@system@@", "@@question@@", "@@answer@@", "@@next@@"


@dataclass(frozen=True)
class Blocks:
    """What a chat template writes around the content of each message, and before and after all of them."""

    system: tuple[str, str]
    head: str
    user: tuple[str, str]
    assistant: tuple[str, str]
    generation: str

    def render(self, messages: list[Message]) -> str:
        """The prompt for an answer to ``messages``, of which the first alone may be of the system."""
        sides = {"system": self.system, "user": self.user, "assistant": self.assistant}
        text = "" if messages[0]["role"] == "system" else self.head
        for message in messages:
            before, after = sides[message["role"]]
            text += before + message["content"] + after
        return text + self.generation

    def go(self) -> str:
        """The same as a template of Go."""
        (system, after_system), (user, after_user), (answer, after_answer) = self.system, self.user, self.assistant
        return (
            f"{{{{ if .System }}}}{system}{{{{ .System }}}}{after_system}{{{{ else }}}}{self.head}{{{{ end }}}}"
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{user}{{{{ .Content }}}}{after_user}'
            f'{{{{ else if eq .Role "assistant" }}}}{answer}{{{{ .Content }}}}{after_answer}{{{{ end }}}}{{{{ end }}}}'
            f"{self.generation}"
        )


def blocks_of(render: Render) -> Blocks | None:
    """The blocks of a chat template; None where its text depends on more than the role of each message."""
    talk = [_message("user", _QUESTION), _message("assistant", _ANSWER), _message("user", _NEXT)]
    try:
        whole, asked = render(talk, False), render(talk, True)
        guided = render([_message("system", _SYSTEM), talk[0]], False)
        before, between, again, after_user = _around(whole, _QUESTION, _ANSWER, _NEXT)
        system, after_system, _ = _around(guided, _SYSTEM, _QUESTION)
        user = _common_end(_common_end(before, again), after_system)
        found = Blocks(
            (system, after_system.removesuffix(user)),
            before.removesuffix(user),
            (user, after_user),
            (_without(between, after_user), again.removesuffix(user)),
            _without(asked, whole),
        )
        longer = [*talk, _message("assistant", "a"), _message("user", "b")]
        tries = (talk, longer, [_message("system", "c"), *longer])
        same = all(found.render(messages) == render(messages, True) for messages in tries)
    except Exception:  # a chat template raises what it likes, such as for a role that the model does not have
        return None
    return found if same and "{{" not in found.head + found.generation + "".join(found.user) else None


def modelfile(gguf: str, projector: str | None, tokenizer: Any) -> str:
    """The content of a Modelfile.

    Args:
        gguf: name of the GGUF file, which lies beside the Modelfile.
        projector: name of that of the image encoder.
        tokenizer: the model's, with its chat template.
    """
    lines = [f"FROM ./{name}" for name in (gguf, projector) if name]

    def render(messages: list[Message], generate: bool) -> str:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
        return str(text).removeprefix(tokenizer.bos_token or "")  # the GGUF file says whether one begins the prompt

    found = blocks_of(render) if tokenizer.chat_template else None
    if found:
        lines.append(f'TEMPLATE """{found.go()}"""')
    elif tokenizer.chat_template:
        lines.append("# The model's chat template cannot be written for Ollama; it chooses one by the GGUF file.")
    if tokenizer.eos_token:
        lines.append(f'PARAMETER stop "{tokenizer.eos_token}"')
    return "\n".join(lines) + "\n"


def write(output: Path, made: Exports, model: Path) -> None:
    """Write the Modelfile of a GGUF file into ``output``, with the chat template of the model folder ``model``."""
    assert made.gguf
    from model_garden_trainer.models import tokenizer

    loaded = tokenizer.load(model, images=False)
    text = modelfile(made.gguf.name, made.projector.name if made.projector else None, loaded)
    (output / FILE).write_text(text, encoding="utf-8")


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _around(text: str, *marks: str) -> list[str]:
    """The parts of ``text`` between ``marks``, each of which stands in it once.

    Raises:
        ValueError: a mark is missing or stands there twice.
    """
    parts = []
    for mark in marks:
        part, rest = text.split(mark)
        parts.append(part)
        text = rest
    return [*parts, text]


def _common_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]


def _without(text: str, start: str) -> str:
    """``text`` after ``start``.

    Raises:
        ValueError: it does not start so.
    """
    if not text.startswith(start):
        raise ValueError(f"{text!r} does not start with {start!r}")
    return text[len(start) :]
