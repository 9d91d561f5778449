"""Spherical harmonics: against scipy's, against integration, and under rotation."""

import math

import numpy as np
import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.sh import C0, dc_to_rgb, evaluate_sh, rgb_to_dc, rotate_sh, sh_basis, with_sh_degree


def random_directions(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=1)


def random_rotation(seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def random_sh(*shape, degree, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, (degree + 1) ** 2, 3, generator=generator, dtype=torch.float64)


def test_first_values_are_those_of_3dgs():
    x, y, z = 0.6, -0.48, 0.64
    basis = sh_basis(torch.tensor([x, y, z], dtype=torch.float64), 3)
    expected = [0.28209479, -0.48860251 * y, 0.48860251 * z, -0.48860251 * x, 1.09254843 * x * y, -1.09254843 * y * z]
    expected += [0.31539157 * (3 * z * z - 1), -1.09254843 * x * z, 0.54627422 * (x * x - y * y)]
    np.testing.assert_allclose(basis[:9], expected, atol=1e-8)


def test_basis_equals_scipys_complex_harmonics():
    """Real harmonics from the complex ones, each with the Condon-Shortley sign kept."""
    special = pytest.importorskip("scipy.special")
    directions = random_directions(50)
    x, y, z = directions.T.numpy()
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    ours = sh_basis(directions, 3).numpy()
    for degree in range(4):
        for m in range(-degree, degree + 1):
            if hasattr(special, "sph_harm_y"):
                value = special.sph_harm_y(degree, abs(m), polar, azimuth)
            else:
                value = special.sph_harm(abs(m), degree, azimuth, polar)
            part = value.real if m >= 0 else value.imag
            expected = part if m == 0 else math.sqrt(2) * part
            np.testing.assert_allclose(ours[:, degree * degree + degree + m], expected, atol=1e-12)


def test_basis_is_orthonormal():
    """Integrated over the sphere with a quadrature that is exact for these polynomials."""
    z, weights = np.polynomial.legendre.leggauss(8)
    azimuth = np.arange(16) * (2 * np.pi / 16)
    z, azimuth = np.meshgrid(z, azimuth, indexing="ij")
    weights = torch.from_numpy(np.repeat(weights[:, None], 16, 1).ravel() * 2 * np.pi / 16)
    radius = np.sqrt(1 - z * z)
    directions = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], -1).reshape(-1, 3)
    basis = sh_basis(torch.from_numpy(directions), 3)
    torch.testing.assert_close(basis.T @ (weights[:, None] * basis), torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("degree", range(4))
def test_evaluation(degree):
    sh, directions = random_sh(30, degree=degree), random_directions(30)
    colors = evaluate_sh(sh, directions, clamp=False)
    expected = 0.5 + torch.einsum("nk,nkc->nc", sh_basis(directions, degree), sh)
    torch.testing.assert_close(colors, expected)
    clamped = evaluate_sh(sh, directions)
    assert (clamped == colors.clamp_min(0)).all() and (colors < 0).any()
    torch.testing.assert_close(evaluate_sh(sh, directions, degree=0, clamp=False), dc_to_rgb(sh[:, 0]))
    assert evaluate_sh(sh[None], directions[:, None, None].expand(30, 1, 30, 3)).shape == (30, 1, 30, 3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("degree", range(4))
def test_rotated_coefficients_seen_along_rotated_directions(degree, seed):
    rotation, directions = random_rotation(seed), random_directions(40, seed)
    sh = random_sh(40, degree=degree, seed=seed)
    before = evaluate_sh(sh, directions, clamp=False)
    after = evaluate_sh(rotate_sh(sh, rotation), directions @ rotation.T, clamp=False)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", range(4))
def test_rotations_compose_and_invert(degree):
    a, b, sh = random_rotation(1), random_rotation(2), random_sh(7, degree=degree)
    torch.testing.assert_close(rotate_sh(rotate_sh(sh, a), b), rotate_sh(sh, b @ a))
    torch.testing.assert_close(rotate_sh(rotate_sh(sh, a), a.T), sh)
    torch.testing.assert_close(rotate_sh(sh, torch.eye(3)), sh)


def test_half_turn_only_flips_signs():
    """Exact in float32, however different the coefficients: reading a file of another frame costs no bit."""
    magnitude = 10 ** (30 * torch.rand(100, 16, 3, generator=torch.Generator().manual_seed(1)) - 20)
    sh = random_sh(100, degree=3).float() * magnitude
    turned = rotate_sh(sh, torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    assert torch.equal(turned.abs(), sh.abs()) and not torch.equal(turned, sh)


def test_rotation_is_repeatable_and_differentiable():
    rotation = random_rotation(3).float()
    sh = random_sh(5, degree=3).float().requires_grad_()
    first = rotate_sh(sh, rotation)
    assert torch.equal(first, rotate_sh(sh, rotation)) and first.dtype == torch.float32
    weights = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
    (first * weights).sum().backward()
    torch.testing.assert_close(sh.grad, rotate_sh(weights, rotation.T))


def test_color_helpers():
    rgb = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(dc_to_rgb(rgb_to_dc(rgb)), rgb)
    torch.testing.assert_close(evaluate_sh(rgb_to_dc(rgb)[:, None], random_directions(4).float()), rgb)
    assert pytest.approx(0.28209479177387814, abs=0) == C0


def test_degree_change():
    sh = random_sh(6, degree=2)
    assert with_sh_degree(sh, 2) is sh
    assert torch.equal(with_sh_degree(sh, 1), sh[:, :4])
    wider = with_sh_degree(sh, 3)
    assert torch.equal(wider[:, :9], sh) and wider.shape == (6, 16, 3) and not wider[:, 9:].any()


def test_errors():
    with pytest.raises(FlashWorldError, match="degree must be 0, 1, 2 or 3, got 4"):
        sh_basis(torch.zeros(1, 3), 4)
    with pytest.raises(FlashWorldError, match=r"Directions must be \[..., 3\]"):
        sh_basis(torch.zeros(3, 2), 1)
    with pytest.raises(FlashWorldError, match=r"sh must be .* got \[2, 5, 3\]"):
        evaluate_sh(torch.zeros(2, 5, 3), torch.zeros(2, 3))
    with pytest.raises(FlashWorldError, match=r"degree must be 0..1 .* got 2"):
        evaluate_sh(torch.zeros(2, 4, 3), torch.zeros(2, 3), degree=2)
    for bad in (2 * torch.eye(3), torch.diag(torch.tensor([1.0, 1.0, -1.0])), torch.full((3, 3), torch.nan)):
        with pytest.raises(FlashWorldError, match="Rotation must be orthonormal"):
            rotate_sh(torch.zeros(2, 4, 3), bad)
    with pytest.raises(FlashWorldError, match=r"Rotation must be \[3, 3\]"):
        rotate_sh(torch.zeros(2, 4, 3), torch.eye(4))
    with pytest.raises(FlashWorldError, match="degree must be 0, 1, 2 or 3, got -1"):
        with_sh_degree(torch.zeros(2, 4, 3), -1)
