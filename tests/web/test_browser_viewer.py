"""The splat viewer in a browser, against the Python renderer at the same cameras."""

from __future__ import annotations

import base64
import dataclasses
import io
import math

import numpy as np
import pytest
import torch

from flashworld_core.cameras import Cameras
from flashworld_core.formats.stream import write_stream
from flashworld_core.gaussians import Gaussians
from flashworld_core.media import colorize_depth
from flashworld_core.rendering.detail import matching_low_pass, mean_focal
from flashworld_core.rendering.render import render
from flashworld_core.rotations import quats_to_matrices
from flashworld_core.trajectories.poses import intrinsics_from_vertical_fov, pose

pytestmark = pytest.mark.browser

WIDTH, HEIGHT = 360, 240
BACKGROUND = "#204060"
POSES = [
    {"position": [0, 0, 0], "quaternion": [1, 0, 0, 0], "vertical_fov_degrees": 60},
    {"position": [0.4, -0.3, 0.6], "quaternion": [0.97, 0.05, 0.2, 0.05], "vertical_fov_degrees": 45},
    {"position": [-3, 0.5, 3], "quaternion": [0.75, 0.1, 0.65, -0.05], "vertical_fov_degrees": 70},
    {"position": [0.2, 0.1, 7], "quaternion": [0.05, 0.02, 1, 0.1], "vertical_fov_degrees": 60},
]


def scene(n=12_000, degree=3, seed=0) -> Gaussians:
    """Four balls in a box, mostly opaque, with colours that depend on the direction."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    direction = torch.nn.functional.normalize(normal(n, 3), dim=1)
    ball = torch.tensor([[-1.2, 0.4, 3.0], [0.9, 0.6, 2.4], [0.1, -0.6, 3.8], [1.6, -0.2, 4.2]])
    means = ball[torch.randint(0, 4, (n,), generator=g)] + 0.7 * direction
    wall = uniform(n) < 0.4
    box = direction / direction.abs().amax(dim=1, keepdim=True) * torch.tensor([3.0, 1.8, 2.8])
    means[wall] = (box + torch.tensor([0, 0, 3.2]))[wall]
    scales = 0.035 * torch.exp(0.6 * normal(n, 3)) * (1 + wall[:, None].float())
    sh = normal(n, (degree + 1) ** 2, 3) * 0.12
    sh[:, 0] += 1.2 * torch.sin(3 * means + torch.tensor([0.0, 1, 2]))
    if degree:
        sh[:, 1:4] += 0.35 * direction[:, :, None]
    return Gaussians(means, normal(n, 4), scales, uniform(n).sqrt().clamp(0.02, 1), sh)


def cameras(view: dict, width=WIDTH, height=HEIGHT) -> Cameras:
    quaternion = torch.tensor(view["quaternion"], dtype=torch.float64)
    quaternion = quaternion / quaternion.norm()
    c2w = pose(quats_to_matrices(quaternion[None]), torch.tensor([view["position"]], dtype=torch.float64))
    k = intrinsics_from_vertical_fov(view["vertical_fov_degrees"], width, height)
    return Cameras(c2w.float(), k[None].float(), width, height)


def picture(encoded: str) -> torch.Tensor:
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))) / 255


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(max(float((a - b.clamp(0, 1)).square().mean()), 1e-10))


def reference(gaussians: Gaussians, view: dict, **options) -> torch.Tensor:
    background = [int(BACKGROUND[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return render(gaussians, cameras(view), background=background, **options).rgb[0]


@pytest.fixture
def viewer(page, site, tmp_path):
    """A page with the tools of pages/viewer.html; ``serve`` puts a scene where it can be fetched."""

    class Tools:
        def __init__(self):
            self.page, self.count = page, 0
            page.goto(f"{site}/tests/web/pages/viewer.html")
            page.wait_for_function("window.ready")

        def serve(self, gaussians: Gaussians, **options) -> str:
            self.count += 1
            path = tmp_path / f"{self.count}.fws"
            write_stream(path, gaussians, **options)
            address = f"{site}/scene{self.count}.fws"
            page.route(address, lambda route: route.fulfill(body=path.read_bytes()))
            return address

        def call(self, name: str, *arguments):
            return page.evaluate("([name, ...rest]) => tools[name](...rest)", [name, *arguments])

        def open(self, name: str, gaussians: Gaussians | None, options: dict | None = None, load: dict | None = None):
            settings = {"settings": {"background": BACKGROUND, "path": False}}
            url = None if gaussians is None else self.serve(gaussians)
            self.call("open", name, url, {**settings, **(options or {})}, load or {})

        def see(self, name: str, view: dict) -> torch.Tensor:
            return picture(self.call("view", name, view))

        def run(self, script: str, argument=None):
            return page.evaluate(script, argument)

    return Tools()


def keep(shots, name: str, seen: torch.Tensor, wanted: torch.Tensor) -> None:
    """Both pictures and ten times their difference, to be looked at."""
    from PIL import Image

    row = torch.cat([seen, wanted.clamp(0, 1), (10 * (seen - wanted).abs()).clamp(0, 1)], dim=1)
    Image.fromarray((row * 255).byte().numpy()).save(shots / f"viewer_{name}.png")


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_pixels_agree_with_the_python_renderer(viewer, shots, degree):
    gaussians = scene(degree=degree)
    viewer.open("one", gaussians)
    for i, view in enumerate(POSES):
        seen, wanted = viewer.see("one", view), reference(gaussians, view)
        assert seen.shape == wanted.shape
        keep(shots, f"degree{degree}_{i}", seen, wanted)
        assert psnr(seen, wanted) > 42, (degree, i)


def test_each_degree_of_the_harmonics_is_seen(viewer):
    gaussians = scene()
    viewer.open("one", gaussians)
    viewer.see("one", POSES[2])
    pictures = [picture(viewer.call("set", "one", {"degree": degree})) for degree in range(4)]
    for degree, seen in enumerate(pictures):
        assert psnr(seen, reference(gaussians, POSES[2], sh_degree=degree)) > 42, degree
        assert degree == 0 or psnr(seen, pictures[degree - 1]) < 40, degree


def test_generated_scenes_are_as_soft_as_their_own_views(viewer, shots):
    made_at = 0.25 * mean_focal(cameras(POSES[1]))
    gaussians = dataclasses.replace(scene(), metadata={"focal_px": made_at})
    low_pass = matching_low_pass(gaussians.metadata, cameras(POSES[1]))
    viewer.open("one", gaussians)
    soft = viewer.see("one", POSES[1])
    keep(shots, "soft", soft, reference(gaussians, POSES[1], low_pass=low_pass))
    assert psnr(soft, reference(gaussians, POSES[1], low_pass=low_pass)) > 42
    sharp = picture(viewer.call("set", "one", {"soft": False}))
    assert psnr(sharp, reference(gaussians, POSES[1])) > 42 and psnr(sharp, soft) < 40


def test_large_faint_thin_and_far_gaussians(viewer, shots):
    """What quantisation, the low-pass and the clamped Jacobian could get wrong."""
    g = torch.Generator().manual_seed(5)
    n = 3000
    depth = torch.rand(n, generator=g) * 6 + 0.2
    across = (torch.rand(n, 2, generator=g) - 0.5) * torch.tensor([4.0, 3.0]) * depth[:, None]
    scales = torch.exp(torch.randn(n, 3, generator=g) * 1.5 - 4) * depth[:, None]
    scales[::7, 0] = 0
    scales[::50] *= 20
    opacities = torch.rand(n, generator=g) ** 2
    opacities[::5] = 1.0
    sh = torch.randn(n, 1, 3, generator=g)
    quats = torch.randn(n, 4, generator=g)
    means = torch.cat([across, depth[:, None]], 1)
    means[::13] *= 100
    scales[::13] *= 100
    gaussians = Gaussians(means, quats, scales, opacities, sh)
    viewer.open("one", gaussians)
    for i in (0, 1):
        seen, wanted = viewer.see("one", POSES[i]), reference(gaussians, POSES[i])
        keep(shots, f"extremes_{i}", seen, wanted)
        assert psnr(seen, wanted) > 36, i


def test_depth_and_opacity_modes(viewer, shots):
    gaussians = scene()
    viewer.open("one", gaussians)
    viewer.see("one", POSES[1])
    seen = picture(viewer.call("set", "one", {"mode": "opacity"}))
    wanted = render(gaussians, cameras(POSES[1]), modes=("alpha", "expected_depth"))
    assert psnr(seen, wanted.alpha[0, ..., None].expand(-1, -1, 3)) > 42
    seen = picture(viewer.call("set", "one", {"mode": "depth"}))
    near, far = viewer.run("tools.viewers.one.stage.renderer.depths")
    colors = colorize_depth(wanted.expected_depth[0], near, far)
    solid = wanted.alpha[0] > 0.999
    keep(shots, "depth", seen, colors)
    assert solid.float().mean() > 0.3 and float((seen - colors)[solid].abs().mean()) < 0.01
    points = picture(viewer.call("set", "one", {"mode": "points"}))
    keep(shots, "points", points, seen)
    assert psnr(points, reference(gaussians, POSES[1])) < 30


def test_after_flying_around_the_order_is_right(viewer, shots):
    gaussians = scene()
    viewer.open("one", gaussians, {"settings": {"background": BACKGROUND, "navigation": "fly", "path": False}})
    viewer.see("one", POSES[0])
    page = viewer.page
    page.mouse.move(150, 120)
    page.mouse.down()
    for step in range(8):
        page.mouse.move(150 + 20 * step, 120 + 5 * step)
    page.mouse.up()
    for key in ("w", "d", "e", "ArrowLeft"):
        page.keyboard.down(key)
        page.wait_for_timeout(250)
        page.keyboard.up(key)
    viewer.run("tools.viewers.one.settled()")
    view = viewer.run("tools.viewers.one.getView()")
    assert np.abs(np.array(view["position"])).min() > 0.005  # all three keys moved it
    seen, wanted = picture(viewer.call("picture", "one")), reference(gaussians, view)
    keep(shots, "flown", seen, wanted)
    assert psnr(seen, wanted) > 42
    # And once more from behind, where the order is the opposite one.
    assert psnr(viewer.see("one", POSES[3]), reference(gaussians, POSES[3])) > 42


def test_orbit_drag_wheel_and_keys(viewer):
    viewer.open("one", scene())
    before = viewer.run("tools.viewers.one.getView()")
    page = viewer.page
    page.mouse.move(150, 120)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    assert viewer.run("tools.viewers.one.getView()") == before, "without the focus the wheel is the page's"
    page.mouse.down()
    page.mouse.move(230, 120)
    page.mouse.up()
    turned = viewer.run("tools.viewers.one.getView()")
    assert turned["quaternion"] != before["quaternion"] and turned["position"] != before["position"]
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    nearer = viewer.run("tools.viewers.one.getView()")
    assert nearer["quaternion"] == turned["quaternion"] and nearer["position"] != turned["position"]
    page.keyboard.press("2")
    page.keyboard.press("v")
    assert viewer.run("tools.viewers.one.getSettings()")["mode"] == "depth"
    page.keyboard.press("f")
    framed = viewer.run("tools.viewers.one.getView()")
    assert framed["position"] != nearer["position"] and framed["quaternion"] == nearer["quaternion"]


def test_two_fingers_pinch_and_one_turns(viewer):
    viewer.open("one", scene(2000))
    before = viewer.run("tools.viewers.one.getView()")
    session = viewer.page.context.new_cdp_session(viewer.page)

    def touch(kind: str, *points) -> None:
        touches = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", (150, 120), (200, 120))
    for step in range(1, 6):
        touch("touchMove", (150 - 10 * step, 120), (200 + 10 * step, 120))
    touch("touchEnd")
    pinched = viewer.run("tools.viewers.one.getView()")
    assert pinched["quaternion"] == before["quaternion"]
    assert pinched["position"][2] > before["position"][2] + 0.2, "fingers apart come nearer"
    touch("touchStart", (150, 120))
    for step in range(1, 6):
        touch("touchMove", (150 + 10 * step, 120))
    touch("touchEnd")
    assert viewer.run("tools.viewers.one.getView()")["quaternion"][2] > 0.05


def test_a_page_that_forbids_workers_sorts_by_itself(viewer):
    viewer.run("window.Worker = class { constructor() { throw new Error('forbidden'); } }; null")
    gaussians = scene(4000)
    viewer.open("one", gaussians)
    assert psnr(viewer.see("one", POSES[3]), reference(gaussians, POSES[3])) > 42


def test_a_worker_that_fails_is_replaced(viewer):
    failing = "window.Worker = class { postMessage() { this.onerror?.({}); } terminate() {} }; null"
    viewer.run(failing)
    gaussians = scene(4000)
    viewer.open("one", gaussians)
    assert psnr(viewer.see("one", POSES[1]), reference(gaussians, POSES[1])) > 42


def test_lost_and_restored_context(viewer):
    gaussians = scene()
    viewer.open("one", gaussians)
    before = viewer.call("view", "one", POSES[1])
    lost = """async () => {
      const { gpu } = tools.viewers.one;
      const extension = gpu.gl.getExtension("WEBGL_lose_context");
      const when = (lost) => new Promise((done) => {
        const stop = gpu.onChange((now) => now === lost && (stop(), done()));
      });
      let changed = when(true);
      extension.loseContext();
      await changed;
      tools.viewers.one.setView({ position: [9, 9, 9], quaternion: [1, 0, 0, 0] }); // meanwhile
      await new Promise(requestAnimationFrame);
      await new Promise((done) => setTimeout(done, 100));
      changed = when(false);
      extension.restoreContext();
      await changed;
    }"""
    viewer.run(lost)
    assert viewer.call("view", "one", POSES[1]) == before
    assert psnr(picture(before), reference(gaussians, POSES[1])) > 42


def test_several_viewers_share_one_context(viewer, shots):
    first, second = scene(seed=1), scene(5000, degree=1, seed=2)
    viewer.open("a", first)
    viewer.open("b", second)
    viewer.open("c", first)
    for name, gaussians, view in (("a", first, 0), ("b", second, 1), ("c", first, 2)):
        assert psnr(viewer.see(name, POSES[view]), reference(gaussians, POSES[view])) > 42, name
    viewer.page.screenshot(path=shots / "viewer_several.png")
    shared = "[...'abc'].every((name) => tools.viewers[name].gpu === tools.viewers.a.gpu)"
    assert viewer.run(shared)
    viewer.run("tools.viewers.a.dispose()")
    assert psnr(viewer.see("c", POSES[1]), reference(first, POSES[1])) > 42
    assert psnr(viewer.see("b", POSES[0]), reference(second, POSES[0])) > 42


def test_disposal_leaves_nothing(viewer):
    counting = """async (url) => {
      const { acquireGpu } = await import("/web/splat/gpu.mjs");
      const gpu = acquireGpu(); // a use of our own keeps the context alive
      const live = {};
      for (const kind of ["Texture", "Framebuffer", "Renderbuffer", "Program", "Shader", "Buffer", "VertexArray"]) {
        live[kind] = 0;
        const [create, remove] = [gpu.gl[`create${kind}`], gpu.gl[`delete${kind}`]];
        gpu.gl[`create${kind}`] = (...rest) => (live[kind]++, create.apply(gpu.gl, rest));
        gpu.gl[`delete${kind}`] = (object) => (object && live[kind]--, remove.call(gpu.gl, object));
      }
      let workers = 0;
      const terminate = Worker.prototype.terminate;
      Worker.prototype.terminate = function () { workers++; return terminate.call(this); };
      await tools.open("x", url, { toolbar: true });
      await tools.open("y", url);
      const during = { ...live };
      tools.viewers.x.setFullWindow(true);
      tools.viewers.x.dispose();
      tools.viewers.x.dispose();
      tools.viewers.y.dispose();
      const after = { ...live };
      const inside = [...document.querySelectorAll(".box")].map((box) => box.childNodes.length);
      gpu.release();
      return { during, after, last: { ...live }, workers, inside, lost: gpu.gl.isContextLost() };
    }"""
    found = viewer.run(counting, viewer.serve(scene(3000)))
    # Two viewers of one scene: its four tables once, two orders; picture, tiles and records are the page's.
    assert found["during"]["Texture"] == 4 + 2 + 2 + 2, found
    assert found["after"]["Texture"] == 2 + 2 and found["after"]["Buffer"] == 0, found
    assert found["last"]["Texture"] == found["last"]["Framebuffer"] == found["last"]["Renderbuffer"] == 0, found
    assert found["workers"] == 1 and found["inside"] == [0, 0] and found["lost"], found


def test_draws_before_everything_has_arrived(viewer):
    address = viewer.serve(scene(40_000, degree=0))  # two chunks
    streaming = """async (url) => {
      const whole = new Uint8Array(await (await fetch(url)).arrayBuffer());
      let more;
      const waiting = new Promise((done) => (more = done));
      const real = globalThis.fetch;
      globalThis.fetch = async () => new Response(new ReadableStream({
        async start(controller) {
          controller.enqueue(whole.slice(0, whole.length - 1000));
          await waiting;
          controller.enqueue(whole.slice(whole.length - 1000));
          controller.close();
        },
      }));
      await tools.open("one", null);
      const loaded = tools.viewers.one.load("x.fws");
      const { viewers: { one } } = tools;
      const deadline = performance.now() + 20000;
      while (!one.stats.shown && performance.now() < deadline) await new Promise((done) => setTimeout(done, 10));
      const early = { ...one.stats };
      more();
      globalThis.fetch = real;
      const done = await loaded;
      await one.settled();
      return { early, done, late: { ...one.stats } };
    }"""
    found = viewer.run(streaming, address)
    assert found["early"]["count"] == 16 * 2048 and found["early"]["shown"] > 1000, found
    assert found["done"] is True and found["late"]["count"] == 40_000 and found["late"]["total"] == 40_000


def test_another_load_wins_and_errors_are_shown(viewer, site):
    first, second = viewer.serve(scene(5000, seed=1)), viewer.serve(scene(6000, seed=2))
    viewer.open("one", None)
    both = "async ([a, b]) => { const v = tools.viewers.one; return Promise.all([v.load(a), v.load(b)]); }"
    assert viewer.run(both, [first, second]) == [False, True]
    count = viewer.run("tools.viewers.one.stats.count")
    viewer.page.route(f"{site}/bad.fws", lambda route: route.fulfill(body=b"FWSPLAT2" + b"\0" * 100))
    failed = """async (url) => {
      try { await tools.viewers.one.load(url); return null; } catch (error) { return error.message; }
    }"""
    assert "not a scene" in viewer.run(failed, f"{site}/bad.fws")
    assert "not a scene" in viewer.run("tools.viewers.one.messageLine.textContent")
    assert viewer.run("tools.viewers.one.stats.count") == count == 6000 - 0, "the scene before is still shown"


def test_nothing_to_see(viewer):
    empty = scene(100)
    empty.opacities[:] = 0
    viewer.open("one", empty)
    assert "Nothing to see" in viewer.run("tools.viewers.one.messageLine.textContent")
    assert picture(viewer.call("picture", "one")).unique().numel() == 3  # the background


def test_toolbar_path_and_buttons(viewer, shots):
    path = [
        {
            "position": [0.25 * i - 1, -0.2, 0.02 * i],
            "quaternion": [1, 0, -0.03 * (i - 4), 0],
            "vertical_fov_degrees": 55,
        }
        for i in range(9)
    ]
    options = {"toolbar": True, "large": True, "frame": {"width": 704, "height": 480}, "settings": {}}
    viewer.open("one", scene(), options, {"cameras": path})
    page = viewer.page
    close = lambda view: np.allclose(view["position"], path[4]["position"])  # noqa: E731
    start = viewer.run("tools.viewers.one.getView()")
    assert np.allclose(start["position"], path[0]["position"]), "opens at the first camera"
    page.get_by_label("View of the path").fill("4")
    assert close(viewer.run("tools.viewers.one.getView()"))
    page.get_by_label("Use this view").click()
    page.get_by_label("Snapshot").click()
    (use, pose_used), (snapshot, _) = viewer.run("tools.viewers.oneCalls")
    assert (use, snapshot) == ("use", "snapshot") and close(pose_used)
    page.get_by_label("What to show").select_option("opacity")
    page.get_by_label("Fly", exact=True).click()
    settings = viewer.run("tools.viewers.oneCalls.at(-1)")[1]
    assert (settings["mode"], settings["navigation"]) == ("opacity", "fly")
    page.get_by_label("What to show").select_option("color")
    page.get_by_label("Play the camera path").click()
    page.wait_for_function("tools.viewers.one.player.index !== 4")
    assert viewer.run("tools.viewers.one.playing") and not close(viewer.run("tools.viewers.one.getView()"))
    page.get_by_label("Pause").click()
    viewer.run("tools.viewers.one.setView({position: [0.3, -1.2, -2.5], quaternion: [0.985, -0.12, -0.1, 0]})")
    viewer.run("tools.viewers.one.settled()")
    page.screenshot(path=shots / "viewer_toolbar.png")
    page.get_by_label("Full window").click()
    viewer.run("tools.viewers.one.settled()")
    box = viewer.run("JSON.parse(JSON.stringify(tools.viewers.one.root.getBoundingClientRect()))")
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 900, 900)
    page.screenshot(path=shots / "viewer_full.png")
    page.get_by_label("Back to the first camera (R)").focus()
    page.keyboard.press("Escape")
    assert viewer.run("tools.viewers.one.root.getBoundingClientRect().height") == 560


def test_a_scene_off_screen_is_not_drawn(viewer):
    viewer.open("one", scene(3000))
    hidden = """async () => {
      const { one } = tools.viewers;
      one.holder.parentElement.style.marginTop = "3000px";
      await new Promise((done) => setTimeout(done, 300));
      let drawn = 0;
      const draw = one.stage.renderer.draw;
      one.stage.renderer.draw = function (...rest) { drawn++; return draw.apply(this, rest); };
      one.setView({ position: [1, 0, 0], quaternion: [1, 0, 0, 0] });
      await new Promise((done) => setTimeout(done, 300));
      const away = drawn;
      one.holder.parentElement.style.marginTop = "";
      await one.settled();
      return [away, drawn];
    }"""
    away, back = viewer.run(hidden)
    assert away == 0 and back > 0
