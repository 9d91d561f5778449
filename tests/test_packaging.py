"""What registries and installers read about the pack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> list[str]:
    return [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.strip()]


def test_pyproject_and_requirements_name_the_same_packages(project):
    extras = project["project"]["optional-dependencies"]
    assert project["project"]["dependencies"] + extras["comfyui"] == requirements()
    assert set(extras) >= {"cpu", "comfyui", "training", "ray"}
    assert not any("comfyui" in line for line in project["project"]["dependencies"])  # a library needs no frontend


def test_requirements_are_lower_bounds():
    for line in requirements():
        assert re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line), line


def test_registry_fields(project):
    about, comfy = project["project"], project["tool"]["comfy"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", about["version"])
    assert "comfyui" not in about["name"].lower() and len(about["name"]) < 100
    assert about["urls"]["Repository"].startswith("https://")
    assert comfy["PublisherId"] and comfy["DisplayName"]
    assert "web" not in comfy  # WEB_DIRECTORY alone: both would load every script twice


def test_version_is_said_once_and_the_same(project):
    import flashworld_core

    assert flashworld_core.__version__ == project["project"]["version"]


def test_no_folder_that_comfyui_takes_for_templates() -> None:
    """It serves the first of these names alone: another beside ``workflows`` would hide the pack's templates."""
    taken = ("example_workflows", "example", "examples", "workflow", "workflows")
    assert [name for name in taken if (ROOT / name).exists()] == ["workflows"]
