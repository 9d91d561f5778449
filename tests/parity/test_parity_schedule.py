"""The schedule tables and re-noising against the official scheduler's numbers, bit for bit."""

import pytest
import torch

from flashworld_core.flow.sample import renoise
from flashworld_core.flow.schedule import shifted_schedule


@pytest.fixture(scope="module")
def units(parity_tensors):
    return parity_tensors("units")


@pytest.fixture(scope="module")
def table(units, parity_json):
    return shifted_schedule(parity_json["shift"], len(units["sched/sigmas"]))


def test_tables_are_equal_to_the_last_bit(units, table):
    assert torch.equal(table.sigmas, units["sched/sigmas"])
    assert torch.equal(table.timesteps, units["sched/timesteps"])


def test_selected_entries(units, parity_json, table):
    chosen = table.select(parity_json["denoising_indices"])
    assert torch.equal(chosen.sigmas, units["sched/sigma4"])
    assert torch.equal(chosen.timesteps, units["sched/t4"])


def test_renoising_examples(units, table):
    prefix = "sched/renoise_out_"
    indices = [int(name.removeprefix(prefix)) for name in units if name.startswith(prefix)]
    assert indices
    for index in indices:
        x = renoise(units["sched/renoise_in"], units["sched/renoise_noise"], table.sigmas[index])
        torch.testing.assert_close(x, units[f"{prefix}{index}"], rtol=0, atol=1e-7)
