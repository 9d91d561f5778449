"""The Triton kernels in Triton's interpreter (TRITON_INTERPRET=1, CPU tensors) against the torch reference.

Not collected by itself: the variable has to be set before triton is imported, so `test_triton_twin` runs this file in a
process of its own. By hand: TRITON_INTERPRET=1 python -m pytest tests/support/triton_cases.py
"""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians, rasterize_arguments

from flashworld_core.errors import FlashWorldError
from flashworld_core.gaussians import Gaussians
from flashworld_core.rendering.backends import BackendFailed, torch_reference
from flashworld_core.rendering.backends.triton_gpu import lists, rasterize
from flashworld_core.rendering.backends.triton_gpu.gaussian_gradients import FEW
from flashworld_core.rendering.render import MODES, render

FIELDS = ("means", "quats", "scales", "opacities", "sh")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, for lanes that are masked out


@pytest.fixture(autouse=True)
def long_chunks(monkeypatch):
    """The interpreter takes as long for two list entries as for 64."""
    monkeypatch.setattr(rasterize, "CHUNK", 64)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_kernel_that_cannot_be_compiled_is_said_to_be_the_backends_failure(monkeypatch, gradients):
    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("PassManager::run failed\nmore")

    arguments, keyword = rasterize_arguments(make_gaussians(3, 1), make_cameras(1, 8, 8))
    if gradients:  # found before the real work begins
        monkeypatch.setattr(rasterize, "_tried", set())
        monkeypatch.setattr(rasterize, "shape_gradients", Broken())
        arguments = [arguments[0].clone().requires_grad_(), *arguments[1:]]
    else:
        monkeypatch.setattr(rasterize, "project", Broken())
    with pytest.raises(BackendFailed, match="^PassManager::run failed$"):
        rasterize.rasterize(*arguments, **keyword)


def test_a_shortage_of_memory_is_not_the_backends_failure(monkeypatch):
    def short(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(rasterize, "build_lists", short)
    arguments, keyword = rasterize_arguments(make_gaussians(3, 1), make_cameras(1, 8, 8))
    with pytest.raises(torch.OutOfMemoryError):
        rasterize.rasterize(*arguments, **keyword)


def run(backend, arguments, keyword, seed=0):
    """Images, and gradients of a random linear functional of all three."""
    leaves = [t.clone().requires_grad_() for t in arguments[:5]]
    images = backend.rasterize(*leaves, *arguments[5:], **keyword)
    g = torch.Generator().manual_seed(seed)
    sum((image * torch.randn(image.shape, generator=g)).sum() for image in images).backward()
    return [image.detach() for image in images], [leaf.grad for leaf in leaves]


def assert_twins(arguments, keyword, flips=0.0, gradient_error=5e-5):
    """Equal up to rounding, but for a share ``flips`` of pixels where a threshold falls on the other side."""
    images, gradients = run(rasterize, arguments, keyword)
    expected_images, expected_gradients = run(torch_reference, arguments, keyword)
    for image, expected in zip(images, expected_images, strict=True):
        assert image.shape == expected.shape and image.dtype == torch.float32
        difference = (image - expected).abs()
        assert (difference > 2e-5).float().mean() <= flips and difference.max() <= (1e-2 if flips else 2e-5)
        assert difference.median() <= 5e-6
    for name, got, expected in zip(FIELDS, gradients, expected_gradients, strict=True):
        assert torch.isfinite(got).all(), name
        assert (got - expected).norm() <= (1e-3 if flips else gradient_error) * expected.norm(), name
    return images, gradients


def assert_same_bits(first, second):
    for a, b in zip(first[0] + first[1], second[0] + second[1], strict=True):
        assert torch.equal(a, b)


def shift(gaussians: Gaussians, **changes) -> Gaussians:
    return Gaussians(**{name: changes.get(name, getattr(gaussians, name)) for name in FIELDS})


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_degree(degree):
    scene, cameras = make_gaussians(60, degree, seed=degree), make_cameras(2, 15, 11)
    _, gradients = assert_twins(*rasterize_arguments(scene, cameras))
    assert all(g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize(("views", "width", "height"), [(2, 1, 1), (1, 130, 3), (1, 9, 17), (3, 16, 8)])
def test_sizes(views, width, height):
    """Images of one pixel, and tiles that stick out at the right and below."""
    # What lies behind a Gaussian of alpha 0.999 is a difference of sums, and 1000 times its rounding is the gradient
    # of alpha: in an image of one pixel there is nothing else for that to vanish in.
    arguments, keyword = rasterize_arguments(make_gaussians(60, 1, seed=width), make_cameras(views, width, height))
    assert_twins(arguments, keyword, gradient_error=2e-4 if width * height == 1 else 5e-5)


def test_the_chunk_that_ships(monkeypatch):
    monkeypatch.undo()
    assert rasterize.CHUNK < 64
    assert_twins(*rasterize_arguments(make_gaussians(30, 1), make_cameras(1, 12, 9)))


def test_thousands_of_gaussians_on_one_tile(monkeypatch):
    monkeypatch.setattr(rasterize, "CHUNK", 256)
    n = 2000
    g = torch.Generator().manual_seed(3)
    scene = Gaussians(
        means=torch.randn(n, 3, generator=g) * 0.05 + torch.tensor([0.0, 0.0, 2.0]),
        quats=torch.randn(n, 4, generator=g),
        scales=torch.rand(n, 3, generator=g) * 0.3 + 0.1,
        opacities=torch.rand(n, generator=g) * 0.004 + 0.004,
        sh=torch.randn(n, 1, 3, generator=g),
    )
    images, _ = assert_twins(*rasterize_arguments(scene, make_cameras(1, 8, 8)), flips=0.05)
    assert images[2].max() < 1 - 1e-4  # no pixel stopped: the list was walked to its end


def test_saturated_pixels_stop():
    scene, cameras = make_gaussians(1000, 1, size=0.4), make_cameras(1, 14, 13)
    images, gradients = assert_twins(*rasterize_arguments(scene, cameras), flips=2e-2)
    assert (images[2] > 0.999).float().mean() > 0.9
    assert (gradients[3] == 0).float().mean() > 0.3  # what lies behind


def test_gaussians_in_many_tiles():
    """Rows of a Gaussian that reaches few tiles and of one that reaches many are summed by different kernels."""
    scene, cameras = make_gaussians(12, 1, seed=2, size=0.1), make_cameras(1, 52, 45)
    scales = scene.scales.clone()
    scales[:4] *= 15
    scales[4:8] *= 0.1
    opacities = scene.opacities.clone()
    opacities[:4] = 0.05
    arguments, keyword = rasterize_arguments(shift(scene, scales=scales, opacities=opacities), cameras)
    assert_twins(arguments, keyword)
    counts = list_counts(arguments, keyword)
    assert (counts > FEW).any() and ((counts > 1) & (counts <= FEW)).any()


def list_counts(arguments, keyword):
    found = []
    build = lists.build_lists

    def spy(records, depths, counts, *others):
        found.append(counts.clone())
        return build(records, depths, counts, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rasterize, "build_lists", spy)
        rasterize.rasterize(*arguments, **keyword)
    return found[0]


def test_lists_are_exact():
    """No tile with a pixel that reaches alpha 1/255 is missed, and hardly any is listed for nothing."""
    scene, cameras = make_gaussians(40, 0, seed=5, size=0.2), make_cameras(1, 61, 44)
    scene = shift(scene, scales=scene.scales * torch.tensor([3.0, 0.3, 0.3]))  # long and thin, at all angles
    arguments, keyword = rasterize_arguments(scene, cameras)
    counts = list_counts(arguments, keyword)[0]
    needed = torch.zeros(40, dtype=torch.int64)
    for n in range(40):
        one = [t[n : n + 1].double() for t in arguments[:5]]
        alpha = torch_reference.rasterize(
            *one, *(t.double() for t in arguments[5:7]), 61, 44, **(keyword | {"background": torch.zeros(1, 3)})
        )[2]
        tiles = torch.nn.functional.max_pool2d(alpha, 8, ceil_mode=True)
        needed[n] = int((tiles > 0).sum())
    assert (counts >= needed).all() and needed.max() > 8
    assert counts.sum() <= 1.1 * needed.sum()


def test_extremes_of_shape_and_place():
    """Zero quaternion, zero and huge scales, at the camera's plane, far beside the image."""
    scene = make_gaussians(12, 1)
    scene.quats[0] = 0
    scene.scales[1] = 0
    scene.scales[2] = torch.tensor([100.0, 1e-6, 1e-6])
    scene.scales[3] = 1e4
    scene.means[4] = torch.tensor([0.3, 0.2, 0.011])
    scene.means[6] = torch.tensor([50.0, -3.0, 1.0])
    scene.scales[6] = 10
    scene.quats[7] *= 1e-3
    arguments, keyword = rasterize_arguments(scene, make_cameras(1, 40, 30))
    images, gradients = run(rasterize, arguments, keyword)
    expected = torch_reference.rasterize(*(t.double() for t in arguments[:7]), 40, 30, **keyword)
    for image, reference in zip(images, expected, strict=True):
        assert torch.isfinite(image).all()
        assert (image - reference).abs().median() < 1e-5
        assert ((image - reference).abs() > 1e-3).float().mean() < 0.01
    assert all(torch.isfinite(g).all() for g in gradients)


def test_zero_quaternions_are_the_identity():
    scene, cameras = make_gaussians(40, 0), make_cameras(1, 16, 12)
    zero = shift(scene, quats=torch.zeros(40, 4))
    identity = shift(scene, quats=torch.tensor([[1.0, 0, 0, 0]]).expand(40, 4).clone())
    images, gradients = assert_twins(*rasterize_arguments(zero, cameras))
    others, _ = run(rasterize, *rasterize_arguments(identity, cameras))
    assert all(torch.equal(a, b) for a, b in zip(images, others, strict=True))
    assert not gradients[1].any()


def test_clamped_alpha_and_color_pass_no_gradient():
    scene = make_gaussians(40, 0, size=0.3)
    scene = shift(scene, opacities=torch.ones(40), sh=scene.sh * 4)
    _, gradients = assert_twins(*rasterize_arguments(scene, make_cameras(1, 16, 16)))
    assert (gradients[4] == 0).any()


def test_fewer_bands_than_the_scene_carries():
    arguments, keyword = rasterize_arguments(make_gaussians(40, 3), make_cameras(1, 12, 12), sh_degree=1)
    _, gradients = assert_twins(arguments, keyword)
    assert gradients[4][:, 4:].abs().max() == 0


def test_nothing_to_draw():
    """No Gaussians, none in sight of one view or of any, too faint ones, and no views."""
    scene, cameras = make_gaussians(30, 1), make_cameras(2, 12, 9)
    beside = shift(scene, means=scene.means.abs() + torch.tensor([500.0, 0, 0]))
    for nothing in (scene[:0], beside, shift(scene, opacities=torch.full((30,), 0.003))):
        arguments, keyword = rasterize_arguments(nothing, cameras)
        (rgb, depth, alpha), gradients = run(rasterize, arguments, keyword)
        assert torch.equal(rgb, keyword["background"][:, None, None].expand(2, 9, 12, 3))
        assert not depth.any() and not alpha.any() and not any(g.any() for g in gradients)
    arguments, keyword = rasterize_arguments(scene, cameras)
    turned = arguments[5].clone()
    turned[1] = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))  # looks the other way
    arguments[5], arguments[0] = turned, scene.means * torch.tensor([1.0, 1, 0]) + torch.tensor([0.0, 0, 2.0])
    images, _ = assert_twins(arguments, keyword)
    assert images[2][0].any() and not images[2][1].any()
    arguments[5], arguments[6] = arguments[5][:0], arguments[6][:0]
    images = rasterize.rasterize(*arguments, **(keyword | {"background": torch.zeros(0, 3)}))
    assert [tuple(image.shape) for image in images] == [(0, 9, 12, 3), (0, 9, 12), (0, 9, 12)]


def test_equal_depths_keep_index_order():
    n = 40
    g = torch.Generator().manual_seed(0)
    scene = Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0]]).repeat(n, 1),
        quats=torch.randn(n, 4, generator=g),
        scales=torch.tensor([[0.3, 0.2, 0.4]]).repeat(n, 1),
        opacities=torch.full((n,), 0.1),
        sh=torch.randn(n, 1, 3, generator=g),
    )
    assert_twins(*rasterize_arguments(scene, make_cameras(1, 12, 12)))


def test_same_bits_again_and_however_views_are_grouped(monkeypatch):
    """Twice, view by view, with the tile sort cut into slices, and with keys of 32 bits."""
    arguments, keyword = rasterize_arguments(make_gaussians(40, 1), make_cameras(3, 13, 9))
    first = run(rasterize, arguments, keyword)
    assert_same_bits(first, run(rasterize, arguments, keyword))
    for v in range(3):
        alone = [*arguments[:5], arguments[5][v : v + 1], arguments[6][v : v + 1], *arguments[7:]]
        images = rasterize.rasterize(*alone, **(keyword | {"background": keyword["background"][v : v + 1]}))
        assert all(torch.equal(a[v], b[0]) for a, b in zip(first[0], images, strict=True))
    for largest in (4, 8, 3):  # 4 tiles a view: slices of one view, of two, and tiles that exceed a short key
        monkeypatch.setattr(lists, "_LARGEST_KEY", largest)
        assert_same_bits(first, run(rasterize, arguments, keyword))


def test_accepts_any_layout_and_dtype():
    arguments, keyword = rasterize_arguments(make_gaussians(30, 2), make_cameras(1, 12, 12))
    expected = rasterize.rasterize(*arguments, **keyword)
    wide = torch.cat([t.flatten(1) if t.ndim > 1 else t[:, None] for t in arguments[:5]], 1).double()
    views = [wide[:, :3], wide[:, 3:7], wide[:, 7:10], wide[:, 10], wide[:, 11:].unflatten(1, (9, 3))]
    images = rasterize.rasterize(*views, *arguments[5:], **keyword)
    assert all(torch.equal(a, b) for a, b in zip(expected, images, strict=True))


def test_through_render():
    scene, cameras = make_gaussians(60, 2), make_cameras(2, 14, 10)
    ours = render(scene, cameras, modes=MODES, backend="triton", views_per_chunk=1)
    theirs = render(scene, cameras, modes=MODES, backend="torch")
    for name in ("rgb", "depth", "alpha"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=2e-5, rtol=1e-5)


def test_more_entries_than_places_is_an_error(monkeypatch):
    monkeypatch.setattr(lists, "_MOST_ENTRIES", 10)
    with pytest.raises(FlashWorldError, match="views_per_chunk"):
        rasterize.rasterize(*(a := rasterize_arguments(make_gaussians(60, 1), make_cameras(1, 20, 13)))[0], **a[1])


def test_launches_have_the_types_that_are_compiled_ahead(monkeypatch):
    """`benchmarks/triton_compiled.py` compiles what it lists; this holds the list to what is launched."""
    path = Path(__file__).parents[2] / "benchmarks/triton_compiled.py"
    spec = importlib.util.spec_from_file_location("triton_compiled", path)
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark  # where its dataclasses look themselves up
    spec.loader.exec_module(benchmark)
    types = {torch.float32: "*fp32", torch.int64: "*i64", torch.int32: "*i32", torch.int16: "*i16"}
    seen = {}

    class Recorder:
        def __init__(self, name, kernel):
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid):
            def launch(*given, **options):
                seen[self.name] = (
                    [
                        types[a.dtype] if isinstance(a, torch.Tensor) else "i32" if isinstance(a, int) else "fp32"
                        for a in given
                    ],
                    {k: v for k, v in options.items() if k.isupper()},
                )
                return self.kernel[grid](*given, **options)

            return launch

    monkeypatch.undo()
    for name in benchmark.KERNELS:
        owner = lists if name == "list_tiles" else rasterize
        monkeypatch.setattr(owner, name, Recorder(name, getattr(owner, name)))
    scene = make_gaussians(5, 2, seed=2, size=0.1)
    run(rasterize, *rasterize_arguments(shift(scene, scales=scene.scales * 20), make_cameras(1, 60, 45)))
    assert set(seen) == set(benchmark.KERNELS)
    for name, kernel in benchmark.KERNELS.items():
        assert seen[name] == (list(kernel.types), kernel.constants), name


def test_the_trial_at_import(monkeypatch):
    """It draws, with gradients, and turns whatever goes wrong into an ImportError with the first line of the reason."""
    monkeypatch.setattr(rasterize, "_GPUS", ["cpu"])
    rasterize._require_kernels()

    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("ptxas died\nof a long story")

    monkeypatch.setattr(rasterize, "shape_gradients", Broken())
    with pytest.raises(ImportError, match=r"could not compile .* here: ptxas died$"):
        rasterize._require_kernels()
