"""Seeded damage to files: bytes, and values of JSON."""

import math
import random
import struct
import time
import tracemalloc

from flashworld_core.errors import FlashWorldError

LIMIT = 300 << 20  # bytes of memory beyond twice the file

EXTREMES = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
WORDS = [
    0,
    1,
    -1,
    1.5,
    1e30,
    -1e308,
    2**31,
    2**63,
    True,
    None,
    "",
    "..",
    "../x",
    "/etc/passwd",
    "C:\\x",
    [],
    {},
    [1],
    1e400,
]


def mutated(data, rng):
    """Bytes with a few of them changed, cut off, repeated, or set to extreme numbers."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        at = rng.randrange(min(len(data), 400)) if rng.random() < 0.6 else rng.randrange(len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + 4] = struct.pack("<I", rng.choice(EXTREMES))
        elif kind == 3:
            data[at : at + 4] = struct.pack("<f", rng.choice((math.nan, math.inf, -1e38, 1e-40)))
        elif kind == 4:
            data[at:at] = data[at : at + rng.randrange(1, 64)]
        else:
            del data[at : at + rng.randrange(1, 64)]
    return bytes(data)


def mutated_json(value, rng, depth=0):
    """A JSON value with one entry replaced, removed or doubled somewhere."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        copy = dict(value)
        if rng.random() < 0.1:
            del copy[key]
        else:
            copy[key] = mutated_json(value[key], rng, depth + 1)
        return copy
    if isinstance(value, list) and value and rng.random() < 0.8:
        copy = list(value)
        at = rng.randrange(len(copy))
        if rng.random() < 0.1:
            del copy[at]
        else:
            copy[at] = mutated_json(value[at], rng, depth + 1)
        return copy
    return rng.choice(WORDS)


def read_damaged(name, count, seed, make, read, folder, longest):
    """Read damaged files: a clear error or a result, never another exception, a hang, or a flood of memory.

    Args:
        name: of the kind; with ``seed`` it decides every file.
        make: ``make(rng)`` writes one into ``folder``.
        read: ``read()`` reads it.
        longest: characters an error may have.
    """
    refused = 0
    tracemalloc.start()
    try:
        for number in range(count):
            make(random.Random(f"{name} {seed + number}"))
            size = sum(file.stat().st_size for file in folder.iterdir())
            tracemalloc.reset_peak()
            before, started = tracemalloc.get_traced_memory()[0], time.monotonic()
            try:
                read()
            except FlashWorldError as error:
                refused += 1
                assert len(str(error)) < longest, number
            except Exception as error:
                raise AssertionError(f"{name}, file {number} of seed {seed}: {error!r}") from error
            assert time.monotonic() - started < 10, number
            assert tracemalloc.get_traced_memory()[1] - before < 2 * size + LIMIT, number
    finally:
        tracemalloc.stop()
    assert 0.02 * count < refused, "the damage does no harm"
