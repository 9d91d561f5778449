"""Paths from other programs beside any picture: what is cropped fits together, and it is said."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_configs import small_config

from flashworld_core.generators.base import Request, ViewImage
from flashworld_core.generators.flashworld.conditioning import part_cameras_see, prepare_image, prepare_request
from flashworld_core.generators.flashworld.config import FlashWorldConfig
from flashworld_core.generators.flashworld.remarks import remarks
from flashworld_core.trajectories.presets import make_trajectory


@pytest.fixture(scope="module")
def config() -> FlashWorldConfig:
    return small_config()


def request_for(picture, path_size, size, config):
    cameras = make_trajectory("orbit", views=config.views, width=path_size[0], height=path_size[1])
    images = () if picture is None else (ViewImage(picture),)
    return Request(cameras, images, prompt="x", size=size)


@pytest.mark.parametrize(
    ("source", "cameras", "target", "part"),
    [
        ((768, 768), (704, 480), (96, 64), (0, 122, 768, 646)),  # square picture, path of another program
        ((1080, 1920), (704, 480), (96, 64), (0, 592, 1080, 1328)),
        ((1920, 1080), (480, 704), (64, 96), (592, 0, 1328, 1080)),
        ((768, 768), (1920, 1920), (96, 64), (0, 0, 768, 768)),  # the picture's shape: the whole of it
        ((768, 768), (192, 128), (96, 64), (0, 0, 768, 768)),  # the views' shape: `Crop` does it
    ],
)
def test_the_part_of_a_picture_that_cameras_see(source, cameras, target, part):
    assert part_cameras_see(source, cameras, target) == part


def test_a_path_of_another_shape_sees_what_the_cropped_picture_shows(config):
    """Crop by hand, then give both: the same pixels and the same cameras."""
    width, height = config.width, config.height
    array = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    left, top, right, bottom = part_cameras_see((300, 300), (90, 20), (width, height))
    by_hand = Image.fromarray(array[top:bottom, left:right])
    text = torch.zeros(1, config.text_length, config.transformer.text_dim)
    made = [
        prepare_request(config, request_for(picture, size, (width, height), config), embed=lambda _: text)
        for picture, size in ((Image.fromarray(array), (90, 20)), (by_hand, by_hand.size))
    ]
    assert torch.equal(made[0].conditions.image, made[1].conditions.image)
    by_hand_fov = made[1].cameras.intrinsics[:, 0, 0] / made[1].cameras.intrinsics[:, 1, 1]
    found = made[0].cameras.intrinsics[:, 0, 0] / made[0].cameras.intrinsics[:, 1, 1]
    torch.testing.assert_close(found, by_hand_fov, rtol=0.01, atol=0)  # the part is whole pixels
    assert (made[0].cameras.width, made[0].cameras.height) == (width, height)


def test_square_pixels_stay_square(config):
    """A circle in the picture is one in the model's input, and the cameras' focal lengths stay equal."""
    y, x = np.mgrid[:300, :300] - 149.5
    circle = np.where((x**2 + y**2 < 60**2)[..., None], 0, 255).astype(np.uint8).repeat(3, 2)
    pixels, crop = prepare_image(Image.fromarray(circle), 96, 64, cameras_size=(704, 480))
    dark = pixels[0] < 0
    assert abs(int(dark.any(0).sum()) - int(dark.any(1).sum())) <= 1
    cameras = crop.adjust_intrinsics(make_trajectory("orbit", views=2, width=704, height=480))
    assert cameras.intrinsics[0, 0, 0] == pytest.approx(cameras.intrinsics[0, 1, 1].item(), rel=5e-3)


def test_what_is_cropped_is_said_once(config):
    size = (config.width, config.height)
    square, own = Image.new("RGB", (300, 300)), Image.new("RGB", (10 * size[0], 10 * size[1]))
    (said,) = remarks(config, request_for(square, (704, 440), size, config))
    assert "300x300" in said and "704x440" in said and f"views of {size[0]}x{size[1]}" in said
    (said,) = remarks(config, request_for(Image.new("RGB", (300, 900)), size, size, config))
    assert "is not used" in said and "300x900" in said
    assert remarks(config, request_for(own, size, size, config)) == []
    (said,) = remarks(config, request_for(None, (400, 400), size, config))
    assert "400x400" in said and "cropped" in said
