"""Decodes images for training, and checks that they can be decoded."""

from __future__ import annotations

import io
import math
import stat
import warnings
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from model_garden.datasets.errors import RowError, shown
from model_garden.datasets.example import ImageRef
from model_garden.datasets.sizes import MAX_PIXELS, Size, bounded, check_size

Image.preinit()  # loads the other plugins, since Pillow loads none when formats are given
FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "PPM",
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
)
"""The accepted formats, as Pillow names them. Others (EPS, PSD, …) are programs or have layers."""
REDUCING_GAP = 1.5
"""Pillow recommends 2 or 3 for its own thumbnails; below 1 the result would be less sharp."""

_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_TRANSPOSED = (5, 6, 7, 8)
_ORIENTATION = 0x0112


def decode(image: ImageRef, min_pixels: int | None = None, max_pixels: int | None = None) -> Image.Image:
    """The image as RGB, turned upright as its EXIF data says, on white where transparent, its area within the bounds.

    A JPEG that is scaled down is decoded at a half, a quarter or an eighth of its size, where that is at least
    ``REDUCING_GAP`` times the wanted size: a quarter of the work or less, and no visible difference.

    Raises:
        OSError, ValueError: it cannot be decoded; ``verify`` reports that before, with a fix.
    """
    with Image.open(_opened(_source(image)), formats=FORMATS) as opened:
        stored = opened.size
        if opened.getexif().get(_ORIENTATION, 1) in _TRANSPOSED:
            stored = (opened.height, opened.width)
        wanted = bounded(stored, min_pixels, max_pixels)
        if opened.format in ("JPEG", "MPO") and wanted[0] < stored[0]:
            gap = REDUCING_GAP * wanted[0] / stored[0]
            opened.draft(None, (math.ceil(opened.width * gap), math.ceil(opened.height * gap)))
        ImageOps.exif_transpose(opened, in_place=True)
        picture = _on_white(opened)
    return picture if picture.size == wanted else _resized(picture, wanted)


def _resized(picture: Image.Image, size: Size) -> Image.Image:
    """Bicubic by torchvision, which training imports anyway: four times as fast as Pillow, at most 1 of 255 apart."""
    from torchvision.transforms.v2 import functional

    pixels = functional.pil_to_tensor(picture)
    bicubic = functional.InterpolationMode.BICUBIC
    pixels = functional.resize(pixels, [size[1], size[0]], interpolation=bicubic, antialias=True)
    resized: Image.Image = functional.to_pil_image(pixels)
    return resized


def _on_white(image: Image.Image) -> Image.Image:
    """The image as RGB. One that is RGB already is loaded and not copied."""
    if not image.has_transparency_data:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    solid = Image.new("RGBA", image.size, "white")
    solid.alpha_composite(image.convert("RGBA"))
    return solid.convert("RGB")


def verify(image: ImageRef) -> Size:
    """Width and height in pixels, as ``decode`` gives them, of an image that is known to decode.

    Every byte is decoded, so that a truncated file is found; a JPEG at an eighth of its size, which reads all of the
    file too. Sizes of files are cached: rows often share an image.

    Raises:
        RowError: it is missing, empty, broken, too large, too thin, or has more than eight bits a color.
    """
    source = _source(image)
    return _verify_file(source) if isinstance(source, Path) else _verify(source, name_of(image))


def thumbnail(image: ImageRef, side: int) -> bytes | None:
    """A JPEG of an image, upright, neither side longer than ``side`` pixels; None if it cannot be decoded.

    An image that cannot be trained on, such as one that is too thin, is shown all the same.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(_opened(_source(image)), formats=FORMATS) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    return None
                opened.draft("RGB", (2 * side, 2 * side))
                ImageOps.exif_transpose(opened, in_place=True)
                small = _on_white(opened)
    except Exception:  # Pillow's plugins raise errors of a dozen unrelated classes; ``verify`` says what is wrong
        return None
    small.thumbnail((side, side))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return content.getvalue()


def name_of(image: ImageRef) -> str:
    """An image as messages name it."""
    source = image.source
    return f"the {len(source)} embedded bytes" if isinstance(source, bytes) else f"the image {source}"


def _source(image: ImageRef) -> Path | bytes:
    if isinstance(image.source, str):
        raise RowError(f"the image {shown(image.source, 200)} is not fetched", "fetch it first")
    return image.source


def _verify_file(path: Path) -> Size:
    name = name_of(ImageRef(path))
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        hint = "; base64 starts with data:image/png;base64," if len(str(path)) > 255 else ""
        reason = getattr(error, "strerror", None) or str(error)
        raise RowError(
            f"the image {shown(str(path), 200)} cannot be read: {reason}",
            f"check the path; a relative path starts from the data file's folder{hint}",
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise RowError(f"{name} is not a regular file", "give the path of an image")
    if not status.st_size:
        raise RowError(f"{name} is empty (0 bytes)", "copy it again or remove the row")
    return _verify_content(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _verify_content(path: Path, *_content: int) -> Size:
    """The size of a file with this content, which its inode, size and time stand for."""
    return _verify(path, name_of(ImageRef(path)))


def _verify(source: Path | bytes, name: str) -> Size:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks below decide on what Pillow warns of
        try:
            with Image.open(_opened(source), formats=FORMATS) as image:
                _check_header(image, name)
                orientation = image.getexif().get(_ORIENTATION, 1)
                width, height = image.size
                if image.format in ("JPEG", "MPO"):
                    image.draft(None, (max(1, width // 8), max(1, height // 8)))
                image.load()
        except RowError:
            raise
        except UnidentifiedImageError:
            raise RowError(
                f"{name} is not an image of a supported type ({', '.join(FORMATS)})",
                "save it as PNG or JPEG, or remove the row",
            ) from None
        except Image.DecompressionBombError:
            raise RowError(f"{name} is larger than {MAX_PIXELS} pixels", "scale it down") from None
        except Exception as error:  # Pillow's plugins raise errors of a dozen unrelated classes
            reason = shown(str(error).split("\n")[0], 120) if str(error) else type(error).__name__
            raise RowError(
                f"{name} cannot be decoded: {reason}", "save it again as PNG or JPEG, or remove the row"
            ) from None
    return (height, width) if orientation in _TRANSPOSED else (width, height)


def _opened(source: Path | bytes) -> Path | io.BytesIO:
    return source if isinstance(source, Path) else io.BytesIO(source)


def _check_header(image: Image.Image, name: str) -> None:
    check_size(image.size, name)
    if image.mode in _DEEP_MODES:
        raise RowError(
            f"{name} has more than eight bits a color (mode {image.mode})", "save it with eight bits a color"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's JPEG with a second, auxiliary image
        raise RowError(
            f"{name} has {frames} frames or pages", 'save each frame as its own file and list the files in "images"'
        )
