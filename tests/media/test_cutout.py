"""Cut-outs: the background is what it says, and nothing of what was behind shows along the edge."""

import numpy as np
import pytest
import torch
from PIL import Image

from flashworld_core.errors import FlashWorldError
from flashworld_core.generators.flashworld.conditioning import prepare_image
from flashworld_core.media.cutout import cut_out, foreground_colors

WHITE = (255, 255, 255)


def photograph(size=400, soft=6.0):
    """A disc with a gradient before pure green: the picture, the soft mask, and the disc's own colors, [3, H, W]."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    mask = ((0.35 * size - torch.hypot(x - size / 2, y - size / 2)) / soft + 0.5).clamp(0, 1)
    own = torch.stack([0.4 + 0.5 * x / size, 0.2 + 0.2 * y / size, 0.5 - 0.3 * x / size]) * 255
    behind = torch.tensor([0.0, 255, 0])[:, None, None]
    return Image.fromarray(torch.lerp(behind, own, mask).round().byte().permute(1, 2, 0).numpy()), mask, own


@pytest.mark.parametrize("largest", [(10_000, 10_000), (150, 150)])
def test_no_fringe_of_what_was_behind(largest):
    picture, mask, own = photograph()
    made = cut_out(picture, mask, WHITE, largest)
    factor = picture.width // made.width
    assert factor == max(1, 400 // largest[0])
    wanted = torch.lerp(torch.full((3, 1, 1), 255.0), own, mask)
    wanted = torch.nn.functional.avg_pool2d(wanted, factor)
    got = torch.from_numpy(np.array(made)).permute(2, 0, 1).float()
    assert float((got - wanted).abs().max()) <= 6
    assert float((got - wanted).abs().mean()) < 0.3
    # The plain way is what this must beat: green shows through by a quarter of the scale.
    plain = torch.lerp(torch.full((3, 1, 1), 255.0), torch.from_numpy(np.array(picture)).permute(2, 0, 1).float(), mask)
    assert float((plain - torch.lerp(torch.full((3, 1, 1), 255.0), own, mask))[0].abs().max()) > 40


def test_whole_pixels_stay_and_empty_ones_are_the_background():
    picture, mask, _ = photograph(100)
    made = np.array(cut_out(picture, mask, (10, 20, 30), (999, 999)))
    assert (made[mask.numpy() == 1] == np.array(picture)[mask.numpy() == 1]).all()
    assert (made[mask.numpy() == 0] == (10, 20, 30)).all()


def test_a_veil_far_from_anything_whole_keeps_its_colors():
    colors = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)) * 255
    assert torch.equal(foreground_colors(colors, torch.full((20, 20), 0.5)), colors)


def test_the_model_sees_white_outside_and_the_crop_fits_the_mask():
    picture, mask, own = photograph(400)
    pixels, crop = prepare_image(picture, 96, 64, mask=mask)
    assert pixels.shape == (3, 64, 96) and float(pixels[:, :, :3].min()) == 1.0  # white left of the disc
    middle = pixels[:, 32, 48] * 127.5 + 127.5
    torch.testing.assert_close(middle, own[:, 200, 200], atol=2, rtol=0)
    edge = (pixels * 127.5 + 127.5)[:, 32]
    assert bool((edge[1] <= edge[[0, 2]].max(dim=0).values + 4).all())  # nowhere greener than anything else


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(FlashWorldError, match="The mask is 3x2, but the image 5x4"):
        prepare_image(Image.new("RGB", (5, 4)), 8, 8, mask=torch.ones(2, 3))
