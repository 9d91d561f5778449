"""Train, distill, judge and write the embedded object model; what is done already is not done again.

python scripts/train_trellis_tiny.py --run runs/trellis-tiny [--model flashworld_core/assets/trellis-tiny]
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flashworld_core.training.recipes.trellis_mdt import TrellisRun, tiny  # noqa: E402
from flashworld_core.training.trellis.model_card import table, write_model  # noqa: E402

NOTES = "Made by `python scripts/train_trellis_tiny.py`, one thread."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; an interrupted one goes on")
    parser.add_argument("--model", type=Path, default=ROOT / "flashworld_core" / "assets" / "trellis-tiny")
    parser.add_argument("--objects", type=int, default=32, help="held-out objects to judge by (%(default)s)")
    parser.add_argument("--notes", default=NOTES, help="how it was made, for the card")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    run = TrellisRun(tiny(), options.run)
    run.all_stages()
    print(table(write_model(run, options.model, options.notes, options.objects)))


if __name__ == "__main__":
    main()
