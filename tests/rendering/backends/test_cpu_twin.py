"""The numba rasterizer against the torch reference: same images, same gradients, same bits on every run."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians, rasterize_arguments

from flashworld_core.gaussians import Gaussians
from flashworld_core.rendering.backends import torch_reference

pytest.importorskip("numba")
from flashworld_core.rendering.backends.cpu import rasterize as cpu  # noqa: E402
from flashworld_core.rendering.backends.cpu.threads import run_ranges  # noqa: E402


def run(backend, arguments, keyword, seed=0):
    """Images, and gradients of a random linear functional of all three."""
    leaves = [t.clone().requires_grad_() for t in arguments[:5]]
    images = backend.rasterize(*leaves, *arguments[5:], **keyword)
    g = torch.Generator().manual_seed(seed)
    sum((image * torch.randn(image.shape, generator=g)).sum() for image in images).backward()
    return [image.detach() for image in images], [leaf.grad for leaf in leaves]


def assert_twins(arguments, keyword, flips=0.0):
    """Equal up to rounding, but for a share ``flips`` of pixels where a threshold falls on the other side."""
    images, gradients = run(cpu, arguments, keyword)
    expected_images, expected_gradients = run(torch_reference, arguments, keyword)
    for image, expected in zip(images, expected_images, strict=True):
        assert image.shape == expected.shape and image.dtype == torch.float32
        difference = (image - expected).abs()
        assert (difference > 2e-5).float().mean() <= flips and difference.max() <= (1e-2 if flips else 2e-5)
        assert difference.median() <= 5e-6
    for name, got, expected in zip(
        ("means", "quats", "scales", "opacities", "sh"), gradients, expected_gradients, strict=True
    ):
        assert torch.isfinite(got).all(), name
        assert (got - expected).norm() <= (1e-3 if flips else 5e-5) * expected.norm(), name
    return images, gradients


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_degree(degree):
    _, gradients = assert_twins(*rasterize_arguments(make_gaussians(300, degree, seed=degree), make_cameras(2, 45, 33)))
    assert all(g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize(("views", "width", "height"), [(3, 96, 64), (2, 17, 50), (1, 16, 16), (2, 1, 1), (1, 130, 3)])
def test_sizes(views, width, height):
    assert_twins(*rasterize_arguments(make_gaussians(200, 1, seed=width), make_cameras(views, width, height)))


def test_saturated_scene():
    """Long lists whose pixels stop early, so that rows, tiles and list tails are skipped."""
    arguments, keyword = rasterize_arguments(make_gaussians(6000, 1, size=0.2), make_cameras(2, 50, 40))
    images, _ = assert_twins(arguments, keyword, flips=5e-3)
    assert (images[2] > 0.999).float().mean() > 0.9


def test_fewer_bands_than_the_scene_carries():
    arguments, keyword = rasterize_arguments(make_gaussians(100, 3), make_cameras(1, 30, 20), sh_degree=1)
    _, gradients = assert_twins(arguments, keyword)
    assert gradients[4][:, 4:].abs().max() == 0


def test_clamped_alpha_and_color_pass_no_gradient():
    g = make_gaussians(40, 0, size=0.3)
    g = Gaussians(g.means, g.quats, g.scales, torch.ones(40), g.sh * 4)
    _, gradients = assert_twins(*rasterize_arguments(g, make_cameras(1, 24, 24)))
    assert (gradients[4] == 0).any()


def test_extremes_of_shape_and_place():
    """Zero quaternion, zero and huge scales, at the camera's plane, far beside the image."""
    g = make_gaussians(12, 1)
    g.quats[0] = 0
    g.scales[1] = 0
    g.scales[2] = torch.tensor([100.0, 1e-6, 1e-6])
    g.scales[3] = 1e4
    g.means[4] = torch.tensor([0.3, 0.2, 0.011])
    g.means[6] = torch.tensor([50.0, -3.0, 1.0])
    g.scales[6] = 10
    g.quats[7] *= 1e-3
    arguments, keyword = rasterize_arguments(g, make_cameras(1, 40, 30))
    with torch.no_grad():
        images = cpu.rasterize(*arguments, **keyword)
        expected = torch_reference.rasterize(*(t.double() for t in arguments[:7]), 40, 30, **keyword)
    for image, reference in zip(images, expected, strict=True):
        assert torch.isfinite(image).all()
        assert (image - reference).abs().median() < 1e-5
        assert ((image - reference).abs() > 1e-3).float().mean() < 0.01
    _, gradients = run(cpu, arguments, keyword)
    assert all(torch.isfinite(g).all() for g in gradients)


def test_same_bits_on_every_run_and_any_thread_count():
    arguments, keyword = rasterize_arguments(make_gaussians(40000, 1, size=0.02), make_cameras(3, 70, 50))
    first = run(cpu, arguments, keyword)
    threads = torch.get_num_threads()
    try:
        for count in (threads, 1, 4):
            torch.set_num_threads(count)
            again = run(cpu, arguments, keyword)
            for a, b in zip(first[0] + first[1], again[0] + again[1], strict=True):
                assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)


def test_renders_may_run_at_once():
    arguments, keyword = rasterize_arguments(make_gaussians(20000, 1, size=0.02), make_cameras(3, 70, 50))
    expected = run(cpu, arguments, keyword)
    with ThreadPoolExecutor(4) as pool:
        for images, gradients in pool.map(lambda _: run(cpu, arguments, keyword), range(8)):
            assert all(torch.equal(a, b) for a, b in zip(expected[0] + expected[1], images + gradients, strict=True))


def test_views_do_not_depend_on_their_company():
    arguments, keyword = rasterize_arguments(make_gaussians(500, 1), make_cameras(3, 40, 30))
    together = cpu.rasterize(*arguments, **keyword)
    for v in range(3):
        alone = list(arguments)
        alone[5], alone[6] = arguments[5][v : v + 1], arguments[6][v : v + 1]
        images = cpu.rasterize(*alone, **(keyword | {"background": keyword["background"][v : v + 1]}))
        assert all(torch.equal(a[v], b[0]) for a, b in zip(together, images, strict=True))


def test_equal_depths_keep_index_order():
    """More of them than the insertion sort takes, in one tile, all at one depth or at two."""
    n = 300
    g = torch.Generator().manual_seed(0)
    for depths in (torch.full((n,), 2.0), torch.where(torch.rand(n, generator=g) < 0.5, 2.0, 3.0)):
        scene = Gaussians(
            means=torch.stack([torch.zeros(n), torch.zeros(n), depths], -1),
            quats=torch.randn(n, 4, generator=g),
            scales=torch.tensor([[0.3, 0.2, 0.4]]).repeat(n, 1),
            opacities=torch.full((n,), 0.02),
            sh=torch.randn(n, 1, 3, generator=g),
        )
        assert_twins(*rasterize_arguments(scene, make_cameras(1, 12, 12)))


def test_ranges_cover_everything_once_and_errors_surface():
    seen = torch.zeros(1000, dtype=torch.int64)

    def mark(start, stop):
        assert 0 < stop - start <= 7
        seen[start:stop] += 1

    run_ranges(mark, 1000, 7)
    assert (seen == 1).all()
    run_ranges(mark, 0, 7)

    def fail(start, stop):
        raise ZeroDivisionError(f"range {start}")

    with pytest.raises(ZeroDivisionError):
        run_ranges(fail, 100, 1)


def test_accepts_any_layout_and_dtype():
    arguments, keyword = rasterize_arguments(make_gaussians(50, 2), make_cameras(1, 20, 20))
    expected = cpu.rasterize(*arguments, **keyword)
    wide = torch.cat([t.flatten(1) if t.ndim > 1 else t[:, None] for t in arguments[:5]], 1).double()
    views = [wide[:, :3], wide[:, 3:7], wide[:, 7:10], wide[:, 10], wide[:, 11:].unflatten(1, (9, 3))]
    images = cpu.rasterize(*views, *arguments[5:], **keyword)
    assert all(torch.equal(a, b) for a, b in zip(expected, images, strict=True))
