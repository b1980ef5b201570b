"""Tensor shapes, each named once.

Axes: ``b`` batch, ``c`` contrasts, ``k`` classes, ``m`` channels of an encoded
mask, ``d`` embedding channels; ``*grid`` is ``i j`` in 2-D and ``i j k`` in 3-D.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

Image = Float[Tensor, "b c *grid"]
"""Normalised scan, one channel a contrast."""

Labels = Int64[Tensor, "b *grid"]
"""Class indices (0 is background), not FreeSurfer ids."""

ClassMap = Float[Tensor, "b k *grid"]
"""One number a class and voxel: logits or probabilities."""

Mask = Float[Tensor, "b m *grid"]
"""Encoded mask: what is noised and denoised."""

Features = Float[Tensor, "b d *grid"]
"""Embedding of an image or of a mask."""

VoxelMap = Float[Tensor, "b 1 *grid"]
"""One number a voxel, such as the discrepancy map."""

PerItem = Float[Tensor, " b"]
"""One number a batch item, such as a time or a scalar discrepancy."""
