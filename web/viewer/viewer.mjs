/**
 * The splat viewer: one element, one scene, one free camera.
 *
 *     const viewer = createViewer(element, options);
 *     await viewer.load(url, { cameras });
 *     viewer.dispose();
 *
 * Poses, everywhere: {position: [x, y, z], quaternion: [w, x, y, z], vertical_fov_degrees}, camera-to-world, OpenCV axes
 * (x right, y down, z forward) for camera and world, world units. `cameras` is a list of such poses; a
 * `vertical_fov_degrees` that is missing or null means 60. The field of view is that of the frame (below) if there is
 * one, else of the canvas.
 *
 * options, all of them optional:
 *   toolbar         true: buttons, scrubber and figures; false: the bare picture
 *   settings        as `getSettings()` gives them; missing ones get their defaults
 *   frame           {width, height} of the pictures made from this camera: its outline is drawn and always fits in
 *   adaptive        true: fewer pixels while the camera moves if frames take long
 *   onUseView       (pose) => void; shows the button "Use this view"
 *   onSnapshot      (pose) => void; shows the button "Snapshot"
 *   onSettings      (settings) => void, when the user changed one: store them
 *   onView          (pose) => void, after every move of the camera
 *   onError         (error) => void; the message is shown on the picture in any case
 *   overlay         (context, view) => void: draws with a CanvasRenderingContext2D in CSS pixels over the scene, after
 *                   the viewer's own path and frustums, for every drawn frame
 *   grab            (x, y, view, event) => null | {move(x, y, view, event), end(event)}: asked on every press of the
 *                   pointer; an object takes the drag over from the camera. x, y in CSS pixels
 *   hover           (x, y, view, event) => string | null: a CSS cursor while no button is down
 *
 * `view` is {width, height, pose, project(point) -> {x, y, depth} | null, ray(x, y) -> {origin, direction}}: CSS pixels and
 * world units; project gives null behind the camera; direction is a unit vector.
 *
 * The viewer:
 *   load(url, {cameras, keepView = false})  fetches a preview stream (formats/stream.py) and draws it while it arrives.
 *                   Without keepView the camera goes to the first of `cameras`, or frames the scene. Resolves when
 *                   all has arrived; false if another load or clear came in between; rejects if it cannot be read,
 *                   and then the scene before is still shown.
 *   clear()         no scene
 *   setCameras(list)                  the path that is drawn, played and scrubbed
 *   getView(), setView(pose, {animate = false})
 *   reset()         back to the first camera of the path, or to frameAll
 *   frameAll()      the whole scene in sight
 *   play(), pause(), playing, seek(index)   along the path; index may be fractional
 *   getSettings(), setSettings({...})  navigation "orbit" | "fly", mode "color" | "depth" | "points" | "opacity", degree 0..3,
 *                   background "#rrggbb", path true | false, soft true | false, speed (factor)
 *   setFrame({width, height} | null)
 *   setStatus(text)  a line over the picture ("Step 2 of 4"), "" for none
 *   redraw()        when something `overlay` draws has changed
 *   settled()       resolves when the picture is final: everything arrived, sorted for this camera and drawn
 *   stats           {count, total, shown, frameTime, sortTime, degree}: Gaussians in the stream, in the scene, in
 *                   sight; milliseconds, frameTime from the wish for a picture to the picture
 *   focus()         keyboard focus
 *   dispose()       removes all it made; the element is empty again
 *
 * Keys, while the focus is inside: W A S D Q E and arrows move and turn, Shift faster, wheel: nearer, or the speed in
 * fly mode; R reset, F frame all, O orbit, V fly, 1-4 modes, Space play, Escape leaves the full window.
 * Double click: what is there comes into the middle, and orbiting turns around it.
 */
import { acquireGpu } from "./gpu.mjs";
import { acquireSorter } from "./sorter.mjs";
import { openScene } from "./scene.mjs";
import { Stage } from "./stage.mjs";
import { Controls } from "./controls.mjs";
import { Player } from "./player.mjs";
import { SlowNotice } from "./slow_notice.mjs";
import { Stick } from "./stick.mjs";
import { Toolbar } from "./toolbar.mjs";
import { completeSettings } from "./settings.mjs";
import { drawPath } from "./path_overlay.mjs";
import { framing, toPose } from "./camera.mjs";
import { buildShell, fillWindow, say } from "./shell.mjs";

/**
 * @param {HTMLElement} element is filled; its size is the viewer's
 * @param {object} [options]
 * @throws {Error} no WebGL2 in this browser
 */
export function createViewer(element, options = {}) {
  return new Viewer(element, options);
}

class Viewer {
  constructor(element, options) {
    this.options = options;
    this.settings = completeSettings(options.settings);
    this.cameras = [];
    this.scene = null;
    this.gpu = acquireGpu();
    this.sorter = acquireSorter();
    Object.assign(this, buildShell(element));
    this.stage = new Stage({
      gpu: this.gpu,
      sorter: this.sorter,
      box: this.picture,
      adaptive: options.adaptive ?? true,
      onFrame: () => {
        this.toolbar?.showStats(this.stats);
        this.notice?.shown();
      },
      onSlow: (seconds, done) => this.notice?.working(seconds, done),
      onView: (pose) => {
        this.controls.moved();
        options.onView?.(pose);
      },
      overlay: (context, view) => {
        if (this.settings.path) drawPath(context, view, this.cameras, this.player.index);
        options.overlay?.(context, view);
      },
      onLost: (lost) => say(this.message, lost ? "The graphics card was reset. Waiting for it ..." : ""),
    });
    this.player = new Player(this.stage, () => this.toolbar?.showPlayer(this.player, this.cameras.length));
    this.controls = new Controls(this.root, this.picture, this.stage, this);
    if (options.toolbar ?? true) {
      this.toolbar = new Toolbar(this.root, this);
      this.notice = new SlowNotice(this.picture, this.stage);
      this.stick = new Stick(this.picture, this.controls);
    }
    this.setFrame(options.frame ?? null);
    this.setSettings({});
  }

  async load(url, { cameras, keepView = false } = {}) {
    const scene = openScene(url, this.gpu, this.sorter);
    this.pending?.release();
    this.pending = scene;
    const mine = () => this.pending === scene || this.scene === scene;
    let began = false;
    const begin = () => {
      // The scene before stays until there is something to show instead.
      if (began || this.pending !== scene || !(scene.count || scene.header?.count === 0)) return;
      began = true;
      this.pending = null;
      this.#show(scene);
      if (cameras) this.setCameras(cameras);
      if (!keepView) this.reset();
      else this.controls.moved(); // turn around what is there now, not around what was
    };
    const stop = scene.onChange(begin);
    try {
      begin(); // another viewer may have loaded it already
      await scene.loaded;
      begin();
      if (mine()) say(this.message, scene.header.count === 0 ? "Nothing to see in this scene." : "");
      return mine();
    } catch (error) {
      if (!mine()) return false;
      if (this.pending === scene) {
        this.pending = null;
        scene.release();
      }
      say(this.message, error.message);
      this.options.onError?.(error);
      throw error;
    } finally {
      stop();
    }
  }

  clear() {
    this.pending?.release();
    this.pending = null;
    this.#show(null);
  }

  setCameras(cameras) {
    this.cameras = (cameras ?? []).map(toPose);
    this.player.setCameras(this.cameras);
    this.stage.redraw();
  }

  getView() {
    return this.stage.pose;
  }

  setView(pose, { animate = false } = {}) {
    this.stage.setPose(toPose(pose), animate);
  }

  reset() {
    this.player.pause();
    this.controls.resetPivot();
    if (this.cameras.length) this.player.seek(0);
    else this.frameAll();
  }

  frameAll() {
    this.controls.resetPivot();
    const { center, radius } = this.scene?.header ?? { center: [0, 0, 2], radius: 1 };
    this.setView(framing(this.stage.pose, center, radius, this.stage.aspect));
  }

  play() {
    this.player.play();
  }

  pause() {
    this.player.pause();
  }

  get playing() {
    return this.player.playing;
  }

  seek(index) {
    this.player.seek(index);
  }

  getSettings() {
    return { ...this.settings };
  }

  /** Settings from the program; the user's own changes go through `change`, which also reports them. */
  setSettings(changes) {
    this.settings = completeSettings({ ...this.settings, ...changes });
    this.stage.setStyle(this.settings);
    this.toolbar?.showSettings(this.settings);
    this.stick?.show(this.settings.navigation);
  }

  change(changes) {
    this.setSettings(changes);
    this.options.onSettings?.(this.getSettings());
  }

  setFrame(frame) {
    this.stage.setFrame(frame);
  }

  setStatus(text) {
    say(this.status, text);
  }

  redraw() {
    this.stage.redraw();
  }

  settled() {
    return this.stage.settled();
  }

  get stats() {
    const { header } = this.scene ?? {};
    const { shown, frameTime, sortTime } = this.stage;
    return { count: this.scene?.count ?? 0, total: header?.total ?? 0, degree: header?.degree ?? 0, shown, frameTime, sortTime };
  }

  focus() {
    this.root.focus({ preventScroll: true });
  }

  get fullWindow() {
    return this.root.classList.contains("full");
  }

  setFullWindow(on) {
    if (on === this.fullWindow) return;
    fillWindow(this.root, on);
    this.toolbar?.showFullWindow(on);
    this.focus();
  }

  dispose() {
    if (!this.root) return;
    this.setFullWindow(false);
    this.pending?.release();
    this.scene?.release();
    this.pending = this.scene = null;
    this.player.pause();
    this.controls.dispose();
    this.stage.dispose();
    this.sorter.release();
    this.gpu.release();
    this.holder.remove();
    this.root = null;
  }

  #show(scene) {
    const before = this.scene;
    this.scene = scene;
    this.stage.setScene(scene);
    this.toolbar?.showScene(scene?.header ?? null);
    before?.release();
  }
}
