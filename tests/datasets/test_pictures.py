"""Pictures that can be trained on are decoded upright and on white; others are refused with a reason."""

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from model_garden.datasets import check_examples, open_examples, pictures
from model_garden.datasets.errors import RowError
from model_garden.datasets.example import ImageRef
from model_garden.datasets.pictures import decode
from model_garden.datasets.sizes import bounded


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 60, height: int = 40) -> Image.Image:
    return Image.effect_noise((width, height), 80).convert("RGB")


def verify(source: Path | bytes) -> tuple[int, int]:
    return pictures.verify(ImageRef(source))


def error_of(source) -> str:
    with pytest.raises(RowError) as caught:
        verify(source)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_common_formats_are_read(kind, tmp_path):
    data = encoded(noise(), kind)
    path = tmp_path / "picture"
    path.write_bytes(data)
    assert verify(data) == verify(path) == (60, 40)
    image = decode(ImageRef(path))
    assert (image.mode, image.size) == ("RGB", (60, 40))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_common_modes_become_rgb(mode):
    data = encoded(noise().convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    assert verify(data) == (60, 40)
    assert decode(ImageRef(data)).mode == "RGB"


def test_a_transparent_picture_gets_a_white_background():
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    opened = decode(ImageRef(encoded(image)))
    assert opened.getpixel((0, 0)) == (0, 0, 0)
    assert opened.getpixel((5, 5)) == (255, 255, 255)


def test_a_photo_is_turned_upright_and_measured_upright():
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    data = encoded(image, "JPEG", exif=exif)
    opened = decode(ImageRef(data))
    assert verify(data) == opened.size == (20, 40)
    assert opened.getpixel((10, 2))[0] < 60 < 200 < opened.getpixel((10, 30))[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_picture_is_refused(kind, tmp_path):
    data = encoded(noise(), kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) * 2 // 3])
    assert f"the image {path} cannot be decoded" in error_of(path)
    assert "embedded bytes cannot be decoded" in error_of(data[: len(data) * 2 // 3])


def test_a_file_that_is_not_a_picture_is_refused(tmp_path):
    text = tmp_path / "a.png"
    text.write_text("I am text")
    assert (
        "is not an image of a supported type (PNG, JPEG, GIF, BMP, PPM, TIFF, WEBP); save it as PNG or JPEG"
        in error_of(text)
    )
    empty = tmp_path / "b.png"
    empty.touch()
    assert error_of(empty) == f"the image {empty} is empty (0 bytes); copy it again or remove the row"
    assert "cannot be read: No such file or directory; check the path" in error_of(tmp_path / "c.png")
    assert "is not a regular file" in error_of(tmp_path)
    assert "base64 starts with data:image/png;base64," in error_of(Path("iVBORw0KGgo" * 1000))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that only says it is that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png_of_size(10_000, 9_000), "has 10000 x 9000 pixels, more than 89478485; scale it down"),
        (png_of_size(100_000, 100_000), "is larger than 89478485 pixels; scale it down"),
        (
            encoded(Image.new("RGB", (10_000, 1))),
            "is 10000 x 1: one side is 200 times the other or more; crop or pad it",
        ),
        (encoded(Image.new("RGB", (10, 2000))), "is 10 x 2000: one side is 200 times"),
        (encoded(Image.new("RGB", (3, 3))), "is 3 x 3: a side is below 4 pixels"),
        (encoded(Image.new("I;16", (40, 40))), "has more than eight bits a color (mode I;16)"),
        (
            encoded(noise(), "GIF", save_all=True, append_images=[noise()]),
            "has 2 frames or pages; save each frame as its own file",
        ),
        (encoded(noise(), "TIFF", save_all=True, append_images=[noise()]), "has 2 frames or pages"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is not an image of a supported type"),
    ],
    ids=["large", "bomb", "thin", "tall", "tiny", "deep", "animated", "pages", "program"],
)
def test_a_picture_that_cannot_be_trained_on_is_refused(data, words):
    assert words in error_of(data)


def test_a_picture_of_nearly_the_longest_shape_is_accepted():
    assert verify(encoded(Image.new("RGB", (1990, 10)))) == (1990, 10)


@pytest.mark.parametrize("size", [(19_990, 100), (100, 19_990), (1990, 10), (801, 600)])
def test_scaling_never_makes_a_picture_longer_in_shape(size):
    for max_pixels in (1_003_520, 50_176, 784):
        scaled = bounded(size, None, max_pixels)
        assert max(scaled) / min(scaled) <= max(size) / min(size)
        assert scaled[0] * scaled[1] <= max_pixels


def test_a_picture_that_scaling_makes_too_thin_is_refused(tmp_path):
    Image.new("RGB", (1990, 10)).save(tmp_path / "strip.png")
    Image.new("RGB", (100, 100)).save(tmp_path / "square.png")
    rows = [{"text": "a", "image": name, "response": "b"} for name in ("square.png", "strip.png")]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = open_examples(tmp_path / "data.jsonl", vision=True)
    assert check_examples(examples).ok
    assert check_examples(examples, bounds=(None, 10_000)).ok
    assert check_examples(examples, bounds=(None, 2500)).problems == [
        f"{tmp_path}/data.jsonl row 2: the image {tmp_path}/strip.png is 1990 x 10, scaled to 597 x 3: a side is "
        "below 4 pixels; raise imageOptions.maxPixels, or crop the image"
    ]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_scaled_between_the_bounds_and_looks_the_same(kind, orientation):
    gradient = Image.linear_gradient("L").resize((1203, 801))
    photo = Image.merge("RGB", (gradient, gradient.rotate(180), gradient))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo, kind, exif=exif)
    whole = decode(ImageRef(data))
    for bounds in ((None, 200_000), (None, 40_000), (2_000_000, None), (1000, 2_000_000)):
        opened = decode(ImageRef(data), *bounds)
        expected = whole.resize(bounded(whole.size, *bounds), Image.Resampling.BICUBIC)
        assert opened.size == expected.size == bounded(verify(data), *bounds)
        difference = ImageChops.difference(opened, expected)
        assert max(high for _, high in difference.getextrema()) <= 12
        assert max(ImageStat.Stat(difference).mean) < 1
