"""Compiling a transformer's blocks: refused with a reason where the tools are missing; slow, but equal, elsewhere."""

import pytest
import torch
from torch import nn

from flashworld_core.errors import FlashWorldError
from flashworld_core.generators import load_model
from flashworld_core.runtime import compile as module
from flashworld_core.runtime.compile import compile_blocks


class Blocks(nn.Module):
    _repeated_blocks = ["Linear"]

    def compile_repeated_blocks(self):
        self.compiled = True


def test_what_is_missing_is_said(monkeypatch):
    def no_compiler(*_, **__):
        def run(*_):
            raise RuntimeError("\nInvalidCxxCompiler: none found\nmore")

        return run

    monkeypatch.setattr(torch, "compile", no_compiler)
    network = Blocks()
    with pytest.raises(FlashWorldError, match=r"here .InvalidCxxCompiler: none found.. That needs a C\+\+ compiler"):
        compile_blocks(network, "cpu")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FlashWorldError, match="needs Triton, which is not installed"):
        compile_blocks(network, "cuda")
    with pytest.raises(FlashWorldError, match="no blocks to compile"):
        compile_blocks(nn.Linear(1, 1), "cpu")
    assert not hasattr(network, "compiled")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    compile_blocks(network, "cpu")
    assert network.compiled


def test_the_models_blocks_are_what_is_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *_, **__: compiled.append(self))
    model = load_model("tiny")
    assert model.compile() is model
    assert compiled == list(model.transformer.blocks)


@pytest.mark.slow
def test_compiled_blocks_compute_the_same():
    model = load_model("tiny", dtype=torch.float32)
    config, generator = model.config, torch.Generator().manual_seed(0)
    x = torch.randn(1, config.input_channels, 2, 4, 6, generator=generator)
    text = torch.randn(1, config.text_length, config.transformer.text_dim, generator=generator)
    with torch.no_grad():
        expected = model.transformer(x, torch.tensor([700.0]), text)
        try:
            model.compile()
        except FlashWorldError as error:
            pytest.skip(str(error))
        for a, b in zip(model.transformer(x, torch.tensor([700.0]), text), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
