"""How far feature vectors lie from those of a reference, fair to its own members.

Letters: N vectors x of d channels, m of them in the reference; mu and S their mean and
covariance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE = 0.1
"""Added to the variance of each channel, in units of its spread over all vectors: a few
dozen vectors do not determine a covariance of 16 channels."""


def reference_distances(features: Floats, reference: NDArray[np.bool_]) -> Floats:
    """Return the Mahalanobis distance of each vector from several references (``r n``).

    A member of the reference is measured against the *others* of it: mean and covariance
    pull towards every vector that they were fitted to, so that new vectors would look
    strange beside old ones even if nothing had changed.

        D^2 = (x - mu)^T S^-1 (x - mu)

    Args:
        features: x, one row each (``n d``), finite; a channel that never varies is ignored.
        reference: members of each reference (``r n``), at least three.

    Source: Mahalanobis 1936; leaving one out by Sherman and Morrison 1950.
    """
    r, N = reference.shape
    spread = features.std(0)
    moving = spread > 0
    x = (features[:, moving] - features[:, moving].mean(0)) / spread[moving]
    d = x.shape[1]
    if not d:
        return np.zeros((r, N))
    products = (x[:, :, None] * x[:, None, :]).reshape(N, d * d)
    weights = reference.astype(np.float64)
    m = weights.sum(1)[:, None]
    mu = weights @ x / m
    scatter = (weights @ products).reshape(r, d, d) - m[..., None] * mu[:, :, None] * mu[:, None, :]
    inverse = np.linalg.inv(scatter + RIDGE * (m[..., None] - 1) * np.eye(d))
    pulled = np.einsum("rde,re->rd", inverse, mu)
    # (x - mu)^T A^-1 (x - mu) of all vectors and references by matrix products
    quadratic = (
        inverse.reshape(r, d * d) @ products.T - 2 * pulled @ x.T + (pulled * mu).sum(1)[:, None]
    )
    quadratic = np.maximum(quadratic, 0.0)
    factor = m / (m - 1)
    left_out = factor**2 * (m - 2) * quadratic / np.maximum(1 - factor * quadratic, 1e-12)
    distances: Floats = np.sqrt(np.where(reference, left_out, (m - 1) * quadratic))
    return distances
