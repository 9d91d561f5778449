/** What a user can set in the viewer, checked: the values may come from a workflow file. */
import { MODES } from "./shaders.mjs";

export const NAVIGATIONS = Object.freeze(["orbit", "fly"]);
export const DEFAULTS = Object.freeze({
  navigation: "orbit", mode: "color", degree: 3, background: "#16181d", path: true, soft: true, speed: 1,
});

/** @returns settings with every field, the default where one is missing or makes no sense */
export function completeSettings(settings) {
  const given = { ...DEFAULTS, ...(typeof settings === "object" ? settings : null) };
  const speed = Number(given.speed);
  return {
    navigation: NAVIGATIONS.includes(given.navigation) ? given.navigation : DEFAULTS.navigation,
    mode: MODES.includes(given.mode) ? given.mode : DEFAULTS.mode,
    degree: [0, 1, 2, 3].includes(given.degree) ? given.degree : DEFAULTS.degree,
    background: /^#[0-9a-f]{6}$/i.test(given.background) ? given.background : DEFAULTS.background,
    path: typeof given.path === "boolean" ? given.path : DEFAULTS.path,
    soft: typeof given.soft === "boolean" ? given.soft : DEFAULTS.soft,
    speed: speed > 0 ? Math.min(Math.max(speed, 0.01), 100) : DEFAULTS.speed,
  };
}

/** "#rrggbb" as three numbers in 0..1. */
export const colorOf = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16) / 255);
