"""What the full size costs, counted on the meta device, against what was planned for it."""

import pytest
import torch

from flashworld_core.cli import main
from flashworld_core.generators.flashworld.presets import official_config
from flashworld_core.generators.flashworld.transformer import FlashWorldTransformer
from flashworld_core.training.costs import forward_flops, training_memory, update_flops
from flashworld_core.training.distributed import shard_units
from flashworld_core.training.flashworld.critic import Critic


@pytest.mark.parametrize("shards, states, peak", [(8, 24.4, 43), (64, 3.1, 21)])
def test_full_size_memory_is_the_planned_one(shards, states, peak):
    plan = training_memory(official_config(), shards)
    found = {item.name: item.bytes / 1e9 for item in plan.items}
    assert found["states"] == pytest.approx(states, rel=0.05)
    assert plan.student / 1e9 == pytest.approx(peak, rel=0.05)
    assert found["transformer activations"] == pytest.approx(3.9, rel=0.05)
    assert found["fake pass on three samples"] == pytest.approx(11.8, rel=0.05)
    assert found["decoder, one view and all inputs"] == pytest.approx(4.0, rel=0.05)


def test_full_size_operations_are_those_of_the_paper_plan():
    config = official_config()
    assert forward_flops(config)["transformer"] / 1e12 == pytest.approx(94, rel=0.02)
    found = update_flops(config)
    for name, planned in {"student": 1480, "critic": 1600, "critic without R1": 1220}.items():
        assert found[name] / 1e12 == pytest.approx(planned, rel=0.05), name
    assert found["pre-training"] / 1e12 == pytest.approx(704, rel=0.08)


def test_every_parameter_is_sharded_once():
    with torch.device("meta"):
        modules = FlashWorldTransformer(official_config()), Critic(official_config())
    for module in modules:
        units = shard_units(module)
        assert units[-1] is module and len(units) == 31
        seen: dict[int, int] = {}
        for unit in units[:-1]:
            for parameter in unit.parameters():
                seen[id(parameter)] = seen.get(id(parameter), 0) + 1
        assert max(seen.values()) == 1
        rest = [p for p in module.parameters() if id(p) not in seen]
        assert len(seen) + len(rest) == len(list(module.parameters())) and rest


def test_plan_training_prints_the_table(capsys):
    assert main(["plan", "--training", "--gpus", "8", "--gpu", "rtx-5090"]) == 0
    said = capsys.readouterr().out
    assert "peak, student update" in said and "Does not fit into 32 GB" in said
    assert main(["plan", "--training", "--gpu", "abacus"]) == 1
    assert "--gpu takes gigabytes or one of" in capsys.readouterr().err
