"""The check of every row: what it counts, what it lists, and what it costs."""

import json
import subprocess
import sys

import pytest

from model_garden.datasets import DatasetError, TokenCounter, check_examples, open_examples
from model_garden.datasets.pictures import decode
from model_garden.datasets.samples import create_text_samples, create_vision_samples


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words_and_pixels(example, sizes):
    """A measure for tests: one token a word, one a thousand pixels."""
    words = sum(len(part.split()) for message in example.messages for part in message.parts if isinstance(part, str))
    return words, sum(width * height // 1000 for width, height in sizes)


def test_rows_turns_pictures_and_ignored_columns_are_counted(tmp_path):
    create_vision_samples(tmp_path / "s.jsonl", 2)
    pictures = ["s_images/0001.png", "s_images/0002.png"]
    rows = [
        {"text": "a", "image": pictures[0], "response": "b", "id": 1},
        {"text": "a", "images": pictures, "response": "b", "id": 2, "split": "x"},
        {"messages": [{"role": role, "content": "a"} for role in ("system", "user", "assistant", "user", "assistant")]},
    ]
    (tmp_path / "data.jsonl").write_text("\n" + "\n\n".join(map(json.dumps, rows)))
    report = check_examples(open_examples(tmp_path / "data.jsonl", vision=True))
    assert (report.rows, report.turns, report.images) == (3, 9, 3)
    assert report.ignored_columns == {"id": 2, "split": 1}
    assert report.dropped == {"blank line": 3}
    assert report.ok
    assert report.tokens is None
    report.raise_for_problems()


def test_lengths_are_measured(tmp_path):
    rows = [{"text": "a " * number} for number in range(1, 101)]
    examples = open_examples(write(tmp_path / "data.jsonl", rows), vision=False)
    report = check_examples(examples, measure=words_and_pixels, max_length=100)
    tokens = report.tokens
    assert (tokens.minimum, tokens.median, tokens.p95, tokens.maximum, tokens.mean) == (1, 51, 96, 100, 50.5)
    assert (report.text_tokens, report.image_tokens, tokens.over_limit) == (5050, 0, 0)
    assert sum(bucket.rows for bucket in tokens.histogram) == 100
    assert [bucket.shortest for bucket in tokens.histogram] == [1, *(b.longest + 1 for b in tokens.histogram[:-1])]
    status = report.status("Preflight")
    assert (status.rows, status.tokens.median, status.tokens.p95, status.tokens.maximum) == (100, 51, 96, 100)


def test_examples_above_the_limit_are_an_error_that_names_the_longest(tmp_path):
    create_vision_samples(tmp_path / "s.jsonl", 1)
    rows = [{"text": "a " * words, "image": "s_images/0001.png", "response": "b"} for words in (5, 40, 3, 60)]
    examples = open_examples(write(tmp_path / "data.jsonl", rows), vision=True)
    report = check_examples(examples, measure=words_and_pixels, max_length=60)
    assert report.problem_count == 1
    [problem] = report.problems
    assert problem.startswith("2 of 4 rows are longer than maxSeqLength (60); rows are never truncated: ")
    data = tmp_path / "data.jsonl"
    assert (
        f"{data} row 4 (111 tokens, 50 of them image tokens); {data} row 2 (91 tokens, 50 of them image tokens);"
        in problem
    )
    assert problem.endswith("raise hyperparameters.maxSeqLength to 111 or lower imageOptions.maxPixels")


def test_twenty_problems_are_listed_in_order_and_the_rest_counted(tmp_path):
    rows = [{"prompt": "a", "completion": "b" if number % 2 else ""} for number in range(60)]
    examples = open_examples(write(tmp_path / "data.jsonl", rows), vision=False)
    report = check_examples(examples)
    assert (report.problem_count, len(report.problems)) == (30, 20)
    with pytest.raises(DatasetError) as caught:
        report.raise_for_problems()
    assert len(caught.value.problems) == 21
    assert (
        caught.value.problems[1] == f'{tmp_path}/data.jsonl row 3: "completion" is empty; fill it in or remove the row'
    )
    assert caught.value.problems[-1] == "and 10 more"


def test_several_processes_report_the_same_as_one(tmp_path, tiny_model):
    path = create_vision_samples(tmp_path / "data.jsonl", 12)
    lines = path.read_text().splitlines()
    lines = lines * 25
    lines[150], lines[291] = "{", json.dumps({"text": "a", "image": "none.png", "response": "b"})
    path.write_text("\n".join(lines))
    (tmp_path / "data_images" / "0003.png").write_bytes(b"")
    measure = TokenCounter.load(tiny_model("qwen2_5_vl"), vision=True)
    examples = open_examples(path, vision=True, root=tmp_path)
    alone, together = (
        check_examples(examples, measure=measure, max_length=150, processes=number, digests=True) for number in (1, 2)
    )
    assert together == alone and len(set(alone.digests)) > 1
    assert alone.problem_count == 28
    assert alone.tokens.over_limit > 0


class TestTokenCounter:
    """Tokens counted without torch are those that the model's own processor makes."""

    @pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
    def test_text_and_pictures(self, kind, tiny_model, tmp_path):
        from PIL import Image
        from transformers import AutoProcessor

        from model_garden.datasets.template_messages import chat_messages

        folder = tiny_model(kind)
        processor = AutoProcessor.from_pretrained(folder)
        counter = TokenCounter.load(folder, vision=True)
        sizes = [(224, 224), (640, 480), (31, 900), (5, 7), (1500, 1200), (333, 334)]
        for number, size in enumerate(sizes):
            Image.new("RGB", size).save(tmp_path / f"{number}.png")
        rows = [
            {"text": f"Größe {number}? 🙂", "image": f"{number}.png", "response": "A."} for number in range(len(sizes))
        ]
        rows.append({"text": "Both?", "images": ["0.png", "2.png"], "response": "B.", "system": "Be brief."})
        rows.append({"messages": [{"role": "user", "content": "No picture"}, {"role": "assistant", "content": "C."}]})
        for example in open_examples(write(tmp_path / "data.jsonl", rows), vision=True):
            pictures = [decode(image) for image in example.images]
            text = processor.apply_chat_template(chat_messages(example, structured=True), tokenize=False)
            ids = processor(text=[text], images=pictures or None)["input_ids"][0]
            image_tokens = ids.count(processor.image_token_id)
            assert counter(example, [picture.size for picture in pictures]) == (len(ids) - image_tokens, image_tokens)

    @pytest.mark.parametrize("kind", ["qwen2", "llama"])
    def test_text(self, kind, tiny_model, tmp_path):
        from transformers import AutoTokenizer

        from model_garden.datasets.template_messages import chat_messages

        tokenizer = AutoTokenizer.from_pretrained(tiny_model(kind))
        counter = TokenCounter.load(tiny_model(kind), vision=False)
        for example in open_examples(create_text_samples(tmp_path / "data.jsonl", 8), vision=False):
            text = tokenizer.apply_chat_template(chat_messages(example, structured=False), tokenize=False)
            assert counter(example, []) == (len(tokenizer(text, add_special_tokens=False)["input_ids"]), 0)

    def test_bounds_of_the_job_come_first(self, tiny_model):
        counter = TokenCounter.load(tiny_model("qwen2_5_vl"), vision=True, min_pixels=3136, max_pixels=50_176)
        assert counter.images((224, 224)) == 64
        assert counter.images((2240, 2240)) == 64

    def test_an_image_token_in_the_text_is_found(self, tiny_model, tmp_path):
        create_vision_samples(tmp_path / "s.jsonl", 1)
        row = {"text": "<|image_pad|>?", "image": "s_images/0001.png", "response": "b"}
        examples = open_examples(write(tmp_path / "data.jsonl", [row]), vision=True)
        report = check_examples(examples, measure=TokenCounter.load(tiny_model("qwen2_5_vl"), vision=True))
        assert (
            "row 1: turn 1 (user) contains <|image_pad|>, which is a control token of the model" in report.problems[0]
        )

    def test_a_row_that_the_template_refuses_is_named(self, tiny_model, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        for file in tiny_model("llama").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "chat_template.jinja").write_text("{{ raise_exception('turns must take turns') }}")
        examples = open_examples(create_text_samples(tmp_path / "data.jsonl", 1), vision=False)
        report = check_examples(examples, measure=TokenCounter.load(folder, vision=False))
        assert "row 1: the model's chat template refuses the row: 'turns must take turns'" in report.problems[0]


def test_checking_needs_no_torch(tmp_path, tiny_model):
    create_vision_samples(tmp_path / "data.jsonl", 2)
    code = f"""
import sys
from model_garden.datasets import *
measure = TokenCounter.load({str(tiny_model("qwen2_5_vl"))!r}, vision=True)
report = check_examples(open_examples({str(tmp_path / "data.jsonl")!r}, vision=True), measure=measure)
assert report.ok and report.image_tokens == 128, report
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_text_is_checked_without_loading_what_pictures_and_lengths_need(tmp_path):
    create_text_samples(tmp_path / "data.jsonl", 2)
    code = f"""
import sys
from model_garden.datasets import check_examples, open_examples
assert check_examples(open_examples({str(tmp_path / "data.jsonl")!r}, vision=False)).ok
assert not {{"PIL", "numpy"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


MEMORY = """
import json, resource, sys
from pathlib import Path
from PIL import Image
from model_garden.datasets import check_examples, open_examples

folder = Path(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def checked(name, vision):
    report = check_examples(open_examples(folder / name, vision=vision), processes=1)
    assert report.ok, report.problems
    return peak()

few, many = checked("few.jsonl", False), checked("many.jsonl", False)
one, all_ = checked("one.jsonl", True), checked("all.jsonl", True)
print(json.dumps([many - few, all_ - one]))
"""


def test_memory_does_not_grow_with_rows_or_pictures(tmp_path):
    from PIL import Image

    row = json.dumps({"prompt": "word " * 100, "completion": "word " * 20}) + "\n"
    (tmp_path / "few.jsonl").write_text(row * 1000)
    with (tmp_path / "many.jsonl").open("w") as file:
        for _ in range(100):
            file.write(row * 1000)
    noise = Image.effect_noise((1024, 1024), 60).convert("RGB")
    for number in range(24):
        noise.save(tmp_path / f"{number}.jpg", quality=60 + number)
    pictures = [{"text": "a", "image": f"{number}.jpg", "response": "b"} for number in range(24)]
    write(tmp_path / "one.jsonl", pictures[:1])
    write(tmp_path / "all.jsonl", pictures)
    result = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], check=True, capture_output=True, text=True)
    by_rows, by_pictures = json.loads(result.stdout)
    assert by_rows < 12, "100,000 rows, 62 MB in the file, take under 12 MiB"
    assert by_pictures < 12, "23 more pictures, 69 MB decoded, take under 12 MiB"
