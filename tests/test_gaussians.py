"""The record: shapes, selection, conversion."""

import dataclasses

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.gaussians import Gaussians


def tensors(n=5, k=4):
    generator = torch.Generator().manual_seed(0)
    return {
        "means": torch.randn(n, 3, generator=generator),
        "quats": torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1),
        "scales": torch.rand(n, 3, generator=generator),
        "opacities": torch.rand(n, generator=generator),
        "sh": torch.randn(n, k, 3, generator=generator),
    }


@pytest.mark.parametrize(("k", "degree"), [(1, 0), (4, 1), (9, 2), (16, 3)])
def test_degree_follows_from_the_coefficients(k, degree):
    assert Gaussians(**tensors(k=k)).sh_degree == degree


@pytest.mark.parametrize("n", [0, 1, 5])
def test_length(n):
    assert len(Gaussians(**tensors(n))) == n


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("quats", (5, 3)),
        ("quats", (4, 4)),
        ("scales", (5,)),
        ("opacities", (5, 1)),
        ("means", (5, 2)),
        ("sh", (5, 5, 3)),
        ("sh", (5, 12)),
        ("sh", (4, 4, 3)),
        ("sh", (5, 4, 4)),
    ],
)
def test_shapes_that_do_not_belong_together(name, shape):
    with pytest.raises(FlashWorldError, match=f"{name} must be"):
        Gaussians(**{**tensors(), name: torch.zeros(shape)})


def test_selection_keeps_the_metadata_apart():
    scene = Gaussians(**tensors(), metadata={"seed": 1})
    for index in (slice(1, 3), torch.tensor([False, True, True, False, False]), torch.tensor([1, 2])):
        part = scene[index]
        assert len(part) == 2 and torch.equal(part.sh, scene.sh[1:3]) and torch.equal(part.quats, scene.quats[1:3])
    part.metadata["seed"] = 2
    assert scene.metadata == {"seed": 1}


def test_conversion_and_detaching():
    scene = Gaussians(**tensors(), metadata={"seed": 1})
    assert scene.to(dtype=torch.float64).sh.dtype == torch.float64
    assert scene.to(dtype=torch.float64).metadata == {"seed": 1}
    scene.means.requires_grad_()
    assert not scene.detach().means.requires_grad
    assert scene.device == torch.device("cpu")
    assert torch.equal(scene.map(lambda t: t * 2).opacities, scene.opacities * 2)


def test_the_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Gaussians(**tensors()).means = torch.zeros(5, 3)
