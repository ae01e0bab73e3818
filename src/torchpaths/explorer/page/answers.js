// What each number is for a selection and what was shut or opened by hand, and how it is known: measured, estimated or
// unknown with a reason. An estimate is never given out as a measurement.

import { command, needsModel } from "./commands.js";
import { askedBy, costOf } from "./costs.js";

// `more` says what a number may be compared with: `from`, its run or images; `plain`, the plain network's in that very run;
// `setting` of a time. Two of different runs give no ratio and no difference.
export const measured = (value, more = {}) => ({ value, kind: "measured", ...more });
const estimated = (value, more = {}) => ({ value, kind: "estimated", ...more });
export const unknown = (why) => ({ value: null, kind: "unknown", why });

// The point of the front that the dial stands on: the most accurate within the budget, of equals the cheapest.
export function best(model, budget) {
  if (!budget) return null;
  const limit = budget.value * (1 + 1e-9);
  const cost = (point) => (budget.by === "ms" ? point.ms : budget.value <= 1 ? point.macs / model.doc.plain.macs : point.macs);
  const within = model.front.filter((point) => cost(point) != null && cost(point) <= limit);
  return within.reduce(
    (a, b) => (!a || b.accuracy > a.accuracy || (b.accuracy === a.accuracy && b.macs < a.macs) ? b : a), null);
}

// Units set from outside: 0 shut, 1 open, -1 left to decide.
export function forced(model, state) {
  const set = new Int8Array(model.count).fill(-1);
  const point = best(model, state.budget);
  if (point?.bits) set.set(point.bits);
  for (const u of state.shut) set[u] = 0;
  for (const u of state.open) set[u] = 1;
  return set;
}

// The dial's point where gates decide, at a threshold of that point: numbers are its own, while the rail, the lanes and the model
// are of the threshold that the survey was made at. Null where the dial stands on none.
export function elsewhere(model, state) {
  const point = best(model, state.budget);
  return point && !point.bits ? point : null;
}

export const byHand = (state) => state.shut.size + state.open.size;

// The path that was measured for what is set, if the survey holds it.
function known(model, state, set) {
  const point = best(model, state.budget);
  if (point && !byHand(state)) return point;
  const full = (u) => (set[u] >= 0 ? set[u] : model.outside ? +(model.rate?.[u] > 0.5) : -1);
  return model.front.find((each) => each.bits && each.bits.every((bit, u) => bit === full(u))) ?? null;
}

// What a selection opens by itself: `[unit]`, 0 to 1. `c` null is all images.
export function rates(model, c, image) {
  if (image?.bits) return Float64Array.from(image.bits);
  if (c == null) return model.rate;
  const values = new Float64Array(model.count);
  for (let u = 0, at = c * model.count; u < model.count; u++) values[u] = model.open[at + u] / 255;
  return values;
}

export function applied(values, set) {
  const out = new Float64Array(values);
  for (let u = 0; u < out.length; u++) if (set[u] >= 0) out[u] = set[u];
  return out;
}

export function imageOf(model, state, id = state.image) {
  return id == null ? null : model.images.find((image) => String(image.id) === String(id)) ?? null;
}

// `now` of what is selected with what is set; `before` with nothing set; `answer` is the live model's, where there is one.
export function numbers(model, state, live) {
  const { doc } = model;
  const image = imageOf(model, state);
  const c = image ? null : state.class;
  const set = forced(model, state);
  const gates = elsewhere(model, state);
  const changed = set.some((value) => value >= 0) || gates != null;
  const own = rates(model, c, image);
  const now = applied(own, set);
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const executed = executedBy(model, c);
  const noImages = c != null && !doc.classes.images[c];
  const none = unknown("no images of this class");
  const surveyed = { from: "survey" };
  const front = { from: model.menu.same ? "survey" : "front" }; // of which images its points are
  const before = {
    open: noImages ? none : image || executed == null ? measured(sum(own)) : measured(executed, surveyed),
    macs: noImages ? none : macsBefore(model, c, image, own),
    ms: msBefore(model, c, image, own),
    accuracy: c == null ? measured(doc.now.accuracy, { ...surveyed, n: doc.network.images })
      : doc.classes.accuracy[c] == null ? none : measured(doc.classes.accuracy[c], { ...surveyed, n: doc.classes.images[c] }),
    top: image?.top ?? null,
  };
  const n = c == null ? doc.network.images : doc.classes.images[c];
  if (!changed || noImages) return { before, now: before, n, changed, set, values: now, image, c };
  const answer = gates ? null : live?.answer(set, c, image); // the model behind the page has its own threshold
  if (answer) return { before, now: { ...before, ...answer.now }, n: answer.n ?? n, changed, set, values: answer.values ?? now, image, c, answer };
  const point = known(model, state, set);
  const differs = costOf(model, now, askedBy(model, set)).macs - costOf(model, own, 1).macs;
  const after = {
    open: estimated(before.open.value + sum(now) - sum(own), { from: before.open.from }),
    macs: estimated(before.macs.value + differs, { from: before.macs.from }),
    ms: doc.units.ms && before.ms.value != null
      ? { ...before.ms, ...estimated(before.ms.value + doc.units.ms.reduce((total, ms, u) => total + ms * (now[u] - own[u]), 0)) }
      : unknown(needsModel(model)),
    accuracy: unknown(needsModel(model)),
    top: null,
  };
  const lone = !state.open.size && !state.budget && state.shut.size === 1 ? [...state.shut][0] : null;
  if (lone != null && c == null && !image && !point && doc.units.alone_points?.[lone] != null) {
    // Measured, of the images that were tried: they also say where it stood before.
    const of = { from: "alone" };
    if (doc.units.alone_macs?.[lone] != null) {
      after.open = measured(doc.units.alone_open[lone], of);
      after.macs = measured(doc.units.alone_macs[lone], of);
      Object.assign(before, { open: measured(doc.alone.open, of), macs: measured(doc.alone.macs, of) });
    }
    before.accuracy = measured(doc.alone.accuracy, { ...of, n: doc.alone.images });
    after.accuracy = measured(doc.alone.accuracy - doc.units.alone_points[lone], { from: "alone", n: doc.alone.images });
  }
  if (lone != null && image) after.top = image.without?.[lone] ?? null;
  if (gates && (byHand(state) || c != null || image)) {
    const why = unknown(`at another threshold: known ${byHand(state) ? "with nothing shut by hand" : "over all images"}`);
    Object.assign(after, { open: why, macs: why, ms: why, accuracy: why, top: null });
  } else if (point) {
    const decided = point.bits ?? null;
    if (decided) after.open = measured(sum(decided));
    else after.open = point.open == null ? unknown(`not in the survey: ${command(model, "explore")}`) : measured(point.open * model.count, front);
    after.macs = decided ? measured(point.macs, { from: before.macs.from }) : measured(point.macs, front); // a path costs every image alike
    if (decided) after.open.from = before.open.from;
    after.ms = point.ms == null ? unknown(`not timed: ${command(model, "front")}`) : measured(point.ms, { from: "front", plain: model.menu.plain_ms, setting: model.menu.setting });
    if (c == null) after.accuracy = measured(point.accuracy, { ...front, n: model.menu.images ?? null, plain: doc.plain.accuracy });
  }
  return { before, now: after, n: after.accuracy.n ?? n, changed, set, values: now, image, c, point };
}

// Mean units open, of all images or of a class; null where the survey does not say.
export const executedBy = (model, c) => (c == null ? model.doc.now.executed : model.doc.classes.executed?.[c]?.[0]) ?? null;

function macsBefore(model, c, image, own) {
  const { doc } = model;
  if (image) return measured(image.macs ?? costOf(model, own, 1).macs);
  const value = c == null ? doc.now.macs : doc.classes.macs?.[c];
  return value == null ? estimated(costOf(model, own, 1).macs, { from: "survey" }) : measured(value, { from: "survey" });
}

// Times are measured over all images; those of a class or an image follow from the units' own, where those were timed.
function msBefore(model, c, image, own) {
  const { doc } = model;
  const ms = doc.now.ms;
  if (ms == null) return unknown(`not measured: ${command(model, "survey", "--times")}`);
  const run = { from: "survey", plain: doc.plain.ms?.value ?? null, setting: ms };
  if (c == null && !image) return measured(ms.value, run);
  if (!doc.units.ms) return unknown("not timed by unit");
  return estimated(ms.value + doc.units.ms.reduce((total, each, u) => total + each * (own[u] - model.rate[u]), 0), run);
}
