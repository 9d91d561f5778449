import io
import json
import random

import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.models.prompt_cache import PromptCache
from flashworld_core.models.tokenizer import open_tokenizer
from flashworld_core.models.umt5 import TextEncoder, open_text_encoder
from flashworld_core.training.recipes.tiny import build_tiny_tokenizer, tiny_umt5_config

LENGTH = 24
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dogs",
    "and",
    "a",
    "castle",
    "on",
    "hill",
    "with",
    "red",
    "roof",
    "under",
    "blue",
    "sky",
    "snow",
    "mountain",
    "river",
    "forest",
    "static",
    "room",
    "sphere",
    "cube",
    "meadow",
    "lake",
    "stones",
    "quiet",
    "village",
    "zebra",
]
PROMPTS = [
    "a red castle on the hill",
    "",
    " ",
    "  the   quick\nbrown\tfox ",
    "Zebra, castle! (red:1.2) 123",
    "ünïcödé Ⅷ ﬁ 漢字 and dogs",
    "a\u00a0lake",
    " ".join(WORDS * 3),
]


@pytest.fixture(scope="module")
def spiece():
    """A small sentencepiece model with T5's special ids."""
    import sentencepiece

    generator = random.Random(0)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(generator.choices(WORDS, k=8)) for _ in range(500)]),
        model_writer=model,
        vocab_size=70,
        hard_vocab_limit=False,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def make_encoder(vocab_size, **sizes):
    from transformers import UMT5EncoderModel

    torch.manual_seed(0)
    encoder = UMT5EncoderModel(tiny_umt5_config(vocab_size, **sizes)).eval()
    for parameter in encoder.parameters():  # the library's own start leaves the attention nearly uniform
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def state_of(encoder):
    state = {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
    state.pop("encoder.embed_tokens.weight", None)
    return state


@pytest.fixture(scope="module")
def tiny():
    """(encoder, tokenizer) of the embedded model's kind."""
    tokenizer = build_tiny_tokenizer(["[Static]", *WORDS])
    return make_encoder(len(tokenizer), d_model=24, heads=3, d_ff=40, layers=3), tokenizer


@pytest.fixture
def tiny_folder(tiny, tmp_path):
    encoder, tokenizer = tiny
    folder = tmp_path / "text_encoder"
    encoder.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def padded_reference(encoder, tokenizer, prompt, length=LENGTH):
    """The plain way: pad, mask, encode everything, zero the padding."""
    batch = tokenizer(prompt, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        rows = encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    return rows * batch.attention_mask[..., None]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_rows_equal_the_padded_and_masked_run(tiny, tiny_folder, prompt):
    encoder, tokenizer = tiny
    text = open_text_encoder(tiny_folder, text_length=LENGTH, prompt_prefix="[Static] ", text_dim=24)
    rows = text.encode(prompt)
    expected = padded_reference(encoder, tokenizer, "[Static] " + prompt)
    assert rows.shape == (1, LENGTH, 24) and rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected, rtol=0, atol=2e-5)
    tokens = len(tokenizer("[Static] " + prompt).input_ids)
    assert rows[0, tokens:].eq(0).all() and rows[0, : min(tokens, LENGTH)].abs().sum(1).gt(0).all()


def test_prefix_and_several_prompts(tiny_folder):
    text = open_text_encoder(tiny_folder, text_length=LENGTH)
    bare = open_text_encoder(tiny_folder, text_length=LENGTH, prompt_prefix="")
    both = text.encode(["a cube", "the river"])
    assert both.shape == (2, LENGTH, 24)
    assert torch.equal(both[1:], text.encode("the river"))
    assert torch.equal(both[:1], bare.encode("[Static] a cube"))
    assert not torch.equal(both[:1], bare.encode("a cube"))
    with pytest.raises(FlashWorldError, match="must be text"):
        text.encode([None])


class CountingEncoder:
    """Counts loads and runs; stands in for the loader."""

    def __init__(self, encoder):
        self.encoder, self.loads, self.runs = encoder, [], 0

    def load(self, dtype, device):
        self.loads.append((dtype, str(device)))

        def run(input_ids):
            self.runs += 1
            return self.encoder(input_ids=input_ids)

        return run


def counted(tiny, cache):
    encoder, tokenizer = tiny
    counting = CountingEncoder(encoder)
    text = TextEncoder(
        counting.load,
        lambda prompt, length: tokenizer(prompt, truncation=True, max_length=length).input_ids,
        model_id="counting",
        text_dim=24,
        text_length=LENGTH,
        cache=cache,
    )
    return text, counting


def test_prompts_are_encoded_once_and_weights_loaded_on_need(tiny):
    cache = PromptCache(entries=2)
    text, counting = counted(tiny, cache)
    assert not text.loaded
    first = text.encode("a cube")
    first_copy = first.clone()
    first.zero_()  # what a caller does to its tensor must not reach the cache
    text.release()
    assert not text.loaded
    assert torch.equal(text.encode("a cube"), first_copy) and not text.loaded
    assert (len(counting.loads), counting.runs) == (1, 1)
    text.encode("the river")
    text.encode("a cube")  # now the more recent of the two
    text.encode("the lake")  # pushes out the river
    assert (len(counting.loads), counting.runs, len(cache)) == (2, 3, 2)
    text.encode("a cube")
    assert counting.runs == 3
    text.encode("the river")
    assert counting.runs == 4
    another, other_counting = counted(tiny, cache)  # the same weights, loaded again
    another.encode("the river")
    assert other_counting.runs == 0
    another.prompt_prefix = "[Moving] "
    another.encode("the river")
    assert other_counting.runs == 1


def test_a_host_runs_the_encoder(tiny):
    text, counting = counted(tiny, PromptCache())
    plain = text.encode("a cube")
    text.release()
    text.cache.clear()
    hosted = []

    def adapter(encoder):
        hosted.append(encoder)
        return lambda input_ids: encoder(input_ids=input_ids)

    assert text.host(adapter) is text and not hosted
    assert torch.equal(text.encode("a cube"), plain)
    text.encode("the river")
    assert len(hosted) == 1 and counting.runs == 3


def test_to_changes_dtype_and_device(tiny_folder):
    text = open_text_encoder(tiny_folder, text_length=LENGTH)
    exact = text.encode("a cube")
    assert text.to(dtype=torch.bfloat16) is text and not text.loaded
    rounded = text.encode("a cube")
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.1, atol=0.1)
    assert text.to("cpu").loaded


def test_embedding_can_be_trained_against(tiny_folder):
    rows = open_text_encoder(tiny_folder, text_length=LENGTH).encode("a cube")
    layer = torch.nn.Linear(24, 2)
    layer(rows).sum().backward()  # fails for tensors made in inference mode
    assert layer.weight.grad is not None


def test_overflow_is_reported(tiny):
    text, counting = counted(tiny, PromptCache())
    counting.encoder = lambda input_ids: type("Out", (), {"last_hidden_state": torch.full((1, 3, 24), float("inf"))})
    with pytest.raises(FlashWorldError, match="not finite"):
        text.encode("a cube")


def comfy_file(path, state, spiece, *, form):
    """A ComfyUI text encoder file: the weights under their usual names and the tokenizer as bytes."""
    from safetensors.torch import save_file

    state = dict(state)
    for name, tensor in list(state.items()):
        if form == "fp16":
            state[name] = tensor.half()
        elif form == "bf16":
            state[name] = tensor.bfloat16()
        elif form.startswith("fp8") and tensor.ndim == 2 and "shared" not in name and "bias" not in name:
            scale = tensor.abs().max() / 448 if form != "fp8" else torch.tensor(1.0)
            state[name] = (tensor / scale).to(torch.float8_e4m3fn)
            ending = {"fp8": None, "fp8_scaled": ".scale_weight", "fp8_new": ".weight_scale"}[form]
            if ending:
                state[name.removesuffix(".weight") + ending] = scale
            if form == "fp8_new":
                state[name.removesuffix(".weight") + ".comfy_quant"] = torch.tensor(
                    list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8
                )
        elif form.startswith("fp8"):
            state[name] = tensor.half()
    if form == "fp8_scaled":
        state["scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
    state["spiece_model"] = torch.frombuffer(bytearray(spiece), dtype=torch.uint8)
    save_file(state, path)


@pytest.mark.parametrize("form", ["fp32", "fp16", "bf16", "fp8", "fp8_scaled", "fp8_new"])
def test_comfyui_single_file(tmp_path, spiece, form):
    encoder = make_encoder(90, d_model=16, heads=2, d_ff=32, layers=2)  # more rows than tokens, as UMT5-XXL has
    state = state_of(encoder)
    path = tmp_path / f"umt5_{form}.safetensors"
    comfy_file(path, state, spiece, form=form)
    text = open_text_encoder(path, text_length=LENGTH, dtype=torch.float32)
    rows = text.encode("a red castle")
    ids = torch.tensor([text.tokenizer("[Static] a red castle", LENGTH)])
    with torch.no_grad():
        expected = encoder(input_ids=ids).last_hidden_state
    # The measured rms error of each form is about half of this.
    allowed = {"fp32": 1e-5, "fp16": 0.01, "bf16": 0.05, "fp8": 0.4, "fp8_scaled": 0.4, "fp8_new": 0.4}[form]
    error = (rows[:, : ids.shape[1]] - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < allowed
    if form.startswith("fp8_"):  # exactly the multiplied-out weights, whatever quantization cost
        name = "encoder.block.1.layer.0.SelfAttention.k.weight"
        scale = state[name].abs().max() / 448
        dequantized = (state[name] / scale).to(torch.float8_e4m3fn).float() * scale
        assert torch.equal(text._encoder.get_parameter(name), dequantized)


@pytest.mark.parametrize(("form", "expected"), [("fp16", torch.float16), ("fp8_scaled", torch.bfloat16)])
def test_the_files_own_dtype_is_the_default(tmp_path, spiece, form, expected):
    path = tmp_path / "umt5.safetensors"
    comfy_file(path, state_of(make_encoder(90, d_model=16, heads=2, d_ff=32)), spiece, form=form)
    text = open_text_encoder(path, text_length=LENGTH)
    assert torch.isfinite(text.encode("a red castle")).all()
    block = text._encoder.encoder.block[0]
    assert block.layer[0].SelfAttention.q.weight.dtype == text._encoder.shared.weight.dtype == expected
    wo = block.layer[1].DenseReluDense.wo.weight.dtype
    assert wo == (torch.float32 if expected == torch.float16 else expected)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_sentencepiece_gives_the_ids_of_hugging_faces_t5_tokenizer(tmp_path, spiece, prompt):
    from transformers import T5TokenizerFast

    (tmp_path / "spiece.model").write_bytes(spiece)
    reference = T5TokenizerFast.from_pretrained(tmp_path, extra_ids=0)
    ours = open_tokenizer(tmp_path)
    for length in (512, 9, 2):
        expected = reference("[Static] " + prompt, truncation=True, max_length=length).input_ids
        assert ours("[Static] " + prompt, length) == expected
    reference.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    from_json = open_tokenizer(tmp_path)
    assert type(from_json) is not type(ours)
    assert from_json("[Static] " + prompt, 9) == ours("[Static] " + prompt, 9)


def test_diffusers_layout_sharded_with_the_tokenizer_beside(tiny, tmp_path):
    encoder, tokenizer = tiny
    encoder.save_pretrained(tmp_path / "text_encoder", max_shard_size="20KB")
    assert len(list((tmp_path / "text_encoder").glob("*.safetensors"))) > 2
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    text = open_text_encoder(tmp_path / "text_encoder", text_length=LENGTH)
    torch.testing.assert_close(
        text.encode("a cube"), padded_reference(encoder, tokenizer, "[Static] a cube"), rtol=0, atol=2e-5
    )


def test_tied_embedding_under_its_other_name(tiny, tmp_path, tiny_folder):
    from safetensors.torch import save_file

    encoder, _ = tiny
    state = state_of(encoder)
    state["encoder.embed_tokens.weight"] = state.pop("shared.weight")
    expected = open_text_encoder(tiny_folder, text_length=LENGTH).encode("a cube")
    save_file(state, tmp_path / "other.safetensors")
    text = open_text_encoder(tmp_path / "other.safetensors", tokenizer=tiny_folder, text_length=LENGTH)
    assert torch.equal(text.encode("a cube"), expected)


def test_files_that_are_not_the_encoder(tiny, tmp_path, tiny_folder, spiece):
    from safetensors.torch import save_file

    encoder, _ = tiny
    state = state_of(encoder)

    def refused(message, content=None, **options):
        path = tiny_folder
        if content is not None:
            path = tmp_path / "changed.safetensors"
            save_file(content, path)
            options.setdefault("tokenizer", tiny_folder)
        with pytest.raises(FlashWorldError, match=message):
            open_text_encoder(path, **options)

    refused("gives 24 numbers per token, but the model wants 4096", text_dim=4096)
    refused("no such file", tokenizer=tmp_path / "nothing")
    refused("not a UMT5 text encoder", {"weight": torch.zeros(3)})
    t5 = {k: v for k, v in state.items() if "relative" not in k or "block.0" in k}
    refused("is a T5 encoder", t5)
    less = {k: v for k, v in state.items() if k != "encoder.final_layer_norm.weight"}
    refused(r"1 missing \(encoder.final_layer_norm.weight\)", less)
    refused("1 unexpected", {**state, "encoder.extra": torch.zeros(2)})
    name = "encoder.block.1.layer.0.SelfAttention.k.weight"
    refused(r"k.weight \[5, 5\] instead of \[24, 24\]", {**state, name: torch.zeros(5, 5)})
    refused(
        "not a tokenizer|sentencepiece", {**state, "spiece_model": torch.zeros(40, dtype=torch.uint8)}, tokenizer=None
    )
    small = {**state, "shared.weight": state["shared.weight"][:10].clone()}
    refused("do not belong together", small)
    (tiny_folder / "tokenizer.json").rename(tmp_path / "moved.json")
    refused("no tokenizer for")
    (tiny_folder / "tokenizer.json").write_text("{}")
    refused("not a tokenizer.json")
    config = json.loads((tiny_folder / "config.json").read_text())
    (tiny_folder / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    refused("does not describe a UMT5 model")
    (tiny_folder / "config.json").write_text("{")
    refused("not JSON")
