"""Tensors computed on first use behave like the tensors they stand for."""

import copy
import pickle

import pytest
import torch
from flashworld_pack.nodes.comfyui.deferred import defer


class Source:
    """Makes a tensor and counts how often."""

    def __init__(self):
        self.value, self.calls = torch.arange(24.0).view(2, 3, 4), 0

    def __call__(self):
        self.calls += 1
        return self.value


@pytest.fixture
def source():
    return Source()


def test_shape_and_type_cost_nothing(source):
    tensor = defer(source, (2, 3, 4))
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == (2, 3, 4) and tensor.ndim == 3 and tensor.size(1) == 3 and len(tensor) == 2
    assert tensor.dtype == torch.float32 and tensor.is_floating_point()
    assert tensor.device.type == "cpu"
    assert tensor.numel() * tensor.element_size() == 96 and tensor.nelement() == 24
    assert source.calls == 0


OPERATIONS = [
    lambda t: t + 1,
    lambda t: 2 * t,
    lambda t: t[0, 1:],
    lambda t: t.to(torch.float16),
    lambda t: t.to("cpu"),
    lambda t: t.cpu(),
    lambda t: torch.cat([t, t], dim=1),
    lambda t: torch.stack((torch.zeros(2, 3, 4), t)),
    lambda t: t.repeat(2, 1, 1),
    lambda t: torch.nn.functional.pad(input=t, pad=(1, 1)),
    lambda t: torch.nn.Linear(4, 2)(t).detach() * 0 + t[..., :2],
    lambda t: t.clone().detach().contiguous(),
    lambda t: torch.from_numpy(t.numpy()),
    lambda t: torch.tensor(t.tolist()),
    lambda t: torch.zeros(2, 3, 4).copy_(t),
    lambda t: next(iter(t)),
    lambda t: copy.deepcopy(t),
    lambda t: pickle.loads(pickle.dumps(t)),
    lambda t: t.float(),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=range(len(OPERATIONS)))
@pytest.mark.parametrize("inference", [False, True])
def test_operations_see_the_real_tensor(source, operation, inference):
    tensor = defer(source, (2, 3, 4))
    with torch.inference_mode(inference):
        result = operation(tensor)
    assert type(result) is torch.Tensor
    assert torch.equal(result, operation(source.value))
    assert source.calls == 1
    _ = tensor + tensor
    assert source.calls == 1


def test_its_error_comes_up_where_it_is_used():
    def fail():
        raise ValueError("too large")

    tensor = defer(fail, (10**6, 10**6))
    with pytest.raises(ValueError, match="too large"):
        tensor.cpu()
