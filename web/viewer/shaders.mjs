/**
 * GLSL of the splat renderer. The math is that of the core's rendering/torch_reference.py:
 * Sigma2D = J R S S^T R^T J^T + L I (lowPass), x/z and y/z clamped inside J, color = max(0, 0.5 + SH), nearest first,
 * alpha = min(0.999, opacity exp(-q)), nothing below 1/255.
 *
 * Pass 1 (PROJECT) turns every visible Gaussian, in depth order, into a record of eight words in two integer
 * textures. Pass 2 (SPLAT) draws one triangle around each. Pass 3 (RESOLVE) makes the picture. Integer textures can be
 * drawn to everywhere; and one long list of triangles is many times faster than instances of a tiny shape,
 * in software above all.
 */

import { ALPHA_MAX, ALPHA_MIN, DEPTH_RAMP, TANGENT_LIMIT } from "./constants.mjs";

export const WIDTH = 2048; // of all data textures, in texels
export const MODES = Object.freeze(["color", "depth", "points", "opacity"]);
export const TILE = 16; // pixels; finished ones hide what is behind them
export const POINT_RADIUS = 1.5; // pixels

export const FULL_SCREEN = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0;
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

/** Code that adds the bands 1..3 of the harmonics to `rgb`; words come in pairs from uHarmonics. */
function harmonicsCode() {
  const basis = [
    "", // k = 0 is in the look table
    "-0.4886025119029199 * y", "0.4886025119029199 * z", "-0.4886025119029199 * x",
    "1.0925484305920792 * x * y", "-1.0925484305920792 * y * z", "0.31539156525252005 * (2.0 * zz - xx - yy)",
    "-1.0925484305920792 * x * z", "0.5462742152960396 * (xx - yy)",
    "-0.5900435899266435 * y * (3.0 * xx - yy)", "2.890611442640554 * x * y * z",
    "-0.4570457994644658 * y * (4.0 * zz - xx - yy)", "0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy)",
    "-0.4570457994644658 * x * (4.0 * zz - xx - yy)", "1.445305721320277 * z * (xx - yy)",
    "-0.5900435899266435 * x * (xx - 3.0 * yy)",
  ];
  const component = (byte) => `w${byte >> 2}.${"xyzw"[byte & 3]}`;
  const lines = [];
  let loaded = 0; // 8-byte pairs fetched so far
  for (let degree = 1; degree <= 3; degree++) {
    lines.push(`if (degree < ${degree}) return;`);
    const end = 3 * ((degree + 1) ** 2 - 1); // bytes needed
    for (; loaded * 8 < end; loaded++) {
      lines.push(`uvec2 p${loaded} = pairOf(uHarmonics, i * uPairs + ${loaded});`);
      lines.push(`vec4 w${2 * loaded} = signedBytes(p${loaded}.x), w${2 * loaded + 1} = signedBytes(p${loaded}.y);`);
    }
    const terms = [];
    for (let k = degree ** 2; k < (degree + 1) ** 2; k++) {
      const b = 3 * (k - 1);
      terms.push(`(${basis[k]}) * vec3(${component(b)}, ${component(b + 1)}, ${component(b + 2)})`);
    }
    lines.push(`rgb += steps.${"xyz"[degree - 1]} * (${terms.join(" + ")});`);
  }
  return lines.join("\n  ");
}

export const PROJECT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D uOrder, uGeometry, uLook, uHarmonics;
uniform highp sampler2D uParams;
uniform int uCount, uPairs, uDegree, uMode;
uniform mat3 uRotation; // world to camera
uniform vec3 uPosition;
uniform vec2 uSize;
uniform float uFocal, uNear, uFar;
uniform float uLowPass; // pixels squared
uniform bool uAntialiased; // what the low-pass widens it thins by as much
uniform float uUnit; // of depths, in world units: half floats do not reach far
layout(location = 0) out uvec4 oShape;
layout(location = 1) out uvec4 oLook;

ivec2 texel(int n) { return ivec2(n & ${WIDTH - 1}, n >> ${Math.log2(WIDTH)}); }
uvec2 pairOf(usampler2D table, int n) { return texelFetch(table, texel(n), 0).rg; }
vec4 signedBytes(uint w) { return vec4(ivec4(int(w << 24), int(w << 16), int(w << 8), int(w)) >> 24); }

void addHarmonics(inout vec3 rgb, int i, vec3 direction, vec3 steps, int degree) {
  float x = direction.x, y = direction.y, z = direction.z;
  float xx = x * x, yy = y * y, zz = z * z;
  ${harmonicsCode()}
}

mat3 rotationOf(uint word) {
  vec3 o = (vec3(word >> 20 & 1023u, word >> 10 & 1023u, word & 1023u) - 511.0) / ${511 * Math.SQRT2};
  float l = sqrt(max(0.0, 1.0 - dot(o, o)));
  uint which = word >> 30;
  vec4 q = which == 0u ? vec4(l, o) : which == 1u ? vec4(o.x, l, o.yz) : which == 2u ? vec4(o.xy, l, o.z) : vec4(o, l);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

void main() {
  oShape = oLook = uvec4(0);
  int n = int(gl_FragCoord.y) * ${WIDTH} + int(gl_FragCoord.x);
  if (n >= uCount) return;
  int i = int(texelFetch(uOrder, texel(n), 0).r);
  uvec4 geometry = texelFetch(uGeometry, texel(i), 0);
  uvec2 look = pairOf(uLook, i);
  int row = i >> ${Math.log2(WIDTH)};
  vec4 p0 = texelFetch(uParams, ivec2(0, row), 0), p1 = texelFetch(uParams, ivec2(1, row), 0);

  vec3 away = uintBitsToFloat(geometry.xyz) - uPosition;
  vec3 t = uRotation * away;
  if (!(t.z > uNear && t.z < uFar)) return;
  vec2 center = uFocal * t.xy / t.z + 0.5 * uSize;
  float opacity = float((look.x >> 30 << 8) | (look.y >> 24)) / 1023.0;
  if (opacity < ${ALPHA_MIN}) return;

  vec3 factor; // Cholesky factor of the covariance: xx, xy, yy
  if (uMode == 2) {
    factor = vec3(${POINT_RADIUS.toFixed(1)}, 0.0, ${POINT_RADIUS.toFixed(1)});
  } else {
    vec3 scales = exp(p0.x + p0.y * vec3(look.x & 1023u, look.x >> 10 & 1023u, look.x >> 20 & 1023u));
    mat3 m = uRotation * rotationOf(geometry.w);
    m = mat3(m[0] * scales.x, m[1] * scales.y, m[2] * scales.z);
    vec2 limit = ${TANGENT_LIMIT / 2} * uSize / uFocal;
    vec2 u = clamp(t.xy / t.z, -limit, limit);
    float f = uFocal / t.z;
    vec3 rx = f * vec3(m[0].x - u.x * m[0].z, m[1].x - u.x * m[1].z, m[2].x - u.x * m[2].z);
    vec3 ry = f * vec3(m[0].y - u.y * m[0].z, m[1].y - u.y * m[1].z, m[2].y - u.y * m[2].z);
    vec3 normal = cross(rx, ry);
    float xx = dot(rx, rx), yy = dot(ry, ry), xy = dot(rx, ry);
    float det = dot(normal, normal) + uLowPass * (xx + yy) + uLowPass * uLowPass;
    if (uAntialiased) {
      opacity *= sqrt(dot(normal, normal) / det);
      if (opacity < ${ALPHA_MIN}) return;
    }
    xx += uLowPass;
    float a = sqrt(xx);
    factor = vec3(a, xy / a, sqrt(det) / a) * sqrt(2.0 * log(opacity / ${ALPHA_MIN}));
    // Off the picture: the ellipse's half extents are the lengths of the factor's rows.
    vec2 extent = vec2(factor.x, length(factor.yz));
    if (any(greaterThan(abs(center - 0.5 * uSize), extent + 0.5 * uSize))) return;
  }

  vec3 rgb = vec3(t.z / uUnit);
  if (uMode != 1) {
    vec4 p2 = texelFetch(uParams, ivec2(2, row), 0);
    vec3 dc = vec3(p0.zw, p1.x) + p1.yzw * vec3(look.y & 255u, look.y >> 8 & 255u, look.y >> 16 & 255u);
    rgb = 0.5 + 0.28209479177387814 * dc;
    addHarmonics(rgb, i, away * inversesqrt(max(dot(away, away), 1e-30)), p2.xyz, uDegree);
    rgb = max(rgb, 0.0);
  }
  oShape = floatBitsToUint(vec4(center, factor.xy));
  oLook = uvec4(floatBitsToUint(factor.z), floatBitsToUint(opacity),
    packHalf2x16(min(rgb.rg, 6e4)), packHalf2x16(vec2(min(rgb.b, 6e4), 0.0)));
}`;

// A triangle around the unit circle; the factor maps the circle to the ellipse where alpha is 1/255.
export const SPLAT_VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D uShape, uLook;
uniform highp sampler2D uTiles; // 1 where every pixel of a tile is finished
uniform int uFirst;
uniform vec2 uSize;
out vec2 vAt;
flat out vec4 vColor;
flat out float vFall;

/** Would a shape no larger than a tile only touch finished tiles? Its corners then lie in all the tiles it touches. */
bool hidden(vec2 center, vec2 extent) {
  if (uFirst == 0 || max(extent.x, extent.y) > ${(TILE / 2).toFixed(1)}) return false;
  ivec2 last = ivec2(uSize) - 1;
  ivec2 low = clamp(ivec2(floor(center - extent)), ivec2(0), last) / ${TILE};
  ivec2 high = clamp(ivec2(ceil(center + extent)), ivec2(0), last) / ${TILE};
  return texelFetch(uTiles, low, 0).r > 0.5 && (low == high || (texelFetch(uTiles, high, 0).r > 0.5 &&
    texelFetch(uTiles, ivec2(low.x, high.y), 0).r > 0.5 && texelFetch(uTiles, ivec2(high.x, low.y), 0).r > 0.5));
}

void main() {
  int n = uFirst + gl_VertexID / 3, corner = gl_VertexID % 3;
  ivec2 at = ivec2(n & ${WIDTH - 1}, n >> ${Math.log2(WIDTH)});
  uvec4 look = texelFetch(uLook, at, 0);
  vec4 shape = uintBitsToFloat(texelFetch(uShape, at, 0));
  float opacity = uintBitsToFloat(look.y);
  float slope = uintBitsToFloat(look.x);
  gl_Position = vec4(2.0, 2.0, 0.0, 1.0); // out of sight
  if (opacity == 0.0 || hidden(shape.xy, vec2(shape.z, length(vec2(shape.w, slope))))) return;
  vAt = corner == 0 ? vec2(0.0, 2.0) : vec2(corner == 1 ? -1.7320508 : 1.7320508, -1.0);
  vec2 pixel = shape.xy + vec2(shape.z * vAt.x, shape.w * vAt.x + slope * vAt.y);
  vColor = vec4(unpackHalf2x16(look.z), unpackHalf2x16(look.w).x, opacity);
  vFall = -log2(opacity / ${ALPHA_MIN});
  gl_Position = vec4(2.0 * pixel / uSize - 1.0, 0.0, 1.0) * vec4(1, -1, 1, 1);
}`;

export const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
in vec2 vAt;
flat in vec4 vColor;
flat in float vFall;
uniform bool uHard; // discs instead of Gaussians
out vec4 oColor;
void main() {
  float r = dot(vAt, vAt);
  if (r > 1.0) discard;
  float alpha = uHard ? 1.0 : min(${ALPHA_MAX}, vColor.a * exp2(vFall * r));
  oColor = vec4(vColor.rgb * alpha, alpha);
}`;

// Marks finished pixels in the depth buffer, so that what lies behind them is not even shaded.
export const SATURATED = `#version 300 es
precision highp float;
uniform highp sampler2D uPicture;
uniform float uEnough;
void main() {
  if (texelFetch(uPicture, ivec2(gl_FragCoord.xy), 0).a < uEnough) discard;
}`;

// The same by tiles, rows counted downwards as in the splats' own coordinates.
export const TILES = `#version 300 es
precision highp float;
uniform highp sampler2D uPicture;
uniform float uEnough;
uniform vec2 uSize;
out vec4 oTile;
void main() {
  ivec2 first = ivec2(gl_FragCoord.xy) * ${TILE}, end = min(first + ${TILE}, ivec2(uSize));
  oTile = vec4(0);
  for (int y = first.y; y < end.y; y++)
    for (int x = first.x; x < end.x; x++)
      if (texelFetch(uPicture, ivec2(x, int(uSize.y) - 1 - y), 0).a < uEnough) return;
  oTile = vec4(1);
}`;

export const RESOLVE = `#version 300 es
precision highp float;
uniform highp sampler2D uPicture;
uniform vec3 uBackground;
uniform int uMode;
uniform vec2 uDepths; // unit / near, unit / far of the colors
out vec4 oColor;
// The core's media.colorize_depth: equal steps of 1 / depth, near is warm and light.
const vec3 RAMP[7] = vec3[7](${DEPTH_RAMP.map((rgb) => `vec3(${rgb.map((v) => (v / 255).toFixed(5)).join(", ")})`).join(", ")});
vec3 depthColor(float inverse) {
  float place = clamp((uDepths.x - inverse) / max(uDepths.x - uDepths.y, 1e-12), 0.0, 1.0) * 6.0;
  int low = min(int(place), 5);
  return mix(RAMP[low], RAMP[low + 1], place - float(low));
}
void main() {
  vec4 p = texelFetch(uPicture, ivec2(gl_FragCoord.xy), 0);
  vec3 rgb = p.rgb;
  if (uMode == 1) rgb = p.a * depthColor(p.a / max(p.r, 1e-6));
  if (uMode == 3) rgb = vec3(p.a);
  else rgb += (1.0 - p.a) * uBackground;
  oColor = vec4(rgb, 1.0);
}`;
