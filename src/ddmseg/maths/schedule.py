"""Noise schedules of the variance-preserving SDE, in continuous time.

    dY = -1/2 beta(t) Y dt + sqrt(beta(t)) dw                  (Song et al. 2021, eq. 11)
    x_t = alpha(t) x_0 + sigma(t) eps,  alpha^2 + sigma^2 = 1  (eq. 29)
    lambda(t) = log(alpha^2 / sigma^2), the log-SNR            (Kingma et al. 2021, eq. 3)

Time runs from 0 (clean) to 1 (noise). Every schedule is given by its log-SNR,
from which alpha, sigma and beta follow.

Source: Song et al. 2021, arXiv 2011.13456; Nichol and Dhariwal 2021, arXiv
2102.09672 (cosine); Hoogeboom et al. 2023, arXiv 2301.11093 (shift).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.errors import SettingsError, did_you_mean

# Beyond this log-SNR float32 cannot tell alpha (or sigma) from 1.
LOG_SNR_LIMIT = 18.0


class Schedule(ABC):
    """What a schedule answers for any time t in [0, 1]; alpha and sigma follow from log-SNR."""

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """Return lambda(t), decreasing in t, within +-``LOG_SNR_LIMIT``."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Return the rate beta(t) >= 0 of the SDE."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return the weight of the clean mask, in (0, 1]."""
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Return the weight of the noise, in (0, 1]."""
        return torch.sigmoid(-self.log_snr(t)).sqrt()


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """beta(t) rises linearly from ``beta_min`` to ``beta_max``.

    Source: Song et al. 2021, eq. 32.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_snr(self, t: Tensor) -> Tensor:
        """Return log alpha^2 - log sigma^2 of the integrated rate."""
        log_alpha_squared = -0.5 * t**2 * (self.beta_max - self.beta_min) - t * self.beta_min
        # alpha^2 / (1 - alpha^2); expm1 keeps the small differences near t = 0.
        log_sigma_squared = torch.log((-torch.expm1(log_alpha_squared)).clamp_min(1e-12))
        return (log_alpha_squared - log_sigma_squared).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def beta(self, t: Tensor) -> Tensor:
        """Return the straight line."""
        return self.beta_min + t * (self.beta_max - self.beta_min)


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """alpha(t) = cos(pi t / 2).

    Source: Nichol and Dhariwal 2021, eq. 17, with offset 0 as in Kingma and Gao
    2023 (arXiv 2303.00848, table 1); the ends are cut at ``LOG_SNR_LIMIT``.
    """

    def log_snr(self, t: Tensor) -> Tensor:
        """Return -2 log tan(pi t / 2)."""
        angle = (0.5 * math.pi * t).clamp(1e-7, 0.5 * math.pi - 1e-7)
        return (-2 * torch.log(torch.tan(angle))).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def beta(self, t: Tensor) -> Tensor:
        """Return pi tan(pi t / 2), cut at the end."""
        # The rate of the uncut schedule is infinite at t = 1.
        angle = (0.5 * math.pi * t).clamp(0.0, 0.5 * math.pi - math.exp(-LOG_SNR_LIMIT / 2))
        return math.pi * torch.tan(angle)


@dataclass(frozen=True)
class ShiftedSchedule(Schedule):
    """Another schedule with its log-SNR moved by ``shift``.

    A negative shift spends more of the time in strong noise. Scaling a mask by b
    is the same as a shift of 2 log b.

    Source: Hoogeboom et al. 2023, eq. 2.
    """

    base: LinearSchedule | CosineSchedule
    shift: float = 0.0

    def log_snr(self, t: Tensor) -> Tensor:
        """Return the base's log-SNR plus the shift."""
        moved = self.base.log_snr(t) + self.shift
        return moved.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def beta(self, t: Tensor) -> Tensor:
        """Return the base's rate, rescaled to the moved noise level."""
        # beta = -lambda' sigma^2, and the shift leaves lambda' as it is.
        return self.base.beta(t) * (self.sigma(t) / self.base.sigma(t)) ** 2


_SCHEDULES = {"linear": LinearSchedule, "cosine": CosineSchedule}


def make_schedule(name: str = "cosine", shift: float = 0.0) -> Schedule:
    """Return the schedule called ``name``, its log-SNR moved by ``shift``.

    Raises:
        SettingsError: for an unknown name.

    >>> make_schedule("cosine", shift=-2.0)
    ShiftedSchedule(base=CosineSchedule(), shift=-2.0)
    """
    if name not in _SCHEDULES:
        raise SettingsError(
            f"schedule: got '{name}'; allowed are {', '.join(_SCHEDULES)}"
            f"{did_you_mean(name, _SCHEDULES)}"
        )
    base = _SCHEDULES[name]()
    return ShiftedSchedule(base, shift) if shift else base


def _like(values: Tensor, x: Tensor) -> Tensor:
    """Shape times of one number, or one number an item, to multiply x."""
    return values.to(x.dtype).reshape(values.shape + (1,) * (x.dim() - values.dim()))


def noise(x_0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return x_t = alpha x_0 + sigma eps. Source: Song et al. 2021, eq. 29."""
    return _like(schedule.alpha(t), x_0) * x_0 + _like(schedule.sigma(t), x_0) * eps


def clean_to_score(x_0: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return the score (alpha x_0 - x_t) / sigma^2 of a predicted clean mask.

    Source: Tweedie's formula, as in Efron 2011; Song et al. 2021, appendix C.
    """
    return (_like(schedule.alpha(t), x_t) * x_0 - x_t) / _like(schedule.sigma(t) ** 2, x_t)


def score_to_clean(score: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return the clean mask of a score: (x_t + sigma^2 score) / alpha."""
    return (x_t + _like(schedule.sigma(t) ** 2, x_t) * score) / _like(schedule.alpha(t), x_t)
