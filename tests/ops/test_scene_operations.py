"""Scene operations: each against what it is supposed to mean."""

import math

import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError
from flashworld_core.gaussians import Gaussians
from flashworld_core.geometry import matrices_to_quats
from flashworld_core.ops.measure import extent, finite_mask, validate
from flashworld_core.ops.merge import merge
from flashworld_core.ops.select import budget, crop, importance, prune
from flashworld_core.ops.transform import similarity_from_matrix, transform, transform_cameras
from flashworld_core.sh import evaluate_sh


def scene(n=50, degree=2, seed=0, dtype=torch.float64, metadata=None):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return Gaussians(
        normal(n, 3),
        torch.nn.functional.normalize(normal(n, 4), dim=1),
        normal(n, 3).exp(),
        torch.rand(n, generator=generator, dtype=dtype),
        normal(n, (degree + 1) ** 2, 3),
        metadata or {},
    )


def random_rotation(seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def quat_matrix(quats):
    """[N, 3, 3] by rotating the three axes with q v q*, written out as Hamilton products."""

    def product(a, b):
        aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
        w = aw * bw - (av * bv).sum(-1, keepdim=True)
        return torch.cat([w, aw * bv + bw * av + torch.linalg.cross(av, bv)], -1)

    conjugate = quats * quats.new_tensor([1, -1, -1, -1])
    axes = torch.eye(3, dtype=quats.dtype)
    columns = []
    for axis in axes:
        pure = torch.cat([quats.new_zeros(1), axis]).expand_as(quats)
        columns.append(product(product(quats, pure), conjugate)[..., 1:])
    return torch.stack(columns, -1)


def covariances(gaussians):
    m = quat_matrix(gaussians.quats) * gaussians.scales[:, None]
    return m @ m.mT


@pytest.mark.parametrize("seed", range(8))
def test_transform_moves_density_and_color_alike(seed):
    """Centers, covariances and the color along every direction are those of the moved scene."""
    before = scene(degree=seed % 4, seed=seed, metadata={"scene_scale": 2.0, "seed": 1})
    rotation, scale, shift = random_rotation(seed), 0.1 + seed, torch.tensor([1.0, -2, 3], dtype=torch.float64)
    after = transform(before, rotation=rotation, scale=scale, translation=shift)
    torch.testing.assert_close(after.means, scale * (rotation @ before.means[..., None])[..., 0] + shift)
    torch.testing.assert_close(covariances(after), scale**2 * rotation @ covariances(before) @ rotation.T)
    torch.testing.assert_close(after.quats.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(after.opacities, before.opacities)
    eye = torch.tensor([0.3, 5.0, -2.0], dtype=torch.float64)
    moved_eye = scale * rotation @ eye + shift
    seen_before = torch.nn.functional.normalize(before.means - eye, dim=1)
    seen_after = torch.nn.functional.normalize(after.means - moved_eye, dim=1)
    torch.testing.assert_close(evaluate_sh(after.sh, seen_after), evaluate_sh(before.sh, seen_before))
    assert after.metadata == {"scene_scale": 2.0 * scale, "seed": 1} and before.metadata["scene_scale"] == 2.0


def test_transform_inverts_and_composes():
    start, a, b = scene(), random_rotation(1), random_rotation(2)
    there = transform(start, rotation=a, scale=3.0, translation=(1, 2, 3))
    back = transform(there, rotation=a.T, scale=1 / 3, translation=-(a.T @ torch.tensor([1.0, 2, 3]).double()) / 3)
    torch.testing.assert_close(back.means, start.means)
    torch.testing.assert_close(back.sh, start.sh)
    torch.testing.assert_close(covariances(back), covariances(start))
    twice = transform(transform(start, rotation=a, translation=(1, 0, 0)), rotation=b, scale=2.0)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = 2 * b @ a, 2 * b[:, 0]
    once = transform(start, **similarity_from_matrix(matrix))
    torch.testing.assert_close(once.means, twice.means)
    torch.testing.assert_close(once.sh, twice.sh)
    torch.testing.assert_close(once.scales, twice.scales)
    torch.testing.assert_close(covariances(once), covariances(twice))


def test_transform_without_arguments_changes_nothing():
    start = scene()
    for same in (transform(start), transform(start, rotation=torch.eye(3))):
        for name in ("means", "quats", "scales", "opacities", "sh"):
            assert torch.equal(getattr(same, name), getattr(start, name))


def test_transform_keeps_gradients():
    start = scene(5).map(lambda t: t.requires_grad_())
    moved = transform(start, rotation=random_rotation(), scale=2.0)
    sum(t.square().sum() for t in (moved.means, moved.scales, moved.sh)).backward()
    torch.testing.assert_close(start.means.grad, 8 * start.means.detach())
    torch.testing.assert_close(start.scales.grad, 8 * start.scales.detach())
    torch.testing.assert_close(start.sh.grad, 2 * start.sh.detach())  # rotations keep lengths


def test_cameras_move_with_the_scene():
    """In the moved camera every center has the old camera coordinates, times the scale."""
    gaussians = scene()
    poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    for i in range(3):
        poses[i, :3, :3], poses[i, :3, 3] = random_rotation(10 + i), torch.full((3,), float(i), dtype=torch.float64)
    intrinsics = torch.diag(torch.tensor([50.0, 50.0, 1.0], dtype=torch.float64)).repeat(3, 1, 1)
    cameras = Cameras(poses, intrinsics, 64, 48)
    move = {"rotation": random_rotation(3), "scale": 2.5, "translation": (4.0, 5.0, 6.0)}
    moved, moved_cameras = transform(gaussians, **move), transform_cameras(cameras, **move)

    def in_camera(g, c):
        homogeneous = torch.cat([g.means, torch.ones_like(g.means[:, :1])], 1)
        return torch.einsum("vij,nj->vni", c.world_to_camera, homogeneous)[..., :3]

    torch.testing.assert_close(in_camera(moved, moved_cameras), 2.5 * in_camera(gaussians, cameras))
    assert torch.equal(moved_cameras.intrinsics, cameras.intrinsics)


def test_bad_similarities():
    start = scene(3)
    for bad in (0, -1, math.nan, math.inf):
        with pytest.raises(FlashWorldError, match="scale must be a positive number"):
            transform(start, scale=bad)
    for bad in (2 * torch.eye(3), -torch.eye(3), torch.full((3, 3), math.nan)):
        with pytest.raises(FlashWorldError, match="rotation must be orthonormal"):
            transform(start, rotation=bad)
    with pytest.raises(FlashWorldError, match=r"rotation must be \[3, 3\]"):
        transform(start, rotation=torch.eye(4))
    for bad in ((1, 2), (math.nan, 0, 0)):
        with pytest.raises(FlashWorldError, match="translation must be 3 finite numbers"):
            transform(start, translation=bad)
    for diagonal, message in (
        ((1, 1, 2, 1), "shears or scales"),
        ((1, 1, -1, 1), "mirrors or flattens"),
        ((1, 1, 0, 1), "mirrors or flattens"),
        ((1, 1, 1, 2), "last row"),
    ):
        with pytest.raises(FlashWorldError, match=message):
            similarity_from_matrix(torch.diag(torch.tensor(diagonal, dtype=torch.float64)))
    with pytest.raises(FlashWorldError, match=r"must be \[4, 4\]"):
        similarity_from_matrix(torch.eye(3))


@pytest.mark.parametrize("axis", range(4))
def test_matrix_to_quaternion_in_every_branch(axis):
    """Rotations near a half turn about each axis, and near none."""
    for seed in range(20):
        quat = 0.1 * torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        quat[axis] += 1
        quat = quat / quat.norm()
        matrix = quat_matrix(quat[None])[0]
        found = matrices_to_quats(matrix)
        torch.testing.assert_close(quat_matrix(found[None])[0], matrix)
        assert found[0] >= 0 and found.dtype == torch.float64


def test_prune():
    start = scene(8)
    start.opacities[:] = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    start.scales[:] = torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64)
    start.scales[6, 1] = 5.0
    start.scales[7] = 1e-6
    assert len(prune(start)) == 8 and prune(start) is start
    assert prune(start, min_opacity=0.3).opacities.tolist() == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7])
    assert prune(start, max_size=1.0).opacities.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
    assert prune(start, min_size=0.03).opacities.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert len(prune(start, min_opacity=2.0)) == 0


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "sh"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_prune_drops_what_is_not_finite(name, value):
    start = scene(6)
    getattr(start, name).view(6, -1)[4, -1] = value
    assert finite_mask(start).tolist() == [True] * 4 + [False, True]
    kept = prune(start)
    assert torch.equal(kept.means, start.means[[0, 1, 2, 3, 5]])


def test_crop():
    start = scene(200)
    low, high = (-0.5, -1.0, -math.inf), (0.5, 1.0, 0.25)
    inside = crop(start, low, high)
    outside = crop(start, low, high, invert=True)
    assert len(inside) + len(outside) == 200 and 0 < len(inside) < 200
    m = inside.means
    assert (m[:, 0].abs() <= 0.5).all() and (m[:, 1].abs() <= 1).all() and (m[:, 2] <= 0.25).all()
    m = outside.means
    assert ((m[:, 0].abs() > 0.5) | (m[:, 1].abs() > 1) | (m[:, 2] > 0.25)).all()
    face = scene(1)
    face.means[:] = torch.tensor([1.0, 0.0, 0.0])
    assert len(crop(face, (0, 0, 0), (1, 1, 1))) == 1
    with pytest.raises(FlashWorldError, match="minimum .* must not exceed"):
        crop(start, (0, 0, 1), (1, 1, 0))
    with pytest.raises(FlashWorldError, match="maximum must be 3 numbers"):
        crop(start, (0, 0, 0), (1, 1))
    with pytest.raises(FlashWorldError, match="must not exceed"):
        crop(start, (0, 0, math.nan), (1, 1, 1))


def test_extent_ignores_a_few_strays():
    start = scene(2000)
    direction = torch.nn.functional.normalize(start.means, dim=1)
    radius = torch.linspace(0, 1, 2000, dtype=torch.float64)[:, None]
    start.means[:] = direction * radius + torch.tensor([5.0, -3, 2], dtype=torch.float64)
    assert extent(start) == pytest.approx(0.9, abs=0.02)
    start.means[:20] = torch.tensor([1e6, 0, 0], dtype=torch.float64)
    start.means[20] = math.nan
    assert extent(start) == pytest.approx(0.9, abs=0.05)
    assert extent(start[:0]) == 0 and extent(scene(1)) == 0


def test_budget_keeps_the_most_important_in_order():
    start = scene(100)
    kept = budget(start, 30)
    chosen = importance(start).topk(30).indices.sort().values
    assert torch.equal(kept.means, start.means[chosen])
    assert importance(kept).min() >= importance(start).sort(descending=True).values[29]
    assert budget(start, 100) is start and len(budget(start, 0)) == 0
    with pytest.raises(FlashWorldError, match="0 or more"):
        budget(start, -1)


def test_budget_breaks_ties_by_position_and_ranks_invalid_last():
    start = scene(10)
    start.opacities.fill_(0.5)
    start.scales.fill_(0.1)
    start.opacities[1] = math.nan
    kept = budget(start, 4)
    assert torch.equal(kept.means, start.means[[0, 2, 3, 4]])


def test_importance_counts_opacity_and_area():
    start = scene(4)
    start.opacities[:] = torch.tensor([1.0, 0.5, 1.0, 0.0])
    start.scales[:] = torch.tensor([[1.0, 1, 1], [1, 1, 1], [2, 2, 0], [9, 9, 9]])
    assert importance(start).tolist() == [3.0, 1.5, 4.0, 0.0]  # a flat disc shows, though it has no volume


def test_importance_from_viewpoints_is_what_they_see():
    start = scene(300)
    points = torch.tensor([[0.0, 0, -50], [0, 40, 0]])
    distance = torch.cdist(start.means, points.double()).amin(dim=1)
    torch.testing.assert_close(importance(start, points), importance(start) / distance**2)
    # Twice as far and twice as large looks the same.
    pair = scene(1)[[0, 0]]
    pair.means[:] = torch.tensor([[0.0, 0, 5], [0, 0, 10]], dtype=torch.float64)
    pair.scales[:] = 0.1
    pair.scales[1] = 0.2
    same = importance(pair, torch.zeros(1, 3))
    assert float(same[0]) == pytest.approx(float(same[1]))
    pair.scales[1] = 0.19
    assert len(budget(pair, 1, torch.zeros(1, 3))) == 1
    assert float(budget(pair, 1, torch.zeros(1, 3)).means[0, 2]) == 5 and float(budget(pair, 1).means[0, 2]) == 10
    inside = importance(start, start.means[:1])
    assert bool(torch.isfinite(inside).all()) and float(inside[0]) > 0
    many = torch.randn(1000, 3, generator=torch.Generator().manual_seed(1))
    assert bool((importance(start, many) > 0).all())
    assert torch.equal(importance(start, many[:0]), importance(start))


def test_merge_fills_up_degrees():
    a, b = scene(3, degree=0, seed=1), scene(4, degree=2, seed=2)
    joined = merge([a, b])
    assert len(joined) == 7 and joined.sh_degree == 2
    assert torch.equal(joined.means, torch.cat([a.means, b.means]))
    assert torch.equal(joined.quats, torch.cat([a.quats, b.quats]))
    assert torch.equal(joined.opacities, torch.cat([a.opacities, b.opacities]))
    directions = torch.nn.functional.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    colors = evaluate_sh(joined.sh, directions.double())
    torch.testing.assert_close(colors[:3], evaluate_sh(a.sh, directions[:3].double()))
    torch.testing.assert_close(colors[3:], evaluate_sh(b.sh, directions[3:].double()))


def test_merge_metadata_and_types():
    a = scene(1, metadata={"generator": "g", "seed": 1, "scene_scale": 2.0})
    b = scene(1, metadata={"generator": "g", "seed": 2}, dtype=torch.float32)
    joined = merge([a, b])
    assert joined.metadata == {"generator": "g", "merged_from": [a.metadata, b.metadata]}
    assert joined.means.dtype == torch.float64
    c = scene(1, metadata={"generator": "h"})
    assert merge([joined, c]).metadata == {"merged_from": [a.metadata, b.metadata, c.metadata]}
    assert merge([a]).metadata == a.metadata and merge([a, a]).metadata == a.metadata
    assert len(merge([a, a, b])) == 3
    with pytest.raises(FlashWorldError, match="at least one"):
        merge([])


def test_validate_accepts_what_is_valid():
    validate(scene())
    validate(scene(0))
    validate(scene().to(dtype=torch.float16))
    start = scene(2)
    start.scales[0], start.opacities[:] = 0.0, torch.tensor([0.0, 1.0])
    validate(start)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("means", math.nan, "means must be finite"),
        ("sh", math.inf, "sh must be finite"),
        ("scales", -0.1, "scales must be finite and >= 0"),
        ("scales", math.inf, "scales must be finite and >= 0"),
        ("opacities", 1.01, r"opacities must lie in \[0, 1\]"),
        ("opacities", math.nan, r"opacities must lie in \[0, 1\]"),
        ("quats", 2.0, "quats must have unit length"),
        ("quats", math.nan, "quats must have unit length"),
    ],
)
def test_validate_names_rule_count_and_first(name, value, message):
    start = scene(9)
    getattr(start, name).view(9, -1)[[3, 7], 0] = value
    with pytest.raises(FlashWorldError, match=rf"Export: {message}; 2 of 9 are not, the first is number 3\."):
        validate(start, "Export")
