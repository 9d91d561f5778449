"""The CPU rasterizer where lists would not fit: the same bits, bounded memory, soon stopped."""

import logging
import threading
import time

import pytest
import torch
from splat_scenes import make_cameras, make_gaussians, rasterize_arguments

from flashworld_core.cameras import Cameras
from flashworld_core.errors import Cancelled, FlashWorldError, OutOfMemory
from flashworld_core.gaussians import Gaussians
from flashworld_core.ops.measure import oversized_warning
from flashworld_core.rendering import render as module
from flashworld_core.rendering.render import render

pytest.importorskip("numba")
from flashworld_core.rendering.backends.cpu import bounded  # noqa: E402
from flashworld_core.rendering.backends.cpu import rasterize as cpu  # noqa: E402
from flashworld_core.rendering.backends.cpu.threads import run_ranges  # noqa: E402


def large_gaussians(n, opacity=0.02, size=1.0):
    g = torch.Generator().manual_seed(0)
    means = 0.5 * torch.randn(n, 3, generator=g) + torch.tensor([0, 0, 4.0])
    sh = torch.randn(n, 1, 3, generator=g)
    return Gaussians(means, torch.randn(n, 4, generator=g), torch.full((n, 3), size), torch.full((n,), opacity), sh)


@pytest.mark.parametrize(("n", "size", "limit"), [(6000, 0.2, 8000), (500, 0.08, 100), (3000, 0.5, 40000)])
@pytest.mark.parametrize(("width", "height"), [(50, 40), (130, 70)])
def test_pieces_give_the_bits_of_the_whole(monkeypatch, n, size, limit, width, height):
    arguments, keyword = rasterize_arguments(make_gaussians(n, 1, size=size), make_cameras(2, width, height))
    whole = cpu.rasterize(*arguments, **keyword)
    monkeypatch.setattr(cpu, "LIST_BYTES", limit)
    monkeypatch.setattr(bounded, "_BAND_TILES", 10)
    pieces = cpu.rasterize(*arguments, **keyword)
    assert all(torch.equal(a, b) for a, b in zip(whole, pieces, strict=True))


def test_lists_never_take_more_than_the_budget(monkeypatch):
    largest = []
    composite = bounded.composite

    def watched(start, stop, first, starts, entries, *rest):
        largest.append(entries.nbytes)
        composite(start, stop, first, starts, entries, *rest)

    monkeypatch.setattr(bounded, "composite", watched)
    monkeypatch.setattr(cpu, "LIST_BYTES", 1 << 18)
    arguments, keyword = rasterize_arguments(large_gaussians(4000, opacity=0.006), make_cameras(1, 320, 200))
    cpu.rasterize(*arguments, **keyword)
    assert 1 << 16 < max(largest) <= 1 << 18 and len(set(largest)) > 3


def test_what_is_hidden_is_not_listed(monkeypatch):
    """Opaque Gaussians that all fill the view: the first piece hides the rest."""
    pieces = []
    run = bounded._Band._run
    monkeypatch.setattr(
        bounded._Band, "_run", lambda self, piece, box: (pieces.append(len(piece)), run(self, piece, box))
    )
    monkeypatch.setattr(cpu, "LIST_BYTES", 1 << 20)
    arguments, keyword = rasterize_arguments(large_gaussians(20000, opacity=0.9, size=5.0), make_cameras(1, 160, 100))
    cpu.rasterize(*arguments, **keyword)
    assert sum(pieces) < 5000


def test_stop_ends_a_view_in_its_middle(monkeypatch):
    monkeypatch.setattr(cpu, "LIST_BYTES", 1 << 22)
    scene, cameras = large_gaussians(200_000, opacity=0.006), make_cameras(1, 320, 200)
    render(scene, cameras, backend="cpu")  # compiled
    asked = []

    def stop():
        asked.append(time.monotonic())
        return False

    render(scene, cameras, backend="cpu", should_stop=stop)
    assert len(asked) > 50
    count = len(asked)
    with pytest.raises(Cancelled):
        render(scene, cameras, backend="cpu", should_stop=lambda: asked.append(0) or len(asked) > count + 30)
    assert len(asked) <= count + 31


def test_an_error_in_one_thread_ends_the_others():
    done, threads = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def work(start, _):
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            time.sleep(0.01)
            done.append(start)

        with pytest.raises(KeyboardInterrupt):
            run_ranges(work, 1000, 1)
    finally:
        torch.set_num_threads(threads)
    assert len(done) < 100


def test_gradients_that_would_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(cpu, "GRADIENT_BYTES", 100_000)
    arguments, keyword = rasterize_arguments(large_gaussians(500), make_cameras(1, 96, 64))
    arguments[0].requires_grad_()
    with pytest.raises(FlashWorldError, match="Gradients of this view need .* GB"):
        cpu.rasterize(*arguments, **keyword)


@pytest.mark.parametrize(("width", "height"), [(16, 540_000), (600_000, 16)])
def test_images_of_absurd_sizes_are_refused(width, height):
    """Tile rectangles are 16-bit numbers: beyond, the kernels would write outside of their arrays."""
    cameras = Cameras(torch.eye(4)[None], torch.tensor([[[8.0, 0, 8], [0, 8.0, 8], [0, 0, 1]]]), width, height)
    with pytest.raises(FlashWorldError, match=f"{width}x{height}"):
        render(large_gaussians(10), cameras, backend="cpu")
    arguments, keyword = rasterize_arguments(large_gaussians(10), cameras)
    with pytest.raises(FlashWorldError, match=f"{width}x{height}"):
        cpu.rasterize(*arguments, **keyword)


def test_memory_that_runs_out_is_a_sentence_with_the_bytes(monkeypatch):
    def short(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3221225472 bytes.")

    monkeypatch.setattr(module, "_load_backend", lambda *_: ("torch", short))
    with pytest.raises(OutOfMemory, match=r"3,221,225,472 bytes \(3.22 GB\).*2 views of 40x30 take 28,800 bytes"):
        render(large_gaussians(10), make_cameras(2, 40, 30))


def test_scales_that_are_no_logarithms_are_named(tmp_path, caplog):
    from flashworld_core.formats.scenes import read_scene, write_scene

    assert "larger than the whole scene" in oversized_warning(large_gaussians(1000, size=1.03))
    assert oversized_warning(large_gaussians(1000, size=0.05)) is None
    assert oversized_warning(large_gaussians(10, size=5.0)) is None
    write_scene(tmp_path / "fog.ply", large_gaussians(1000, size=1.03))
    with caplog.at_level(logging.WARNING):
        read_scene(tmp_path / "fog.ply")
    assert caplog.text.count("want their logarithms") + caplog.text.count("wants their logarithms") == 1
