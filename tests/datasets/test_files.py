"""Rows of every kind of file and of folders, and the errors of files that cannot be read."""

import json
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from model_garden.datasets import DatasetError, open_examples
from model_garden.datasets.pictures import decode

ROWS = [{"prompt": f'{number}: ä, "b"\nc 🙂', "completion": f"«{number}»"} for number in range(5)]


def write_jsonl(path: Path, rows=ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path) -> Path:
    path.write_text(json.dumps(ROWS, ensure_ascii=False, indent=2), encoding="utf-8")
    return path


def write_csv(path: Path) -> Path:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def write_parquet(path: Path) -> Path:
    parquet.write_table(pa.Table.from_pylist(ROWS), path)
    return path


WRITERS = {".jsonl": write_jsonl, ".json": write_json, ".csv": write_csv, ".parquet": write_parquet}


def pairs(examples):
    return [tuple(message.parts[0] for message in example.messages) for example in examples]


EXPECTED = [(row["prompt"], row["completion"]) for row in ROWS]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The datasets library converts Parquet into a cache of the test's own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def error_of(path, **options) -> str:
    with pytest.raises(DatasetError) as caught:
        list(open_examples(path, **{"vision": False} | options))
    return str(caught.value)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_of_file_gives_the_same_examples(suffix, tmp_path):
    path = WRITERS[suffix](tmp_path / f"data{suffix}")
    examples = open_examples(path, vision=False)
    assert len(examples) == 5
    assert pairs(examples) == EXPECTED
    assert pairs(reversed(examples)) == EXPECTED[::-1]
    assert pairs(examples[1:3]) == EXPECTED[1:3]
    assert pairs([examples[-1]]) == EXPECTED[-1:]
    with pytest.raises(IndexError):
        examples[5]


@pytest.mark.parametrize("suffix", WRITERS)
def test_examples_are_pickled_for_worker_processes(suffix, tmp_path):
    examples = open_examples(WRITERS[suffix](tmp_path / f"data{suffix}"), vision=False)
    assert pairs(examples[:1]) == EXPECTED[:1]
    assert pairs(pickle.loads(pickle.dumps(examples))) == EXPECTED


@pytest.mark.parametrize("how", ["replaced", "written over"])
def test_a_file_that_changes_while_it_is_read_is_refused(how, tmp_path):
    """Its rows are found once by their bytes, and each worker process of a training opens it again."""
    path = tmp_path / "rows.jsonl"
    path.write_text(2 * '{"prompt": "a", "completion": "b"}\n')
    examples = open_examples(str(path), vision=False)
    assert examples[0]
    worker = pickle.loads(pickle.dumps(examples))
    changed = 2 * '{"prompt": "a", "completion": "c"}\n'
    if how == "replaced":
        (tmp_path / "other").write_text(changed)
        (tmp_path / "other").rename(path)
    else:
        path.write_text(changed)
    os.utime(path, ns=(0, 0))  # two changes within one tick of the clock are told apart
    with pytest.raises(DatasetError, match=r"rows.jsonl row 2: the file changed while it was read; start again"):
        worker[1]


def test_rows_are_numbered_as_an_editor_numbers_lines(tmp_path):
    def numbers(path):
        return [str(example.origin).removeprefix(f"{path} row ") for example in open_examples(path, vision=False)]

    spaced = tmp_path / "spaced.jsonl"
    spaced.write_text('\n{"text": "a"}\n\n  \n{"text": "b"}\n{"text": "c"}', encoding="utf-8")
    assert numbers(spaced) == ["2", "5", "6"]
    assert open_examples(spaced, vision=False).blank_lines == 3
    assert numbers(write_json(tmp_path / "data.json")) == ["1", "2", "3", "4", "5"]
    assert numbers(write_csv(tmp_path / "data.csv")) == ["2", "3", "4", "5", "6"]
    assert numbers(write_parquet(tmp_path / "data.parquet")) == ["1", "2", "3", "4", "5"]


def test_a_byte_order_mark_and_windows_line_ends_are_not_content(tmp_path):
    for name, content in (
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\r\n{"prompt": "c", "completion": "d"}\r\n'),
        ("a.json", '[\r\n{"prompt": "a", "completion": "b"} ,\r\n {"prompt": "c", "completion": "d"}\r\n]\r\n'),
        ("a.csv", "prompt,completion\r\na,b\r\nc,d\r\n"),
    ):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert pairs(open_examples(tmp_path / name, vision=False)) == [("a", "b"), ("c", "d")]


def test_a_json_file_of_lines_is_read_as_lines(tmp_path):
    path = write_jsonl(tmp_path / "data.json")
    assert pairs(open_examples(path, vision=False)) == EXPECTED


def test_nested_parquet_columns_and_pictures_are_kept(tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
            ],
            "images": [{"bytes": b"\x89PNG", "path": None}],
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
            ],
            "images": None,
        },
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    first, second = open_examples(tmp_path / "data.parquet", vision=True)
    assert [image.source for image in first.images] == [b"\x89PNG"]
    assert first.messages[0].parts[1] == "What?"
    assert second.messages[0].parts == ("Hi",)


def test_an_image_feature_of_the_datasets_library_stays_encoded(tmp_path):
    import datasets

    from model_garden.datasets.samples import create_vision_samples

    source = create_vision_samples(tmp_path / "source.jsonl", 2)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row in rows:
        row["image"] = {"bytes": (tmp_path / row["image"]).read_bytes(), "path": None}
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.to_parquet(tmp_path / "data.parquet")
    examples = open_examples(tmp_path / "data.parquet", vision=True)
    assert decode(examples[0].images[0]).size == (224, 224)
    assert isinstance(examples[0].images[0].source, bytes)


class TestFolders:
    def test_all_files_are_read_in_order_of_their_names(self, tmp_path):
        write_jsonl(tmp_path / "b.jsonl", ROWS[2:])
        write_jsonl(tmp_path / "a" / "x.jsonl", ROWS[:2])
        (tmp_path / "notes.md").write_text("no data")
        write_jsonl(tmp_path / ".hidden" / "c.jsonl")
        examples = open_examples(tmp_path, vision=False)
        assert pairs(examples) == EXPECTED
        assert str(examples[2].origin) == f"{tmp_path / 'b.jsonl'} row 1"

    def test_files_are_chosen_by_the_split_in_their_names(self, tmp_path):
        write_jsonl(tmp_path / "data" / "train-00000-of-00001.jsonl", ROWS[:3])
        write_jsonl(tmp_path / "data" / "validation.jsonl", ROWS[3:])
        assert pairs(open_examples(tmp_path, vision=False)) == EXPECTED[:3]
        assert pairs(open_examples(tmp_path, vision=False, split="validation")) == EXPECTED[3:]
        assert "has no split 'test'; its splits: train, validation" in error_of(tmp_path, split="test")

    def test_a_file_without_a_split_beside_files_with_one_is_refused(self, tmp_path):
        write_jsonl(tmp_path / "train.jsonl")
        write_jsonl(tmp_path / "more.jsonl")
        assert "more.jsonl have no split in their names" in error_of(tmp_path)

    def test_a_folder_without_data_files(self, tmp_path):
        assert "has no data file; accepted: .jsonl, .json, .csv, .parquet" in error_of(tmp_path)

    def test_a_split_that_no_file_has_in_its_name(self, tmp_path):
        write_jsonl(tmp_path / "data.jsonl")
        assert "no file name contains the split test; rename a file, for example to test.jsonl" in error_of(
            tmp_path, split="test"
        )
        assert "a single file has no splits, so the split 'test' cannot be read" in error_of(
            tmp_path / "data.jsonl", split="test"
        )


BROKEN = [
    ("a.jsonl", b"", "a.jsonl: has no rows; add at least one"),
    ("a.jsonl", b"\n \n", "a.jsonl: has no rows"),
    (
        "a.jsonl",
        b'{"text": "a"}\n{"text": "b"\n',
        "a.jsonl row 2: not JSON: Expecting ',' delimiter at character 13; fix",
    ),
    (
        "a.jsonl",
        b'{"text": "a\xff"}',
        "a.jsonl row 1: not UTF-8: invalid start byte at byte 12; save the file as UTF-8",
    ),
    ("a.jsonl", b'{"text": "a", "text": "b"}', "row 1: not JSON: the key 'text' is given twice"),
    ("a.jsonl", b'{"text": "a", "score": NaN}', "row 1: not JSON: NaN is no JSON number"),
    ("a.jsonl", b"[" * 100_000, "row 1: not readable: nested too deeply"),
    ("a.jsonl", b'{"text": ' + b"1" * 5000 + b"}", "row 1: not JSON: Exceeds the limit"),
    ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "is UTF-16 or UTF-32; save it as UTF-8"),
    ("a.json", b'"text"', "is not a JSON array of rows; write [{…}, {…}], or one object a line"),
    ("a.json", b"[]", "a.json: has no rows"),
    ("a.json", b'[{"text": "a"} {"text": "b"}]', "a.json row 1: expected a comma or ] after the row, found '{'"),
    ("a.json", b'[{"text": "a"},\n{"text": }]', "a.json row 2: not JSON: Expecting value (line 2)"),
    ("a.json", b'[{"text": "a"}', "a.json row 1: expected a comma or ] after the row, found the end of the file"),
    ("a.json", b'[{"text": "a"}] x', "a.json: 'x' after the end of the JSON array"),
    ("a.json", b'[{"text": "a"}, 3]', "a.json row 2: the row is a number, not an object"),
    ("a.json", b'[{"text": "a"},]', "a.json row 2: not JSON: Expecting value"),
    ("a.csv", b"prompt,completion\na\n", "a.csv row 2: the row has 1 cells, but the header has 2 columns; quote cells"),
    ("a.csv", b"prompt,completion\na,b\nc,d,e\n", "a.csv row 3: the row has 3 cells"),
    ("a.csv", b"prompt,prompt\na,b\n", "a.csv row 1: a column has no name, or two columns have the same name"),
    ("a.csv", b"prompt,completion\na,\n", 'a.csv row 2: "completion" is missing'),
    ("a.csv", b'prompt,completion\n"a,b\n', "a.csv row 2: not CSV: unexpected end of data"),
    ("a.csv", b"prompt,completion\na,\xff\n", "a.csv: not UTF-8"),
    ("a.parquet", b"PAR1 is not Parquet", "a.parquet: not readable as Parquet"),
    ("a.txt", b"a", "a.txt: unknown kind of file; accepted: .csv, .json, .jsonl, .parquet"),
]


@pytest.mark.parametrize(("name", "content", "words"), BROKEN, ids=[words[:60] for _, _, words in BROKEN])
def test_a_broken_file_is_refused_with_the_fix(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert words in error_of(tmp_path / name)


def test_a_path_that_does_not_exist_or_is_not_a_file_is_refused(tmp_path):
    assert "no such file or folder; relative paths start from" in error_of(tmp_path / "none.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is not a regular file" in error_of(tmp_path / "pipe.jsonl")


def test_a_data_file_outside_the_root_is_refused(tmp_path):
    root = tmp_path / "workspace"
    outside = write_jsonl(tmp_path / "secret.jsonl")
    (root / "data").mkdir(parents=True)
    (root / "data" / "link.jsonl").symlink_to(outside)
    for path in (outside, root / "data" / ".." / ".." / "secret.jsonl", root / "data" / "link.jsonl", root / "data"):
        assert "is outside" in error_of(path, root=root)
    inside = write_jsonl(root / "data" / "mine" / "data.jsonl")
    assert pairs(open_examples(inside, vision=False, root=root)) == EXPECTED
