/** The camera of the editor's 3D view: orbits a point ahead, looks around, moves. */
import {
  forward, lookAt, down, right, aboutAxis, multiply, normalizeQuaternion, add, normalize, scale, subtract,
} from "./math3d.mjs";
import { anglesOf, quaternionOf } from "./edits.mjs";

const FROM = normalize([0.55, -0.5, -0.67]); // right of, above and behind what is framed
const STEEPEST = 88; // degrees above and below the horizon when orbiting

export class ViewCamera {
  constructor() {
    this.fov = 45;
    this.pose = lookAt([1.5, -1.5, -2.5], [0, 0, 1]);
    this.distance = 4; // to the point that is orbited
  }

  get position() {
    return this.pose.position;
  }

  get quaternion() {
    return this.pose.quaternion;
  }

  get pivot() {
    return add(this.pose.position, scale(forward(this.pose), this.distance));
  }

  /** Stands where all of a sphere is seen, from behind, above and the right, on a canvas of this aspect. */
  frame(center, radius, aspect) {
    this.fov = 45;
    const narrow = Math.min(1, aspect) * Math.tan((this.fov * Math.PI) / 360);
    this.distance = (0.82 * radius) / Math.sin(Math.atan(narrow));
    this.pose = lookAt(add(center, scale(FROM, this.distance)), center);
  }

  /** Turns about the pivot by degrees: positive `yaw` turns the view to the right, positive `pitch` up. */
  orbit(yaw, pitch) {
    const { pivot } = this;
    const angles = anglesOf(this.quaternion);
    const steep = Math.max(-STEEPEST, Math.min(STEEPEST, angles.pitch + pitch));
    const quaternion = quaternionOf({ yaw: angles.yaw + yaw, pitch: steep, roll: angles.roll });
    this.pose = { position: pivot, quaternion };
    this.pose.position = subtract(pivot, scale(forward(this.pose), this.distance));
  }

  /** Turns on the spot by degrees. */
  look(yaw, pitch) {
    const turned = multiply(multiply(aboutAxis("y", yaw), this.quaternion), aboutAxis("x", pitch));
    this.pose = { position: this.position, quaternion: normalizeQuaternion(turned) };
  }

  /** Moves along its own axes by world units. */
  move(x, y, z) {
    const offset = add(add(scale(right(this.pose), x), scale(down(this.pose), y)), scale(forward(this.pose), z));
    this.pose = { position: add(this.position, offset), quaternion: this.quaternion };
  }

  /** Comes closer to the pivot (factor below 1) or goes away. */
  zoom(factor) {
    const { pivot } = this;
    this.distance = Math.min(Math.max(this.distance * factor, 1e-4), 1e7);
    this.pose = {
      position: subtract(pivot, scale(forward(this.pose), this.distance)),
      quaternion: this.quaternion,
    };
  }
}
