"""Noise schedules of the variance-preserving SDE, in continuous time.

    dY = -1/2 beta(t) Y dt + sqrt(beta(t)) dw                  (Song et al. 2021, eq. 11)
    x_t = alpha(t) x_0 + sigma(t) eps,  alpha^2 + sigma^2 = 1  (eq. 29)
    lambda(t) = log(alpha^2 / sigma^2), the log-SNR            (Kingma et al. 2021, eq. 3)

Time runs from 0 (clean) to 1 (noise). Every schedule is given by its log-SNR,
from which alpha and sigma follow.

Source: Song et al. 2021, arXiv 2011.13456; Nichol and Dhariwal 2021, arXiv
2102.09672 (cosine); Hoogeboom et al. 2023, arXiv 2301.11093 (shift).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.errors import SettingsError, did_you_mean

# Beyond this log-SNR float32 cannot tell alpha (or sigma) from 1.
LOG_SNR_LIMIT = 18.0
BETA_MIN, BETA_MAX = 0.1, 20.0
"""Ends of the linear schedule."""


def _cut(log_snr: Tensor) -> Tensor:
    return log_snr.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)


def _linear(t: Tensor) -> Tensor:
    """beta(t) rises linearly. Source: Song et al. 2021, eq. 32."""
    log_alpha_squared = -0.5 * t**2 * (BETA_MAX - BETA_MIN) - t * BETA_MIN
    # alpha^2 / (1 - alpha^2); expm1 keeps the small differences near t = 0.
    log_sigma_squared = torch.log((-torch.expm1(log_alpha_squared)).clamp_min(1e-12))
    return _cut(log_alpha_squared - log_sigma_squared)


def _cosine(t: Tensor) -> Tensor:
    """alpha(t) = cos(pi t / 2).

    Source: Nichol and Dhariwal 2021, eq. 17, with offset 0 as in Kingma and Gao
    2023 (arXiv 2303.00848, table 1).
    """
    angle = (0.5 * math.pi * t).clamp(1e-7, 0.5 * math.pi - 1e-7)
    return _cut(-2 * torch.log(torch.tan(angle)))


_LOG_SNR = {"linear": _linear, "cosine": _cosine}


@dataclass(frozen=True)
class Schedule:
    """A named schedule whose log-SNR is moved by ``shift``.

    A negative shift spends more of the time in strong noise. Scaling a mask by b
    is the same as a shift of 2 log b.

    Source: Hoogeboom et al. 2023, eq. 2 (shift).
    """

    name: str = "cosine"
    shift: float = 0.0

    def log_snr(self, t: Tensor) -> Tensor:
        """Return lambda(t) for t in [0, 1], decreasing in t, within +-``LOG_SNR_LIMIT``."""
        base = _LOG_SNR[self.name](t)
        return _cut(base + self.shift) if self.shift else base

    def alpha(self, t: Tensor) -> Tensor:
        """Return the weight of the clean mask, in (0, 1]."""
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Return the weight of the noise, in (0, 1]."""
        return torch.sigmoid(-self.log_snr(t)).sqrt()


def make_schedule(name: str = "cosine", shift: float = 0.0) -> Schedule:
    """Return the schedule called ``name``, moved by ``shift``, or raise a SettingsError.

    >>> make_schedule("cosine", shift=-2.0)
    Schedule(name='cosine', shift=-2.0)
    """
    if name not in _LOG_SNR:
        raise SettingsError(
            f"schedule: got '{name}'; allowed are {', '.join(_LOG_SNR)}"
            f"{did_you_mean(name, _LOG_SNR)}"
        )
    return Schedule(name, shift)


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
