import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.flow.schedule import Schedule, shift_sigmas, shifted_schedule


def test_the_four_flashworld_entries_are_exact():
    schedule = shifted_schedule(3.0, 1000).select((0, 250, 500, 750))
    assert schedule.timesteps.tolist() == [1000.0, 900.0, 750.0, 500.0]
    assert schedule.sigmas.tolist() == [1.0, 0.8999999761581421, 0.75, 0.5]
    assert schedule.sigmas.dtype == schedule.timesteps.dtype == torch.float32


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("entries", [1, 7, 1000])
def test_table_follows_the_formula(shift, entries):
    schedule = shifted_schedule(shift, entries)
    s = [(entries - k) / entries for k in range(entries)]
    expected = torch.tensor([shift * x / (1 + (shift - 1) * x) for x in s], dtype=torch.float64)
    assert len(schedule) == entries
    torch.testing.assert_close(schedule.sigmas.double(), expected, rtol=3e-7, atol=0)
    torch.testing.assert_close(schedule.timesteps.double(), expected * entries, rtol=3e-7, atol=0)
    assert schedule.sigmas[0] == 1 and schedule.sigmas[-1] > 0


def test_shift_one_changes_nothing():
    s = torch.linspace(0, 1, 11)
    torch.testing.assert_close(shift_sigmas(s, 1.0), s, rtol=0, atol=0)


def test_evenly_spaced_steps_begin_at_pure_noise():
    table = shifted_schedule()
    assert torch.equal(table.evenly(4).sigmas, table.select((0, 250, 500, 750)).sigmas)
    assert torch.equal(table.evenly(3).sigmas, table.select((0, 333, 666)).sigmas)
    assert torch.equal(table.evenly(1000).sigmas, table.sigmas)
    assert table.evenly(1).sigmas.tolist() == [1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.select([]), "at least one step"),
        (lambda t: t.select([0, 1000]), "index 1000 is outside 0..999"),
        (lambda t: t.select([-1]), "index -1 is outside"),
        (lambda t: t.select([250, 250]), "must rise"),
        (lambda t: t.select([500, 250]), "must rise"),
        (lambda t: t.evenly(0), "steps must be 1..1000"),
        (lambda t: t.evenly(1001), "steps must be 1..1000"),
        (lambda t: shifted_schedule(0.0), "shift must be positive"),
        (lambda t: shifted_schedule(entries=0), "at least 1"),
        (lambda t: Schedule(torch.tensor([0.5, 0.7]), torch.tensor([500.0, 700.0])), "fall strictly"),
        (lambda t: Schedule(torch.tensor([1.5]), torch.tensor([1500.0])), "within"),
        (lambda t: Schedule(torch.ones(2), torch.ones(1)), "one length"),
    ],
)
def test_wrong_use_is_answered_in_one_sentence(call, message):
    with pytest.raises(FlashWorldError, match=message):
        call(shifted_schedule())
