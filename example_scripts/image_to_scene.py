"""A scene from one image: python example_scripts/image_to_scene.py [IMAGE]"""

import sys
from pathlib import Path

from flashworld_core import Progress, Request, RunOptions, ViewImage, load_model, make_trajectory, write_scene

ASSETS = Path(__file__).resolve().parents[1] / "flashworld_core" / "assets"
image = sys.argv[1] if len(sys.argv) > 1 else ASSETS / "demo" / "picture.png"
out = Path("output/examples")
out.mkdir(parents=True, exist_ok=True)

model = load_model("tiny")
cameras = make_trajectory("orbit:20", views=8, width=96, height=64)
request = Request(cameras, images=(ViewImage(image, view=4),), prompt="a room", seed=1)
for remark in model.check(request):
    print(remark)
made = model.generate(request, RunOptions(progress=Progress(lambda done, total, preview: print(done, "of", total))))
write_scene(out / "scene.ply", made.gaussians)
print(f"{made.count:,} Gaussians: {out / 'scene.ply'}")
