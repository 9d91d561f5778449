"""The reference against a loop over pixels and Gaussians, written from the definitions alone."""

import math

import numpy as np
import pytest
import torch
from splat_scenes import make_cameras, make_gaussians, rasterize_arguments

from flashworld_core.gaussians import Gaussians
from flashworld_core.rendering.backends import torch_reference
from flashworld_core.rendering.backends.torch_reference import rasterize
from flashworld_core.sh import sh_basis


def brute_force(means, quats, scales, opacities, sh, w2c, k, width, height, background, near, far, degree):
    """One view, float64, one Gaussian at a time. [H, W, 5]: r, g, b, depth, alpha."""
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    rotation, center = w2c[:3, :3], -w2c[:3, :3].T @ w2c[:3, 3]
    splats = []
    for mean, quat, scale, opacity, coefficients in zip(means, quats, scales, opacities, sh, strict=True):
        x, y, z = rotation @ mean + w2c[:3, 3]
        if not near < z < far:
            continue
        w, i, j, m = quat / np.linalg.norm(quat)
        # q v q* for the three axes
        r = np.array(
            [
                [w * w + i * i - j * j - m * m, 2 * (i * j - w * m), 2 * (i * m + w * j)],
                [2 * (i * j + w * m), w * w - i * i + j * j - m * m, 2 * (j * m - w * i)],
                [2 * (i * m - w * j), 2 * (j * m + w * i), w * w - i * i - j * j + m * m],
            ]
        )
        covariance = r @ np.diag(scale**2) @ r.T
        tx = z * np.clip(x / z, -(cx / fx + 0.15 * width / fx), (width - cx) / fx + 0.15 * width / fx)
        ty = z * np.clip(y / z, -(cy / fy + 0.15 * height / fy), (height - cy) / fy + 0.15 * height / fy)
        jacobian = np.array([[fx / z, 0, -fx * tx / z**2], [0, fy / z, -fy * ty / z**2]])
        cov2d = jacobian @ rotation @ covariance @ rotation.T @ jacobian.T + 0.3 * np.eye(2)
        direction = (mean - center) / np.linalg.norm(mean - center)
        basis = sh_basis(torch.from_numpy(direction), degree).numpy()
        color = np.maximum(0, 0.5 + basis @ coefficients[: len(basis)])
        splats.append((z, np.array([fx * x / z + cx, fy * y / z + cy]), np.linalg.inv(cov2d), opacity, color))
    splats.sort(key=lambda s: s[0])
    image = np.zeros((height, width, 5))
    for row in range(height):
        for column in range(width):
            transmittance = 1.0
            for z, screen, conic, opacity, color in splats:
                d = np.array([column + 0.5, row + 0.5]) - screen
                alpha = min(0.999, opacity * math.exp(-0.5 * d @ conic @ d))
                if alpha < 1 / 255:
                    continue
                if transmittance * (1 - alpha) <= 1e-4:
                    break
                image[row, column] += alpha * transmittance * np.array([*color, z, 1])
                transmittance *= 1 - alpha
            image[row, column, :3] += transmittance * background
    return image


@pytest.mark.parametrize(("n", "degree", "width", "height", "size"), [(60, 3, 21, 13, 0.2), (150, 1, 9, 17, 0.5)])
def test_equals_a_loop_over_pixels(n, degree, width, height, size):
    gaussians, cameras = make_gaussians(n, degree, size=size), make_cameras(2, width, height)
    arguments, keyword = rasterize_arguments(gaussians, cameras, torch.float64)
    rgb, depth, alpha = rasterize(*arguments, **keyword)
    numpy = [t.numpy() for t in arguments[:7]]
    for v in range(2):
        expected = brute_force(
            *numpy[:5], numpy[5][v], numpy[6][v], width, height, keyword["background"][v].numpy(), 0.01, 1000, degree
        )
        image = torch.cat([rgb[v], depth[v, ..., None], alpha[v, ..., None]], -1)
        torch.testing.assert_close(image, torch.from_numpy(expected), atol=1e-9, rtol=0)
        assert 0.05 < expected[..., 4].mean() < 0.999
    assert size < 0.5 or alpha.max() > 0.9998  # some pixels of the dense scene stop early


def test_long_lists_composite_in_segments(monkeypatch):
    gaussians, cameras = make_gaussians(400, 0, size=0.3), make_cameras(1, 20, 20)
    arguments, keyword = rasterize_arguments(gaussians, cameras, torch.float64)
    whole = rasterize(*arguments, **keyword)
    monkeypatch.setattr(torch_reference, "_SEGMENT", 7)
    monkeypatch.setattr(torch_reference, "_BLOCK", 2)
    for a, b in zip(whole, rasterize(*arguments, **keyword), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_gradients_are_the_derivatives():
    # Large, faint Gaussians and a seed without a decision within a finite-difference step.
    g = make_gaussians(7, 3, seed=4, size=0.6)
    keep = torch.tensor([1, 2, 3, 4, 6])
    g = Gaussians(g.means[keep].abs(), g.quats[keep], g.scales[keep], 0.2 + 0.5 * g.opacities[keep], g.sh[keep])
    arguments, keyword = rasterize_arguments(g, make_cameras(1, 7, 5), torch.float64)
    leaves = [t.clone().requires_grad_() for t in arguments[:5]]
    assert torch.autograd.gradcheck(
        lambda *tensors: rasterize(*tensors, *arguments[5:], **keyword), leaves, eps=1e-7, atol=1e-5, fast_mode=True
    )


def test_equal_depths_keep_index_order():
    n = 6
    flat = Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0]]).repeat(n, 1),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        scales=torch.full((n, 3), 0.5),
        opacities=torch.full((n,), 0.5),
        sh=torch.linspace(-1, 1, n)[:, None, None].expand(n, 1, 3).clone(),
    )
    cameras = make_cameras(1, 8, 8)
    arguments, keyword = rasterize_arguments(flat, cameras)
    rgb, _, _ = rasterize(*arguments, **keyword)
    backwards, keyword = rasterize_arguments(flat[torch.arange(n - 1, -1, -1)], cameras)
    other, _, _ = rasterize(*backwards, **keyword)
    assert rgb[0, 4, 4, 0] < other[0, 4, 4, 0] - 0.1  # dark first against bright first
