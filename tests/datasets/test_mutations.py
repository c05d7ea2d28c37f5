"""200 data sets, each broken in one row at random: refused by file and row, or valid and unchanged.

Nothing that is trained on may be invented: every text of an example stands in its row, every picture in its file.
"""

import base64
import copy
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from model_garden.datasets import DatasetError, check_examples, open_examples
from model_garden.datasets.pictures import decode
from model_garden.datasets.samples import create_vision_samples

NAMES = [f"data_images/{number:04}.png" for number in range(1, 7)]
Row = dict
Line = str | bytes


def base_rows(rng: random.Random) -> list[Row]:
    """Six valid rows of three formats."""
    rows = []
    for number, name in enumerate(NAMES):
        question, answer = f"question {number} äß 🙂", f"answer {number}"
        rows.append(
            rng.choice(
                [
                    {"text": question, "image": name, "response": answer},
                    {
                        "messages": [
                            {
                                "role": "user",
                                "content": [{"type": "image", "image": name}, {"type": "text", "text": question}],
                            },
                            {"role": "assistant", "content": answer},
                        ]
                    },
                    {
                        "images": [name],
                        "conversations": [
                            {"from": "human", "value": f"<image>{question}"},
                            {"from": "gpt", "value": answer},
                        ],
                    },
                ]
            )
        )
    return rows


def places(value, path=()):
    """Every place in a row, from the outside in."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def at(row, path):
    for key in path:
        row = row[key]
    return row


def put(row, path, value):
    at(row, path[:-1])[path[-1]] = value


def image_place(row: Row):
    return next(place for place in places(row) if at(row, place) in NAMES)


def answer_place(row: Row):
    return next(p for p in places(row) if isinstance(at(row, p), str) and at(row, p).startswith("answer"))


# What may turn out valid: the row's text says so, not this test.


def remove_a_key(row, rng, folder):
    place = rng.choice([p for p in places(row) if isinstance(p[-1], str)])
    del at(row, place[:-1])[place[-1]]


def change_a_type(row, rng, folder):
    put(row, rng.choice(list(places(row))), rng.choice([None, 3, 2.5, True, [], {}, "", "text", ["text"], {"a": 1}]))


def swap_roles(row, rng, folder):
    text = json.dumps(row)
    swapped = text.replace('"user"', '"x"').replace('"assistant"', '"user"').replace('"x"', '"assistant"')
    row.update(json.loads(swapped.replace("human", "x").replace("gpt", "human").replace('"x"', '"gpt"')))


def flip_a_byte(row, rng, folder):
    line = bytearray(json.dumps(row, ensure_ascii=False).encode())
    line[rng.randrange(len(line))] = rng.choice(b'"{}[],:\\x\xff\x00')
    return bytes(line).replace(b"\n", b" ")


# What can never be trained on.


def cut_the_line(row, rng, folder):
    line = json.dumps(row)
    return line[: rng.randrange(1, len(line) - 1)]


def broken_unicode(row, rng, folder):
    return json.dumps(row, ensure_ascii=False).encode().replace(b"answer", b"answ\xc3\x28er")


def half_a_character(row, rng, folder):
    put(row, answer_place(row), "a\udc80")


def no_answer(row, rng, folder):
    put(row, answer_place(row), rng.choice(["", " ", "\n\t", None, 7, ["a"]]))


def twice_the_same_key(row, rng, folder):
    return json.dumps(row)[:-1] + f', "{next(iter(row))}": "other"}}'


def new_picture(folder: Path, rng: random.Random, data: bytes) -> str:
    path = folder / f"mutant{rng.randrange(10**9)}.png"
    path.write_bytes(data)
    return path.name


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 60).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


VALID_PNG = png(64, 64)
BOMB = png(1, 1).replace((1).to_bytes(4) + (1).to_bytes(4), (60_000).to_bytes(4) * 2)  # its header alone


def bad_picture(row, rng, folder):
    data = rng.choice(
        [b"", b"text", VALID_PNG[:40], VALID_PNG[: len(VALID_PNG) // 2], png(10_000, 1), png(1, 300), png(2, 2), BOMB]
    )
    put(row, image_place(row), new_picture(folder, rng, data))


def embedded_bad_picture(row, rng, folder):
    data = base64.b64encode(rng.choice([b"text", VALID_PNG[:50], png(10_000, 1)])).decode()
    uri = rng.choice([f"data:image/png;base64,{data}", "data:image/png;base64,", f"data:image/png;base64,!{data}"])
    put(row, image_place(row), uri)


def missing_picture(row, rng, folder):
    put(row, image_place(row), rng.choice(["none.png", "data_images", "data_images/none/a.png", "a" * 5000, "~/a.png"]))


def escape(row, rng, folder):
    link = folder / f"link{rng.randrange(10**9)}"
    link.symlink_to(rng.choice([folder.parent, "/etc"]))
    choices = ["/etc/hostname", "../secret.png", f"{link.name}/secret.png", f"data_images/../{link.name}/../secret.png"]
    put(row, image_place(row), rng.choice(choices))


def linked_out(row, rng, folder):
    link = folder / f"link{rng.randrange(10**9)}.png"
    link.symlink_to(folder.parent / "secret.png")
    put(row, image_place(row), link.name)


def special_file(row, rng, folder):
    pipe = folder / f"pipe{rng.randrange(10**9)}.png"
    os.mkfifo(pipe)
    put(row, image_place(row), rng.choice([pipe.name, "."]))


def address(row, rng, folder):
    schemes = ["http://example.org/a.png", "https://example.org/a.png", "file:///etc/hostname", "s3://bucket/a.png"]
    put(row, image_place(row), rng.choice(schemes))


def two_image_columns(row, rng, folder):
    row["image"], row["images"] = NAMES[0], NAMES[1:3]


def not_an_object(row, rng, folder):
    return rng.choice(["[]", "3", "null", '"text"', "[" * 3000, json.dumps([row])])


MAYBE: list[Callable] = [remove_a_key, change_a_type, swap_roles, flip_a_byte]
NEVER: list[Callable] = [
    cut_the_line,
    broken_unicode,
    half_a_character,
    no_answer,
    twice_the_same_key,
    bad_picture,
    embedded_bad_picture,
    missing_picture,
    escape,
    linked_out,
    special_file,
    address,
    two_image_columns,
    not_an_object,
]


def texts(value):
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(child)


def invented(example, row: Row, folder: Path) -> list:
    """What an example holds that its row does not."""
    known, found = list(texts(row)), []
    for message in example.messages:
        for part in message.parts:
            if isinstance(part, str):
                if not any(part in text for text in known):
                    found.append(part)
            elif not any(part.source == folder / text for text in known):
                found.append(part.source)
    return found


def lost(example, row: Row) -> list[str]:
    """Questions and answers of a row that its example does not hold."""
    kept = "".join(part for message in example.messages for part in message.parts if isinstance(part, str))
    given = [text.removeprefix("<image>") for text in texts(row) if "question" in text or "answer" in text]
    return [text for text in given if text not in kept]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mutations")
    create_vision_samples(folder / "workspace" / "data.jsonl", 6)
    (folder / "secret.png").write_bytes(VALID_PNG)
    return folder / "workspace"


@pytest.mark.parametrize("seed", range(200))
def test_a_mutated_data_set_is_refused_by_row_or_is_valid(seed, pictures):
    rng = random.Random(seed)
    rows = base_rows(rng)
    victim = rng.randrange(len(rows))
    mutate = rng.choice(rng.choice([MAYBE, NEVER, NEVER]))
    mutant = copy.deepcopy(rows[victim])
    line = mutate(mutant, rng, pictures)
    lines: list[Line] = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines[victim] = json.dumps(mutant) if line is None else line
    path = pictures / f"{seed}.jsonl"
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in lines))

    examples = open_examples(path, vision=True, root=pictures)
    report = check_examples(examples, processes=1)

    if not report.ok:
        assert report.problem_count == 1
        assert report.problems[0].startswith(f"{path} row {victim + 1}: ")
        assert "; " in report.problems[0], "a fix follows the reason"
        assert len(report.problems[0]) < 700
        with pytest.raises(DatasetError):
            report.raise_for_problems()
        return
    assert mutate in MAYBE, f"{mutate.__name__} was not found: {lines[victim]!r}"
    read = json.loads(lines[victim])
    assert invented(examples[victim], read, pictures) == []
    assert lost(examples[victim], read) == [] or report.ignored_columns
    assert [decode(image).size for example in examples for image in example.images]
    for index, row in enumerate(rows):
        if index != victim:
            assert invented(examples[index], row, pictures) == []
            assert len(examples[index].images) == 1
