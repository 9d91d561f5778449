"""Stateless draws, and the control flow of an update: the right shares, and the same on every process."""

import math

import pytest
import torch

from flashworld_core.training.draws import Draws
from flashworld_core.training.flashworld.tasks import assign, turns

TASKS = {"multiview": 1.0, "input_views": 3.0, "novel_views": 1.0}
DATA = {"multiview": 2.0, "ood": 1.0}
GIVEN = {"image_and_text": 0.6, "image": 0.15, "text": 0.25}


def _assignment(update, seed=3):
    return assign(Draws(seed, "distill", update), tasks=TASKS, data=DATA, conditioning=GIVEN, steps=4)


def test_a_draw_depends_on_its_name_and_on_nothing_drawn_before():
    draws = Draws(1, "distill", 7, 2)
    first = draws.normal("init", (3, 2))
    draws.uniform("other")
    assert torch.equal(first, draws.normal("init", (3, 2)))
    others = (draws.of(3), Draws(2, "distill", 7, 2), Draws(1, "pretrain", 7, 2), Draws(1, "distill", 8, 2))
    assert all(not torch.equal(first, other.normal("init", (3, 2))) for other in others)
    assert not torch.equal(first, draws.normal("init_2", (3, 2)))


def test_subsets_and_choices():
    draws = Draws(0, "x", 0)
    assert len(set(draws.subset("views", 8, 5))) == 5
    assert draws.choice("only", {"a": 0.0, "b": 1.0, "c": 0.0}) == "b"


@pytest.fixture(scope="module")
def many():
    return [_assignment(update) for update in range(20_000)]


def _within(share, expected, count):
    return abs(share - expected) < 2.58 * math.sqrt(expected * (1 - expected) / count)  # 99 %


def test_shares_of_tasks_data_and_conditioning(many):
    for name, weights in (("task", TASKS), ("kind", DATA)):
        for key, weight in weights.items():
            share = sum(getattr(a, name) == key for a in many) / len(many)
            assert _within(share, weight / sum(weights.values()), len(many)), (name, key, share)
    assert _within(sum(a.with_image for a in many) / len(many), 0.75, len(many))
    assert _within(sum(a.with_text for a in many) / len(many), 0.85, len(many))


def test_the_number_of_rollout_steps_is_uniform(many):
    counts = torch.tensor([sum(a.rollout == n for a in many) for n in range(4)], dtype=torch.float64)
    expected = len(many) / 4
    assert ((counts - expected) ** 2 / expected).sum() < 11.34  # chi squared, 3 degrees of freedom, p = 0.01


def test_every_process_and_every_resumed_run_draws_the_same():
    assert [_assignment(u) for u in range(50)] == [_assignment(u) for u in range(50)]
    sample_of_another_rank = Draws(3, "distill", 5, sample=9)
    assert assign(sample_of_another_rank, tasks=TASKS, data=DATA, conditioning=GIVEN, steps=4) == _assignment(5)


def test_four_critic_updates_for_one_of_the_student():
    order = [player for iteration in range(400) for player in turns(iteration, 4)]
    assert order.count("student") == 100 and order.count("critic") == 400
    assert turns(0, 4) == ("student", "critic") and turns(1, 4) == ("critic",)
