"""Images and depth of a scene along a camera path: python example_scripts/render_path.py SCENE.ply"""

import sys
from pathlib import Path

from flashworld_core import make_trajectory, read_scene, render
from flashworld_core.media.export import save_png
from flashworld_core.rendering.maps import colorize_depth

scene = read_scene(sys.argv[1])
out = Path("output/examples/frames")
cameras = make_trajectory("spiral", views=4, width=192, height=128)
views = render(scene, cameras, modes=("rgb", "expected_depth"))
for i, (image, depth) in enumerate(zip(views.rgb, colorize_depth(views.expected_depth), strict=True)):
    save_png(out / f"{i:02d}.png", image)
    save_png(out / f"{i:02d}_depth.png", depth)
print(f"{len(cameras)} views: {out}")
