import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "generate_gpu.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("generate_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


@pytest.fixture
def report(script, tmp_path):
    copy = tmp_path / "gpu.md"
    copy.write_text(script.REPORT.read_text())
    return copy


def run(script, report, *arguments):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny layers
    try:
        figures = report.with_suffix(".json")
        common = ["--tiny", "--repeats", "1", "--steps", "2", "--json", str(figures), "--report", str(report)]
        code = script.main([*common, *arguments])
        return code, json.loads(figures.read_text())
    finally:
        torch.set_num_threads(threads)


def test_the_tiny_run_measures_every_stage_and_writes_only_when_asked(script, report, capsys):
    before = report.read_text()
    code, result = run(script, report, "--views-per-chunk", "3")
    assert code == 0 and report.read_text() == before
    assert json.loads(capsys.readouterr().out) == result
    seconds = result["seconds"]
    assert all(seconds[stage] > 0 for stage in script.STAGES)
    assert sum(seconds[stage] for stage in script.STAGES) <= seconds["total"]
    assert result["gaussians"] == 4 * 2 * 32 * 48 and result["views_per_chunk"] == 3
    assert result["renderer_check"]["ok"] and result["renderer_check"]["gaussians"] >= 2000
    assert result["planned_bytes"]["all loaded"] > 0 and result["floor"] is None


def test_a_row_is_added_in_its_place(script, report):
    result = run(script, report)[1]
    before = report.read_text()
    script.write_row(script.table_row(result), report)
    script.write_row("| second |", report)
    lines = report.read_text().splitlines()
    place = lines.index(script.ROWS)
    assert lines[place - 1] == "| second |" and result["device"] in lines[place - 2]
    head = next(line for line in lines if line.startswith("| device"))
    assert lines[place - 2].count("|") == head.count("|")
    assert [line for line in lines if line not in lines[place - 2 : place]] == before.splitlines()
    assert [path.name for path in report.parent.iterdir() if path.suffix == ".tmp"] == []


def test_a_wrong_renderer_is_not_reported(script, report, monkeypatch):
    render = script.render

    def off(scene, cameras, backend):
        output = render(scene, cameras, backend=backend)
        if backend == "auto":
            output.rgb.add_(1e-3)
        return output

    monkeypatch.setattr(script, "render", off)
    before = report.read_text()
    code, result = run(script, report, "--write")
    assert code == 1 and not result["renderer_check"]["ok"] and report.read_text() == before


def test_the_floor_of_known_devices(script):
    expected = {"NVIDIA H200": 0.96, "NVIDIA H100 80GB HBM3": 0.98, "NVIDIA A100-SXM4-80GB": 3.0, "NVIDIA H20": 6.2}
    for device, seconds in expected.items():
        name, floor = script.floor_seconds(device)
        assert name in device and sum(floor.values()) == pytest.approx(seconds, rel=0.02)
    assert script.floor_seconds("NVIDIA GeForce GTX 750") is None


def test_random_weights_are_drawn_in_their_final_precision(script):
    model = script.random_model(script.tiny_config(), torch.device("cpu"), torch.bfloat16)
    dtypes = {name: tensor.dtype for name, tensor in model.transformer.state_dict().items()}
    assert dtypes["blocks.0.ffn.net.2.weight"] == torch.bfloat16
    assert dtypes["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    for part in (model.transformer, model.decoder, model.encoder):
        for name, tensor in (*part.named_parameters(), *part.named_buffers()):
            assert tensor.device.type == "cpu" and torch.isfinite(tensor).all(), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_gpu_the_full_size_is_refused_in_one_sentence(script, capsys):
    with pytest.raises(SystemExit) as error:
        script.main([])
    assert error.value.code == 2 and "no CUDA device is available; --tiny" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_tiny_run_on_a_gpu(script, report):
    code, result = run(script, report, "--device", "cuda", "--dtype", "bfloat16")
    assert code == 0 and all(result["peak_bytes"][stage] > 0 for stage in script.STAGES)
