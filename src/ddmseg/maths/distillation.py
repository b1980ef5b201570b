"""What a teacher says to a student: fewer steps, or softer labels.

Letters as in ``samplers``: ``x_t`` noisy mask, ``x_0`` clean mask, ``alpha``, ``sigma``, ``h``.
Times fall: a walk goes from t over the middle m to s. One step of the ODE with the clean
mask held is linear in it,

    x_s = (sigma_s / sigma_t) x_t + a_ts x_0,   a_ts = alpha_s (1 - exp(-h_ts))      (DDIM)

so two steps with the clean masks x' and x'' land where one step lands with

    x~ = w x' + (1 - w) x'',   w = (sigma_s / sigma_m) a_tm / a_ts, in [0, 1].

That is the target of Salimans and Ho (algorithm 2). Because an encoded mask is the
expectation of a code under class probabilities, x~ is the mask of the *probabilities*
w p' + (1 - w) p'': a student that predicts probabilities is taught by cross-entropy where
they use the squared error.

Sources: Salimans and Ho 2022, arXiv 2202.00512 (progressive distillation); Song et al.
2023, arXiv 2303.01469 (consistency distillation); Hinton, Vinyals and Dean 2015, arXiv
1503.02531 (soft labels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.samplers import Jump, time_grid
from ddmseg.maths.schedule import Schedule
from ddmseg.types import ClassMap

Answer = TypeVar("Answer")
"""What a network says of the clean mask, in whatever form."""

SMALLEST_PROBABILITY = 1e-8
"""Below it a probability is softened as if it were this."""


def walk_times(steps: int) -> Tensor:
    """Return the sampler's times of ``steps``, at least 1, and 0 where the walk ends."""
    return torch.cat([time_grid(steps), torch.zeros(1, dtype=torch.float64)])


def ode_step(x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, *, schedule: Schedule) -> Tensor:
    """Follow the ODE from t in (0, 1] to s in [0, t) with the clean mask held.

    At s = 0 that mask is returned.
    """
    return x_0 if s == 0 else Jump.between(t, s, schedule).along(x_t, x_0)


def first_share(t: Tensor, m: Tensor, s: Tensor, *, schedule: Schedule) -> float:
    """Return w, the weight of the first of two steps in the one that replaces both.

    It is 0 at s = 0: a walk ends in its last clean mask.
    """
    if s == 0:
        return 0.0
    sigma_m, sigma_s = schedule.sigma(m.double()), schedule.sigma(s.double())
    whole = _pull(t, s, schedule)
    if whole == 0:
        return 0.0  # both steps lie where the schedule is cut, and have no length
    return float((sigma_s / sigma_m) * _pull(t, m, schedule) / whole)


def _pull(t: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
    """Return a_ts, the weight of the clean mask in a step."""
    jump = Jump.between(t, s, schedule)
    return -jump.alpha_s * torch.expm1(-jump.h)


def two_step_target(first: Tensor, second: Tensor, *, share: float) -> Tensor:
    """Return the clean mask, or the probabilities, that one step takes in place of two.

    Source: Salimans and Ho 2022, algorithm 2.
    """
    return torch.lerp(second, first, share)


def consistency_target(later: Callable[[], Answer], arrived: Answer, s: Tensor) -> Answer:
    """Return what a student must say at t if a step of its teacher leads to s.

    That is what it says itself at s, ``later()``, so that it says the same along the whole
    walk; and at s = 0 the clean mask that the step ``arrived`` at, for no network is asked
    of a mask without noise (boundary condition).

    Source: Song et al. 2023, eq. 4 and algorithm 2.
    """
    return arrived if s == 0 else later()


def halvings(teacher_steps: int, student_steps: int) -> list[int]:
    """Return the steps of each student when every one halves those of its teacher.

    >>> halvings(8, 1)
    [4, 2, 1]
    """
    steps, found = teacher_steps, []
    while steps > student_steps and steps % 2 == 0:
        steps //= 2
        found.append(steps)
    if steps != student_steps or not found:
        allowed = ", ".join(str(student_steps * 2**n) for n in range(1, 5))
        raise SettingsError(
            f"teacher_steps: got {teacher_steps}; to be halved down to {student_steps} it must "
            f"be one of {allowed}, ..."
        )
    return found


def softened(probabilities: ClassMap, *, temperature: float) -> ClassMap:
    """Return probabilities raised to 1 / temperature and normalised; at 1 they stay.

    For those of a softmax it is the softmax of its logits divided by the temperature.

    Source: Hinton et al. 2015, eq. 1.
    """
    if temperature == 1:
        return probabilities
    return torch.softmax(probabilities.clamp_min(SMALLEST_PROBABILITY).log() / temperature, dim=1)


def divergence(logits: ClassMap, target: ClassMap, *, temperature: float = 1.0) -> Tensor:
    """Return the mean Kullback-Leibler divergence of a student from its teacher, at least 0.

    Args:
        temperature: by which both are softened; the loss is multiplied by its square, so
            that the gradient keeps its size.

    Source: Hinton et al. 2015, section 2.1.
    """
    said = F.log_softmax(logits.float() / temperature, dim=1)
    each = F.kl_div(said, target.float(), reduction="none").sum(dim=1)
    return temperature**2 * each.mean()
