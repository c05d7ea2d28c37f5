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


OWN = {"q": "Name a color.", "best": "Blue."}
OWN_JOB = """\
apiVersion: model-garden.dev/v1alpha1
kind: TrainingJob
metadata: {{name: own}}
spec:
  baseModel: {model}
  datasetPath: ./rows.jsonl
  chatTemplate: ./short.jinja
  columnMapping: {{prompt: q, response: best}}
"""
SHORT = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ '<|im_end|>' if m.role == 'assistant' }}{% endfor %}"
    "{{ '[assistant]' if add_generation_prompt }}"
)


def test_own_columns_and_another_template_are_shown_as_they_are_trained(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    model, path = tiny_model("qwen2"), data(tmp_path, OWN)
    (tmp_path / "short.jinja").write_text(SHORT)
    (tmp_path / "job.yaml").write_text(OWN_JOB.format(model=model))
    flags = ("--column-mapping-prompt", "q", "--column-mapping-response", "best", "--chat-template", "short.jinja")
    wanted = "[user]Name a color.[assistant]⟦Blue.<|im_end|>⟧"
    for arguments in ((path, "--base-model", model, *flags), ("job.yaml",)):
        done = cli("preview", *arguments)
        assert wanted in done.stdout, done.stderr
    checked = cli("validate", path, "--base-model", model, *flags)
    assert checked.returncode == 0 and "ignored" not in checked.stdout, checked.stdout + checked.stderr
    everything = cli("preview", "job.yaml", "--train-on", "all")
    assert "[⟦user]Name a color." in everything.stdout, everything.stderr


def test_images_are_scaled_to_the_bounds_of_training(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    cli("create-vision-dataset", "--output", tmp_path / "v.jsonl", "--num-examples", "1")

    def image_tokens(*flags: str) -> int:
        done = cli("preview", tmp_path / "v.jsonl", "--base-model", tiny_model("qwen2_5_vl"), "-o", "json", *flags)
        return sum(token["text"] == "<|image_pad|>" for token in json.loads(done.stdout)[0]["tokens"])

    assert image_tokens("--max-pixels", "3136") < image_tokens()


def test_the_rows_of_a_method_are_shown_with_its_name(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = data(tmp_path, {"prompt": [TURNS[0]], "answer": "Blue"})
    for command in (("preview", path, "--base-model", tiny_model("qwen2")), ("validate", path)):
        assert cli(*command).returncode == 1
        done = cli(*command, "--method", "grpo")
        assert done.returncode == 0, done.stderr


def test_a_mapping_that_no_job_may_have_is_a_usage_error(cli: Callable[..., Done], tmp_path: Path) -> None:
    path = data(tmp_path, OWN)
    done = cli("validate", path, "--column-mapping-prompt", "q")
    assert done.returncode == 2
    assert "needs either messages; or prompt and response" in done.stderr
    assert cli("preview", path).returncode == 2
