"""What of a model's files decides how it sees a row: chat template, special tokens, and the tokens that end an answer.

Read from the files alone, without torch, so that ``validate``, the preflight and training all see the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class ChatFormat:
    """How a model takes text.

    Args:
        template: the chat template (Jinja), None where the model has none.
        special_tokens: ``bos_token`` and so on, as a template may name them.
        opening: what the tokenizer puts before a text without a template; empty for most.
        end: the end-of-text token, empty where the tokenizer has none.
        stops: the tokens that end generation.
        controls: all tokens that are no text, those above among them.
        structured: whether the template takes a list of parts (text and pictures) as content.
    """

    template: str | None
    special_tokens: dict[str, str] = field(default_factory=dict)
    opening: str = ""
    end: str = ""
    stops: frozenset[str] = frozenset()
    controls: frozenset[str] = frozenset()
    structured: bool = False

    @classmethod
    def load(cls, folder: Path, *, vision: bool) -> ChatFormat:
        """Read the files of a model's folder, which has a ``tokenizer.json``."""
        config = read_json(folder / "tokenizer_config.json")
        special = _special_tokens(read_json(folder / "special_tokens_map.json") | config)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        added = read_json(folder / "tokenizer.json").get("added_tokens") or []
        controls = {token["content"] for token in added if token.get("special")} | set(special.values())
        stops = {tokenizer.id_to_token(number) for number in _end_ids(folder)} | {special.get("eos_token")}
        return cls(
            template=_template(folder, config),
            special_tokens=special,
            opening=_opening(tokenizer, config, special.get("bos_token")),
            end=special.get("eos_token", ""),
            stops=frozenset(stop for stop in stops if stop),
            controls=frozenset(controls - {special.get("unk_token")}),
            structured=vision,
        )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    tokens = {name: config.get(name) for name in _SPECIAL}
    return {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items() if token}


def _end_ids(folder: Path) -> list[int]:
    """The ids that ``generate`` and serving engines stop at."""
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


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template; of several named ones that which is called ``default``, as transformers takes it."""
    file = folder / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else None
    source = source or read_json(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(source, list):
        source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
    return source.get("default") if isinstance(source, dict) else source
