/** Draws a camera path over the picture: its line, and where each camera stands and looks. */
import { frustumCorners } from "./camera.mjs";

const SHOWN_FRUSTUMS = 24;

/**
 * @param {CanvasRenderingContext2D} context in CSS pixels
 * @param {object} view see viewer.mjs
 * @param {object[]} cameras poses
 * @param {number} current index of the camera to emphasize
 */
export function drawPath(context, view, cameras, current) {
  if (!cameras.length) return;
  context.save();
  context.lineJoin = "round";
  polyline(context, cameras.map(({ position }) => view.project(position)));
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.lineWidth = 4;
  context.stroke();
  context.strokeStyle = "#ffb454";
  context.lineWidth = 2;
  context.stroke();
  const size = frustumSize(cameras);
  const every = Math.ceil(cameras.length / SHOWN_FRUSTUMS);
  const nearest = Math.round(current);
  cameras.forEach((camera, i) => {
    if (i % every && i !== nearest && i !== cameras.length - 1) return;
    drawFrustum(context, view, camera, size, i === nearest ? "#ffffff" : i === 0 ? "#7fd1ae" : "rgba(255, 180, 84, 0.8)");
  });
  context.restore();
}

/** One camera as a pyramid; nothing if we stand in it, where it would only be in the way. */
export function drawFrustum(context, view, camera, size, color, aspect = 1.5) {
  const tip = view.project(camera.position);
  if (!tip || tip.depth < 0.75 * size) return;
  const corners = frustumCorners(camera, aspect, size).map(view.project);
  if (corners.some((corner) => corner === null)) return;
  context.beginPath();
  corners.forEach(({ x, y }, i) => {
    context.moveTo(tip.x, tip.y);
    context.lineTo(x, y);
    const next = corners[(i + 1) % 4];
    context.lineTo(next.x, next.y);
  });
  context.strokeStyle = color;
  context.lineWidth = 1.2;
  context.stroke();
}

/** A length in world units that suits the path: a part of its extent. */
export function frustumSize(cameras) {
  const extent = [0, 1, 2].map((axis) => {
    const values = cameras.map(({ position }) => position[axis]);
    return Math.max(...values) - Math.min(...values);
  });
  return 0.08 * Math.hypot(...extent) || 0.1;
}

function polyline(context, points) {
  context.beginPath();
  let pen = false;
  for (const point of points) {
    if (!point) pen = false;
    else if (pen) context.lineTo(point.x, point.y);
    else {
      context.moveTo(point.x, point.y);
      pen = true;
    }
  }
}
