"""Keys that no format reads. A key that changes what another training tool trains is refused.

Every other key is ignored and reported once. A key whose value changes nothing (``"weight": 1``, ``"train": true``, an
empty list) is accepted without a report, and one that excludes a whole answer from the loss (``"weight": 0``) is
honored (``untrained``). The meanings are those of the data formats of TRL, LLaMA-Factory, ms-swift, Axolotl, verl,
slime, OpenAI and Qwen-VL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model_garden.datasets.errors import RowError, shown

Place = Literal["row of turns", "row of columns", "turn", "part"]
"""The place of a key: a row that lists its turns, a row that has columns instead, a turn, or a part of a turn."""

_ROW: tuple[Place, ...] = ("row of turns", "row of columns")
_EVERYWHERE: tuple[Place, ...] = (*_ROW, "turn", "part")


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of some keys in the tools that read them.

    Args:
        keys: their names.
        places: the places where they have this meaning.
        says: the meaning, and why the row cannot be trained on; the second half of a message.
        fix: the fix.
        matters: called with the value, which is not empty, and with whether the key belongs to an answer. Returns
            whether training would differ if the key were read, or None if the value does not have this meaning.
    """

    keys: tuple[str, ...]
    places: tuple[Place, ...]
    says: str
    fix: str
    matters: Callable[[Any, bool], bool | None]


def _filled(value: Any) -> bool:
    """Whether a value is not empty. ``{"ref": [], "bbox": null}``, as Parquet writes a missing column, is empty."""
    if isinstance(value, Mapping):
        return any(map(_filled, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_filled, value))
    return value is not None and value != ""


def _number(value: Any) -> float | None:
    """A boolean or a number, also as text in a CSV file; None for anything else."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _several(value: Any) -> bool | None:
    """True for a list of weights or masks; None for a text, which is neither."""
    return True if isinstance(value, (list, tuple, dict)) else None


def _weighted(value: Any, answer: bool) -> bool | None:
    """Whether an answer has a weight other than 1. Other turns have no loss with any weight."""
    number = _number(value)
    return _several(value) if number is None else answer and number != 1


def _trained(value: Any, answer: bool) -> bool | None:
    """Whether an answer is not to be trained, or, as Axolotl's ``train`` allows, another turn is."""
    number = _number(value)
    return _several(value) if number is None else bool(number) != answer


def _masked(value: Any, answer: bool) -> bool | None:
    number = _number(value)
    return _several(value) if number is None else answer and number != 0


def _unwanted(value: Any, _answer: bool) -> bool | None:
    """Whether a boolean is false. A number or another text is the name of a class."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower())
    return not value if isinstance(value, bool) else None


def _rated(value: Any, _answer: bool) -> bool | None:
    """True for a list with booleans; None for one of numbers or texts, which are names of classes."""
    return True if isinstance(value, (list, tuple)) and any(isinstance(entry, bool) for entry in value) else None


def _lost(_value: Any, _answer: bool) -> bool | None:
    return True


def _not_final(value: Any, _answer: bool) -> bool | None:
    return bool(value != "final")


REASONING = ("reasoning", "reasoning_content", "thinking", "thought", "thoughts", "cot", "chain_of_thought")
"""Keys of the reasoning before an answer, as the turn of the answer has them, or a row of columns."""
_WEIGHTS = ("loss", "loss_weight", "loss_scale", "loss_mask", "weight", "trainable", "train_on_turn")
_MASKS = ("mask", "masked")
_ONE_ANSWER = "keep the wanted answer as the row's answer and remove the others, or remove the row"
_PREFERENCES = f"set method: dpo to train on preferences; otherwise {_ONE_ANSWER}"

MEANINGS: tuple[Meaning, ...] = (
    Meaning(
        _WEIGHTS,
        _EVERYWHERE,
        "it gives a text another weight in the loss, but here a turn is trained with the weight 1 or 0",
        'write "weight": 1 or 0 in a turn, or remove the key',
        _weighted,
    ),
    Meaning(
        ("train",),
        _EVERYWHERE,
        "it selects what is trained, but only an answer can be trained here, and only as a whole",
        "remove the key (trainOn: all trains on every turn)",
        _trained,
    ),
    Meaning(
        _MASKS,
        _EVERYWHERE,
        "it excludes text from the loss, but only a whole answer can be excluded here",
        "write it in the turn of the answer, or remove the key",
        _masked,
    ),
    Meaning(
        ("train_detail", "assistant_masks", "completion_mask"),
        _EVERYWHERE,
        "it selects parts of a text for training, but an answer is always trained as a whole",
        "shorten the answer to the part to train, or remove the key",
        _lost,
    ),
    Meaning(
        ("label", "kto_tag"),
        _ROW,
        "it marks an unwanted answer, but every answer is trained as a wanted one here",
        "set method: kto to train on wanted and unwanted answers; otherwise remove the row, or the key if the answer "
        "is wanted",
        _unwanted,
    ),
    Meaning(
        ("labels",),
        _ROW,
        "it rates every step of an answer, but an answer is trained as a whole here",
        _ONE_ANSWER,
        _rated,
    ),
    Meaning(
        (
            *("chosen", "rejected", "rejected_response", "rejected_messages", "positive_messages", "negative_messages"),
            *("preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion"),
            "completions",
        ),
        _ROW,
        "it belongs to a row of preferences, but a row has one answer here",
        _PREFERENCES,
        _lost,
    ),
    Meaning(
        ("response", "completion", "output"),
        ("row of columns",),
        "it is a second answer and would be lost",
        'keep one answer, or write the row as "messages"',
        _lost,
    ),
    Meaning(
        (*REASONING, "reasoning_details", "thinking_blocks"),
        _EVERYWHERE,
        "it holds reasoning, but this key is not read here, so the reasoning would be lost",
        'write it as text into "reasoning" of the answer\'s turn, or remove the key',
        _lost,
    ),
    Meaning(
        ("objects", "bbox", "bboxes"),
        _EVERYWHERE,
        "it holds boxes, but this key is not read, so they would be lost",
        "write their numbers into the text, in place of <bbox> and the like, or remove it",
        _lost,
    ),
    Meaning(
        ("tool_calls", "function_call", "refusal"),
        (*_ROW, "turn"),
        "it is part of an answer, but this key is not read here, so that part would be lost",
        "write tool calls into the turn of the answer, a refusal as its content, or remove it",
        _lost,
    ),
    Meaning(
        ("channel",),
        ("turn",),
        "it separates the turn from the final answer, but every answer is trained in the same way here",
        "keep the turns of the channel final, or remove the key",
        _not_final,
    ),
    Meaning(
        ("documents",),
        _ROW,
        "it is part of the prompt, but this key is not read, so that part would be lost",
        "write it into the system prompt as the model's chat template does, or remove it",
        _lost,
    ),
    Meaning(
        ("history", "system", "system_prompt"),
        _ROW,
        "it is part of the prompt, but this key is not read, so that part would be lost",
        'write the row as "messages", or remove it',
        _lost,
    ),
    Meaning(
        ("chat_template_kwargs", "enable_thinking"),
        _ROW,
        "it changes the prompt, but the chat template is used with its defaults",
        "remove it",
        _lost,
    ),
    Meaning(
        ("input_ids",),
        _ROW,
        "it holds tokens, but the text of a row is what is trained",
        "remove it, or write the row as text",
        _lost,
    ),
    Meaning(
        ("image", "images", "image_url"),
        (*_ROW, "turn"),
        "it holds images, but this key is not read, so they would be lost",
        "write them as parts of the turn's content, or into the row's column \"images\"",
        _lost,
    ),
    Meaning(
        ("video", "videos", "audio", "audios"),
        _EVERYWHERE,
        "video and audio are not trained on and would be lost",
        "remove it, or the row",
        _lost,
    ),
    Meaning(
        ("text", "image", "image_url"),
        ("part",),
        "it is content of another type and would be lost",
        "write it as a separate part",
        _lost,
    ),
    Meaning(
        ("min_pixels", "max_pixels", "resized_width", "resized_height"),
        ("part",),
        "it sets the size of one image, but all images are scaled in the same way here",
        "set imageOptions.minPixels and imageOptions.maxPixels, and remove it",
        _lost,
    ),
)
_BY_PLACE: dict[tuple[Place, str], Meaning] = {
    (place, key): meaning for meaning in MEANINGS for place in meaning.places for key in meaning.keys
}


def untrained(turn: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The keys of an answer's turn that exclude the answer from the loss: ``"weight": 0``, ``"train": false``, ….

    Raises:
        RowError: another key of the turn says that it is trained.
    """
    numbers = {key: _number(turn[key]) for key in (*_WEIGHTS, "train", *_MASKS) if key in turn}
    trains = {key: number != (key in _MASKS) for key, number in numbers.items() if number in (0, 1)}
    excluding = tuple(key for key, trained in trains.items() if not trained)
    including = [key for key, trained in trains.items() if trained]
    if excluding and including:
        raise RowError(
            f'{name} has "{excluding[0]}" ({_brief(turn[excluding[0]])}) and "{including[0]}" '
            f"({_brief(turn[including[0]])}), which contradict each other",
            "keep one of them",
        )
    return excluding


def unread(left: Mapping[str, Any], known: Iterable[str], place: Place, name: str, *, answer: bool = True) -> list[str]:
    """The keys to report as ignored: those that the format does not read and that have no ``Meaning``.

    Args:
        left: keys and values.
        known: the keys that the format reads.
        place: the place of the keys.
        name: the object that has them, for messages: ``the row``, ``messages[1]``.
        answer: whether they belong to an answer; True for a row.

    Raises:
        RowError: a key would change what is trained.
    """
    ignored = []
    for key, value in left.items():
        if key in known or value is None:
            continue
        meaning = _BY_PLACE.get((place, key))
        if meaning is not None and not _filled(value):
            continue
        matters = meaning.matters(value, answer) if meaning else None
        if meaning and matters:
            raise RowError(f'{name} has "{key}" ({_brief(value)}): {meaning.says}', meaning.fix)
        if matters is None:
            ignored.append(str(key))
    return ignored


def _brief(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shown(value, 40)
