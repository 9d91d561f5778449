"""ToyWorld: deterministic scenes whose words, cameras, colors and depth agree with each other."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.datasets.toyworld.paths import REACH, is_clear, look_at, novel_cameras, sample_cameras
from flashworld_core.datasets.toyworld.raycast import render_scene
from flashworld_core.datasets.toyworld.scene import SKY_RADIUS, sample_scene
from flashworld_core.datasets.toyworld.seeds import SPLITS, STREAMS, generator
from flashworld_core.datasets.toyworld.solids import KINDS, Solid, intersect, surface
from flashworld_core.datasets.toyworld.textures import KINDS as TEXTURES
from flashworld_core.datasets.toyworld.textures import Texture, secondary_weight
from flashworld_core.datasets.toyworld.world import ToyWorld
from flashworld_core.errors import FlashWorldError

PLAIN = Texture("plain", (0.8, 0.3, 0.2), (0.9, 0.9, 0.9))


def make_solid(kind, **changes):
    size = {"sphere": (1.0, 1.0, 1.0), "box": (0.9, 0.7, 0.6), "cylinder": (0.7, 1.1, 0.7), "cone": (0.8, 1.0, 0.8)}
    base = Solid(kind, 0.3, 0.2, 0.6, *size[kind], PLAIN, "", "red")
    return dataclasses.replace(base, **changes)


def one_camera(position, target, width=64, height=48, focal=60.0):
    pose = look_at(np.array([position], dtype=float), np.array([target], dtype=float))
    k = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]], dtype=torch.float32)
    return Cameras(torch.from_numpy(pose).float(), k, width, height)


def rays_of(cameras):
    """[V, H, W, 3] float64 world directions with camera z 1, through pixel centers."""
    y, x = torch.meshgrid(torch.arange(cameras.height) + 0.5, torch.arange(cameras.width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
    k, r = cameras.intrinsics.double(), cameras.camera_to_world[:, :3, :3].double()
    return torch.einsum("vij,vjk,hwk->vhwi", r, torch.linalg.inv(k), pixels)


def signed_distance_sign(solid, p):
    """Negative inside the solid [N]: the implicit definition, independent of the intersection code."""
    x, z = p[:, 0] - solid.x, p[:, 2] - solid.z
    c, s = math.cos(solid.yaw), math.sin(solid.yaw)
    lx, lz, up = c * x + s * z, c * z - s * x, -p[:, 1]
    ends = np.maximum(-up, up - solid.height)
    if solid.kind == "box":
        return np.maximum.reduce([np.abs(lx) - solid.width / 2, np.abs(lz) - solid.depth / 2, ends])
    if solid.kind == "sphere":
        return np.sqrt(x**2 + z**2 + (up - solid.height / 2) ** 2) - solid.width / 2
    radius = solid.width / 2 if solid.kind == "cylinder" else solid.width / 2 * (1 - up / solid.height)
    return np.maximum(np.hypot(x, z) - radius, ends)


@pytest.mark.parametrize("kind", KINDS)
def test_intersection_is_the_first_point_of_the_implicit_solid(kind):
    solid, rng = make_solid(kind), np.random.default_rng(3)
    origins = np.stack([rng.uniform(-2, 2, 1200), rng.uniform(-2.2, -1.5, 1200), rng.uniform(-4, -2, 1200)], 1)
    aims = np.stack([rng.uniform(-0.4, 1.0, 1200), rng.uniform(-1.3, 0, 1200), rng.uniform(-0.4, 0.8, 1200)], 1)
    o, d = origins.astype(np.float32), (aims - origins).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = intersect(solid, *o.T, *d.T)
    steps = np.linspace(0, 3, 3001)
    inside = np.stack([signed_distance_sign(solid, o + step * d.astype(float)) < 0 for step in steps])
    first = np.where(inside.any(0), steps[inside.argmax(0)], np.inf)
    assert 200 < np.isfinite(first).sum() < 1190
    clear = np.isfinite(first)
    # A step is 1e-3: the first inside sample follows the hit by at most that; grazing rays may slip between steps.
    gap = first[clear] - t[clear]
    assert np.isfinite(t[clear]).all() and gap.min() > -1e-4 and gap.max() < 1.1e-3
    assert (np.isfinite(t) & ~clear).sum() <= 12


@pytest.mark.parametrize("kind", KINDS)
def test_normals_are_the_gradient_of_the_implicit_solid(kind):
    solid, rng = make_solid(kind), np.random.default_rng(5)
    o = np.stack([rng.uniform(-3, 3, 400), rng.uniform(-2.5, -1.2, 400), rng.uniform(-4, -2, 400)], 1)
    d = np.array([0.3, -0.5, 0.2]) + rng.uniform(-0.3, 0.3, (400, 3)) - o
    with np.errstate(divide="ignore", invalid="ignore"):
        t = intersect(solid, *o.astype(np.float32).T, *d.astype(np.float32).T)
    hit = np.isfinite(t)
    p = (o + t[:, None] * d)[hit]
    normal = np.stack(surface(solid, *p.astype(np.float32).T)[:3], 1)
    steps = 1e-5 * np.eye(3)
    gradient = np.stack(
        [signed_distance_sign(solid, p + step) - signed_distance_sign(solid, p - step) for step in steps], 1
    )
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    assert hit.sum() > 150
    # At an edge either face's normal is right: leave out the few points that lie on one.
    agree = (normal * gradient).sum(1)
    assert (agree > 0.9995).mean() > 0.98
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-4)


def test_depth_of_ground_sphere_and_dome_is_analytic():
    camera = one_camera((0.2, -1.3, -3.5), (0, -0.4, 0))
    scene = sample_scene(next(s for s in range(50) if sample_scene(s).sky is not None))
    ball = make_solid("sphere", x=0.1, z=0.3)
    _, depth = render_scene(dataclasses.replace(scene, solids=(ball,)), camera)
    d, o = rays_of(camera)[0], camera.positions[0].double()

    def sphere(center, radius, sign):
        oc = o - center
        a, b, c = (d * d).sum(-1), (d * oc).sum(-1), oc @ oc - radius**2
        return (-b + sign * (b * b - a * c).sqrt()) / a

    ground = torch.where(d[..., 1] > 0, -o[1] / d[..., 1], torch.inf)
    dome = sphere(torch.zeros(3, dtype=torch.float64), SKY_RADIUS, 1)
    near = sphere(torch.tensor([0.1, -0.5, 0.3], dtype=torch.float64), 0.5, -1).nan_to_num(torch.inf)
    expected = torch.minimum(torch.minimum(ground, dome), near)
    assert (near < ground).any() and (dome < ground).any() and (ground < dome).any()
    torch.testing.assert_close(depth[0].double(), expected, rtol=2e-5, atol=2e-4)


def test_room_depth_is_the_nearest_face():
    scene = sample_scene(next(s for s in range(50) if sample_scene(s).room is not None))
    scene = dataclasses.replace(scene, solids=())
    camera = one_camera((0.5, -1.4, -3.0), (0, -1.3, 0), focal=30.0)
    _, depth = render_scene(scene, camera)
    d, o = rays_of(camera)[0], camera.positions[0].double()
    low, high = (torch.tensor(side, dtype=torch.float64) for side in (scene.room.low, scene.room.high))
    expected = torch.where(d > 0, (high - o) / d, (low - o) / d)
    assert len(expected.argmin(-1).unique()) == 3  # Side, floor or ceiling, back.
    torch.testing.assert_close(depth[0].double(), expected.min(-1).values, rtol=2e-5, atol=2e-4)


def test_points_reproject_to_the_same_depth_and_color():
    checked, agreed = 0, []
    for seed in range(6):
        sample = ToyWorld(3, 96, 64, supersample=3).sample(seed, "test", novel_views=0)
        cameras, depth = sample.cameras, sample.depth
        points = cameras.positions[0].double() + depth[0].double()[..., None] * rays_of(cameras)[0]
        w2c = cameras.world_to_camera[2].double()
        local = points @ w2c[:3, :3].T + w2c[:3, 3]
        pixels = local @ cameras.intrinsics[2].double().T
        u, v = pixels[..., 0] / pixels[..., 2], pixels[..., 1] / pixels[..., 2]
        inside = (local[..., 2] > 0) & (u > 1) & (u < 95) & (v > 1) & (v < 63)
        grid = torch.stack([u / 96 * 2 - 1, v / 64 * 2 - 1], -1)[None].float()

        def look(x, grid=grid):
            return torch.nn.functional.grid_sample(x[None], grid, align_corners=False)[0]

        # 1/z is linear across a plane in the image, so bilinear samples of it are exact there.
        seen = 1 / look(1 / depth[2][None])[0]
        unoccluded = inside & (seen - local[..., 2] > -0.02 * local[..., 2])
        match = (seen / local[..., 2] - 1).abs() < 0.01
        assert (match & inside).sum() > 0.75 * inside.sum()
        error = (look(sample.images[2]) - sample.images[0]).abs().amax(0)[match & unoccluded]
        checked += error.numel()
        agreed.append((error < 0.04).float().mean())
    # What differs are pixels astride an edge of texture or shadow.
    assert checked > 15000 and min(agreed) > 0.75 and sum(agreed) / len(agreed) > 0.88


def test_cropping_and_bands_change_nothing(monkeypatch):
    for seed in (2, 4, 8):
        sample = ToyWorld(3, 96, 64).sample(seed, novel_views=0)
        images, depth = render_scene(sample.scene, sample.cameras, cull=False)
        assert torch.equal(depth, sample.depth)
        torch.testing.assert_close(images, sample.images, rtol=0, atol=1e-5)
        with monkeypatch.context() as patch:
            patch.setattr("flashworld_core.datasets.toyworld.raycast._RAYS_PER_BAND", 96 * 5 * 7)
            images, depth = render_scene(sample.scene, sample.cameras)
        assert torch.equal(depth, sample.depth)
        torch.testing.assert_close(images, sample.images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("supersample", [1, 3])
def test_depth_does_not_depend_on_supersampling(supersample):
    scene = sample_scene(4)
    cameras = sample_cameras(scene, 2, 48, 32)
    images, depth = render_scene(scene, cameras, supersample)
    reference_images, reference = render_scene(scene, cameras)
    torch.testing.assert_close(depth, reference, rtol=1e-6, atol=1e-6)
    assert 0 < (images - reference_images).abs().mean() < 0.02


def test_shadow_falls_away_from_the_light():
    scene = sample_scene(next(s for s in range(50) if sample_scene(s).sky is not None))
    light = (0.6, -0.8, 0.0)  # From the right: the shadow lies to the left.
    cylinder = make_solid("cylinder", x=0.0, z=0.0, height=1.2)
    scene = dataclasses.replace(scene, solids=(cylinder,), light=light, ground=PLAIN)
    camera = one_camera((0, -2.5, -3.0), (0, 0, 0))

    def brightness(x):
        point = torch.tensor([x, 0.0, 0.0])
        local = camera.world_to_camera[0, :3, :3] @ point + camera.world_to_camera[0, :3, 3]
        u, v, z = camera.intrinsics[0] @ local
        return images[0, :, int(v / z), int(u / z)].mean()

    images, _ = render_scene(scene, camera)
    # The shadow's tip is at 0.9 m (height / tan of the light's height) plus the radius.
    assert brightness(-0.8) < 0.85 * brightness(-1.8)
    assert brightness(0.95) > 0.97 * brightness(1.8)


def test_solids_cast_shadows_on_solids():
    scene = sample_scene(next(s for s in range(50) if sample_scene(s).sky is not None))
    tall = make_solid("box", x=0.9, z=0.0, yaw=0.0, width=0.5, height=1.3, depth=0.8)
    low = make_solid("box", x=0.0, z=0.0, yaw=0.0, width=0.8, height=0.5, depth=0.8)
    scene = dataclasses.replace(scene, solids=(tall, low), light=(0.6, -0.8, 0.0), ground=PLAIN)
    camera = one_camera((0, -2.5, -3.0), (0, -0.3, 0))
    images, _ = render_scene(scene, camera)
    torch.testing.assert_close(images, render_scene(scene, camera, cull=False)[0], rtol=0, atol=1e-5)
    # The tall box's left side stands at x = 0.65; 0.8 m above the low box's top its shadow reaches 0.6 m: x = 0.05.
    top = torch.tensor([[-0.2, -0.5, 0.0], [0.25, -0.5, 0.0]])
    local = top @ camera.world_to_camera[0, :3, :3].T + camera.world_to_camera[0, :3, 3]
    u, v, z = camera.intrinsics[0] @ local.T
    lit, shadowed = images[0, :, (v / z).long(), (u / z).long()].mean(0)
    assert shadowed < 0.85 * lit


def test_streams_of_a_seed_are_independent():
    draws = [generator(5, split, stream).random() for split in SPLITS for stream in STREAMS]
    assert len(set(draws)) == len(SPLITS) * len(STREAMS)


def test_same_seed_same_sample_and_streams_do_not_mix():
    a, b = (ToyWorld(3, 48, 32).sample(11) for _ in range(2))
    assert a.scene == b.scene and torch.equal(a.images, b.images) and torch.equal(a.novel_depth, b.novel_depth)
    more = ToyWorld(3, 48, 32).sample(11, novel_views=5)
    assert more.scene == a.scene and torch.equal(more.images, a.images)
    assert torch.equal(more.novel_images[:2], a.novel_images)


def test_splits_and_seeds_differ():
    def facts(scene):
        return [(s.kind, s.x, s.z) for s in scene.solids]

    seen = [facts(sample_scene(seed, split)) for seed in (0, 1, 7, 2**32, 2**63 - 1) for split in ("train", "test")]
    assert all(seen[i] != seen[j] for i in range(len(seen)) for j in range(i))
    assert not torch.equal(
        sample_cameras(sample_scene(7), 3, 48, 32).camera_to_world,
        sample_cameras(sample_scene(7, "test"), 3, 48, 32).camera_to_world,
    )


def test_prompt_says_what_is_there_and_no_more():
    kinds, textures, sizes, places = Counter(), Counter(), Counter(), Counter()
    for seed in range(300):
        scene = sample_scene(seed)
        prompt = scene.prompt
        assert 1 <= len(scene.solids) <= 5
        # Every object, in words that fit its numbers.
        for solid in scene.solids:
            pattern = "" if solid.texture.kind == "plain" else solid.texture.kind + " "
            size = solid.size_word + " " if solid.size_word else ""
            article = "an" if (size + solid.color_word)[0] in "aeiou" else "a"
            assert prompt.count(f"{article} {size}{solid.color_word} {pattern}{solid.kind}") >= 1, prompt
            if solid.size_word == "small":
                assert solid.height < 0.7
            if solid.size_word in ("large", "tall"):
                assert max(solid.height, solid.width) > 1.0
            kinds[solid.kind] += 1
            textures[solid.texture.kind] += 1
            sizes[solid.size_word] += 1
        assert sum(prompt.count(kind) for kind in KINDS) == len(scene.solids)
        assert len({solid.color_word for solid in scene.solids}) == len(scene.solids)
        assert (scene.room is None) != (scene.sky is None)
        place = "room" if scene.room else "sky"
        places[place] += 1
        ground = scene.ground_word + ("" if scene.ground.kind == "plain" else " " + scene.ground.kind)
        if scene.room:
            assert f"{ground} floor" in prompt and f"{scene.room.walls_word} " in prompt and "sky" not in prompt
        else:
            assert f"{ground} ground" in prompt and f"{scene.sky.word} sky" in prompt and "room" not in prompt
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 60
    assert set(textures) == {"plain", "striped", "checkered", "shaded"}
    assert set(sizes) == {"small", "", "large", "tall"} and min(places.values()) > 60
    assert {len(sample_scene(seed).solids) for seed in range(300)} == {1, 2, 3, 4, 5}


def test_a_named_color_is_what_the_picture_shows():
    from flashworld_core.datasets.toyworld.scene import COLORS

    scene = sample_scene(next(s for s in range(50) if sample_scene(s).sky is not None))
    for name in ("red", "green", "blue"):
        texture = Texture("plain", COLORS[name], (1.0, 1.0, 1.0))
        ball = make_solid("sphere", x=0.0, z=0.0, texture=texture, color_word=name)
        images, _ = render_scene(dataclasses.replace(scene, solids=(ball,)), one_camera((0, -1, -3), (0, -0.5, 0)))
        assert images[0, :, 24, 32].argmax() == ("red", "green", "blue").index(name)


def test_solids_stand_apart_inside_the_room():
    for seed in range(200):
        scene = sample_scene(seed)
        for i, a in enumerate(scene.solids):
            for b in scene.solids[:i]:
                assert math.hypot(a.x - b.x, a.z - b.z) > a.footprint_radius + b.footprint_radius + 0.1
            if scene.room:
                reach = max(abs(a.x) / scene.room.high[0], a.z / scene.room.high[2])
                assert abs(a.x) + a.footprint_radius < scene.room.high[0] and reach < 1
                assert a.z + a.footprint_radius < scene.room.high[2] and a.height < -scene.room.low[1]


def test_paths_are_valid_moderate_and_smooth():
    seen = 0
    for seed in range(250):
        scene = sample_scene(seed)
        width, height = ((96, 64), (64, 96), (64, 64))[seed % 3]
        cameras = sample_cameras(scene, 8, width, height)
        rotation = cameras.camera_to_world[:, :3, :3].double()
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(8, 3, 3), rtol=0, atol=1e-5)
        assert (torch.linalg.det(rotation) > 0.99).all() and (rotation[:, 1, 1] > 0.7).all()  # Upright.
        assert is_clear(scene, cameras.positions.double().numpy() * (1 - 1e-6))
        fov = 2 * math.degrees(math.atan(0.5 * height / cameras.intrinsics[0, 1, 1].item()))
        assert 44.9 < fov < 65.1
        p = cameras.positions
        reach = (p - p[0]).norm(dim=1).max().item()
        assert REACH[0] * 2.6 - 1e-3 <= reach <= REACH[1] * 4.2 + 1e-3
        steps = (p[1:] - p[:-1]).norm(dim=1)
        assert steps.max() < 0.3 * reach and steps.min() > 0.02 * reach  # Never a jump, never a stop.
        turns = torch.einsum("vij,vij->v", rotation[1:], rotation[:-1])
        assert (torch.arccos(((turns - 1) / 2).clamp(-1, 1)).rad2deg() < 14).all()
        # What the scene is about is in the picture: the first solid's middle, in most views.
        first = scene.solids[0]
        w2c = cameras.world_to_camera
        local = w2c[:, :3, :3] @ torch.tensor([first.x, -first.height / 2, first.z]) + w2c[:, :3, 3]
        pixel = torch.einsum("vij,vj->vi", cameras.intrinsics, local)
        u, v = pixel[:, 0] / pixel[:, 2] / width, pixel[:, 1] / pixel[:, 2] / height
        seen += ((local[:, 2] > 0) & (u > 0) & (u < 1) & (v > 0) & (v < 1)).sum().item()
    assert seen > 0.97 * 250 * 8


def test_depth_in_units_of_the_path_stays_in_range():
    medians = []
    for seed in range(120):
        scene = sample_scene(seed)
        cameras = sample_cameras(scene, 4, 48, 32)
        _, depth = render_scene(scene, cameras, supersample=1)
        t_norm = (cameras.positions - cameras.positions[0]).norm(dim=1).max()
        depth = depth / t_norm
        assert torch.isfinite(depth).all() and depth.min() > 0.4 and depth.max() < 30
        medians.append(depth.median().item())
    assert min(medians) > 1 and max(medians) < 8


def test_novel_views_lie_near_the_path_but_not_on_it():
    for seed in range(60):
        scene = sample_scene(seed)
        path = sample_cameras(scene, 6, 96, 64)
        novel = novel_cameras(scene, path, 4)
        assert len(novel) == 4 and (novel.width, novel.height) == (96, 64)
        assert is_clear(scene, novel.positions.double().numpy() * (1 - 1e-6))
        reach = (path.positions - path.positions[0]).norm(dim=1).max()
        apart = torch.cdist(novel.positions, path.positions).min(1).values
        assert (apart < 0.25 * reach).all() and (apart > 1e-3 * reach).all()
        rotation = novel.camera_to_world[:, :3, :3]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(4, 3, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", TEXTURES)
def test_texture_weights_lie_between_the_two_colors(kind):
    u, v = np.random.default_rng(0).uniform(-9, 9, (2, 5000)).astype(np.float32)
    weight = secondary_weight(Texture(kind, (0, 0, 0), (1, 1, 1), 1.0, 0.7, 0.3), u, v)
    assert np.min(weight) >= -1e-6 and np.max(weight) <= 1 + 1e-6
    if kind == "plain":
        assert weight == 0
    else:
        assert weight.dtype == np.float32 and weight.min() < 0.05 and weight.max() > 0.95


def test_images_are_in_range_and_full_of_things():
    for seed in range(24):
        sample = ToyWorld(2, 48, 32).sample(seed, "test", novel_views=1)
        assert sample.images.shape == (2, 3, 32, 48) and sample.novel_images.shape == (1, 3, 32, 48)
        assert sample.images.dtype == torch.float32 and sample.depth.dtype == torch.float32
        assert sample.images.min() >= 0 and sample.images.max() <= 1 and torch.isfinite(sample.images).all()
        assert sample.images.std() > 0.05
        assert sample.prompt == sample.scene.prompt and sample.depth.min() > 0


def test_one_view_and_odd_sizes_work():
    sample = ToyWorld(1, 37, 21).sample(5, novel_views=0)
    assert sample.images.shape == (1, 3, 21, 37) and len(sample.novel_cameras) == 0
    assert sample.novel_images.shape == (0, 3, 21, 37)


def test_wrong_requests_are_named():
    with pytest.raises(FlashWorldError, match="split"):
        sample_scene(0, "validation")
    with pytest.raises(FlashWorldError, match="seed"):
        sample_scene(-1)
    scene = sample_scene(0)
    with pytest.raises(FlashWorldError, match="views"):
        sample_cameras(scene, 0, 48, 32)
    with pytest.raises(FlashWorldError, match="supersample"):
        render_scene(scene, sample_cameras(scene, 1, 48, 32), supersample=0)
    with pytest.raises(FlashWorldError, match="count"):
        novel_cameras(scene, sample_cameras(scene, 1, 48, 32), -1)
