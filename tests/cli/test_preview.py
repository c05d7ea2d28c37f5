"""``model-garden preview`` shows rows as the model sees them, by the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Done

TURNS = [{"role": "user", "content": "Name a color."}, {"role": "assistant", "content": "Blue 🟦."}]


def data(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_trained_part_is_marked(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = data(tmp_path, {"messages": TURNS})
    done = cli("preview", path, "--base-model", tiny_model("qwen2"))
    assert done.returncode == 0, done.stderr
    assert "Name a color.<|im_end|>\n<|im_start|>assistant\n⟦Blue 🟦.<|im_end|>⟧" in done.stdout
    assert "rows.jsonl row 1: " in done.stdout


def test_json_has_every_token_with_its_mark(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = data(tmp_path, {"messages": TURNS}, {"prompt": "One, two, ", "completion": "three"})
    done = cli("preview", path, "--base-model", tiny_model("qwen2"), "--rows", "2", "-o", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(Path(row["file"]).name, row["row"]) for row in rows] == [("rows.jsonl", 1), ("rows.jsonl", 2)]
    trained = ["".join(token["text"] for token in row["tokens"] if token["trained"]) for row in rows]
    assert trained[0] == "Blue 🟦.<|im_end|>" and trained[1].endswith("three<|im_end|>")
    assert all("".join(token["text"] for token in row["tokens"]) == row["text"] for row in rows)


def test_a_picture_counts_as_many_tokens_as_its_size_gives(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    cli("create-vision-dataset", "--output", tmp_path / "v.jsonl", "--num-examples", "1")
    done = cli("preview", tmp_path / "v.jsonl", "--base-model", tiny_model("qwen2_5_vl"), "-o", "json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert sum(token["text"] == "<|image_pad|>" for token in row["tokens"]) >= 1
    assert len({token["id"] for token in row["tokens"]}) > 5


def test_a_row_that_would_not_be_trained_as_it_is_given_is_named(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = data(tmp_path, {"messages": [TURNS[0], {"role": "assistant", "content": "Blue.<|im_end|>"}]})
    done = cli("preview", path, "--base-model", tiny_model("qwen2"))
    assert done.returncode == 1
    assert "rows.jsonl row 1: turn 2 (assistant) contains <|im_end|>" in done.stderr
