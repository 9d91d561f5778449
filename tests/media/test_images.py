import base64
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from flashworld_core.cameras import Cameras
from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld.conditioning import Crop, prepare_image
from flashworld_core.media import images


def random_picture(width, height, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(picture, file_format="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def cameras_for(width, height, fx=50.0, fy=60.0, cx=20.0, cy=10.0, views=2):
    k = torch.tensor([[fx, 0.0, cx], [0, fy, cy], [0, 0, 1]]).expand(views, 3, 3)
    return Cameras(torch.eye(4).expand(views, 4, 4), k, width, height)


def bright_spot(width, height, column, row):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[row, column] = 255
    return picture


@pytest.mark.parametrize(("width", "height"), [(64, 48), (61, 30), (30, 55), (200, 7), (5, 3)])
def test_crop_is_the_largest_centered_box_of_the_target_shape(width, height):
    crop = Crop.centered(width, height, 48, 32)
    assert crop.left >= 0 and crop.left + crop.box_width <= width
    assert crop.top >= 0 and crop.top + crop.box_height <= height
    assert width - crop.box_width <= 1 or height - crop.box_height <= 1  # touches two sides
    assert abs(crop.left - (width - crop.left - crop.box_width)) <= 1
    assert abs(crop.top - (height - crop.top - crop.box_height)) <= 1
    assert crop.scale == max(32 / height, 48 / width)


def test_extremely_thin_image_still_gives_an_image():
    pixels, crop = prepare_image(random_picture(1, 4000), 96, 64)
    assert pixels.shape == (3, 64, 96) and crop.box_width == crop.box_height == 1


def test_pixels_follow_the_crop():
    picture = bright_spot(90, 40, 44, 20)  # near the center; the target is square, so columns are cut
    pixels, crop = prepare_image(picture, 40, 40)
    assert (crop.left, crop.top, crop.box_width, crop.box_height, crop.scale) == (25, 0, 40, 40, 1.0)
    row, column = divmod(int(pixels[0].argmax()), 40)
    assert (column, row) == (44 - 25, 20)
    assert pixels.max() == 1 and pixels.min() == -1


def test_a_point_of_the_scene_stays_on_its_pixel():
    """A 3D point projected with the adjusted intrinsics lands where the cropped image shows it."""
    crop = Crop.centered(120, 80, 40, 40)
    source = cameras_for(120, 80, fx=70, fy=75, cx=58, cy=41)
    target = crop.adjust_intrinsics(source)
    assert (target.width, target.height) == (40, 40)
    point = torch.tensor([0.2, -0.1, 1.5])
    u, v, w = (source.intrinsics[0] @ point).tolist()
    expected = ((u / w - crop.left) * crop.scale, (v / w - crop.top) * crop.scale)
    u, v, w = (target.intrinsics[0] @ point).tolist()
    torch.testing.assert_close(torch.tensor([u / w, v / w]), torch.tensor(expected), rtol=0, atol=1e-4)


def test_cameras_for_the_target_or_a_scaled_image_are_understood():
    crop = Crop.centered(120, 80, 40, 40)
    for_target = cameras_for(40, 40)
    assert crop.adjust_intrinsics(for_target) is for_target
    source = cameras_for(120, 80)
    for scaled in (source.resized(60, 40), source.resized(361, 240)):  # same shape up to a pixel
        torch.testing.assert_close(
            crop.adjust_intrinsics(scaled).intrinsics, crop.adjust_intrinsics(source).intrinsics, rtol=0, atol=0.05
        )
    assert crop.adjust_intrinsics(for_target.resized(80, 80)).width == 40
    torch.testing.assert_close(crop.adjust_intrinsics(for_target.resized(80, 80)).intrinsics, for_target.intrinsics)
    with pytest.raises(FlashWorldError, match="90x20"):
        crop.adjust_intrinsics(cameras_for(90, 20))


def test_every_input_kind_gives_the_same_pixels(tmp_path):
    array = random_picture(61, 30)
    picture = Image.fromarray(array)
    path = tmp_path / "ümlaut image.png"
    path.write_bytes(encoded(picture))
    expected, _ = prepare_image(array, 48, 32)
    as_url = "data:image/png;base64," + base64.encodebytes(path.read_bytes()).decode()  # with line breaks
    as_float = torch.from_numpy(array).float() / 255
    inputs = [path, str(path), picture, as_url, torch.from_numpy(array), as_float, as_float[None], as_float.double()]
    inputs += [array.astype(np.uint16) * 257, as_float.numpy().astype(np.float64), as_float.half().float()]
    inputs += [np.concatenate([array, np.full((30, 61, 1), 255, np.uint8)], axis=2)]
    for image in inputs:
        pixels, crop = prepare_image(image, 48, 32)
        assert pixels.dtype == torch.float32 and (crop.source_width, crop.source_height) == (61, 30)
        assert torch.equal(pixels, expected)


def test_bfloat16_tensor_is_read():
    pixels, _ = prepare_image(torch.full((4, 6, 3), 0.5, dtype=torch.bfloat16), 6, 4)
    torch.testing.assert_close(pixels, torch.full((3, 4, 6), 128 / 255 * 2 - 1))


def test_exif_orientation_is_applied():
    picture = Image.fromarray(bright_spot(40, 20, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view: the first pixel belongs in the upper right corner
    data = encoded(picture, exif=exif)
    pixels, crop = prepare_image("data:image/png;base64," + base64.b64encode(data).decode(), 20, 40)
    assert (crop.source_width, crop.source_height) == (20, 40)
    assert divmod(int(pixels[0].argmax()), 20) == (0, 19)


def test_transparent_parts_become_white():
    array = np.zeros((8, 8, 4), np.uint8)
    array[:4, :, 3] = 255  # upper half opaque black, lower half fully transparent
    pixels, _ = prepare_image(array, 8, 8)
    assert torch.equal(pixels[:, :4], -torch.ones(3, 4, 8)) and torch.equal(pixels[:, 4:], torch.ones(3, 4, 8))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.paste(1, (0, 0, 8, 4))
    stream = io.BytesIO(encoded(palette, transparency=0))
    pixels, _ = prepare_image(Image.open(stream), 8, 8)
    assert torch.equal(pixels[:, 4:], torch.ones(3, 4, 8))
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([200, 0, 0]) / 255 * 2 - 1)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK", "YCbCr", "P"])
def test_other_color_modes(mode):
    gray = Image.fromarray(np.full((6, 6, 3), 255, np.uint8)).convert(mode)
    pixels, _ = prepare_image(gray, 6, 6)
    torch.testing.assert_close(pixels, torch.ones(3, 6, 6), rtol=0, atol=0.02)


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    array = (np.arange(36, dtype=np.uint16).reshape(6, 6) * 1800).astype(np.uint16)
    path = tmp_path / "gray16.png"
    Image.fromarray(array).save(path)
    pixels, _ = prepare_image(path, 6, 6)
    expected = torch.from_numpy(np.round(array / 257)).float() / 255 * 2 - 1
    assert torch.equal(pixels, expected.to(torch.float32).expand(3, 6, 6))
    assert torch.equal(prepare_image(array, 6, 6)[0], pixels)


def png_header_only(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def as_url(data, kind="image/png"):
    return f"data:{kind};base64," + base64.b64encode(data).decode()


GOOD_PNG = encoded(Image.fromarray(random_picture(40, 30)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no/such/file.png", "no such image file"),
        (as_url(b"<html>not found</html>"), "not an image this can read"),
        (as_url(b""), "not an image this can read"),
        (as_url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"), "not an image this can read"),
        (as_url(GOOD_PNG[: len(GOOD_PNG) // 2]), "damaged"),
        (as_url(png_header_only(60_000, 60_000)), "pixels"),
        (as_url(png_header_only(14_000, 14_000)), "pixels"),
        (as_url(GOOD_PNG, "text/html"), "not an image"),
        ("data:image/png," + "abc", "must look like"),
        ("data:image/png;base64", "must look like"),
        ("data:image/png;base64,!!!!", "not valid base64"),
        ("data:image/png;base64,abc", "not valid base64"),
        (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\[2, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.full((4, 4, 3), 200.0), "0..1"),
        (np.full((4, 4, 3), np.nan), "0..1"),
        (12, "int"),
    ],
)
def test_bad_images_are_refused_in_words(image, message):
    with pytest.raises(FlashWorldError, match=message):
        prepare_image(image, 48, 32)


def test_sizes_and_limits(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(GOOD_PNG)
    with pytest.raises(FlashWorldError, match="no such image file"):
        prepare_image(tmp_path, 48, 32)
    with pytest.raises(FlashWorldError, match="positive"):
        prepare_image(path, 0, 32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # a host that has switched Pillow's own limit off
    with pytest.raises(FlashWorldError, match="scale it down"):
        prepare_image(as_url(png_header_only(60_000, 60_000)), 48, 32)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 100)
    with pytest.raises(FlashWorldError, match="larger than"):
        prepare_image(path, 48, 32)
    with pytest.raises(FlashWorldError, match="more than"):
        prepare_image(as_url(GOOD_PNG), 48, 32)


def test_the_source_is_left_alone():
    picture = Image.fromarray(random_picture(20, 20))
    before = picture.tobytes()
    prepare_image(picture, 8, 8)
    assert picture.tobytes() == before and picture.size == (20, 20)
