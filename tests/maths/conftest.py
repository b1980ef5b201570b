"""A Gaussian mixture whose posterior mean under the VP-SDE is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ddmseg.maths.schedule import Schedule


@dataclass(frozen=True)
class Mixture:
    """x_0 ~ sum_k weights_k N(means_k, covariances_k), in float64."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def predictor(self, schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
        """Return E[x_0 | x_t], the perfect clean-mask network."""

        def clean(x_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            eye = torch.eye(x_t.shape[1], dtype=x_t.dtype)
            marginal = alpha**2 * self.covariances + sigma**2 * eye  # of x_t, by component
            offset = x_t[:, None] - alpha * self.means
            pulled = torch.linalg.solve(marginal, offset[..., None])[..., 0]
            log_p = -0.5 * ((offset * pulled).sum(-1) + torch.logdet(marginal))
            share = torch.softmax(log_p + self.weights.log(), dim=1)
            given = self.means + alpha * torch.einsum("kde,bke->bkd", self.covariances, pulled)
            return (share[..., None] * given).sum(1)

        return clean

    @property
    def mean(self) -> Tensor:
        """Mean of x_0."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """Covariance of x_0: within plus between the components."""
        offset = self.means - self.mean
        between = torch.einsum("k,kd,ke->de", self.weights, offset, offset)
        return torch.einsum("k,kde->de", self.weights, self.covariances) + between


@pytest.fixture(scope="session")
def mixture() -> Mixture:
    """Three unequal, tilted components in 2-D."""
    return Mixture(
        weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        means=torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.2, -1.2]], dtype=torch.float64),
        covariances=torch.tensor(
            [
                [[0.10, 0.04], [0.04, 0.08]],
                [[0.06, -0.02], [-0.02, 0.12]],
                [[0.15, 0.00], [0.00, 0.05]],
            ],
            dtype=torch.float64,
        ),
    )
