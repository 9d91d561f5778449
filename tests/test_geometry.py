"""Rotations, poses and lenses against known values and against the matrix exponential."""

import math

import pytest
import torch

from flashworld_core import geometry as poses
from flashworld_core.errors import FlashWorldError
from flashworld_core.geometry import matrices_to_quats, quats_to_matrices

H = math.sqrt(0.5)


def rotations_and_quaternions(count=200, largest=math.pi):
    """Random rotations built two ways that share no code with the module: exp of a generator, and half angles."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1)
    angle = torch.rand(count, generator=generator, dtype=torch.float64) * largest
    angle[0], angle[1], angle[2] = 0.0, largest, 1e-9
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    quaternions = torch.cat([(angle / 2).cos()[:, None], (angle / 2).sin()[:, None] * axis], dim=1)
    return torch.linalg.matrix_exp(angle[:, None, None] * skew), quaternions, skew, angle


def test_quaternions_and_matrices_are_the_same_rotations():
    matrices, quaternions, _, _ = rotations_and_quaternions()
    torch.testing.assert_close(quats_to_matrices(quaternions), matrices, rtol=0, atol=1e-12)
    torch.testing.assert_close(quats_to_matrices(-3 * quaternions), matrices, rtol=0, atol=1e-12)
    back = matrices_to_quats(matrices)
    assert bool((back[:, 0] >= 0).all())
    agreement = (back * quaternions).sum(1).abs()
    torch.testing.assert_close(agreement, torch.ones_like(agreement), rtol=0, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns(axis):
    matrix = -torch.eye(3, dtype=torch.float64)
    matrix[axis, axis] = 1
    expected = torch.zeros(4, dtype=torch.float64)
    expected[axis + 1] = 1
    torch.testing.assert_close(matrices_to_quats(matrix).abs(), expected)


def test_known_quaternion():
    quarter_about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(quats_to_matrices(torch.tensor([H, 0, 0, H])), quarter_about_z)
    torch.testing.assert_close(poses.rotation_about("z", torch.tensor(90.0)), quarter_about_z)


def test_rotation_about_agrees_with_quaternions():
    for i, axis in enumerate("xyz"):
        quaternion = torch.zeros(4, dtype=torch.float64)
        quaternion[0], quaternion[i + 1] = math.cos(math.radians(20)), math.sin(math.radians(20))
        turned = poses.rotation_about(axis, torch.tensor(40.0, dtype=torch.float64))
        torch.testing.assert_close(turned, quats_to_matrices(quaternion))


def test_slerp_turns_at_constant_speed():
    _, quaternions, skew, angle = rotations_and_quaternions(largest=math.pi - 1e-3)
    start = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).expand_as(quaternions)
    for fraction in (0.0, 0.3, 1.0):
        turned = poses.slerp(start, quaternions, torch.full_like(angle, fraction))
        expected = torch.linalg.matrix_exp(fraction * angle[:, None, None] * skew)
        torch.testing.assert_close(quats_to_matrices(turned), expected, rtol=0, atol=1e-9)


def test_slerp_goes_the_short_way():
    start = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    end = -matrices_to_quats(poses.rotation_about("y", torch.tensor(60.0, dtype=torch.float64)))
    middle = poses.slerp(start, end, torch.tensor(0.5, dtype=torch.float64))
    expected = poses.rotation_about("y", torch.tensor(30.0, dtype=torch.float64))
    torch.testing.assert_close(quats_to_matrices(middle), expected)


def test_rotation_angle():
    matrices, quaternions, _, angle = rotations_and_quaternions()
    start = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).expand_as(quaternions)
    torch.testing.assert_close(poses.rotation_angle(start, quaternions), angle, rtol=0, atol=1e-12)
    torch.testing.assert_close(poses.rotation_angle(start, -quaternions), angle, rtol=0, atol=1e-12)


def test_invert_pose():
    matrices, _, _, angle = rotations_and_quaternions()
    pose = poses.pose(matrices, torch.stack([angle, -angle, 3 * angle], dim=1))
    torch.testing.assert_close(poses.invert_pose(pose), torch.linalg.inv(pose))


def test_flip_y_and_z_is_a_change_of_frame():
    """Points and poses flipped alike see the same thing; flipping twice changes nothing."""
    matrices, _, _, angle = rotations_and_quaternions()
    pose = poses.pose(matrices, torch.stack([angle, -angle, 3 * angle], dim=1))
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    torch.testing.assert_close(poses.flip_y_and_z(pose), flip @ pose @ flip)
    assert torch.equal(poses.flip_y_and_z(poses.flip_y_and_z(pose)), pose)


def test_look_at_known_pose():
    """One unit to the right of the origin, looking at it: what is ahead of it is at -x, what is right of it at +z."""
    expected = torch.tensor([[0.0, 0, -1, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(poses.look_at((1.0, 0, 0), (0.0, 0, 0)), expected)


def test_look_at_points_at_the_target_the_right_way_up():
    generator = torch.Generator().manual_seed(1)
    position, target = torch.randn(2, 50, 3, generator=generator, dtype=torch.float64)
    pose = poses.look_at(position, target)
    seen = (poses.invert_pose(pose) @ torch.cat([target, torch.ones(50, 1)], dim=1)[..., None])[:, :3, 0]
    torch.testing.assert_close(seen[:, :2], torch.zeros(50, 2, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(seen[:, 2], (target - position).norm(dim=1))
    torch.testing.assert_close(pose[:, 1, 0], torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-12)  # level
    assert bool((pose[:, 1, 1] > 0).all())  # the picture's bottom is down
    torch.testing.assert_close(pose[:, :3, :3].det(), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("target", [(0.0, 5, 0), (0.0, -5, 0)])
def test_look_at_straight_up_and_down(target):
    pose = poses.look_at((0.0, 0, 0), target)
    assert float(pose[:3, :3].det()) == pytest.approx(1)
    assert pose[:3, 2].tolist() == pytest.approx([0, math.copysign(1, target[1]), 0])
    assert pose[:3, 1].tolist() == pytest.approx([0, 0, -1])  # the picture's top is towards +z


def test_look_at_refuses_the_impossible():
    with pytest.raises(FlashWorldError, match="exactly on its target"):
        poses.look_at((1.0, 2, 3), (1.0, 2, 3))
    with pytest.raises(FlashWorldError, match="up must not"):
        poses.look_at((1.0, 2, 3), (0.0, 0, 0), up=(0.0, 0, 0))


def test_checked_rotations():
    matrices, _, _, _ = rotations_and_quaternions()
    rounded = (matrices * 1e4).round() / 1e4
    cleaned = poses.checked_rotations(rounded, "here")
    identity = torch.eye(3, dtype=torch.float64).expand_as(cleaned)
    torch.testing.assert_close(cleaned @ cleaned.transpose(1, 2), identity)
    torch.testing.assert_close(cleaned, matrices, rtol=0, atol=2e-4)
    broken = {
        r"here\[7\] is no rotation": 1.01 * torch.eye(3),
        r"here\[7\] is mirrored": torch.diag(torch.tensor([1.0, 1, -1])),
        r"here\[7\] holds numbers that are not finite": torch.full((3, 3), math.nan),
    }
    for message, matrix in broken.items():
        batch = matrices.clone()
        batch[7] = matrix
        with pytest.raises(FlashWorldError, match=message):
            poses.checked_rotations(batch, "here")


def test_lens():
    k = poses.intrinsics_from_vertical_fov(90.0, 200, 100)
    assert k.tolist() == [[pytest.approx(50), 0, 100], [0, pytest.approx(50), 50], [0, 0, 1]]
    assert float(poses.vertical_fov_degrees(k, 100)) == pytest.approx(90)
    for degrees in (0, 180, -5, math.nan):
        with pytest.raises(FlashWorldError, match="field of view"):
            poses.intrinsics_from_vertical_fov(degrees, 200, 100)
