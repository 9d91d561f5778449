"""Sparse operations against slow, obvious twins."""

import pytest
import torch
import torch.nn.functional as F

from flashworld_core.errors import FlashWorldError
from flashworld_core.models.sparse import (
    SparseLayout,
    cross_attention,
    downsample,
    grouped_attention,
    submanifold_conv,
    upsample,
)  # fmt: skip


def voxels(seed=0, samples=2, resolution=9, share=0.2):
    grid = torch.rand(samples, *[resolution] * 3, generator=torch.Generator().manual_seed(seed)) < share
    return torch.nonzero(grid)


def naive_conv(features, weight, bias, coords):
    """Voxel by voxel, offset by offset."""
    rows = {tuple(c): i for i, c in enumerate(coords.tolist())}
    result = bias.expand(len(coords), -1).clone()
    for i, (b, x, y, z) in enumerate(coords.tolist()):
        for a in range(3):
            for c in range(3):
                for e in range(3):
                    j = rows.get((b, x + a - 1, y + c - 1, z + e - 1))
                    if j is not None:
                        result[i] += weight[:, a, c, e] @ features[j]
    return result


def test_convolution_is_the_naive_sum_with_its_gradients():
    coords, g = voxels(), torch.Generator().manual_seed(1)
    features = torch.randn(len(coords), 5, generator=g, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, 5, generator=g, requires_grad=True)
    bias = torch.randn(4, generator=g, requires_grad=True)
    ours = submanifold_conv(features, weight, bias, SparseLayout(coords))
    theirs = naive_conv(features, weight, bias, coords)
    assert (ours - theirs).abs().max() < 1e-5
    probe = torch.randn(ours.shape, generator=g)
    for a, b in zip(
        *(torch.autograd.grad((y * probe).sum(), (features, weight, bias)) for y in (ours, theirs)), strict=True
    ):
        assert (a - b).abs().max() < 1e-4


def test_convolution_of_a_full_cube_is_the_dense_one():
    coords, g = torch.nonzero(torch.ones(1, 4, 5, 6)), torch.Generator().manual_seed(2)
    features, weight = torch.randn(120, 3, generator=g), torch.randn(2, 3, 3, 3, 3, generator=g)
    dense = F.conv3d(features.T.reshape(1, 3, 4, 5, 6), weight.permute(0, 4, 1, 2, 3), padding=1)
    ours = submanifold_conv(features, weight, None, SparseLayout(coords))
    assert (ours - dense.reshape(2, -1).T).abs().max() < 1e-5


def test_the_order_of_voxels_within_a_sample_does_not_matter():
    coords = voxels()
    order = torch.cat([i[torch.randperm(len(i))] for i in (torch.nonzero(coords[:, 0] == b)[:, 0] for b in (0, 1))])
    features, weight = torch.randn(len(coords), 3), torch.randn(2, 3, 3, 3, 3)
    ours = submanifold_conv(features, weight, None, SparseLayout(coords))
    shuffled = submanifold_conv(features[order], weight, None, SparseLayout(coords[order]))
    assert (ours[order] - shuffled).abs().max() < 1e-5


def test_resampling():
    coords = voxels()
    layout, features = SparseLayout(coords), torch.randn(len(coords), 3)
    coarse, level = downsample(features, layout)
    cells = sorted({(b, x // 2, y // 2, z // 2) for b, x, y, z in coords.tolist()})
    assert level.coords.tolist() == [list(cell) for cell in cells]
    members = [i for i, (b, x, y, z) in enumerate(coords.tolist()) if (b, x // 2, y // 2, z // 2) == cells[3]]
    assert torch.allclose(coarse[3], features[members].sum(0) / (len(members) + 1), atol=1e-6)
    assert torch.allclose(upsample(coarse, layout)[members[0]], coarse[3])


def softmax_twin(q, k, v, groups):
    """Attention voxel by voxel; ``groups[i]`` names the set voxel i is in."""
    result = torch.empty_like(q)
    for i in range(len(q)):
        mine = [j for j in range(len(q)) if groups[j] == groups[i]]
        weights = (torch.einsum("hd,jhd->hj", q[i], k[mine]) / q.shape[-1] ** 0.5).softmax(-1)
        result[i] = torch.einsum("hj,jhd->hd", weights, v[mine])
    return result


@pytest.mark.parametrize("window", [None, (4, 0), (4, 2), (3, 1)])
def test_attention_over_samples_and_windows(window):
    coords = voxels(share=0.08)
    layout = SparseLayout(coords)
    q, k, v = torch.randn(3, len(coords), 2, 4).unbind(0)
    if window is None:
        groups, names = layout.whole(), coords[:, 0].tolist()
    else:
        size, shift = window
        groups = layout.windows(size, shift)
        names = [(b, *((c + shift) // size for c in rest)) for b, *rest in coords.tolist()]
    assert (grouped_attention(q, k, v, groups) - softmax_twin(q, k, v, names)).abs().max() < 1e-5


def test_cross_attention_sees_its_own_sample():
    coords = voxels()
    layout, mine = SparseLayout(coords), coords[:, 0] == 1
    q, k, v = torch.randn(len(coords), 2, 4), torch.randn(2, 7, 2, 4), torch.randn(2, 7, 2, 4)
    expected = F.scaled_dot_product_attention(*(t.transpose(0, 1) for t in (q[mine], k[1], v[1]))).transpose(0, 1)
    assert (cross_attention(q, k, v, layout)[mine] - expected).abs().max() < 1e-5


def test_layouts_refuse_what_is_none():
    with pytest.raises(FlashWorldError, match="sorted by batch"):
        SparseLayout(torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]]))
    for coords in (torch.zeros(0, 4), torch.zeros(2, 3)):
        with pytest.raises(FlashWorldError, match="must be \\[n, 4\\]"):
            SparseLayout(coords)
    with pytest.raises(FlashWorldError, match="too far apart"):
        SparseLayout(torch.tensor([[0, 0, 0, 0], [0, 2**30, 2**30, 2**30]])).coarser()


def test_tables_move_with_a_layout():
    layout = SparseLayout(voxels())
    layout.neighbors(), layout.coarser(), layout.windows(4, 2)
    moved = layout.to("meta")
    assert moved.coarser()[0].coords.is_meta and moved.windows(4, 2)[0].rows.is_meta and len(moved) == len(layout)
