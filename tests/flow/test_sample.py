import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.flow import sample


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, torch.tensor(0.75), torch.tensor([0.25, 0.75]), torch.tensor([0.3])])
def test_conversions_undo_one_another(pair, sigma):
    x0, noise = pair
    x = sample.renoise(x0, noise, sigma)
    v = sample.velocity(x0, noise)
    torch.testing.assert_close(sample.x0_from_velocity(x, v, sigma), x0)
    torch.testing.assert_close(sample.noise_from_velocity(x, v, sigma), noise)
    torch.testing.assert_close(sample.velocity_from_x0(x, x0, sigma), v, rtol=1e-4, atol=1e-5)


def test_a_sigma_per_sample_is_not_spread_over_the_last_axis():
    x0, noise = torch.zeros(2, 3, 2), torch.ones(2, 3, 2)
    x = sample.renoise(x0, noise, torch.tensor([0.25, 0.75]))
    assert (x[0] == 0.25).all() and (x[1] == 0.75).all()


def test_euler_steps_along_a_straight_flow_are_exact(pair):
    x0, noise = pair
    v, x = sample.velocity(x0, noise), noise
    for sigma, following in ((1.0, 0.7), (0.7, torch.tensor([0.2, 0.4]))):
        x = sample.euler_step(x, v, sigma, following)
    torch.testing.assert_close(x, sample.renoise(x0, noise, torch.tensor([0.2, 0.4])))
    torch.testing.assert_close(sample.euler_step(x, v, torch.tensor([0.2, 0.4]), 0.0), x0)


def test_half_precision_input_is_worked_in_float32(pair):
    x0, noise = (t.to(torch.bfloat16) for t in pair)
    out = sample.renoise(x0, noise, 0.9)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, 0.9 * noise.float() + 0.1 * x0.float())
    assert sample.euler_step(x0, noise.double(), 1.0, 0.5).dtype == torch.float64


def test_wrong_sigma_is_refused(pair):
    x0, noise = pair
    with pytest.raises(FlashWorldError, match=r"one per sample \(\[2\]\)"):
        sample.renoise(x0, noise, torch.ones(5))
    with pytest.raises(FlashWorldError, match="undefined"):
        sample.velocity_from_x0(x0, noise, 0.0)
