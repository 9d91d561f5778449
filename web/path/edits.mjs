/** Changes to a camera path document. Each takes a document and gives a new one; nothing is changed in place. */
import { emptyDocument, sampleKeys } from "./document.mjs";
import {
  rotationAngle, aboutAxis, conjugate, multiply, normalizeQuaternion, rotate, upper, distance,
} from "./math3d.mjs";
import { makePath } from "./presets.mjs";

const round = (value, digits) => Number(value.toFixed(digits)) + 0; // + 0: no negative zero in the text
const tidyTime = (time) => round(time, 3);

/** A keyframe of a pose, with numbers as long as they need to be and no longer. */
export function keyframe({ position, quaternion, vertical_fov_degrees = null, time = null }) {
  return {
    position: position.map((value) => round(value, 6)),
    quaternion: upper(normalizeQuaternion(quaternion)).map((value) => round(value, 7)),
    vertical_fov_degrees: vertical_fov_degrees === null ? null : round(vertical_fov_degrees, 3),
    time: time === null ? null : tidyTime(time),
  };
}

const replaced = (document, keyframes) => ({ ...document, keyframes });

/** The keyframe put in at `index`, between its new neighbors in time where the path goes by times. */
export function insert(document, index, pose) {
  const keys = document.keyframes;
  const timed = keys.length > 0 && keys.every((key) => key.time !== null);
  let time = null;
  if (timed) {
    const gap = keys.length > 1 ? (keys.at(-1).time - keys[0].time) / (keys.length - 1) : 1;
    if (index >= keys.length) time = keys.at(-1).time + gap;
    else if (index === 0) time = keys[0].time - gap;
    else time = (keys[index - 1].time + keys[index].time) / 2;
  } else if (document.timing === "times") {
    time = index;
  }
  return replaced(document, keys.toSpliced(index, 0, keyframe({ ...pose, time })));
}

export const remove = (document, index) => replaced(document, document.keyframes.toSpliced(index, 1));

/** The keyframe at `from` put at `to`. Times stay where they are, so that they still increase. */
export function reorder(document, from, to) {
  const keys = document.keyframes;
  const moved = keys.toSpliced(from, 1).toSpliced(to, 0, keys[from]);
  return replaced(document, moved.map((key, i) => ({ ...key, time: keys[i].time })));
}

/** The keyframe at `index` with other values: any of position, quaternion, vertical_fov_degrees. */
export const change = (document, index, values) =>
  replaced(document, document.keyframes.with(index, keyframe({ ...document.keyframes[index], ...values })));

/** Another time, in seconds, kept between those of the neighbors. */
export function retime(document, index, time) {
  const timed = withTimes(document);
  const keys = timed.keyframes;
  const least = index > 0 ? keys[index - 1].time + 0.001 : -Infinity;
  const most = index + 1 < keys.length ? keys[index + 1].time - 0.001 : Infinity;
  const kept = tidyTime(Math.min(Math.max(time, least), most));
  return replaced(timed, keys.with(index, { ...keys[index], time: kept }));
}

/** The path going by the keyframes' own times, which are made where there are none: one second apart. */
export function withTimes(document) {
  const keys = document.keyframes;
  const sorted = keys.every((key, i) => key.time !== null && (i === 0 || key.time > keys[i - 1].time));
  const timed = sorted ? keys : keys.map((key, i) => ({ ...key, time: i }));
  return { ...document, timing: "times", keyframes: timed };
}

export const withTiming = (document, timing) => (timing === "times" ? withTimes(document) : { ...document, timing });

const COUNTS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48];

/**
 * Keyframes that give the same move as a preset path: as few as follow it within 1 % of its length and one
 * degree.
 *
 * @param {{name: string, amount: number}[]} moves
 * @param {{focus: number, turns: number, fov: number}} options
 */
export function keyframesFromMoves(moves, { focus, turns, fov }) {
  const path = (views) => makePath(moves, { views, focus, turns });
  let document = emptyDocument();
  for (const count of COUNTS) {
    const keyframes = path(moves.length * count + 1).map(keyframe);
    document = { ...document, timing: "even", keyframes };
    const views = moves.length * count * 6 + 1;
    const [wanted, got] = [path(views), sampleKeys(document, { views, fov })];
    const total = wanted.slice(1).reduce((sum, pose, i) => sum + distance(pose.position, wanted[i].position), 0);
    const close = wanted.every(
      (pose, i) =>
        distance(pose.position, got[i].position) <= 0.01 * total + 1e-5 &&
        rotationAngle(upper(normalizeQuaternion(pose.quaternion)), upper(got[i].quaternion)) <= Math.PI / 180,
    );
    const turned = wanted.some((pose) => rotationAngle(pose.quaternion, wanted[0].quaternion) > 1e-4);
    if (total < 1e-6 && !turned) return { ...document, keyframes: keyframes.slice(0, 1) };
    if (close) break;
  }
  return document;
}

/** How a quaternion is turned, in degrees: to the right, up, and clockwise about the line of sight. */
export function anglesOf(quaternion) {
  const q = normalizeQuaternion(quaternion);
  const ahead = rotate(q, [0, 0, 1]);
  const level = Math.hypot(ahead[0], ahead[2]);
  const yaw = level > 1e-9 ? Math.atan2(ahead[0], ahead[2]) : 0;
  const pitch = Math.atan2(-ahead[1], level);
  const degrees = 180 / Math.PI;
  const facing = multiply(aboutAxis("y", yaw * degrees), aboutAxis("x", pitch * degrees));
  const rolled = multiply(conjugate(facing), q);
  let roll = 2 * Math.atan2(rolled[3], rolled[0]) * degrees;
  if (roll > 180) roll -= 360;
  if (roll <= -180) roll += 360;
  return { yaw: yaw * degrees, pitch: pitch * degrees, roll };
}

/** The quaternion turned by these degrees; the inverse of `anglesOf`. */
export const quaternionOf = ({ yaw, pitch, roll }) =>
  multiply(multiply(aboutAxis("y", yaw), aboutAxis("x", pitch)), aboutAxis("z", roll));
