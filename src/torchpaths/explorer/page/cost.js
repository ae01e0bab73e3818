// What it may cost: the front as steps over the cloud of what was tried, and a dial that is a native range input.

import { html, put, set, svg } from "./dom.js";
import { best } from "./answers.js";
import { ms, percent, plural, whole } from "./numbers.js";

const H = 150, SIDE = 8, TOP = 16, BOTTOM = 24; // of the dial's handle half a width at both sides, so that it stands below its cost

export function costIn(root, app) {
  const { model } = app;
  const { doc, front } = model;
  if (!front.length) return null;
  const timed = front.some((point) => point.ms != null);
  const said = html("p", { class: "said" });
  const chart = svg("svg", { role: "img", "aria-label": "Accuracy over cost of sub-networks" });
  const dial = html("input", { type: "range", min: "0", max: "1000", step: "1", "aria-label": "What it may cost" });
  const by = html("select", { "aria-label": "Cost in" }, html("option", { value: "macs" }, "MACs"), timed && html("option", { value: "ms" }, "milliseconds"));
  const off = html("button", { class: "quiet" }, "Let go of the dial");
  put(root, html("h2", {}, "What it may cost"), said, chart, dial, html("div", { class: "row" }, timed && html("label", {}, "in ", by), off));
  const cost = (point) => (by.value === "ms" ? point.ms : point.macs / doc.plain.macs);
  const range = () => {
    const values = front.map(cost).filter((value) => value != null);
    return [Math.min(...values), Math.max(by.value === "ms" ? model.menu.plain_ms ?? -Infinity : 1, ...values)];
  };
  const at = () => {
    const [low, high] = range();
    return low + ((high - low) * dial.value) / 1000;
  };
  const turn = (replace) => app.change((state) => {
    state.budget = { by: by.value, value: upward(at()) };
    state.shut = new Set();
    state.open = new Set();
  }, { replace });
  // Upwards to six digits: no less than what stands there, which a link's fewer digits would be.
  const upward = (value) => (value < 1 ? Math.ceil(value * 1e6) / 1e6 : Math.ceil(value * 1e3) / 1e3);
  let turning = false;
  dial.addEventListener("input", () => {
    turn(turning); // the first step of a drag is a place to go back to, the others replace it
    turning = true;
  });
  dial.addEventListener("change", () => (turning = false));
  by.addEventListener("change", () => (app.state.budget ? turn(false) : draw()));
  off.addEventListener("click", () => app.change((state) => (state.budget = null)));

  function draw() {
    const { state } = app;
    if (state.budget) by.value = state.budget.by;
    const [low, high] = range();
    const point = best(model, state.budget);
    const accuracies = [...front.map((p) => p.accuracy), doc.plain.accuracy].filter((value) => value != null);
    const [bottom, top] = [Math.min(...accuracies), Math.max(...accuracies)];
    const span = Math.max(0.01, top - bottom);
    const W = Math.min(420, root.clientWidth || 334);
    set(chart, { viewBox: `0 0 ${W} ${H}` });
    const x = (value) => SIDE + ((value - low) / (high - low || 1)) * (W - 2 * SIDE);
    const y = (value) => H - BOTTOM - 4 - ((value - bottom) / span) * (H - TOP - BOTTOM - 10);
    const marks = [], ticks = [];
    const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2].find((each) => span / each <= 4) ?? 0.5;
    for (let a = Math.ceil(bottom / step) * step; a <= top + 1e-9; a += step) {
      marks.push(svg("path", { class: "axis", d: `M${SIDE} ${y(a)}H${W - SIDE}` }));
      ticks.push(svg("text", { class: "digit", x: SIDE, y: y(a) - 3 }, percent(a, step < 0.01 ? 1 : 0)));
    }
    if (by.value === "macs") for (const [macs, accuracy] of doc.cloud ?? []) if (accuracy >= bottom - 0.02 && y(accuracy) > 4 && macs >= low * doc.plain.macs) marks.push(svg("circle", { class: "tried", cx: x(macs / doc.plain.macs), cy: Math.min(H - BOTTOM, y(accuracy)), r: 1.6 }));
    const within = front.filter((p) => cost(p) != null).sort((a, b) => cost(a) - cost(b) || b.accuracy - a.accuracy);
    let d = "", high_ = -1;
    const kept = within.filter((p) => p.accuracy > high_ && ((high_ = p.accuracy), true));
    kept.forEach((p, i) => (d += i ? `H${x(cost(p))}V${y(p.accuracy)}` : `M${x(cost(p))} ${y(p.accuracy)}`));
    marks.push(svg("path", { class: "steps", d }), kept.map((p) => svg("circle", { class: p === point ? "point on" : "point", cx: x(cost(p)), cy: y(p.accuracy), r: p === point ? 5 : 3 })));
    const plain = by.value === "ms" ? model.menu.plain_ms : 1;
    if (plain != null && doc.plain.accuracy != null) marks.push(svg("circle", { class: "junction", cx: x(plain), cy: y(doc.plain.accuracy), r: 4 }), svg("text", { class: "digit", x: W, y: Math.max(10, y(doc.plain.accuracy) - 8), "text-anchor": "end" }, "plain network"));
    const unit = by.value === "ms" ? ms : (value) => percent(value);
    for (const value of [low, (low + high) / 2, high]) marks.push(svg("text", { class: "digit", x: x(value), y: H - 8, "text-anchor": value === low ? "start" : value === high ? "end" : "middle" }, unit(value)));
    if (state.budget) marks.push(svg("path", { class: "limit", d: `M${x(Math.min(high, state.budget.value))} ${TOP - 6}V${H - BOTTOM}` }));
    put(chart, marks, ticks);
    off.hidden = !state.budget;
    if (document.activeElement !== dial || !turning) dial.value = state.budget ? Math.round(((state.budget.value - low) / (high - low || 1)) * 1000) : 1000;
    dial.setAttribute("aria-valuetext", point ? `${unit(at())}: ${percent(point.accuracy, 1)} right` : unit(at()));
    const open = point?.bits?.reduce((a, b) => a + b, 0);
    const kind = point?.kind === "threshold" ? "gates at a threshold" : open == null ? "gates decide" : `${whole(open)} ${plural(model.noun)}`;
    const limit = state.budget && (state.budget.by === "ms" ? ms(state.budget.value) : state.budget.value <= 1 ? `${percent(state.budget.value)} of the plain network\u2019s MACs` : `${whole(state.budget.value)} MACs`);
    put(said, !state.budget ? "Turn the dial: the most accurate sub-network within a budget is put on the rail."
      : point ? [`At most ${limit}: `, html("b", {}, `${kind}, ${percent(point.accuracy, 1)}`), ` right${point.ms == null ? "" : `, ${ms(point.ms)}`}.`, !point.bits && " The rail cannot show it: which units open at that threshold is not in the survey."]
      : `At most ${limit}: nothing fits.`);
  }
  return { draw };
}
