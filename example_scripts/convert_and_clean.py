"""A smaller, cleaner file in other formats: python example_scripts/convert_and_clean.py SCENE.ply"""

import sys
from pathlib import Path

from flashworld_core import read_scene, write_scene
from flashworld_core.ops.measure import extent
from flashworld_core.ops.select import budget, prune

scene = read_scene(sys.argv[1])
out = Path("output/examples")
out.mkdir(parents=True, exist_ok=True)
clean = prune(scene, min_opacity=0.05, max_size=0.5 * extent(scene))
clean = budget(clean, 10_000)
print(f"{len(clean):,} of {len(scene):,} Gaussians stay")
for name in ("clean.spz", "clean.compressed.ply"):
    write_scene(out / name, clean)
    print(f"{(out / name).stat().st_size:,} bytes: {out / name}")
