"""The tokenizer or processor of a model folder, which reads text as ``read_tokenizer`` does.

transformers builds some tokenizer classes from the vocabulary alone and leaves out how ``tokenizer.json`` splits a
text: a byte-level model of class ``LlamaTokenizerFast`` would be trained on text without spaces.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoProcessor, AutoTokenizer

from model_garden.datasets.chat_format import read_tokenizer
from model_garden.datasets.model_files import read_json
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import log

PROBE = "Hello  world, it's 12345\n'The iPhone' na\u00efve caf\u00e9s\n\n\t\u65e5\u672c\u8a9e \U0001f642 <a/>"
"""Where tokenizers differ: spaces, capitals, quotes, digits, line ends, accents, other scripts."""
_FILE, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_BY_FILE_ALONE = "PreTrainedTokenizerFast"
"""The class that transformers, of every version, makes of ``tokenizer.json`` as it is."""


def load(folder: Path, *, images: bool) -> Any:
    """The tokenizer of the model in ``folder``, or its processor if the model reads images.

    Raises:
        TrainingError: InvalidModel where it cannot be made to read text as ``tokenizer.json`` says.
    """
    loaded = (AutoProcessor if images else AutoTokenizer).from_pretrained(folder, local_files_only=True)
    tokenizer = getattr(loaded, "tokenizer", loaded)
    if not tokenizer.is_fast or not (folder / _FILE).is_file():  # which the collator refuses
        return loaded
    backend, right = tokenizer.backend_tokenizer, read_tokenizer(folder)
    if _loaded_ids(tokenizer) == (wanted := _ids(right)):
        return loaded
    for part in ("model", "normalizer", "pre_tokenizer", "decoder"):
        setattr(backend, part, getattr(right, part))
    if _loaded_ids(tokenizer) != wanted:
        raise TrainingError(
            "InvalidModel",
            f"spec.baseModel: {folder / _FILE} reads {PROBE!r} as {wanted}, but transformers makes of it a "
            f"{type(tokenizer).__name__} that reads {_loaded_ids(tokenizer)}; set "
            f'"tokenizer_class": "{_BY_FILE_ALONE}" in {_CONFIG}',
        )
    log(f"{type(tokenizer).__name__} of transformers reads text otherwise than {folder / _FILE}, which is used")
    return loaded


def settle(base: Path, output: Path) -> None:
    """Let the files of an output, copied from ``base``, load everywhere as the tokenizer that was trained with."""
    if (base / _FILE).is_file():
        right = read_tokenizer(base)
        if _ids(right) != _ids(Tokenizer.from_file(str(base / _FILE))):  # which read_tokenizer repairs
            right.save(str(output / _FILE))
    if not (output / _FILE).is_file() or _loads_as_written(output):
        return
    content = read_json(output / _CONFIG) | {"tokenizer_class": _BY_FILE_ALONE}
    (output / _CONFIG).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _loads_as_written(folder: Path) -> bool:
    try:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError):  # an adapter's folder has no config.json, and its files may name no class
        return False
    return not loaded.is_fast or _loaded_ids(loaded) == _ids(read_tokenizer(folder))


def _loaded_ids(tokenizer: Any) -> list[int]:
    return list(tokenizer(PROBE, add_special_tokens=False)["input_ids"])


def _ids(tokenizer: Any) -> list[int]:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return list(tokenizer.encode(PROBE, add_special_tokens=False).ids)
