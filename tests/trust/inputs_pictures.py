"""Attacks on pixels: pictures in every form that PIL reads, and masks."""

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from infocam.data.masks import read_mask
from mi_common.pictures import read_image
from tests.trust.cases import Answer, Case, Kind, pick
from tests.trust.spoilers import damage


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """A small PNG whose header claims so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def _valid_picture(rng: np.random.Generator, pixels: np.ndarray) -> tuple[str, bytes, np.ndarray]:
    """In words, a file, and the upright 8-bit RGB pixels in it."""
    image = Image.fromarray(pixels)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    how = pick(
        rng,
        (
            *("PNG", "turned", "turned", "16 bits", "grey", "palette", "transparent", "BMP"),
            *("WebP", "two levels", "grey and alpha", "interlaced"),
        ),
    )
    if how == "turned":
        turn = int(rng.integers(1, 9))
        exif = Image.Exif()
        exif[0x0112] = turn
        return f"turned {turn}", encoded(image, "PNG", exif=exif), TURNS[turn](pixels)
    if how == "16 bits":  # the darkest value is black, the lightest white
        deep = rng.integers(100, 30_000, pixels.shape[:2]).astype(np.uint16)
        scaled = (deep - deep.min()) / np.ptp(deep.astype(int)) * 255
        return how, encoded(Image.fromarray(deep), "PNG"), np.repeat(scaled[..., None], 3, axis=2)
    if how == "transparent":
        alpha = (rng.random(pixels.shape[:2]) > 0.5) * np.uint8(255)
        shown = np.where(alpha[..., None] > 0, pixels, 255)
        return how, encoded(Image.fromarray(np.dstack([pixels, alpha])), "PNG"), shown
    if how == "grey and alpha":
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
        return how, encoded(Image.fromarray(np.dstack([pixels[..., 0], alpha]), "LA"), "PNG"), grey
    if how == "palette":
        few = image.quantize(8)
        return how, encoded(few, "PNG"), np.asarray(few.convert("RGB"))
    if how == "two levels":
        few = Image.fromarray(pixels[..., 0] > 127)
        return how, encoded(few, "PNG"), np.asarray(few.convert("RGB"))
    if how == "grey":
        return how, encoded(Image.fromarray(pixels[..., 0]), "PNG"), grey
    options = {"WebP": {"lossless": True}}.get(how, {})
    return how, encoded(image, how if how in ("BMP", "WebP") else "PNG", **options), pixels


def picture_case(rng, folder: Path, shop) -> Case:
    pixels = rng.integers(0, 256, (int(rng.integers(2, 12)), int(rng.integers(2, 12)), 3), np.uint8)
    path, act = folder / "picture.png", None
    act = partial(read_image, path)

    def right(answer: Answer, shown: np.ndarray) -> bool:
        found = np.asarray(answer.value).astype(float)
        return found.shape == shown.shape and np.abs(found - shown).max() <= 1

    kind = pick(rng, ("valid", "valid", "damaged", "damaged", "absurd"))
    if kind == "valid":
        what, data, shown = _valid_picture(rng, pixels)
        path.write_bytes(data)
        return Case(what, act, partial(right, shown=shown), True, (path,))
    if kind == "damaged":  # PNG has checksums
        what, data = damage(rng, encoded(Image.fromarray(pixels), "PNG"))
        path.write_bytes(data)
        return Case(f"PNG, {what}", act, partial(right, shown=pixels), False, (path,))
    jpeg = encoded(Image.fromarray(pixels), "JPEG")
    options = {
        "empty": b"",
        "text": b"<svg></svg>",
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "noise": rng.bytes(400),
        "zeros": bytes(400),
    }
    options |= {
        f"claims {w} x {h}": png_bomb(w, h)
        for w, h in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (0, 5))
    }
    what, data = pick(rng, options.items())
    path.write_bytes(data)
    if rng.random() < 0.1:
        what, _ = "a folder", (path.unlink(), path.mkdir())
    return Case(what, act, None, False, (path,))


def mask_case(rng, folder: Path, shop) -> Case:
    height, width = int(rng.integers(3, 12)), int(rng.integers(3, 12))
    path, truth = folder / "mask.png", (rng.random((height, width)) > 0.5).astype(np.uint8)
    truth[0, :2] = 0, 1
    act, white = partial(read_mask, path, width, height), truth * np.uint8(255)
    right = lambda answer: np.array_equal(answer.value, truth)  # noqa: E731
    sure = np.where(
        truth > 0, rng.integers(128, 256, truth.shape), rng.integers(0, 128, truth.shape)
    )
    palette = Image.fromarray(truth, "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    valid = {
        "0 and 255": Image.fromarray(white),
        "0 and 1": Image.fromarray(truth),
        "two levels": Image.fromarray(truth > 0),
        "grey in RGB": Image.fromarray(np.dstack([white] * 3)),
        "how sure": Image.fromarray(sure.astype(np.uint8)),
        "palette": palette,
    }
    colours = np.dstack([white, white, 255 - white])
    deep = Image.fromarray(truth.astype(np.uint16) * 65535)
    invalid = {
        "colours": encoded(Image.fromarray(colours), "PNG"),
        "16 bits": encoded(deep, "PNG"),
        "wrong size": encoded(Image.fromarray(white[:-1]), "PNG"),
        "empty": b"",
        "text": b"no mask",
        "bomb": png_bomb(2**20, 2**20),
        "floats": encoded(deep.convert("F"), "TIFF"),
    }
    kind = pick(rng, ("valid", "invalid", "damaged"))
    if kind == "valid":
        what, image = pick(rng, valid.items())
        image.save(path)
        return Case(what, act, right, True, (path,))
    if kind == "invalid":
        what, data = pick(rng, invalid.items())
        path.write_bytes(data)
        return Case(what, act, None, False, (path,))
    what, data = damage(rng, encoded(Image.fromarray(white), "PNG"))
    path.write_bytes(data)
    return Case(what, act, right, False, (path,))


KINDS = {"pictures": Kind(picture_case, share=2), "masks": Kind(mask_case)}
