import pytest
import torch

from flashworld_core.errors import FlashWorldError
from flashworld_core.training.recipes.tiny import build_tiny_tokenizer, tiny_umt5_config

SENTENCES = ["[Static]", "a red box and two blue spheres, in a room.", "grass"]


def test_ids_are_fixed_and_end_with_eos():
    tokenizer = build_tiny_tokenizer(SENTENCES)
    again = build_tiny_tokenizer(reversed(SENTENCES))
    assert tokenizer.get_vocab() == again.get_vocab()
    vocabulary = tokenizer.get_vocab()
    assert (vocabulary["<pad>"], vocabulary["</s>"], vocabulary["<unk>"]) == (0, 1, 2)
    assert {"[", "]", "static", ",", ".", "box"} <= set(vocabulary)
    ids = tokenizer("[Static] A RED zebra,").input_ids
    names = [vocabulary[w] for w in ("[", "static", "]", "a", "red")]
    assert ids == [*names, 2, vocabulary[","], 1]


def test_padding_truncation_and_saving(tmp_path):
    from transformers import PreTrainedTokenizerFast

    tokenizer = build_tiny_tokenizer(SENTENCES)
    batch = tokenizer(["a box", "a " * 50], padding="max_length", truncation=True, max_length=8, return_tensors="pt")
    assert batch.input_ids.shape == (2, 8) and batch.attention_mask.sum(1).tolist() == [3, 8]
    assert batch.input_ids[1, -1] == 1 and batch.input_ids[0, 3:].eq(0).all()
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert loaded("two spheres in a zebra").input_ids == tokenizer("two spheres in a zebra").input_ids


def test_config_builds_an_encoder():
    from transformers import UMT5EncoderModel

    tokenizer = build_tiny_tokenizer(SENTENCES)
    encoder = UMT5EncoderModel(tiny_umt5_config(len(tokenizer), d_model=24, heads=3)).eval()
    out = encoder(**tokenizer(["a red box"], return_tensors="pt")).last_hidden_state
    assert out.shape == (1, 4, 24) and torch.isfinite(out).all()


def test_bad_arguments():
    with pytest.raises(FlashWorldError, match="multiple"):
        tiny_umt5_config(10, d_model=30, heads=4)
    with pytest.raises(FlashWorldError, match="No words"):
        build_tiny_tokenizer([])
