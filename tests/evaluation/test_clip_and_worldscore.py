"""CLIP score against transformers' own logits; WorldScore's folders as its evaluator reads them."""

from __future__ import annotations

import json

import pytest
import torch
from oracle_models import Oracle

from flashworld_core.datasets.ood_paths import worldscore_path
from flashworld_core.errors import FlashWorldError
from flashworld_core.evaluation.clip import ClipScore
from flashworld_core.evaluation.prompts import judge_prompts
from flashworld_core.evaluation.worldscore import path_of, read_entries, write_worldscore
from flashworld_core.media.export import save_png


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A CLIP model of a few thousand random weights, with tokenizer and preprocessor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {"vocab_size": 300, "max_position_embeddings": 12, "eos_token_id": 257, "bos_token_id": 256}
    vision = size | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    letters = [chr(i) for i in range(97, 123)]
    vocabulary = {token: i for i, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    vocabulary |= {"<|startoftext|>": 256, "<|endoftext|>": 257}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_clip_score_is_the_cosine(clip_folder):
    score = ClipScore(clip_folder)
    images = torch.rand(3, 24, 40, 3)
    found = score(images, "a box")
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(clip_folder).eval()
    pixels = score.processor([(i * 255).round().to(torch.uint8).numpy() for i in images], return_tensors="pt")
    with torch.no_grad():
        logits = model(**pixels, **score.tokenizer(["a box"], return_tensors="pt")).logits_per_image[:, 0]
    expected = 100 * logits / model.logit_scale.exp()
    assert torch.allclose(found, expected.clamp_min(0).detach(), atol=1e-3)
    assert score(images, "a very long prompt " * 20).shape == (3,)


def test_folders_without_clip_are_a_sentence(tmp_path):
    with pytest.raises(FlashWorldError, match="There is no folder.*with a CLIP model"):
        ClipScore(tmp_path / "none")
    with pytest.raises(FlashWorldError, match="holds no CLIP model"):
        ClipScore(tmp_path)


def test_prompts_are_judged_between_the_views(clip_folder, tmp_path):
    found = judge_prompts(Oracle(), ["a box", "a cone"], tmp_path, score=ClipScore(clip_folder))
    assert set(found["figures"]) == {"gradient_energy", "depth_disagreement", "opacity", "clip_score"}
    assert [row["prompt"] for row in found["rows"]] == ["a box", "a cone"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["prompt_0000.png", "prompt_0001.png"]
    with pytest.raises(FlashWorldError, match="no prompts"):
        judge_prompts(Oracle(), [], tmp_path)


ENTRY = {
    "visual_style": "photorealistic", "scene_type": "indoor", "category": "dining_spaces", "image": "in.png",
    "prompt_list": ["a table", "a window"], "camera_path": ["push_in", "pan_left"], "content_list": ["table"],
}  # fmt: skip


def test_worldscore_folders(tmp_path):
    save_png(tmp_path / "in.png", torch.rand(40, 60, 3))
    (tmp_path / "static.json").write_text(json.dumps([ENTRY, ENTRY | {"image": None}]))
    model = Oracle()
    entries = read_entries(tmp_path / "static.json")
    folders = write_worldscore(model, entries, tmp_path / "out", frames=3)
    base = tmp_path / "out" / "worldscore_output" / "static" / "photorealistic" / "indoor" / "dining_spaces"
    assert folders == [base / "000", base / "001"]
    for folder in folders:
        assert sorted(p.name for p in (folder / "frames").iterdir()) == [f"{i:03d}.png" for i in range(6)]
        assert (folder / "videos" / "output.mp4").is_file() and (folder / "input_image.png").is_file()
        facts = json.loads((folder / "image_data.json").read_text())
        assert facts["num_scenes"] == 2 and facts["total_frames"] == 6 and facts["content_list"] == ["table"]
        assert facts["anchor_frame_idx"] == [0, 2, 5] and facts["visual_movement"] == "static"
        cameras = json.loads((folder / "camera_data.json").read_text())
        assert len(cameras["cameras"]) == 3 and len(cameras["cameras_interp"]) == 6 and cameras["focal_length"] == 500
    write_worldscore(model, entries, tmp_path / "out", frames=3)
    assert model.calls == 2  # complete folders are left alone


def test_moves_follow_one_another():
    anchors, poses = path_of(("push_in", "pan_left"))
    assert torch.allclose(anchors[1], worldscore_path("push_in", 2)[-1])
    assert torch.allclose(anchors[2], anchors[1] @ worldscore_path("pan_left", 2)[-1]) and len(poses) == 65


def test_hostile_lists_are_refused(tmp_path):
    path = tmp_path / "static.json"
    for changes, match in (
        ({"category": "../../etc"}, "must be plain names"),
        ({"visual_style": 3}, "must be plain names"),
        ({"image": "../secret.png"}, "there is no image"),
        ({"camera_path": ["warp"]}, "there is no move 'warp'"),
        ({"prompt_list": [1]}, "list of texts"),
    ):
        path.write_text(json.dumps([ENTRY | {"image": None} | changes]))
        with pytest.raises(FlashWorldError, match=match):
            read_entries(path)
    path.write_text("{}")
    with pytest.raises(FlashWorldError, match="JSON list of scenes"):
        read_entries(path)
    with pytest.raises(FlashWorldError, match="There is no file"):
        read_entries(tmp_path / "none.json")
