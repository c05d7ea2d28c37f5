"""The sample data sets: real pictures, true answers, and the same files every time."""

import json
from pathlib import Path

import pytest

from model_garden.datasets import check_examples, open_examples
from model_garden.datasets.samples import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    create_text_samples,
    create_vision_samples,
    draw,
    vision_scenes,
)

DATA = Path(__file__).parents[2] / "data"


def test_vision_samples_pass_the_check(tmp_path):
    path = create_vision_samples(tmp_path / "new" / "samples.jsonl", 40)
    report = check_examples(open_examples(path, vision=True, root=tmp_path))
    assert report.ok, report.problems
    assert (report.rows, report.images) == (40, 40)
    answers = {row["response"] for row in map(json.loads, path.read_text().splitlines())}
    assert len(answers) > 25


def test_text_samples_pass_the_check(tmp_path):
    report = check_examples(open_examples(create_text_samples(tmp_path / "samples.jsonl", 40), vision=False))
    assert report.ok, report.problems
    assert report.rows == 40
    assert report.turns > 80


def test_the_answers_are_true_of_the_pictures():
    for scene, (_, answer) in vision_scenes(80):
        image = draw(scene)
        colors = {color for _, color in sorted(image.getcolors(maxcolors=100_000))[-2:]}
        assert colors == {COLORS[scene.color], BACKGROUNDS[scene.background]}
        left, top, right, bottom = inside_box(image, COLORS[scene.color])
        thirds = ("left", "center", "right"), ("top", "middle", "bottom")
        middle = ((left + right) / 2, (top + bottom) / 2)
        assert (thirds[0][round(middle[0] / 56) - 1], thirds[1][round(middle[1] / 56) - 1]) == (scene.column, scene.row)
        assert any(word in answer(scene) for word in (scene.shape, scene.place))


def inside_box(image, color):
    mask = [[image.getpixel((x, y)) == color for x in range(image.width)] for y in range(image.height)]
    rows = [y for y, line in enumerate(mask) if any(line)]
    columns = [x for x in range(image.width) if any(line[x] for line in mask)]
    return columns[0], rows[0], columns[-1], rows[-1]


def test_every_shape_is_drawn_in_the_first_rows():
    assert {scene.shape for scene, _ in vision_scenes(len(SHAPES))} == set(SHAPES)


def test_files_are_the_same_every_time_and_a_longer_set_starts_with_a_shorter_one(tmp_path):
    first = create_vision_samples(tmp_path / "a" / "data.jsonl", 3)
    longer = create_vision_samples(tmp_path / "b" / "data.jsonl", 5)
    assert longer.read_text().startswith(first.read_text())
    for picture in (tmp_path / "a" / "data_images").iterdir():
        assert picture.read_bytes() == (tmp_path / "b" / "data_images" / picture.name).read_bytes()


def test_the_files_in_data_are_what_the_commands_write(tmp_path):
    vision = create_vision_samples(tmp_path / "vision_test_dataset.jsonl", 10)
    text = create_text_samples(tmp_path / "text_test_dataset.jsonl", 16)
    assert (DATA / vision.name).read_text() == vision.read_text()
    assert (DATA / text.name).read_text() == text.read_text()
    report = check_examples(open_examples(DATA / vision.name, vision=True, root=DATA))
    assert report.ok, report.problems
    assert report.images == 10


@pytest.mark.parametrize("create", [create_vision_samples, create_text_samples])
def test_other_data_is_not_overwritten(create, tmp_path):
    path = tmp_path / "data.jsonl"
    create(path, 2)
    create(path, 2)
    with pytest.raises(FileExistsError, match="exists with other data; choose another path"):
        create(path, 3)
    with pytest.raises(ValueError, match="0 makes no data set"):
        create(tmp_path / "none.jsonl", 0)
    assert not (tmp_path / "none.jsonl").exists()
