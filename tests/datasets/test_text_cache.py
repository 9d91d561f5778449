"""Text embeddings on disk: what was encoded comes back, nothing is encoded twice, what is missing is a sentence."""

from __future__ import annotations

import argparse
import dataclasses
import pickle

import data_folders as folders
import pytest
import torch

from flashworld_core.datasets.index import write_index
from flashworld_core.datasets.text_cache import TextCache, fingerprint, write_cache
from flashworld_core.errors import Cancelled, FlashWorldError
from flashworld_core.generators import ASSETS
from flashworld_core.models.umt5 import open_text_encoder
from flashworld_core.progress import Progress
from flashworld_core.training.cli import embed, index


@dataclasses.dataclass
class Encoder:
    """Rows that depend on the prompt, as many as it has letters."""

    text_dim: int = 4
    text_length: int = 12
    prompt_prefix: str = "[Static] "
    calls: list = dataclasses.field(default_factory=list)

    def encode(self, prompts):
        self.calls += prompts
        out = torch.zeros(len(prompts), self.text_length, self.text_dim)
        for row, prompt in zip(out, prompts, strict=True):
            row[: len(prompt) + 1] = torch.arange(4) / 4 + sum(map(ord, prompt)) / 128 + 1
        return out


def test_rows_come_back_and_are_encoded_once(tmp_path):
    encoder = Encoder()
    prompts = ["a box", "a cone", "a box", "ö"]
    assert write_cache(tmp_path / "c", prompts, encoder, "one", per_shard=2) == (4, 0)
    assert sorted(encoder.calls) == sorted(["", *set(prompts)]) and len(list((tmp_path / "c").glob("rows-*"))) == 2
    assert write_cache(tmp_path / "c", ["a box", "a ball"], encoder, "one") == (1, 2)
    assert encoder.calls[-1] == "a ball"
    cache = pickle.loads(pickle.dumps(TextCache(tmp_path / "c", text_dim=4, text_length=12)))
    got = cache(["a cone", ""])
    assert torch.equal(got, Encoder().encode(["a cone", ""]).bfloat16().float()) and len(cache) == 5
    assert cache("ö").shape == (1, 12, 4)
    cache.check(prompts)


def test_a_stopped_run_is_gone_on_with(tmp_path):
    stop = Progress(should_stop=lambda: len(encoder.calls) >= 5)
    encoder, prompts = Encoder(), [f"p{i}" for i in range(9)]
    with pytest.raises(Cancelled):
        write_cache(tmp_path / "c", prompts, encoder, "one", progress=stop, per_shard=2)
    made, there = write_cache(tmp_path / "c", prompts, Encoder(), "one")
    assert (made, there) == (6, 4) and len(TextCache(tmp_path / "c", text_dim=4, text_length=12)) == 10


def test_what_does_not_fit_is_a_sentence(tmp_path):
    with pytest.raises(FlashWorldError, match="There is no cache.*make it: python -m flashworld_core.training embed"):
        TextCache(tmp_path, text_dim=4, text_length=12)
    write_cache(tmp_path / "c", ["a"], Encoder(), "one")
    with pytest.raises(FlashWorldError, match=r"another text encoder \(encoder differ"):
        write_cache(tmp_path / "c", ["a"], Encoder(), "two")
    with pytest.raises(FlashWorldError, match="has a text_dim of 4, the model wants 8"):
        TextCache(tmp_path / "c", text_dim=8, text_length=12)
    cache = TextCache(tmp_path / "c", text_dim=4, text_length=12)
    with pytest.raises(FlashWorldError, match="'a lamp' is not in the cache.*embed --index"):
        cache("a lamp")
    with pytest.raises(FlashWorldError, match="2 prompts are not in the cache"):
        cache.check(["a", "b", "c"])
    next((tmp_path / "c").glob("rows-*")).write_bytes(b"cut")
    with pytest.raises(FlashWorldError, match="is damaged.*delete it and run again"):
        TextCache(tmp_path / "c", text_dim=4, text_length=12)


def arguments(module, *words):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_commands_index_and_embed_with_the_embedded_encoder(tmp_path, capsys):
    """A set of pictures, indexed and embedded by commands, gives what the model's own encoder gives."""
    folders.image_text(tmp_path / "set")
    index.run(arguments(index, "image_text", tmp_path / "set", "--out", tmp_path / "index"))
    assert "3 image with 3 frames of image_text; 0 skipped." in capsys.readouterr().out
    (tmp_path / "more.txt").write_text("a red box on a green ground\n\n")
    path = ASSETS / "flashworld-tiny" / "text_encoder"
    words = ["--index", tmp_path / "index", "--text-encoder", path, "--out", tmp_path / "cache", "--model", "tiny"]
    embed.run(arguments(embed, *words, "--prompts", tmp_path / "more.txt"))
    embed.run(arguments(embed, *words))
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("5 prompts encoded, 0 were there.") and out[1].endswith("0 prompts encoded, 4 were there.")
    from flashworld_core.generators import open_model

    spec = open_model("tiny").info.text
    encoder = open_text_encoder(path, text_length=spec.text_length, prompt_prefix=spec.prompt_prefix)
    cache = TextCache(
        tmp_path / "cache", text_dim=spec.text_dim, text_length=spec.text_length, prompt_prefix=spec.prompt_prefix
    )
    prompts = ["a red box on a green ground", "picture number 1", ""]
    made = encoder.encode(prompts)
    assert (cache(prompts) - made).abs().max() <= made.abs().max() / 200
    assert fingerprint(path) == fingerprint(str(path)) != fingerprint(path / "model.safetensors")[:-1]


def test_embed_wants_prompts(tmp_path):
    options = arguments(embed, "--text-encoder", "x", "--out", tmp_path)
    with pytest.raises(FlashWorldError, match="Name the prompts"):
        embed.run(options)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(FlashWorldError, match="holds no prompts"):
        embed.read_prompts(tmp_path / "empty.txt")
    with pytest.raises(FlashWorldError, match="cannot be read"):
        embed.read_prompts(tmp_path / "none.txt")


def test_index_command_reports_what_lacks_captions(tmp_path, capsys):
    folders.realestate10k(tmp_path / "set")
    assert write_index("realestate10k", tmp_path / "set", tmp_path / "i", notify=lambda t: None)["without_caption"] == 2
    index.run(arguments(index, "realestate10k", tmp_path / "set", "--out", tmp_path / "i"))
    assert "2 of 2 have no caption of their own" in capsys.readouterr().out
