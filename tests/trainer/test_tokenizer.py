"""A model is trained, and its outputs load, with the tokens of its ``tokenizer.json``, whatever class they name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoProcessor, AutoTokenizer

from model_garden.datasets.chat_format import read_tokenizer
from model_garden_trainer.models.auto_classes import collator
from model_garden_trainer.models.base_model import carry_processor_files
from tests.trainer.workspace import TEXT, VISION, config

TEXT_OF_ALL_KINDS = "What is  the capital of France?\n\nTour 12345, café, 日本語"


@pytest.fixture(params=["llama", "qwen2_5_vl"])
def of_the_wrong_class(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A byte-level model whose files name the class of Llama 2, as those of DeepSeek-R1-Distill-Llama-8B do."""
    folder = tmp_path / request.param
    shutil.copytree(tiny_model(request.param), folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "LlamaTokenizerFast"}))
    return folder


def test_a_byte_level_model_that_names_the_class_of_llama_2_keeps_its_spaces(
    of_the_wrong_class: Path, tmp_path: Path
) -> None:
    base, output = of_the_wrong_class, tmp_path / "output"
    right = Tokenizer.from_file(str(base / "tokenizer.json")).encode(TEXT_OF_ALL_KINDS, add_special_tokens=False).ids
    sees = "vl" in base.name
    spec = config("job", VISION if sees else TEXT).spec
    trained_with = collator(spec, base).tokenizer
    assert trained_with(TEXT_OF_ALL_KINDS, add_special_tokens=False)["input_ids"] == right
    assert trained_with.decode(right) == TEXT_OF_ALL_KINDS
    output.mkdir()
    carry_processor_files(base, output)  # as an adapter's folder has them, without config.json
    for _ in ("adapter", "whole model"):
        loaded = (AutoProcessor if sees else AutoTokenizer).from_pretrained(output)
        served = loaded.tokenizer if sees else loaded
        assert served(TEXT_OF_ALL_KINDS, add_special_tokens=False)["input_ids"] == right
        assert (served.eos_token, served.pad_token) == (trained_with.eos_token, trained_with.pad_token)
        assert served.chat_template == trained_with.chat_template
        shutil.copyfile(base / "config.json", output / "config.json")


def test_a_model_of_tekken_is_counted_trained_and_saved_with_the_split_of_tekken(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """As Mistral-Small-3.1-24B-Instruct-2503: its tokenizer.json has the split of Llama 3, which tears 'The apart."""
    base, output = tmp_path / "base", tmp_path / "output"
    shutil.copytree(tiny_model("llama"), base)
    written = json.loads((base / "tokenizer.json").read_text())
    vocab, merges = written["model"]["vocab"], written["model"]["merges"]
    merges[:0] = pairs = [["T", "h"], ["Th", "e"], ["'", "The"]]
    for pair in pairs:
        vocab.setdefault("".join(pair), len(vocab))
    for number in range(100_001):
        vocab[f"<filler-{number}>"] = len(vocab)
    vocab["[INST]"] = len(vocab)
    (base / "tokenizer.json").write_text(json.dumps(written))
    settings = json.loads((base / "config.json").read_text())
    settings |= {"model_type": "mistral", "transformers_version": "4.50.0"}
    (base / "config.json").write_text(json.dumps(settings))

    def split(tokenizer: Tokenizer) -> list[str]:
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str("'The iPhone 12")]

    right = ["'The", "\u0120i", "Phone", "\u0120", "1", "2"]
    assert split(Tokenizer.from_file(str(base / "tokenizer.json"))) != right
    assert split(read_tokenizer(base)) == right
    assert split(collator(config("job", TEXT).spec, base).tokenizer.backend_tokenizer) == right
    output.mkdir()
    carry_processor_files(base, output)
    for version in (None, "5.17.0"):  # an adapter's folder, then a whole model's
        if version:
            (output / "config.json").write_text(json.dumps(settings | {"transformers_version": version}))
        assert split(AutoTokenizer.from_pretrained(output).backend_tokenizer) == right
    assert split(read_tokenizer(output)) == right


def test_a_tokenizer_that_loads_right_is_carried_as_it_is(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    base = tiny_model("qwen2")
    carry_processor_files(base, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (base / name).read_bytes()
