/** The editor's style sheet, in the host's colors where it has them. It comes with the editor's own element. */
export const STYLE = `
.fwp { display: flex; flex-direction: column; gap: 6px; height: 100%; box-sizing: border-box; padding: 4px;
  --fwp-accent: color-mix(in oklab, #ff9d1e 62%, var(--input-text, #dcdcdc)); /* amber that stands out on light and dark */
  color: var(--input-text, #dcdcdc); font: 12px/1.3 system-ui, sans-serif; user-select: none; outline: none; }
.fwp [hidden] { display: none !important; }
.fwp-row { display: flex; align-items: center; gap: 4px; min-width: 0; }
.fwp input, .fwp select { font: inherit; color: inherit; box-sizing: border-box; height: 24px; margin: 0; border-radius: 5px;
  border: 1px solid var(--border-color, #4a4d55); background: var(--comfy-input-bg, #24262b); }
.fwp input[type=button] { cursor: pointer; padding: 0 8px; white-space: nowrap; }
.fwp input[type=button]:hover:not(:disabled) { border-color: var(--fwp-accent); }
.fwp input[type=button][aria-pressed=true], .fwp .fwp-card.fwp-chosen { border-color: var(--fwp-accent); background: #ffb048; color: #16181d; }
.fwp input:disabled { opacity: 0.4; cursor: default; }
.fwp :is(input, select):focus-visible, .fwp-card:has(input:focus-visible) { outline: 2px solid var(--fwp-accent); outline-offset: 1px; }
.fwp-play { width: 34px; }
.fwp input[type=range] { flex: 1; min-width: 40px; accent-color: #7dffb0; border: 0; background: none; padding: 0; }
.fwp-frame { min-width: 48px; text-align: right; font-variant-numeric: tabular-nums; opacity: 0.85; }
.fwp-views { flex: 1; min-height: 300px; container-type: size; }
.fwp-pair { display: flex; gap: 6px; width: 100%; height: 100%; }
@container (max-aspect-ratio: 4/3) { .fwp-pair { flex-direction: column; } }
.fwp-view { flex: 1; min-width: 0; min-height: 0; position: relative; border-radius: 6px; overflow: hidden; border: 1px solid var(--border-color, #4a4d55); }
.fwp-view canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; touch-action: none; border-radius: 6px; }
.fwp .fwp-keys { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0; pointer-events: none; }
.fwp-keys:focus-visible ~ canvas { outline: 2px solid #ffb048; outline-offset: -2px; }
.fwp-note { padding: 2px 2px 0; opacity: 0.85; flex: 1; min-width: 0; }
.fwp-error { padding: 4px 8px; border-radius: 5px; background: #5c1d16; color: #ffe3de; opacity: 1; user-select: text; }
.fwp-strip { display: flex; flex-direction: column; gap: 4px; }
.fwp-cards { display: flex; gap: 4px; overflow-x: auto; min-height: 38px; padding: 2px; scrollbar-width: thin; align-items: center; }
.fwp-cards:empty::before { content: attr(data-empty); opacity: 0.85; }
.fwp-card { flex: 0 0 auto; min-width: 40px; height: 34px; padding: 2px 6px; border-radius: 6px; cursor: pointer; text-align: center; box-sizing: border-box;
  border: 1px solid var(--border-color, #4a4d55); background: var(--comfy-input-bg, #24262b); display: flex; flex-direction: column; justify-content: center; touch-action: pan-x; }
.fwp-card small:empty { display: none; }
.fwp-card input { position: absolute; opacity: 0; width: 1px; height: 1px; pointer-events: none; }
.fwp-card small { font-size: 10px; opacity: 0.85; white-space: nowrap; }
.fwp-card.fwp-dragged { opacity: 0.45; }
.fwp-card.fwp-before { box-shadow: -4px 0 0 -1px var(--fwp-accent); }
.fwp-card.fwp-after { box-shadow: 4px 0 0 -1px var(--fwp-accent); }
.fwp-fields { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 4px; }
.fwp-field { display: flex; align-items: center; gap: 4px; min-width: 0; }
.fwp-field span { opacity: 0.85; white-space: nowrap; font-size: 11px; }
.fwp-field input, .fwp-field select { flex: 1; min-width: 0; width: 100%; padding: 0 4px; }
.fwp-field input[type=number] { appearance: textfield; -moz-appearance: textfield; }
.fwp-field input::-webkit-inner-spin-button { display: none; }
.fwp-check { display: flex; align-items: center; gap: 4px; }
.fwp-check input { height: 14px; width: 14px; accent-color: #ffb048; }
@media (pointer: coarse) {
  .fwp input:not(.fwp-keys), .fwp select { height: 40px; }
  .fwp input[type=button] { min-width: 40px; }
  .fwp-card { min-width: 44px; height: 44px; }
  .fwp-check { min-height: 40px; }
  .fwp .fwp-check input { width: 24px; height: 24px; }
}
`;
