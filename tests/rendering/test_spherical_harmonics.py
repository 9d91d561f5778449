import numpy as np
import pytest
import torch

from flashworld_core.rendering.spherical_harmonics import sh_basis, sh_color


def directions(n=200):
    v = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.normalize(v, dim=-1)


def test_basis_is_orthonormal_over_the_sphere():
    # Gauss-Legendre in z and equal steps in longitude integrate products of degree <= 6 exactly.
    z, weights = np.polynomial.legendre.leggauss(8)
    phi = np.arange(16) * 2 * np.pi / 16
    zz, pp = np.meshgrid(z, phi, indexing="ij")
    rho = np.sqrt(1 - zz**2)
    d = torch.from_numpy(np.stack([rho * np.cos(pp), rho * np.sin(pp), zz], -1))
    w = torch.from_numpy(weights)[:, None].expand(8, 16) * 2 * np.pi / 16
    basis = sh_basis(d, 3)
    gram = torch.einsum("ab,abi,abj->ij", w, basis, basis)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-12, rtol=0)


def test_signs_and_order_of_the_first_bands():
    x, y, z = 0.48, 0.6, 0.64
    basis = sh_basis(torch.tensor([x, y, z], dtype=torch.float64), 2)
    expected = [
        *(0.2820948, -0.4886025 * y, 0.4886025 * z, -0.4886025 * x, 1.0925484 * x * y, -1.0925484 * y * z),
        *(0.3153916 * (2 * z * z - x * x - y * y), -1.0925484 * x * z, 0.5462742 * (x * x - y * y)),
    ]
    torch.testing.assert_close(basis, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_color_uses_only_the_asked_bands_and_clamps_below_only(degree):
    sh = torch.randn(200, 16, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    d = directions()
    color = sh_color(sh, d, degree)
    k = (degree + 1) ** 2
    raw = torch.stack([(sh[:, :k, c] * sh_basis(d, 3)[:, :k]).sum(1) + 0.5 for c in range(3)], -1)
    torch.testing.assert_close(color, raw.clamp_min(0))
    assert (raw < 0).any() and color.max() > 1
