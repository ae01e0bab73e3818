"""Learning rates, against values worked out by hand."""

from __future__ import annotations

import pytest

from torchpaths.train.schedule import learning_rate
from train_toys import tiny


def test_the_step_schedule_falls_at_the_first_step_of_each_milestone() -> None:
    recipe = tiny(epochs=350, lr=0.1, schedule="step", milestones=(150, 250))
    rates = [learning_rate(recipe, step, 10) for step in (0, 1499, 1500, 2499, 2500, 3499)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_warm_up_rises_in_equal_steps_to_the_full_rate() -> None:
    recipe = tiny(epochs=10, lr=0.8, warmup=2, schedule="step")
    assert [learning_rate(recipe, step, 4) for step in range(9)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8]
    )


def test_the_cosine_passes_half_way_at_the_middle_and_ends_at_the_final_rate() -> None:
    recipe = tiny(epochs=3, lr=0.5, final_lr=0.1, warmup=1, schedule="cosine")
    # 10 steps of warm-up, then 21 steps from step 10 to step 30: with 31 steps in all there would be a middle; take 11.
    assert learning_rate(recipe, 11, 11) == pytest.approx(0.5)
    assert learning_rate(recipe, 32, 11) == pytest.approx(0.1)
    middle = [learning_rate(recipe, step, 11) for step in (21, 22)]
    assert sum(middle) / 2 == pytest.approx(0.3)


def test_a_run_of_one_step_has_a_learning_rate() -> None:
    assert learning_rate(tiny(epochs=1, schedule="cosine", lr=0.3), 0, 1) == pytest.approx(0.3)
