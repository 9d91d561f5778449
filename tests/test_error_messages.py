"""Messages say what was wrong and what to do; no function's name stands before them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# "view: ..." and the like name what the user set, not a function.
INPUTS = {"view"}


def messages(tree: ast.AST):
    """The beginnings of the texts that errors of ours are made with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "FlashWorldError" and node.args:
            text = node.args[0]
            if isinstance(text, ast.JoinedStr) and text.values:
                text = text.values[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield node.lineno, text.value


def functions(files) -> set[str]:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)}


def test_no_message_begins_with_a_function():
    files = [*ROOT.glob("flashworld_core/**/*.py"), *ROOT.glob("nodes/**/*.py")]
    names = functions(files) - INPUTS
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text[:40]}"
        for file in files
        for line, text in messages(ast.parse(file.read_text(encoding="utf-8")))
        if (match := re.match(r"(\w+): ", text)) and match[1] in names
    ]
    assert not found
