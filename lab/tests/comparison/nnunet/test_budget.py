"""The cut training: never more examples than the other rows, spread evenly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddmseg_lab.comparison.nnunet.budget import OWN_ITERATIONS, cut_schedule


def test_by_hand():
    schedule = cut_schedule(3000, 6)
    assert schedule.iterations == 500
    assert schedule.examples == 3000
    assert schedule.epochs == (10,) * 50
    assert schedule.validation_iterations == 2  # one for five, as nnU-Net has 50 for 250


def test_what_does_not_divide_is_left_out():
    schedule = cut_schedule(4800, 42)
    assert (schedule.iterations, schedule.examples) == (114, 4788)
    assert len(schedule.epochs) == 11
    assert set(schedule.epochs) == {10, 11}
    assert schedule.validation_iterations == 3


def test_fewer_examples_than_a_batch_are_one_iteration():
    assert cut_schedule(2, 6).epochs == (1,)
    assert cut_schedule(19, 1).epochs == (19,)


def test_nnunets_own_length_is_far_away():
    assert OWN_ITERATIONS == 250_000


@given(st.integers(1, 100_000), st.integers(1, 200))
def test_laws(examples, batch):
    schedule = cut_schedule(examples, batch)
    assert schedule.examples <= max(examples, batch)
    assert examples - schedule.examples < batch  # the next iteration would be too many
    assert max(schedule.epochs) - min(schedule.epochs) <= 1
    assert min(schedule.epochs) >= 1
    assert schedule.validation_iterations >= 1
