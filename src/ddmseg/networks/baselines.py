"""Networks that others made, as rows to compare with: U-Net, Attention U-Net, UNETR.

All are MONAI's. It has no TransUNet (Chen et al. 2021, arXiv 2102.04306); UNETR, a
vision transformer whose layers feed the decoder of a U-Net, is the closest it has.

Sources: Ronneberger et al. 2015, arXiv 1505.04597, with the residual units of Kerfoot et
al. 2019; Oktay et al. 2018, arXiv 1804.03999; Hatamizadeh et al. 2022, arXiv 2103.10504.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal, cast

from torch import nn

from ddmseg.errors import MissingExtraError, SettingsError
from ddmseg.types import ClassMap, Image

BaselineName = Literal["unet", "attention_unet", "unetr"]

PATCH_VOXELS = 16
"""Side of UNETR's tokens, fixed there."""
OVERLAP = 0.5
"""Of neighbouring windows where an image is larger than a network of fixed size takes."""


class BaselineSegmenter(nn.Module):
    """A network from image to logits, without diffusion or discrepancy.

    Args:
        dims: 2 or 3.
        classes: labels, background included.
        widths: channels, finest level first; UNETR takes the first as its feature size and
            the last as the width of its tokens.
        patch: size of training patches; UNETR takes no other, slides it as a window and cuts it
            into tokens.
    """

    denoiser: None = None

    def __init__(
        self,
        name: BaselineName,
        dims: int,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int] = (16, 32, 64, 128),
        patch: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.dims = dims
        self.classes = classes
        self.window = tuple(patch) if name == "unetr" else None
        image = {"spatial_dims": dims, "in_channels": channels}
        self.network: nn.Module = _network(name, classes, tuple(widths), tuple(patch), **image)
        # UNETR slides its window over any size.
        self.multiple: int = 1 if self.window else 2 ** (len(widths) - 1)

    def forward(self, image: Image) -> ClassMap:
        """Return logits on the image grid."""
        if self.window is None or tuple(image.shape[2:]) == self.window:
            return cast(ClassMap, self.network(image))
        from monai.inferers.utils import sliding_window_inference

        how: dict[str, Any] = {"overlap": OVERLAP, "mode": "gaussian"}
        return cast(ClassMap, sliding_window_inference(image, self.window, 1, self.network, **how))


def _network(
    name: BaselineName, classes: int, widths: tuple[int, ...], patch: tuple[int, ...], **image: int
) -> Any:
    try:
        # Takes seconds: only for a network that needs it.
        nets: Any = importlib.import_module("monai.networks.nets")
    except ImportError as error:
        raise MissingExtraError("monai", "train") from error
    common: dict[str, Any] = {"out_channels": classes, **image}
    levels: dict[str, Any] = {"channels": widths, "strides": (2,) * (len(widths) - 1)}
    if name == "attention_unet":
        return nets.AttentionUnet(**levels, **common)
    if name == "unet":
        return nets.UNet(num_res_units=2, **levels, **common)
    dims = image["spatial_dims"]
    if len(patch) != dims or any(size % PATCH_VOXELS for size in patch):
        raise SettingsError(
            f"data.patch: got {patch}; unetr needs {dims} numbers that are multiples of "
            f"{PATCH_VOXELS}"
        )
    sizes = {"feature_size": widths[0], "hidden_size": widths[-1], "mlp_dim": 2 * widths[-1]}
    return nets.UNETR(img_size=patch, num_heads=4, **sizes, **common)
