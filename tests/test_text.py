"""What files hold is shown as text: no character of it commands a terminal, a log or a node."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import torch

from flashworld_core.cli import main
from flashworld_core.errors import FlashWorldError, OutOfMemory
from flashworld_core.formats.scenes import write_scene
from flashworld_core.gaussians import Gaussians
from flashworld_core.text import get_logger, printable

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "a\x1b]0;title\x07\x9b31m\r\x00\u202eb\x7f"


def is_safe(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)


def test_letters_stay_and_controls_become_escapes():
    kept = "a \u00e9 \u6f22\u5b57\u3000\u00a0\U0001f600 \\ %s"
    assert printable(kept) == kept
    assert printable(HOSTILE) == "a\\u001b]0;title\\u0007\\u009b31m \\u0000\\u202eb\\u007f"
    assert printable("a\r\n\tb\u2028c") == "a b c"
    assert printable("\ud800\U000e0041") == "\\ud800\\U000e0041"
    assert json.loads('"' + printable("\x1b\x7f") + '"') == "\x1b\x7f"


@pytest.mark.parametrize("kind", [FlashWorldError, OutOfMemory])
def test_errors_are_one_safe_line(kind):
    assert is_safe(str(kind(HOSTILE))) and "\n" not in str(kind("a\nb"))


def test_log_messages_are_safe(caplog):
    caplog.set_level(logging.INFO)
    get_logger("flashworld_core.test_text").info("%s and %d", HOSTILE, 3)
    assert is_safe(caplog.text) and "b\\u007f and 3" in caplog.text


def test_every_module_logs_through_one_place():
    for file in (*ROOT.glob("flashworld_core/**/*.py"), *ROOT.glob("nodes/**/*.py")):
        if file.name != "text.py":
            assert not re.search(r"getLogger\(__name__", file.read_text(encoding="utf-8")), file


@pytest.fixture
def hostile_files(tmp_path):
    """A scene, a path and others whose names and contents hold control characters."""
    one = torch.ones(1, 3)
    scene = tmp_path / "s\x1b[31m\u202e.ply"
    write_scene(
        scene, Gaussians(2 * one, torch.eye(4)[:1], 0.1 * one, torch.ones(1), torch.ones(1, 1, 3), {HOSTILE: HOSTILE})
    )
    (tmp_path / "p\x1b.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    (tmp_path / "q\x1b.ply").write_bytes(
        b"ply\nformat ascii 1.0\ncomment \x1b]0;x\x07\nelement \x1b[1m 1\nend_header\n"
    )
    (tmp_path / "m\x1b.safetensors").write_bytes(b'\x10\0\0\0\0\0\0\0{"\x1b": 1} \x1b\x1b\x1b\x1b\x1b\x1b')
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "s*"),
        ("info", "s*", "--json"),
        ("info", "p*"),
        ("info", "q*"),
        ("info", "m*"),
        ("convert", "s*", "o\x1b[1m.ply"),
        ("convert", "s*", "o\x1b.none"),
        ("convert", "p*", "o\x1b.json"),
        ("convert", ".", "--to", "splat"),
        ("render", "s*", "--out", "r\x1b[5m", "--views", "1", "--size", "16x16", "--trajectory", "\x1b]0;x\x07"),
        ("render", "s*", "--out", "r\x1b[5m", "--views", "1", "--size", "16x16"),
        ("generate", "--image", "none\x1b[31m.png"),
        ("generate", "--request", "p*"),
        ("generate", "--prompt", "x", "--model", "\x1b[31m"),
        ("generate", "--prompt", "x", "--steps", "\x1b[31m"),
        ("plan", "--model", "\x1b[31m"),
        ("plan", "--model", "m*"),
        ("checkpoint", "convert", "m*", "o.safetensors"),
        ("demo", "--model", "\x1b"),
        ("demo", "\x1b[31mno such argument"),
    ],
    ids=lambda arguments: "-".join(arguments[:2]).encode("unicode_escape").decode(),
)
def test_no_command_sends_control_characters(hostile_files, monkeypatch, capsys, arguments):
    monkeypatch.chdir(hostile_files)
    found = [str(next(Path().glob(a), a)) if a.endswith("*") else a for a in arguments]
    try:
        main(found)
    except SystemExit as stop:
        assert stop.code == 2
    shown = capsys.readouterr()
    assert shown.out + shown.err and is_safe(shown.out) and is_safe(shown.err), shown
    if "--json" in arguments:
        assert HOSTILE in json.loads(shown.out)["metadata"]
