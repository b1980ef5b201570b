"""PNG pictures and colour scales from arrays: the same bytes for the same array."""

from __future__ import annotations

import struct
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

Bytes2D = NDArray[np.uint8]

_GREY, _RGB, _PALETTE = 0, 2, 3

LEVEL = 6
"""Of zlib: pictures are hardly larger than with 9 and take a fraction of the time."""

HUES = {"ember": (300.0, 465.0), "glacier": (290.0, 170.0)}
"""Hue in degrees at the low and the high end of each scale."""


def grey_png(picture: Bytes2D) -> bytes:
    """Return an 8-bit greyscale PNG of a picture with axes row, column."""
    return _png(picture[..., None], _GREY)


def rgb_png(picture: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit colour PNG of a picture with axes row, column, channel."""
    return _png(picture, _RGB)


def scale_png(picture: Bytes2D, scale: str) -> bytes:
    """Return a PNG whose byte t is drawn in colour t of a scale, 0 being clear."""
    palette = _chunk(b"PLTE", colour_scale(scale).tobytes())
    return _png(picture[..., None], _PALETTE, palette + _chunk(b"tRNS", scale_opacity().tobytes()))


@cache
def colour_scale(name: str) -> NDArray[np.uint8]:
    """Return 256 colours (red, green, blue) whose lightness grows in equal steps.

    A colour of OKLab outside sRGB loses chroma, never lightness: equal differences look equal.

    Source: Ottosson 2020, "A perceptual color space for image processing".
    """
    t = np.linspace(0.0, 1.0, 256)
    lightness = 0.22 + 0.74 * t
    start, stop = HUES[name]
    hue = np.deg2rad(start + (stop - start) * t)
    wanted = 0.11 + 0.09 * np.sin(np.pi * t)
    chroma = np.zeros_like(t)
    for share in np.linspace(0.0, 1.0, 101):
        rgb = _linear_rgb(lightness, share * wanted, hue)
        inside = ((rgb >= 0.0) & (rgb <= 1.0)).all(axis=1)
        chroma = np.where(inside, share * wanted, chroma)
    linear = np.clip(_linear_rgb(lightness, chroma, hue), 0.0, 1.0)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255.0 * gamma).astype(np.uint8)


@cache
def scale_opacity() -> NDArray[np.uint8]:
    """Return the opacity of the 256 steps: clear at 0, 0.9 from a third upwards."""
    t = np.linspace(0.0, 1.0, 256)
    return np.rint(230.0 * np.minimum(1.0, 3.0 * t)).astype(np.uint8)


def _linear_rgb(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]
) -> NDArray[np.float64]:
    """OKLCh to linear sRGB, with Ottosson's two matrices."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    return np.stack([red, green, blue], axis=1)


def _png(picture: NDArray[np.uint8], kind: int, extra: bytes = b"") -> bytes:
    rows, columns, _ = picture.shape
    # neighbouring indices of a palette say nothing of each other, so filtering would not help it
    number, filtered = (0, picture) if kind == _PALETTE else (4, _paeth(picture))
    lines = np.pad(filtered.reshape(rows, -1), ((0, 0), (1, 0)), constant_values=number)
    header = struct.pack(">IIBBBBB", columns, rows, 8, kind, 0, 0, 0)
    body = _chunk(b"IDAT", zlib.compress(lines.tobytes(), LEVEL))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + body + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _paeth(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Filter 4: each byte less the one of left, above, above-left nearest to left + above - both.

    Source: PNG specification, third edition, 9.4.
    """
    here = picture.astype(np.int16)
    padded = np.pad(here, ((1, 0), (1, 0), (0, 0)))
    left, above, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    guess = left + above - corner
    to_left, to_above, to_corner = (np.abs(guess - near) for near in (left, above, corner))
    best = np.where((to_left <= to_above) & (to_left <= to_corner), left, corner)
    best = np.where((to_above < to_left) & (to_above <= to_corner), above, best)
    filtered: NDArray[np.uint8] = ((here - best) & 255).astype(np.uint8)
    return filtered
