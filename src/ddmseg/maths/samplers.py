"""Samplers of the reverse VP-SDE, all with one signature.

Letters: ``x_t`` noisy mask at time t, ``x_T`` pure noise, ``x_0`` the network's clean
mask at (x_t, t), ``alpha``, ``sigma`` with alpha^2 + sigma^2 = 1, ``eps`` noise.  A step
goes from ``t`` to the less noisy ``s``; ``h = log(alpha_s/sigma_s) - log(alpha_t/sigma_t)``
is its length in half log-SNR, the lambda of Lu et al.

Every sampler asks the network once at each of ``times`` and returns its last clean mask:
with the noise level going to zero each of these algorithms ends there, so the last time
needs no step of its own and one step is exactly ``clean(x_T, times[0])``.

Sources: Ho et al. 2020 (DDPM); Song, Meng and Ermon 2021 (DDIM); Lu et al. 2022,
arXiv 2211.01095 (DPM-Solver++); Lin et al. 2024 (trailing time grid).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ddmseg.errors import SettingsError, did_you_mean
from ddmseg.maths.schedule import Schedule

CleanPredictor = Callable[[Tensor, Tensor], Tensor]
"""``clean(x_t, t)`` gives the clean mask expected from x_t; ``t`` is 0-d."""

LAST_TIME = 1e-3
"""End of the interval that steps divide, in (0, 1)."""


@dataclass(frozen=True)
class Jump:
    """Coefficients of one step from time t to the less noisy time s, each 0-d float64.

    ``fresh`` = 1 - exp(-2h) is the share of the variance at s that full ancestral
    sampling draws anew; it is computed from log-SNR because the textbook difference
    of squares cancels for small steps.
    """

    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor
    h: Tensor

    @classmethod
    def between(cls, t: Tensor, s: Tensor, schedule: Schedule) -> Jump:
        """Read the coefficients off a schedule."""
        t, s = t.double(), s.double()
        h = (schedule.log_snr(s) - schedule.log_snr(t)) / 2
        return cls(schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s), h)

    @property
    def fresh(self) -> Tensor:
        """Share of the noise at s that is new, in [0, 1]."""
        return -torch.expm1(-2 * self.h)

    def along(self, x_t: Tensor, x_0: Tensor) -> Tensor:
        """Follow the ODE with the clean mask held constant (DDIM, eta = 0)."""
        return (self.sigma_s / self.sigma_t) * x_t - self.alpha_s * torch.expm1(-self.h) * x_0


def _checked(times: Tensor) -> Tensor:
    """Return the times as float64 on the CPU, where reading one costs no device wait."""
    if times.ndim != 1 or times.numel() == 0:
        raise SettingsError(f"times: got shape {tuple(times.shape)}; give times in a 1-d tensor")
    times = times.detach().to("cpu", torch.float64)
    inside = bool(((times > 0) & (times <= 1)).all())
    if not inside or bool((times.diff() >= 0).any()):
        raise SettingsError(
            f"times: got {times[0]:g} ... {times[-1]:g}; "
            "they must strictly decrease inside (0, 1]; make them with time_grid"
        )
    return times


def time_grid(steps: int) -> Tensor:
    """Return the times at which the network is asked: float64, decreasing from 1.

    The interval from 1 to ``LAST_TIME`` is cut into ``steps`` equal parts, at least 1, and the
    network is asked at the upper end of each ("trailing"): no evaluation is spent at the end,
    where the noisy mask is as good as clean.

    Source: Lin et al. 2024, arXiv 2305.08891, table 2.
    """
    if steps < 1:
        raise SettingsError(f"steps: got {steps}; it must be at least 1")
    return torch.linspace(1.0, LAST_TIME, steps + 1, dtype=torch.float64)[:-1]


Step = Callable[[Tensor, Tensor, Jump], Tensor]
"""``step(x_t, x_0, jump)`` gives x_s."""


@dataclass(frozen=True)
class Sampler:
    """Turns noise into a clean mask; algorithms differ in their steps.

    Attributes:
        begin: makes the step function of one run; its draws come from the generator.
        most: times at which the network is asked at most, the others are not used; 0 takes all.
    """

    begin: Callable[[Generator | None], Step]
    most: int = 0

    def __call__(
        self,
        clean: CleanPredictor,
        x_T: Tensor,
        *,
        schedule: Schedule,
        times: Tensor,
        generator: Generator | None = None,
    ) -> Tensor:
        """Alternate network and step over the times; return the last clean mask as it came.

        Args:
            x_T: noise at ``times[0]``, any shape and floating dtype.
            times: strictly decreasing, in (0, 1].

        Raises:
            SettingsError: when ``times`` is empty, not decreasing or outside (0, 1].
        """
        times = _checked(times[: self.most or None])
        x_t, step = x_T, self.begin(generator)
        for i, t in enumerate(times):
            x_0 = clean(x_t, t.to(x_t))  # the network sees the time in its own dtype and place
            if i + 1 < len(times):
                x_t = step(x_t, x_0, Jump.between(t, times[i + 1], schedule))
        return x_0


@Sampler
def ddpm(generator: Generator | None) -> Step:
    """Ancestral sampling: draw x_s from the posterior q(x_s | x_t, x_0).

    Source: Ho et al. 2020, eqs. 6-7, with the posterior ("small") variance.
    """

    def step(x_t: Tensor, x_0: Tensor, jump: Jump) -> Tensor:
        # alpha_t|s sigma_s^2 / sigma_t^2, with alpha_t|s = alpha_t / alpha_s
        keep = (jump.alpha_t / jump.alpha_s) * (jump.sigma_s / jump.sigma_t) ** 2
        mean = keep * x_t + jump.alpha_s * jump.fresh * x_0
        return mean + jump.sigma_s * jump.fresh.sqrt() * _noise_like(x_t, generator)

    return step


@Sampler
def ddim(generator: Generator | None) -> Step:
    """Implicit sampling along the ODE (eta = 0): draws nothing.

    Source: Song, Meng and Ermon 2021, eq. 12.
    """
    return lambda x_t, x_0, jump: jump.along(x_t, x_0)


@Sampler
def dpm_solver_pp_2m(generator: Generator | None) -> Step:
    """DPM-Solver++(2M): second order from one evaluation a step, by remembering the last.

    Source: Lu et al. 2022, arXiv 2211.01095, algorithm 2.
    """
    last: tuple[Tensor, Tensor] | None = None  # clean mask and h of the step before

    def step(x_t: Tensor, x_0: Tensor, jump: Jump) -> Tensor:
        nonlocal last
        forward = x_0
        if last is not None and last[1] > 0:  # where the schedule is cut, steps have no length
            x_0_last, h_last = last
            forward = x_0 + (jump.h / (2 * h_last)) * (x_0 - x_0_last)
        last = (x_0, jump.h)
        return jump.along(x_t, forward)

    return step


one_step = Sampler(ddim.begin, most=1)
SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpm": dpm_solver_pp_2m, "one-step": one_step}
"""The samplers by the name that ``--sampler`` takes."""


def find_sampler(name: str) -> Sampler:
    """Return the sampler with this name, or raise a SettingsError."""
    if name not in SAMPLERS:
        raise SettingsError(
            f"sampler: got '{name}'{did_you_mean(name, SAMPLERS)}; "
            f"choose one of {', '.join(SAMPLERS)}"
        )
    return SAMPLERS[name]


def _noise_like(x: Tensor, generator: Generator | None) -> Tensor:
    """Draw where the generator lives, so that one seed means one result on any device."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)
