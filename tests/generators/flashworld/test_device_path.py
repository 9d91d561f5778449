"""What the stages ask of a device: no double precision, no waiting for results but where it is listed."""

import collections
import contextlib

import pytest
import torch
from small_model import one_thread  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flashworld_core.flow.noise import SeededNoise
from flashworld_core.flow.schedule import shifted_schedule
from flashworld_core.generators import load_model
from flashworld_core.generators.flashworld.cameras import normalize_path
from flashworld_core.generators.flashworld.conditioning import Conditions
from flashworld_core.generators.flashworld.sampler import FewStepSampler
from flashworld_core.runtime.stages import Stages
from flashworld_core.trajectories.presets import make_trajectory

# Operators whose result's value or size the program has to know: on a GPU it stands still until then.
_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "unique2", "_unique2", "unique_dim", "is_nonzero", "equal"}
# Where that happens: once a stage's results are there, it is asked whether they are finite (`_require_finite`).
ASKED_IF_FINITE = {"transformer": 1, "encoder": 1}  # in a step; the decoder once for each chunk
# Operators known to be missing on Apple's or AMD's devices.
_MISSING_ELSEWHERE = {"_weight_int8pack_mm", "_int_mm", "linalg_svd", "linalg_eig", "_fft_c2c", "complex", "polar"}


class Watch(TorchDispatchMode):
    def __init__(self, seen, waits):
        super().__init__()
        self.seen, self.waits = seen, waits

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::")
        if name in _WAITS:
            self.waits.append(name)
        kinds = {t.dtype for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)}
        self.seen[name] |= kinds
        return result


class WatchedStages(Stages):
    """Watches what happens inside the networks' stages. The renderer has its own tests, and its one wait, for each
    backend."""

    def __init__(self):
        self.seen = collections.defaultdict(set)
        self.waits = collections.defaultdict(list)
        self._open = []

    @contextlib.contextmanager
    def __call__(self, name):
        if name == "renderer":
            yield torch.device("cpu")
            return
        with Watch(self.seen, self.waits[name]):
            yield torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_generation(dtype):
    model = load_model("tiny", dtype=dtype)
    config, views = model.config, 6
    vectors = normalize_path(make_trajectory("orbit", views=views, amount=30.0, width=96, height=64))[0]
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(1, config.text_length, config.transformer.text_dim, generator=generator)
    given = Conditions(vectors, 96, 64, text, torch.rand(3, 64, 96, generator=generator) * 2 - 1)
    stages = WatchedStages()
    sampler = FewStepSampler(config, model.transformer, model.decoder, model.encoder, stages=stages, views_per_chunk=2)
    schedule = shifted_schedule(config.shift).select(list(config.timestep_indices))
    sampler.sample(given, schedule, SeededNoise(0))

    assert len(stages.seen) > 30  # it watched
    double = sorted(name for name, kinds in stages.seen.items() if kinds & {torch.float64, torch.complex128})
    assert not double, f"double precision, which MPS and XPU lack: {double}"
    assert not _MISSING_ELSEWHERE & stages.seen.keys()
    steps = len(schedule)
    # On the CPU a chunk goes through the networks view by view.
    expected = {
        "transformer": steps * ASKED_IF_FINITE["transformer"],
        "decoder": steps * views,
        "encoder": 1 + (steps - 1) * ASKED_IF_FINITE["encoder"],
    }
    assert {name: len(waits) for name, waits in stages.waits.items()} == expected
    assert {wait for waits in stages.waits.values() for wait in waits} == {"_local_scalar_dense"}
