import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld import cameras as fw

FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


def path(count=5, seed=0, dtype=torch.float64):
    """Random camera vectors: unit quaternions, positions of a few units, lens and center different in x and y."""
    generator = torch.Generator().manual_seed(seed)
    quats = F.normalize(torch.randn(count, 4, generator=generator, dtype=torch.float64), dim=-1)
    positions = 2 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    intrinsics = torch.tensor([0.9, 1.2, 0.48, 0.53], dtype=torch.float64).expand(count, 4)
    intrinsics = intrinsics + 0.02 * torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return torch.cat((quats, positions, intrinsics), 1).to(dtype)


def pose(quat=(1, 0, 0, 0), position=(0, 0, 0), intrinsics=(1, 1, 0.5, 0.5)):
    return torch.tensor([[*quat, *position, *intrinsics]], dtype=torch.float64)


# --- quaternions ------------------------------------------------------------------------------------------


def test_matrices_of_quaternions_of_any_length():
    from scipy.spatial.transform import Rotation

    quats = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    expected = torch.from_numpy(Rotation.from_quat(quats[:, [1, 2, 3, 0]].numpy()).as_matrix())
    assert_close(fw.quats_to_matrices(quats), expected)


def test_quaternions_of_matrices_including_half_turns():
    quats = torch.cat(
        (
            torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
            torch.eye(4, dtype=torch.float64),  # identity and the half turns around x, y, z
            torch.tensor([[1e-9, 1, 1, 0], [0, -1, 1, 1], [-1, 1e-12, 0, 0]], dtype=torch.float64),
        )
    )
    matrices = fw.quats_to_matrices(quats)
    back = fw.matrices_to_quats(matrices)
    assert (back[:, 0] >= 0).all()
    assert_close(back.norm(dim=-1), torch.ones_like(back[:, 0]))
    assert_close(fw.quats_to_matrices(back), matrices, rtol=0, atol=1e-12)


# --- resampling -------------------------------------------------------------------------------------------


def test_resampling_is_slerp_and_lerp():
    from scipy.spatial.transform import Rotation, Slerp

    cameras = path(5)
    cameras[2, :4] *= -1  # the same rotation: the shorter way round must not depend on it
    resampled = fw.resample_cameras(cameras, 13)
    at = torch.linspace(0, 4, 13, dtype=torch.float64)
    rotations = Rotation.from_quat(cameras[:, [1, 2, 3, 0]].numpy())
    expected = torch.from_numpy(Slerp(range(5), rotations)(at.numpy()).as_matrix())
    assert_close(fw.quats_to_matrices(resampled[:, :4]), expected, rtol=0, atol=1e-8)
    left = at.floor().clamp(max=3).long()
    f = (at - left)[:, None]
    assert_close(resampled[:, 4:], (1 - f) * cameras[left, 4:] + f * cameras[left + 1, 4:])
    assert_close(resampled[::3, 4:], cameras[:, 4:], rtol=0, atol=0)


def test_resampling_to_the_same_count_changes_nothing():
    cameras = path(7)
    resampled = fw.resample_cameras(cameras, 7)
    assert_close(resampled, cameras)


def test_resampling_quaternions_that_are_not_unit():
    cameras = path(4)
    longer = cameras.clone()
    longer[:, :4] *= torch.tensor([[3.0], [0.2], [5.0], [1.7]], dtype=torch.float64)
    assert_close(fw.resample_cameras(longer, 9), fw.resample_cameras(cameras, 9))


def test_resampling_one_camera_and_to_one_camera():
    assert torch.equal(fw.resample_cameras(path(1), 4), path(1).repeat(4, 1))
    assert torch.equal(fw.resample_cameras(path(3), 1), path(3)[:1])


def test_resampling_equal_poses():
    cameras = pose().repeat(3, 1).float()
    assert_close(fw.resample_cameras(cameras, 8), cameras[:1].repeat(8, 1))


# --- normalization ----------------------------------------------------------------------------------------


def test_normalized_path_starts_at_the_origin_and_stays_within_one():
    cameras = path(6)
    normalized, normalization = fw.normalize_cameras(cameras)
    assert_close(normalized[0, :7], pose()[0, :7], rtol=0, atol=1e-12)
    matrices = fw.camera_to_world_matrices(cameras)
    relative = torch.linalg.inv(matrices[0]) @ matrices
    largest = relative[:, :3, 3].norm(dim=-1).max()
    assert_close(normalization.translation_norm, largest)
    assert_close(normalization.scale, largest + 0.01)
    assert_close(normalized[:, 4:7] * (largest + 0.01), relative[:, :3, 3])
    assert_close(fw.quats_to_matrices(normalized[:, :4]), relative[:, :3, :3])
    assert torch.equal(normalized[:, 7:], cameras[:, 7:])
    assert_close(normalization.reference_world_to_camera, torch.linalg.inv(matrices[0]))


def test_normalization_undone_and_applied_to_other_cameras():
    cameras, others = path(4), path(3, seed=5)
    normalized, normalization = fw.normalize_cameras(cameras)
    assert_close(fw.camera_to_world_matrices(normalization.invert(normalized)), fw.camera_to_world_matrices(cameras))
    assert_close(normalization.apply(cameras), normalized)
    assert_close(
        fw.camera_to_world_matrices(normalization.invert(normalization.apply(others))),
        fw.camera_to_world_matrices(others),
    )


@pytest.mark.parametrize("count", [1, 5])
def test_cameras_that_only_turn(count):
    cameras = path(count)
    cameras[:, 4:7] = torch.tensor([3.0, -2.0, 7.0], dtype=torch.float64)
    normalized, normalization = fw.normalize_cameras(cameras)
    assert normalization.translation_norm < 1e-12
    assert_close(normalization.scale, torch.tensor(0.01, dtype=torch.float64))
    assert_close(normalized[:, 4:7], torch.zeros(count, 3, dtype=torch.float64), rtol=0, atol=1e-10)
    assert torch.isfinite(fw.raymaps(normalized, 2, 3)).all()
    assert_close(normalization.invert(normalized)[:, 4:7], cameras[:, 4:7])


def test_video_path_passes_through_the_views():
    cameras = path(4)
    normalized, normalization = fw.normalize_cameras(cameras)
    video = fw.video_cameras(cameras, normalization, frames_per_view=5)
    assert len(video) == 16
    assert_close(fw.camera_to_world_matrices(video[::5]), fw.camera_to_world_matrices(normalized))


def test_single_precision_is_accurate_to_single_precision():
    double, single = path(6), path(6, dtype=torch.float32)
    for function in (
        lambda c: fw.normalize_cameras(c)[0],
        lambda c: fw.resample_cameras(c, 11)[:, 4:],
        lambda c: fw.raymaps(c, 3, 4),
    ):
        assert function(single).dtype == torch.float32
        assert function(double).dtype == torch.float64
        assert_close(function(single).double(), function(double), rtol=0, atol=1e-5)


def test_autocast_leaves_camera_geometry_alone():
    cameras = path(3, dtype=torch.float32)
    functions = (
        lambda: fw.normalize_cameras(cameras)[0],
        lambda: fw.resample_cameras(cameras, 5),
        lambda: fw.raymaps(cameras, 3, 4),
        lambda: fw.rendering_matrices(cameras, 3, 4)[0],
    )
    for function in functions:
        expected = function()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(function(), expected)


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (torch.zeros(0, 11), "N >= 1"),
        (torch.zeros(3, 10), r"\[N, 11\]"),
        (torch.full((2, 11), math.nan), "finite"),
        (torch.zeros(2, 11), "quaternion is zero"),
    ],
)
def test_refuses_vectors_that_are_no_cameras(cameras, message):
    with pytest.raises(FlashWorldError, match=message):
        fw.normalize_cameras(cameras)
    with pytest.raises(FlashWorldError, match=message):
        fw.resample_cameras(cameras, 3)


def test_refuses_to_resample_to_nothing():
    with pytest.raises(FlashWorldError, match="At least one"):
        fw.resample_cameras(path(3), 0)


# --- rays -------------------------------------------------------------------------------------------------


def test_rays_of_a_camera_at_rest():
    origins, directions = fw.camera_rays(pose(intrinsics=(1, 2, 0.5, 0.5)), 3, 3)
    assert_close(origins, torch.zeros(1, 3, dtype=torch.float64))
    assert_close(directions[0, 1, 1], torch.tensor([0.0, 0, -1], dtype=torch.float64))  # the center looks ahead
    corner = torch.tensor([-1 / 3, 1 / 6, -1], dtype=torch.float64)  # top left: left and up
    assert_close(directions[0, 0, 0], corner / corner.norm())


def test_ray_offsets_move_along_the_image():
    cameras = path(2)
    grid = torch.zeros(2, 3, 4, 5, 2, dtype=torch.float64)
    origins, plain = fw.camera_rays(cameras, 4, 5)
    _, directions = fw.camera_rays(cameras, 4, 5, grid)
    assert directions.shape == (2, 3, 4, 5, 3)
    assert_close(directions, plain[:, None].expand_as(directions))
    # One pixel to the right, in units of the principal point, is the next pixel's ray; so it is downwards.
    grid[0, 1, ..., 0] = 1 / (cameras[0, 9] * 5)
    grid[1, 2, ..., 1] = 1 / (cameras[1, 10] * 4)
    _, directions = fw.camera_rays(cameras, 4, 5, grid)
    assert_close(directions[0, 1, :, :-1], plain[0, :, 1:])
    assert_close(directions[1, 2, :-1], plain[1, 1:])
    assert_close(directions[0, 0], plain[0])


def test_raymaps_are_direction_and_nearest_point():
    cameras = path(3)
    maps = fw.raymaps(cameras, 4, 6)
    assert maps.shape == (3, 6, 4, 6)
    origins, d = fw.camera_rays(cameras, 4, 6)
    direction, point = maps[:, :3].movedim(1, -1), maps[:, 3:].movedim(1, -1)
    assert_close(direction, d)
    assert_close(direction.norm(dim=-1), torch.ones(3, 4, 6, dtype=torch.float64))
    assert_close((direction * point).sum(-1), torch.zeros(3, 4, 6, dtype=torch.float64), rtol=0, atol=1e-12)
    # It lies on the ray: the way from the camera to it runs along the direction.
    way = point - origins[:, None, None]
    assert_close(torch.linalg.cross(way, direction), torch.zeros_like(way), rtol=0, atol=1e-12)
    # Moving a camera along one of its rays leaves that ray's map as it is.
    moved = cameras.clone()
    moved[:, 4:7] += 3 * d[:, 1, 2]
    assert_close(fw.raymaps(moved, 4, 6)[:, :, 1, 2], maps[:, :, 1, 2])


# --- between the two frames -------------------------------------------------------------------------------


def test_cameras_record_round_trip():
    vectors = path(4)
    cameras = fw.vectors_to_cameras(vectors, 640, 480)
    assert isinstance(cameras, Cameras) and (cameras.width, cameras.height) == (640, 480)
    back = fw.cameras_to_vectors(cameras)
    assert_close(fw.camera_to_world_matrices(back), fw.camera_to_world_matrices(vectors))
    assert_close(back[:, 7:], vectors[:, 7:])
    assert_close(cameras.camera_to_world, FLIP @ fw.camera_to_world_matrices(vectors) @ FLIP)
    assert_close(cameras.intrinsics[:, 0, 0], vectors[:, 7] * 640)
    assert_close(cameras.intrinsics[:, 1, 2], vectors[:, 10] * 480)


def test_directions_keep_their_meaning_between_the_frames():
    # In FlashWorld's frame the camera looks along -z with y up; in the record's along z with y down.
    vectors = torch.cat((pose(position=(0, 1, 0)), pose(position=(0, 0, -2))))
    cameras = fw.vectors_to_cameras(vectors, 10, 10)
    assert_close(cameras.positions, torch.tensor([[0.0, -1, 0], [0, 0, 2]], dtype=torch.float64))  # up; ahead
    assert_close(cameras.camera_to_world[:, :3, :3], torch.eye(3, dtype=torch.float64).repeat(2, 1, 1))


def test_pixels_of_rays_are_their_pixels_again():
    width, height = 6, 4
    vectors = path(3)
    origins, directions = fw.camera_rays(vectors, height, width)
    points = origins[:, None, None] + 2.5 * directions

    def pixels(world_to_camera, intrinsics, points):
        homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), -1)
        seen = torch.einsum("vij,vhwj->vhwi", world_to_camera, homogeneous)[..., :3]
        assert (seen[..., 2] > 0).all()
        projected = torch.einsum("vij,vhwj->vhwi", intrinsics, seen)
        return projected[..., :2] / projected[..., 2:]

    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    expected = torch.stack((columns, rows), -1).expand(3, -1, -1, -1)
    # Gaussians left in the OpenGL world, as while generating.
    assert_close(pixels(*fw.rendering_matrices(vectors, width, height), points), expected)
    # Gaussians and cameras brought to the record's world.
    cameras = fw.vectors_to_cameras(vectors, width, height)
    assert_close(pixels(cameras.world_to_camera, cameras.intrinsics, points @ FLIP[:3, :3]), expected)
