"""Times the splat viewer beside others in the same headless browser: see benchmarks/viewer.md for the set-up.

python benchmarks/viewer/run.py --sizes 100000 500000 1500000 --rounds 3
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import json
import math
import os
import shutil
import statistics
import sys
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenes import room, write_splat

from flashworld_core.formats.scenes.ply import write_ply
from flashworld_core.formats.scenes.stream import write_stream

ROOT = Path(__file__).parents[2]
WORK = ROOT / "output" / "benchmark_viewer"
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
FOCAL = 240 / math.tan(math.radians(30))
POSES = [{"position": [0.02 * i, 0, 0.02 * i], "yaw": 0.03 * i} for i in range(24)]
KEYS = ("first", "complete", "frame", "frame_cpu")
FLIGHT_SECONDS = 30
QUIET_SECONDS = 4
TIMEOUT = 600_000  # milliseconds: software GL can be very slow
VIEWERS = {  # name: (file's extension, page)
    "ours": (".fws", "/benchmarks/viewer/ours.html?url={url}"),
    "spark": (".ply", "/benchmarks/viewer/spark.html?url={url}"),
    "spark, no harmonics": (".splat", "/benchmarks/viewer/spark.html?url={url}"),
    "antimatter15": (".splat", "/output/benchmark_viewer/antimatter15/index.html?url={origin}{url}#{view}"),
}


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".mjs": "text/javascript", ".js": "text/javascript", ".html": "text/html"}

    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        shutil.copyfileobj(source, outputfile, 1 << 20)


def view_matrix(pose: dict) -> list[float]:
    """World to camera, column by column, as antimatter15's viewer keeps it."""
    c, s = math.cos(pose["yaw"]), math.sin(pose["yaw"])
    rows = [[c, 0, -s], [0, 1, 0], [s, 0, c]]
    shift = [-sum(r * p for r, p in zip(row, pose["position"], strict=True)) for row in rows]
    return [v for column in range(3) for v in (*(row[column] for row in rows), 0)] + [*shift, 1]


def prepare(sizes: list[int], names: list[str]) -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    for n in sizes:
        if all((WORK / f"{n}{VIEWERS[name][0]}").exists() for name in names):
            continue
        scene = room(n)
        began = time.monotonic()
        write_stream(WORK / f"{n}.fws", scene, budget=n)
        print(f"the stream of {n:,} Gaussians was written in {time.monotonic() - began:.2f} s")
        write_ply(WORK / f"{n}.ply", scene)
        write_splat(WORK / f"{n}.splat", scene)


def measure(browser, tag: str, origin: str, name: str, n: int, shots: Path | None, fly: bool) -> dict:
    extension, address = VIEWERS[name]
    page = browser.new_page(viewport={"width": 704, "height": 480})
    page.add_init_script(path=Path(__file__).with_name("instrument.js"))
    if name == "antimatter15":  # its cameras carry a focal length of their own
        source = (WORK / "antimatter15" / "main.js").read_text()
        for focal in ("1159.5880733038064", "1164.6601287484507"):
            source = source.replace(focal, str(FOCAL))
        page.route("**/antimatter15/main.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    url = f"/output/benchmark_viewer/{n}{extension}"
    view = json.dumps(view_matrix(POSES[0])).replace(" ", "")
    page.goto(origin + address.format(url=url, origin=origin, view=view), wait_until="commit")
    before = cpu_seconds(tag)
    result = {"viewer": name, "gaussians": n, **loaded(page, name)}
    result["load_cpu"] = 1000 * (cpu_seconds(tag) - before)
    if shots:
        page.screenshot(path=shots / f"{name.replace(', ', '_').replace(' ', '_')}_{n}.png", timeout=TIMEOUT)
    if fly:
        result |= flown(page, name, tag)
    page.close()
    return result


def cpu_seconds(tag: str) -> float:
    """Processor time of all processes of the browser started with ``tag`` so far; other programs do not disturb it."""
    table = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone meanwhile
            fields = stat.read_text().rsplit(")", 1)[1].split()
            table[int(stat.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    found = set()
    for pid in table:
        with contextlib.suppress(OSError):
            if tag in Path(f"/proc/{pid}/cmdline").read_text():
                found.add(pid)
    while more := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return sum(table[pid][1] for pid in found) / os.sysconf("SC_CLK_TCK")


def loaded(page, name: str) -> dict:
    """Wait until the picture does not change any more; milliseconds since the page was opened."""
    if name == "antimatter15":
        page.wait_for_function("window.bench && bench.frames.length > 0", timeout=TIMEOUT)
    else:
        page.wait_for_function("window.loaded", timeout=TIMEOUT)
    # Ours stops drawing when the picture is final; the others draw on and on, and sort every now and then.
    least = page.evaluate("bench.frames.length") + (0 if name == "ours" else 1)
    quiet, last = time.monotonic(), None
    while time.monotonic() - quiet < QUIET_SECONDS:
        page.wait_for_timeout(500)
        frames, now = page.evaluate(
            "[bench.frames.length, bench.frames.length && [...bench.frames.at(-1).sample].join()]"
        )
        if now != last or frames < least:
            quiet, last = time.monotonic(), now
    return page.evaluate("bench.summary()")


def flown(page, name: str, tag: str) -> dict:
    """Fly along POSES, one frame each at least; milliseconds per frame, graphics work included, and processor time."""
    page.evaluate("bench.watch = false; bench.frames.length = 0; null")
    began, cpu = time.monotonic(), cpu_seconds(tag)
    for i, pose in enumerate(POSES[1:]):
        before = page.evaluate("bench.frames.length")
        if name == "antimatter15":
            page.evaluate(f"viewMatrix = {view_matrix(pose)}; null")
        else:
            page.evaluate(f"go({json.dumps(pose)})")
        page.wait_for_function(f"bench.frames.length > {before}", polling=5, timeout=TIMEOUT)
        if i >= 1 and time.monotonic() - began > FLIGHT_SECONDS:
            break
    times = page.evaluate("bench.frames.map(({ began, end }) => end - began)")
    # Spark sometimes issues its draw without any splats in it, which takes no time; that is no frame.
    times = [t for t in times if t > 0.1 * max(times)]
    cpu = (cpu_seconds(tag) - cpu) / len(times)
    return {"frame": statistics.median(times), "frame_cpu": 1000 * cpu, "flight_frames": len(times)}


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 500_000, 1_500_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--viewers", nargs="+", default=list(VIEWERS), choices=list(VIEWERS))
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--load-only", action="store_true", help="no flight: only the time to the picture")
    options = parser.parse_args()
    needed = {"spark": WORK / "node_modules", "antimatter15": WORK / "antimatter15"}
    names = [v for v in options.viewers if needed.get(v.split(",")[0], ROOT).exists()]
    for name in set(options.viewers) - set(names):
        print(f"{name} is not installed (see benchmarks/viewer.md) and is left out")
    prepare(options.sizes, names)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=ROOT))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_port}"
    results = []
    with sync_playwright() as playwright:
        for turn in range(options.rounds):
            for n in options.sizes:
                for name in names:  # one after the other, so that all meet the same machine
                    tag = f"--benchmark={uuid.uuid4().hex}"
                    browser = playwright.chromium.launch(executable_path=options.chromium, args=[*FLAGS, tag])
                    try:
                        results.append(
                            measure(browser, tag, origin, name, n, WORK if turn == 0 else None, not options.load_only)
                        )
                        print(json.dumps(results[-1]), flush=True)
                        (WORK / "results.json").write_text(json.dumps(results, indent=1))
                    finally:
                        browser.close()
    server.shutdown()
    print("\n| Gaussians | viewer | first picture, s | complete, s | frame, s | processor time per frame, s |")
    print("|---|---|---|---|---|---|")
    for n in options.sizes:
        for name in names:
            rows = [r for r in results if (r["viewer"], r["gaussians"]) == (name, n)]
            figures = [statistics.median(r[key] for r in rows) for key in KEYS if key in rows[0]]
            print(f"| {n:,} | {name} | " + " | ".join(f"{v / 1000:.2f}" for v in figures) + " |")


if __name__ == "__main__":
    main()
