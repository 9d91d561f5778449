import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.flow.noise import SeededNoise, StoredNoise


def test_a_seed_repeats_and_seeds_differ():
    first, again, other = SeededNoise(7), SeededNoise(7), SeededNoise(8)
    for name in ("a", "b"):
        x = first.draw(name, (4, 5))
        assert torch.equal(x, again.draw(name, (4, 5)))
        assert not torch.equal(x, other.draw(name, (4, 5)))
        assert x.dtype == torch.float32 and x.device.type == "cpu"


def test_the_global_generator_is_neither_used_nor_moved():
    torch.manual_seed(0)
    x = SeededNoise(2**64 - 1).draw("a", (100,))
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(5)
    assert torch.equal(SeededNoise(2**64 - 1).draw("a", (100,)), x)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_outside_the_range_are_refused(seed):
    with pytest.raises(FlashWorldError, match="seed must be in"):
        SeededNoise(seed)


def test_stored_noise_is_played_back_by_name():
    noise = StoredNoise({"a": torch.arange(6.0).reshape(2, 1, 3)})
    assert noise.draw("a", (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(FlashWorldError, match="'a' is"):
        noise.draw("a", (2, 4))
    with pytest.raises(FlashWorldError, match="No draw named 'b'; stored are a"):
        noise.draw("b", (6,))
