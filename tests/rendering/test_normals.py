import pytest
import torch

from flashworld_core.rendering.normals import normals_from_depth

K = torch.tensor([[[30.0, 0, 16], [0, 30.0, 12], [0, 0, 1]]])


def plane_depth(normal, distance, width=32, height=24):
    """Depth image of the plane normal . p = distance."""
    u, v = (torch.arange(width) + 0.5 - 16) / 30, (torch.arange(height)[:, None] + 0.5 - 12) / 30
    return (distance / (normal[0] * u + normal[1] * v + normal[2]))[None]


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.6, 0.0, -0.8), (-0.2, 0.5, -0.8426)])
def test_planes(normal):
    normal = torch.nn.functional.normalize(torch.tensor(normal), dim=0)
    depth = plane_depth(normal, -3.0)
    got = normals_from_depth(depth, torch.ones_like(depth), K)
    torch.testing.assert_close(got, normal.expand_as(got), atol=2e-4, rtol=0)


def test_nothing_is_zero_and_edges_lean_on_what_is_seen():
    depth = plane_depth(torch.tensor([0.0, 0.6, -0.8]), -3.0)
    alpha = torch.ones_like(depth)
    alpha[0, :, 10:] = 0
    alpha[0, 5, :9] = 0
    got = normals_from_depth(depth * alpha, alpha, K)
    assert (got[alpha == 0] == 0).all()
    expected = torch.tensor([0.0, 0.6, -0.8]).expand(int(alpha.sum()) - 1, 3)
    alpha[0, 5, 9] = 0  # has a neighbor neither left nor right: looks at the camera
    torch.testing.assert_close(got[alpha > 0], expected, atol=2e-4, rtol=0)
    ray = torch.tensor([(9.5 - 16) / 30, (5.5 - 12) / 30, 1.0])
    torch.testing.assert_close(got[0, 5, 9], -ray / ray.norm())


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1)])
def test_thin_images_face_the_camera(shape):
    depth = torch.full((1, *shape), 2.0)
    got = normals_from_depth(depth, torch.ones_like(depth), K)
    torch.testing.assert_close(got.norm(dim=-1), torch.ones(1, *shape))
    assert (got[..., 2] < 0).all()


def test_gradient_is_finite_and_right():
    g = torch.Generator().manual_seed(0)
    depth = (2 + torch.rand(1, 5, 6, generator=g, dtype=torch.float64)).requires_grad_()
    alpha = (torch.rand(1, 5, 6, generator=g) > 0.2).double()
    assert torch.autograd.gradcheck(lambda d: normals_from_depth(d, alpha, K.double()), depth)
    flat = torch.full((1, 5, 6), 2.0, requires_grad=True)
    normals_from_depth(flat, alpha.float(), K).sum().backward()
    assert torch.isfinite(flat.grad).all()
