"""Picture files: from bytes to uint8 [h, w, 3] and back. Whatever the file holds, out comes RGB or a sentence."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble_bench.errors import BadData

if TYPE_CHECKING:
    from PIL import Image

Picture = NDArray[np.uint8]
Alter = Callable[[str, Picture], Picture]  # of a sample id and its picture

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")


def files(folder: Path) -> list[Path]:
    """The files of a folder and all its sub-folders, sorted; hidden ones do not count, links to folders are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def below(folder: Path) -> list[Path]:
    """The picture files among them, by their endings."""
    return [path for path in files(folder) if path.suffix.lower() in ENDINGS]


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """A picture of 16 bits a value as one of 8, rounded to the nearest; others as they are."""
    from PIL import Image

    if image.mode in _SIXTEEN or (image.mode == "I" and image.format == "PNG"):  # Pillow below 11 calls a 16-bit PNG "I"
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadData(f"{name} holds values of 32 bits, whose range nobody knows: convert it to 8 bits.")
    return image


def decoded(data: bytes, name: str) -> Picture:
    """The picture of a file's bytes as RGB, uint8 [h, w, 3], rows as they are stored (orientation tags are not followed).

    Grey becomes three equal channels, 16 bits become 8, palettes their colours, CMYK is converted, transparency is dropped,
    of an animation the first picture counts. Raises BadData, which begins with ``name``, for what is no whole picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as file:
            return as_rgb(file, name)
    except UnidentifiedImageError:
        raise BadData(f"{name} is no picture.") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise BadData(f"{name} cannot be decoded: {error}.") from None


def as_rgb(file: Image.Image, name: str) -> Picture:
    """An opened picture as RGB, uint8 [h, w, 3], as ``decoded`` has it; raises what Pillow raises where it is no whole one."""
    file.load()
    image = _eight_bits(file, name)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.array(image.convert("RGB"))


def encoded(picture: Picture, jpeg: int | None = None) -> bytes:
    """The bytes of a file: PNG, or JPEG of that quality."""
    from PIL import Image

    out = BytesIO()
    if jpeg is None:
        Image.fromarray(picture).save(out, "PNG", compress_level=1)
    else:
        Image.fromarray(picture).save(out, "JPEG", quality=jpeg)
    return out.getvalue()


def cropped(picture: Picture, side: int) -> Picture:
    """The picture resized so that its short side is ``side`` (bilinear, antialiased), and its middle [side, side, 3]."""
    from PIL import Image

    height, width = picture.shape[:2]
    if (height, width) == (side, side):
        return picture
    short = min(height, width)
    size = side * width // short, side * height // short
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    scale = short / side
    box = left * scale, top * scale, min((left + side) * scale, width), min((top + side) * scale, height)
    return np.array(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR, box=box))
