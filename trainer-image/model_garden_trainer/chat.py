"""``python -m model_garden_trainer chat``: a model folder answers a person, word by word.

The model is loaded as in ``verify``: the base model with the adapter, which is switched off for the answers of the base
model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from model_garden.datasets.errors import RowError
from model_garden.datasets.example import ImageRef
from model_garden.datasets.pictures import decode
from model_garden.datasets.template_messages import refuse_lists
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.exports.outputs import RECORD

Answers = Literal["tuned", "base", "compare"]
Message = dict[str, Any]

COMMANDS = "/image FILE adds an image to the next question, /new starts again, Ctrl+D ends"
_NAMES = {"tuned": ("tuned",), "base": ("base",), "compare": ("base", "tuned")}


@dataclass(frozen=True)
class Request:
    """What to answer.

    Args:
        folder: the output of a job, or any model folder.
        prompt: the question; None to read questions from standard input.
        images: files of the images of the first question.
        answers: who answers: the trained model, its base model, or both.
        base_model: the folder of the base model, for one that the record does not name as it is found here.
        max_new_tokens: the longest answer.
    """

    folder: str
    prompt: str | None
    images: list[str]
    answers: Answers
    base_model: str | None
    max_new_tokens: int


class Talker:
    """A loaded model and the conversation of each of its two forms."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._folder = Path(request.folder)
        record = _record(self._folder)
        self._spec: dict[str, Any] = record.get("spec") or {}
        self._has_adapter = (self._folder / "adapter_config.json").exists()
        if request.answers != "tuned" and not self._has_adapter:
            raise TrainingError(
                "InvalidSpec",
                f"{self._folder} is a whole model without an adapter, so its base model is not known here",
            )
        self._model, self._processor = self._load()
        self._tokenizer = getattr(self._processor, "tokenizer", self._processor)
        self._reads_images = self._tokenizer is not self._processor
        self._talks: dict[str, list[Message]] = {}
        self.begin()

    def begin(self) -> None:
        """Forget what was said."""
        self._talks = {name: [] for name in _NAMES[self._request.answers]}

    def answer(self, prompt: str, images: list[str]) -> None:
        """Print the answers to a question while they are made.

        Raises:
            TrainingError: InvalidDataset for an image that cannot be read, InvalidSpec for a conversation that the chat
                template does not read; the question is forgotten then.
        """
        pictures = [self._picture(path) for path in images]
        for name, talk in self._talks.items():
            if len(self._talks) > 1:
                print(f"{name}: ", end="", flush=True)
            asked = {"role": "user", "content": self._content(prompt, pictures)}
            with self._form(name):
                text = self._generate([*talk, asked])
            talk += [asked, {"role": "assistant", "content": self._content(text, [])}]  # no question without its answer

    def _load(self) -> tuple[Any, Any]:
        from peft import PeftModel
        from transformers import AutoConfig

        from model_garden.families import reads_images
        from model_garden_trainer.models import tokenizer
        from model_garden_trainer.models.repairs import repair

        base = self._base() if self._has_adapter else str(self._folder)
        revision = None if Path(base).is_dir() else self._spec.get("baseModelRevision")
        config = AutoConfig.from_pretrained(base, revision=revision)
        repair(config.model_type)
        sees = reads_images(config.to_dict())
        model = _model_class(sees=sees).from_pretrained(base, revision=revision, **_options())
        if self._has_adapter:
            model = PeftModel.from_pretrained(model, self._folder)
        return model.eval(), tokenizer.load(self._folder, images=sees)

    def _base(self) -> str:
        """Where the base model is.

        Raises:
            TrainingError: ModelNotFound.
        """
        adapted = json.loads((self._folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = self._request.base_model or self._spec.get("baseModel") or adapted["base_model_name_or_path"]
        is_address = "://" in base
        if is_address or (base.startswith((".", "/", "models/")) and not Path(base).expanduser().is_dir()):
            raise TrainingError(
                "ModelNotFound",
                f"the base model {base} is not a folder on this machine; give its folder: --base-model FOLDER",
            )
        return str(base)

    def _picture(self, path: str) -> Any:
        if not self._reads_images:
            raise TrainingError(
                "InvalidDataset", f"--image {path}: {self._folder} is a text model, which reads no images"
            )
        bounds = self._spec.get("imageOptions") or {}
        try:
            return decode(ImageRef(Path(path).expanduser()), bounds.get("minPixels"), bounds.get("maxPixels"))
        except (RowError, OSError) as error:
            raise TrainingError("InvalidDataset", f"--image {path}: {error}") from error

    def _content(self, text: str, pictures: list[Any]) -> Any:
        if not self._reads_images:
            return text
        return [*({"type": "image", "image": one} for one in pictures), {"type": "text", "text": text}]

    def _form(self, name: str) -> AbstractContextManager[None]:
        """Within it, the model is the base model or the trained one."""
        off: AbstractContextManager[None] = self._model.disable_adapter() if name == "base" else nullcontext()
        return off

    def _generate(self, talk: list[Message]) -> str:
        """The answer by greedy decoding, printed while it is made."""
        from transformers import TextStreamer

        if self._tokenizer.chat_template or getattr(self._processor, "chat_template", None):
            talk = as_read(self._processor, talk)
            inputs = self._processor.apply_chat_template(
                talk, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        else:  # a model that continues text has no turns
            inputs = self._tokenizer(talk[-1]["content"], return_tensors="pt")
        inputs = inputs.to(self._model.device)
        with torch.inference_mode():
            written = self._model.generate(
                **inputs,
                max_new_tokens=self._request.max_new_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                streamer=TextStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True),
            )
        answer = written[0, inputs["input_ids"].shape[1] :]
        return str(self._tokenizer.decode(answer, skip_special_tokens=True)).strip()


def as_read(processor: Any, talk: list[Message]) -> list[Message]:
    """A conversation in the form that the chat template of a model reads: with parts, or where it reads text with text.

    Raises:
        TrainingError: InvalidSpec if it reads none of the forms.
    """
    if not any(isinstance(message["content"], list) for message in talk):
        return talk
    answers_as_text = [_as_text(message) if message["role"] == "assistant" else message for message in talk]
    without_images = [message if _has_image(message) else _as_text(message) for message in talk]
    for form in (talk, answers_as_text, without_images):
        if _is_read(processor, form):
            return form
    what = "a conversation with images" if any(map(_has_image, talk)) else "this conversation"
    raise TrainingError("InvalidSpec", f"the chat template of the model does not read {what}")


def _has_image(message: Message) -> bool:
    return _without_images(message) != message


def _without_images(message: Message) -> Message:
    content = message["content"]
    return message | {"content": content if isinstance(content, str) else [part for part in content if "text" in part]}


def _texts(message: Message) -> list[str]:
    content = _without_images(message)["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content]


def _as_text(message: Message) -> Message:
    return message | {"content": "".join(_texts(message))}


def _is_read(processor: Any, talk: list[Message]) -> bool:
    """Whether a chat template writes every question of a conversation, and no parts as a list."""
    try:
        written = processor.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
        refuse_lists([_without_images(message) for message in talk], written)
    except Exception:  # a template can raise any exception
        return False
    questions = [message for message in talk if message["role"] == "user"]
    return all(text.strip() in written for question in questions for text in _texts(question))


def _record(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _model_class(*, sees: bool) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _options() -> dict[str, Any]:
    if torch.cuda.is_available():
        return {"dtype": torch.bfloat16, "device_map": "auto"}
    return {"dtype": torch.float32}


def _questions() -> Iterator[str]:
    """The lines of standard input, with a prompt in a terminal."""
    if sys.stdin.isatty():
        print(COMMANDS, file=sys.stderr)
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()):
            return
        if line := line.strip():
            yield line


def main(text: str) -> None:
    """Answer the request in ``text``, JSON of a ``Request``.

    Raises:
        TrainingError: the model or an image cannot be read.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    request = Request(**json.loads(text))
    talker = Talker(request)
    if request.prompt is not None:
        talker.answer(request.prompt, request.images)
        return
    images = list(request.images)
    for line in _questions():
        command, _, rest = line.partition(" ")
        if command == "/image":
            images.append(rest.strip())
        elif command == "/new":
            talker.begin()
            images = []
        else:
            try:
                talker.answer(line, images)
            except TrainingError as error:
                print(error, file=sys.stderr)
            images = []
