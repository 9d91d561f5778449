"""Pictures and videos on disk."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.media.export import contact_sheet, save_png, save_video, to_bytes
from flashworld_core.rendering.maps import colorize_depth, colorize_normals


def test_bytes_are_rounded_clamped_and_finite():
    values = torch.tensor([[-1.0, 0.0, 0.5], [1.0, 7.0, float("nan")]])
    assert to_bytes(values).tolist() == [[0, 0, 128], [255, 255, 0]]


def test_png_round_trip(tmp_path):
    image = torch.rand(5, 7, 3)
    save_png(tmp_path / "new" / "a.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), to_bytes(image))


def test_png_text(tmp_path):
    text = {"workflow": '{"nodes": []}', "prompt": "\u00e9t\u00e9 \u6f22"}
    save_png(tmp_path / "a.png", torch.rand(5, 7, 3), text)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.text == text


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        save_video(path, torch.rand(5, 32, 32, 3), should_stop=lambda: next(asked))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_video_frames_come_back_in_order_and_upright(tmp_path):
    frames = torch.zeros(6, 33, 48, 3)  # the odd row is dropped
    for i in range(6):
        frames[i, :16] = i / 6  # the top half brightens
        frames[i, 16:, :, 2] = 1.0
    save_video(tmp_path / "a.mp4", frames, fps=12)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 12
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 6 and decoded[0].shape == (32, 48, 3)
    tops = [frame[4:12, 8:40].mean() for frame in decoded]
    assert all(b > a + 20 for a, b in zip(tops, tops[1:], strict=False))
    assert decoded[0][24:, :, 2].mean() > 180 > 60 > decoded[0][24:, :, 0].mean()


def test_a_stopped_video_leaves_nothing(tmp_path):
    with pytest.raises(Cancelled):
        save_video(tmp_path / "a.mp4", torch.rand(3, 32, 32, 3), should_stop=lambda: True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (2, 1, 32, 3)])
def test_empty_videos_are_refused(tmp_path, shape):
    with pytest.raises(FlashWorldError, match="at least one frame"):
        save_video(tmp_path / "a.mp4", torch.zeros(shape))


def test_depth_colors_run_from_light_to_dark_and_leave_nothing_white():
    depth = torch.tensor([[0.0, 1.0, 2.0, 4.0]])
    colors = colorize_depth(depth, near=1.0, far=4.0)[0]
    assert torch.equal(colors[0], torch.ones(3))
    brightness = colors[1:].mean(-1)
    assert brightness[0] > brightness[1] > brightness[2]
    assert torch.equal(colorize_depth(torch.zeros(2, 2)), torch.ones(2, 2, 3))
    assert torch.isfinite(colorize_depth(torch.full((2, 2), 3.0))).all()  # one depth only


def test_normals_facing_the_viewer_are_light_blue():
    facing = torch.tensor([0.0, 0.0, -1.0])  # OpenCV camera axes: z points away
    assert torch.allclose(colorize_normals(facing), torch.tensor([0.5, 0.5, 1.0]))
    up = torch.tensor([0.0, -1.0, 0.0])
    assert torch.allclose(colorize_normals(up), torch.tensor([0.5, 1.0, 0.5]))
    assert torch.equal(colorize_normals(torch.zeros(3)), torch.ones(3))


def test_contact_sheet_holds_every_picture():
    red, blue = torch.tensor([1.0, 0, 0]).expand(10, 20, 3), torch.tensor([0, 0, 1.0]).expand(20, 20, 3)
    sheet = contact_sheet([("one", [red, blue]), ("a very long caption " * 20, [blue])], cell_width=40, title="t")
    assert sheet.dtype == np.uint8
    assert (sheet == [255, 0, 0]).all(-1).sum() == 40 * 20
    assert (sheet == [0, 0, 255]).all(-1).sum() == 2 * 40 * 40


@pytest.mark.parametrize("size", [(1280, 720), (64, 48)])
def test_videos_are_bt709_and_say_so(tmp_path, size):
    """Decoded patches, as BT.709 in limited range, are the pictures' within 3/255."""
    colors = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.2, 0.9], [1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5]])
    width, height = size
    frames = colors[:, None, None].expand(6, height, width, 3)
    save_video(tmp_path / "a.mp4", frames, fps=6)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tuple(int(tag) for tag in tags) == (1, 1, 1, 1)
        for frame, color in zip(container.decode(stream), colors, strict=True):
            planes = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size) for p in frame.planes]
            y, u, v = (float(p[p.shape[0] // 2, width // 4]) for p in planes)
            y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
            red, blue = y + 1.5748 * v, y + 1.8556 * u
            green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
            assert np.abs(np.clip([red, green, blue], 0, 1) - color.numpy()).max() <= 3 / 255


@pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf"), 1e300])
def test_frame_rates_that_cannot_be(tmp_path, fps):
    with pytest.raises(FlashWorldError, match="frames per second"):
        save_video(tmp_path / "a.mp4", torch.rand(3, 32, 32, 3), fps)


@pytest.mark.parametrize("title", ["two\nlines\r\n\x1b[31m\0of\x85text", "word " * 250_000, "i" * 30_000, "\ud800", ""])
def test_any_text_becomes_one_line(title):
    picture = torch.zeros(4, 4, 3)
    sheet = contact_sheet([(title, [picture, picture])], title=title)
    assert sheet.shape[1] == 6 + 2 * (192 + 6) and sheet.shape[0] < 400


def test_text_is_cut_to_the_widest_that_fits():
    from PIL import Image, ImageDraw, ImageFont

    from flashworld_core.media.export import _fitted

    draw, font = ImageDraw.Draw(Image.new("RGB", (1, 1))), ImageFont.load_default(size=14)
    text = "a sentence that is somewhat longer than its place"
    for width in range(20, 400, 7):
        got = _fitted(draw, text, font, width)
        if got != text:
            cut = len(got) - 3
            assert got == text[:cut] + "..." and draw.textlength(got, font=font) <= max(width, 15)
            assert draw.textlength(text[: cut + 1] + "...", font=font) > width


def test_very_tall_pictures_stay_bounded():
    from PIL import Image

    assert contact_sheet([("tall", [Image.new("RGB", (1, 5000)), torch.zeros(5000, 1, 3)])]).shape[0] < 900
