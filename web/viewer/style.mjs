/** The viewer's style sheet, for its shadow tree. */
export const STYLE = `
:host { display: block; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.viewer {
  container-type: size;
  display: flex; flex-direction: column;
  width: 100%; height: 100%; margin: 0; padding: 0; border: 0; overflow: hidden;
  border-radius: 6px; outline: none;
  background: #1b1d22; color: #d7dae0;
  font: 12px/1.3 system-ui, sans-serif; user-select: none;
}
.viewer:focus-visible { box-shadow: inset 0 0 0 2px #5b9dff; }
.viewer.full { position: fixed; inset: 0; width: 100vw; height: 100vh; max-width: none; max-height: none; border-radius: 0; z-index: 10000; }
.picture { position: relative; flex: 1; min-height: 0; touch-action: none; cursor: grab; overflow: hidden; }
.picture:active { cursor: grabbing; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.above { pointer-events: none; }
.bar { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 8px; padding: 4px 6px; background: #24272e; }
.group { display: flex; align-items: center; gap: 2px; min-width: 0; }
.space { flex: 1; }
.path { flex: 1; }
.scrubber { flex: 1; min-width: 40px; accent-color: #ffb454; }
.position { min-width: 4em; text-align: right; font-variant-numeric: tabular-nums; }
.figures { margin-left: auto; color: #9aa1ad; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; font-variant-numeric: tabular-nums; }
button, select, input[type="color"] {
  display: inline-flex; align-items: center; gap: 4px; height: 24px; margin: 0; padding: 0 5px;
  border: 1px solid transparent; border-radius: 4px; background: transparent; color: inherit; font: inherit; cursor: pointer;
}
select { background: #2d3139; padding: 0 2px; }
option { background: #2d3139; color: #d7dae0; }
input[type="color"] { width: 26px; padding: 2px; background: #2d3139; }
button:hover, select:hover, input[type="color"]:hover { background: #363b45; }
button[aria-pressed="true"] { background: #3a4657; color: #fff; }
button:focus-visible, select:focus-visible, input:focus-visible { outline: 2px solid #5b9dff; outline-offset: -1px; }
:disabled { opacity: 0.4; cursor: default; }
svg { fill: none; stroke: currentColor; stroke-width: 1.4; stroke-linecap: round; stroke-linejoin: round; flex: none; }
.status, .message {
  position: absolute; left: 8px; margin: 0; padding: 3px 8px; border-radius: 4px; max-width: calc(100% - 16px);
  background: rgba(20, 22, 26, 0.8); pointer-events: none; z-index: 1;
}
.slow {
  position: absolute; left: 8px; bottom: 8px; display: flex; align-items: center; gap: 8px; max-width: calc(100% - 16px);
  padding: 4px 4px 4px 8px; border-radius: 4px; background: rgba(20, 22, 26, 0.9); z-index: 2; cursor: default;
}
.slow button { background: #ffb454; color: #16181d; font-weight: 600; white-space: nowrap; }
.status { top: 8px; }
.message { bottom: 8px; color: #ffcf99; }
.stick {
  position: absolute; right: 16px; bottom: 16px; width: 112px; height: 112px; border-radius: 50%; z-index: 2; display: none;
  background: rgba(36, 39, 46, 0.55); border: 1px solid rgba(255, 255, 255, 0.35); touch-action: none; place-items: center;
}
.stick span { width: 48px; height: 48px; border-radius: 50%; background: rgba(255, 180, 84, 0.9); }
@media (any-pointer: coarse) { .stick { display: grid; } }
@media (pointer: coarse) {
  button, select, input[type="color"] { min-width: 40px; height: 40px; justify-content: center; }
  .scrubber { height: 40px; }
}
@container (max-width: 460px) { .text { display: none; } }
@container (max-height: 220px) { .bar.top { display: none; } }
`;
