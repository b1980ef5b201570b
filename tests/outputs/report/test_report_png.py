"""The PNG writer against another decoder, and what the colour scales promise."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddmseg.outputs.report.png import (
    HUES,
    colour_scale,
    grey_png,
    rgb_png,
    scale_opacity,
    scale_png,
)

Image = pytest.importorskip("PIL.Image", reason="reading PNG back needs Pillow")

SIDES = st.integers(1, 12)


def decoded(png: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert(mode))


def oklab_lightness(rgb: np.ndarray) -> np.ndarray:
    """Forward direction of Ottosson's OKLab, with his published matrices."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    return np.cbrt(linear @ to_lms.T) @ np.array([0.2104542553, 0.7936177850, -0.0040720468])


@given(hnp.arrays(np.uint8, st.tuples(SIDES, SIDES)))
def test_grey_pictures_come_back(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(grey_png(picture), "L"), picture)


@given(hnp.arrays(np.uint8, st.tuples(SIDES, SIDES, st.just(3))))
def test_colour_pictures_come_back(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(rgb_png(picture), "RGB"), picture)


@pytest.mark.parametrize("scale", HUES)
def test_a_map_comes_back_in_the_colours_and_opacity_of_its_scale(scale: str) -> None:
    steps = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgba = decoded(scale_png(steps, scale), "RGBA").reshape(256, 4)
    np.testing.assert_array_equal(rgba[:, :3], colour_scale(scale))
    np.testing.assert_array_equal(rgba[:, 3], scale_opacity())


def test_nothing_is_clear_and_the_upper_two_thirds_are_equally_opaque() -> None:
    opacity = scale_opacity()
    assert opacity[0] == 0
    assert (np.diff(opacity.astype(int)) >= 0).all()
    assert set(opacity[86:].tolist()) == {230}


@pytest.mark.parametrize("scale", HUES)
def test_lightness_grows_in_equal_steps(scale: str) -> None:
    lightness = oklab_lightness(colour_scale(scale).astype(float))
    np.testing.assert_allclose(lightness, 0.22 + 0.74 * np.linspace(0, 1, 256), atol=0.006)


def test_smooth_pictures_are_small() -> None:
    ramp = np.add.outer(np.arange(200), np.arange(200)).astype(np.uint8)
    assert len(grey_png(ramp)) < 0.03 * ramp.size
