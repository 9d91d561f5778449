"""Train the probe that reads a ToyWorld prompt's words off views, and write it to where it ships from.

python scripts/train_probe.py [FILE]        about 20 minutes of one core

It ends with its accuracy on true views of 100 held-out scenes, by attribute.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashworld_core.datasets.toyworld import ToyWorld
from flashworld_core.evaluation.probe import ATTRIBUTES, HEIGHT, WEIGHTS, WIDTH, accuracy, train

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    probe = train(Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS)
    samples = [ToyWorld(8, WIDTH, HEIGHT).sample(seed, "test", novel_views=0) for seed in range(100)]
    rows = [accuracy(probe, sample.images.permute(0, 2, 3, 1), sample.scene) for sample in samples]
    for name in ATTRIBUTES:
        print(f"{name}: {sum(row[name] for row in rows) / len(rows):.3f}")
