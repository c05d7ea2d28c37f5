"""How a model reads a row: its chat template, its special tokens, and the tokens that end an answer.

They are read from the model's files, without torch, so that ``validate``, the preflight and training all agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from model_garden.datasets.chat_templates import read_template
from model_garden.datasets.model_files import damaged, read_json
from model_garden.families import reads_images

FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
)
"""Files that a model may have beside ``config.json`` and ``tokenizer.json``, and that are read."""
_TEKKEN = Regex(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Tekken, Mistral's tokenizer, splits a text. The ``tokenizer.json`` of some of its models splits it otherwise:
huggingface.co/mistralai/Mistral-Small-3.1-24B-Instruct-2503/discussions/84."""
_OF_TEKKEN = ("mistral", "mistral3", "voxtral", "ministral", "pixtral")
_LEAST_OF_TEKKEN = 100_000
"""Tokens that each vocabulary of Tekken exceeds, as transformers has it."""
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class ChatFormat:
    """How a model reads text.

    Args:
        template: the chat template (Jinja); None if the model has none.
        special_tokens: ``bos_token`` and so on, by the name that a template uses.
        opening: the token that the tokenizer puts before a text without a template; empty for most models.
        end: the end-of-text token; empty if the tokenizer has none.
        stops: the tokens that end generation.
        controls: all special tokens, including those above.
        structured: whether the model reads images, so that its template expects lists of parts (text and images) as
            contents.
    """

    template: str | None
    special_tokens: dict[str, str] = field(default_factory=dict)
    opening: str = ""
    end: str = ""
    stops: frozenset[str] = frozenset()
    controls: frozenset[str] = frozenset()
    structured: bool = False

    @classmethod
    def load(cls, folder: Path, *, vision: bool, template: str | None = None) -> ChatFormat:
        """Read the files of a model's folder, which has a ``tokenizer.json``.

        Args:
            folder: of a model, or of an adapter, which has no config.json.
            vision: whether the model reads images, if its config.json is not there to say it.
            template: ``chatTemplate``; None for the model's own.

        Raises:
            DamagedModelFile: one of them cannot be read, or there is no such template.
        """
        config = read_json(folder / "tokenizer_config.json")
        special = _special_tokens(read_json(folder / "special_tokens_map.json") | config)
        tokenizer = read_tokenizer(folder)
        added = read_json(folder / "tokenizer.json").get("added_tokens") or []
        controls = {token["content"] for token in added if token.get("special")} | set(special.values())
        stops = {tokenizer.id_to_token(number) for number in _end_ids(folder)} | {special.get("eos_token")}
        return cls(
            template=read_template(folder, template),
            special_tokens=special,
            opening=_opening(tokenizer, config, special.get("bos_token")),
            end=special.get("eos_token", ""),
            stops=frozenset(stop for stop in stops if stop),
            controls=frozenset(controls - {special.get("unk_token")}),
            structured=vision or reads_images(read_json(folder / "config.json")),
        )


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of ``tokenizer.json``, with the split that a model of Tekken was trained with.

    Raises:
        DamagedModelFile: it cannot be read.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise damaged(path, error) from error
    if _is_tekken(tokenizer, read_json(folder / "config.json")):
        split = Split(_TEKKEN, behavior="isolated")
        tokenizer.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


def _is_tekken(tokenizer: Tokenizer, config: dict[str, Any]) -> bool:
    """Whether it is Tekken in files that transformers before version 5 wrote, as later versions take theirs for right.

    The token [INST] tells it from other vocabularies that a model of Mistral's architecture may have.
    """
    if config.get("model_type") not in _OF_TEKKEN or tokenizer.token_to_id("[INST]") is None:
        return False
    old = str(config.get("transformers_version") or "4").partition(".")[0] == "4"
    return old and tokenizer.get_vocab_size() > _LEAST_OF_TEKKEN


def check_files(folder: Path) -> None:
    """Read the model's small files.

    Raises:
        DamagedModelFile: one of them cannot be read.
    """
    for name in FILES:
        read_json(folder / name)
    if (folder / "tokenizer.json").is_file():
        read_tokenizer(folder)


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    tokens = {name: config.get(name) for name in _SPECIAL}
    return {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items() if token}


def _end_ids(folder: Path) -> list[int]:
    """The ids at which ``generate`` and serving engines stop."""
    config = read_json(folder / "config.json")
    found: list[int] = []
    for source in (read_json(folder / "generation_config.json"), config, config.get("text_config") or {}):
        ids = source.get("eos_token_id")
        found += ids if isinstance(ids, list) else [] if ids is None else [ids]
    return found


def _opening(tokenizer: Tokenizer, config: dict[str, Any], bos: str | None) -> str:
    if not bos:
        return ""
    adds = config.get("add_bos_token")
    if adds is None:
        tokens = tokenizer.encode("a").tokens
        adds = tokens[:1] == [bos]
    return bos if adds else ""
