"""Writing files: whole or not at all, never over what is no ordinary file, and without what killed runs left."""

import os
import threading
import time

import pytest

from flashworld_core.errors import FlashWorldError
from flashworld_core.formats import files
from flashworld_core.formats.files import atomic_writer, check_writable


def write(path, content=b"new"):
    with atomic_writer(path) as stream:
        stream.write(content)


def test_a_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "a"
    write(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_writer(path) as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_ordinary_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(FlashWorldError, match="not an ordinary file"):
            write(tmp_path / name)
    with pytest.raises(FlashWorldError, match="not an ordinary file"):
        check_writable("/dev/null")
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"] and not (tmp_path / "pipe").is_file()
    # One that appears while the file is being written stays too.
    with pytest.raises(FlashWorldError, match="not an ordinary file"), atomic_writer(tmp_path / "late") as stream:
        stream.write(b"x")
        os.mkfifo(tmp_path / "late")
    assert not (tmp_path / "late").is_file()


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "loop"])
def test_names_that_cannot_be(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FlashWorldError):
        write(tmp_path / name)


def test_folders_are_named(tmp_path):
    with pytest.raises(FlashWorldError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(FlashWorldError, match="does not exist"):
        check_writable(tmp_path / "no" / "a")
    with pytest.raises(FlashWorldError, match="does not exist"):
        (tmp_path / "file").write_bytes(b"")
        check_writable(tmp_path / "file" / "a")


def test_what_a_killed_run_left_is_removed_and_what_is_being_written_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_ABANDONED_SECONDS", 0.05)
    left = tmp_path / ".scene.ply.0123456789ab.tmp"
    left.write_bytes(b"half")
    others = [tmp_path / ".hidden.tmp", tmp_path / "scene.0123456789ab.tmp"]
    for path in others:
        path.write_bytes(b"mine")
    go, wrote = threading.Event(), threading.Event()

    def slow():
        with atomic_writer(tmp_path / "slow") as stream:
            stream.write(b"slow")
            wrote.set()
            go.wait(10)

    thread = threading.Thread(target=slow)
    thread.start()
    wrote.wait(10)
    time.sleep(0.1)
    write(tmp_path / "fast")
    assert not left.exists() and all(path.exists() for path in others)
    go.set()
    thread.join()
    assert (tmp_path / "slow").read_bytes() == b"slow"
