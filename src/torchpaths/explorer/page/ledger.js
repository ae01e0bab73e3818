// The ledger under the header: what is selected, and what it costs; each number with its kind and what it stands beside.

import { html, put } from "./dom.js";
import { byHand, executedBy } from "./answers.js";
import { needsModel } from "./commands.js";
import { DASH, amount, capital, count, middle, ms, one, percent, plural, signed, three, whole } from "./numbers.js";

const ABOUT = "\u2248\u2009";

function number(value, write) {
  if (value.kind === "unknown") return html("span", { class: "number unknown", title: value.why }, DASH);
  const soft = value.kind === "estimated" ? " estimated" : "";
  return html("span", { class: `number${soft}` }, soft && html("small", { "aria-hidden": "true" }, ABOUT),
    soft && html("span", { class: "hidden" }, "about "), write(value.value));
}

function bar(now, before, whole, line) {
  if (now.value == null || !whole) return html("div", { class: "bar none" });
  const part = (value) => Math.max(0, Math.min(1, value / whole));
  const fill = html("i");
  fill.style.width = `${part(now.value) * 100}%`;
  const moved = before.value != null && before.from === now.from && Math.abs(part(before.value) - part(now.value)) > 0.001;
  const tick = moved && html("b");
  if (tick) tick.style.left = `${part(before.value) * 100}%`;
  return html("div", { class: line ? "bar dots" : "bar" }, fill, tick);
}

// The first half of a reason stands beside the dash, the second below.
const reason = (value) => (value.why.includes(": ") ? `${value.why.split(": ")[0]}:` : "");

function cell(label, value, write, of, strip, line) {
  return html("div", { class: "cell" }, html("div", { class: "label" }, label),
    html("div", { class: "value" }, number(value, write), html("span", { class: "of" }, value.kind === "unknown" ? reason(value) : of)), strip,
    html("div", { class: "line" }, line));
}

// What it changes, where both are of one run and the same images; else how far it is from the plain network of its own run.
function change(now, before, write, by, same) {
  const apart = now.from !== before.from;
  const base = apart ? now.plain : before.value;
  if (base == null) return "";
  const words = apart ? `from plain, ${same}` : by;
  if (Math.abs(now.value - base) < 1e-9 * Math.abs(base || 1)) return apart ? `as plain, ${same}` : `no change ${by}`;
  const about = now.kind === "estimated" || (!apart && before.kind === "estimated") ? ABOUT : "";
  return [html("em", {}, about + signed(write(now.value - base))), ` ${words}`];
}

// F1 of a class against all others, with its precision and recall.
export const quality = ({ f1, precision, recall }, c) => `${percent(f1[c], 1)} (${[precision, recall].map((share) => one(share[c] * 100)).join(", ")})`;

// A sub-network by what it leaves out.
function netName(model, set) {
  const short = model.sites.filter((site) => set[site.start] === 0).map((site) => site.name);
  return short.length === 0 ? "everything" : short.length > 3 ? `${short.length} skipped` : `without ${short.join(", ")}`;
}

export function drawLedger(root, model, state, found, live) {
  const { doc } = model;
  const { nets } = model;
  const { now, before, n, changed, image, c } = found;
  const hand = byHand(state);
  const parts = [state.shut.size && `${whole(state.shut.size)} shut`, state.open.size && `${whole(state.open.size)} opened`];
  const by = hand ? `by ${parts.filter(Boolean).join(", ")}` : "by the dial";
  const split = { test: "test ", train: "training ", validation: "validation " }[doc.network.split] ?? "";
  const who = image ? model.names[image.label] ?? "uploaded" : c == null ? (nets ? netName(model, found.set) : "all classes") : model.names[c];
  const top = now.top?.[0];
  const group = c != null && doc.classes.group?.[c];
  const hint = image ? top ? `taken for ${model.names[top[0]]}, ${percent(top[1])}` : "prediction needs the model"
    : nets ? "turn the dial, or click a row"
    : c == null ? `Pick a class${model.images.length ? " or an image" : ""} to follow it alone`
    : group ? `row ${model.order.indexOf(c) + 1} \u00b7 ${group}`
    : model.images.some((each) => each.label === c) ? "Pick an image below to follow it alone" : "Click it again to let it go";
  const plain = doc.plain, gap = doc.now.gap, timed = now.ms.setting;
  const setting = timed && [timed.device, timed.threads && `${timed.threads} thread${timed.threads > 1 ? "s" : ""}`, timed.dtype].filter(Boolean).join(", ");
  const share = (value, whole) => (value.value == null || !whole ? "" : `${percent(value.value / whole)} of plain`);
  const run = doc.page?.run ?? "RUN"; // a long one is cut here, and whole in the panel of cuts
  const then = (why) => why.split(": ").pop().replace(run, middle(run, 16));
  const told = (key, write, line, same = "same images") => (now[key].value == null ? then(now[key].why) : changed ? change(now[key], before[key], write, by, same) : line);
  const points = (value) => `${one(value * 100)} points`;
  const low = now.accuracy.low == null ? "" : ` (${percent(now.accuracy.low, 1)} to ${percent(now.accuracy.high, 1)})`;
  put(root,
    html("div", { class: "cell who" },
      html("div", { class: "label" }, image ? (image.upload ? "one image" : `image ${image.id}, a picture of`) : `${whole(n)} ${split}image${n === 1 ? "" : "s"} of`),
      html("div", { class: "value" }, html("span", { class: "number name", title: who }, who)),
      html("div", { class: "line" }, hint)),
    cell(`${capital(plural(model.noun))} open`, now.open, count, `of ${whole(model.count)}`, bar(now.open, before.open, model.count),
      told("open", (v) => (image ? whole(v) : one(v)), c == null || executedBy(model, null) == null ? "" : `${count(executedBy(model, null))} over all classes`)),
    cell("MACs", now.macs, amount, share(now.macs, plain.macs), bar(now.macs, before.macs, plain.macs),
      told("macs", amount, `plain ${amount(plain.macs)}`)),
    cell(`Time${timed?.batch ? `, batch ${timed.batch}` : ""}`, now.ms, ms, share(now.ms, now.ms.plain), bar(now.ms, before.ms, now.ms.plain),
      told("ms", ms, [gap != null && `gap ${three(gap)}`, setting].filter(Boolean).join(" \u00b7 "), "same run")),
    image
      ? cell("Prediction", top ? { value: top, kind: "measured" } : { value: null, kind: "unknown", why: needsModel(model) },
          (value) => model.names[value[0]], top ? percent(top[1]) : "", null,
          now.top && before.top && top[0] !== before.top[0][0] ? html("em", {}, `was ${model.names[before.top[0][0]]}`)
            : !now.top ? then(needsModel(model)) : now.top[1] ? `then ${model.names[now.top[1][0]]}, ${percent(now.top[1][1])}` : "")
      : cell(c == null ? "Accuracy" : ["Accuracy", html("i", {}, ` on ${model.names[c]}`)], now.accuracy, (v) => percent(v, 1), now.accuracy.n == null ? "" : `${whole(now.accuracy.n)} images`,
          bar(now.accuracy, before.accuracy, 1, true),
          told("accuracy", points, c != null && doc.classifiers ? `cut out, as yes or no: F1 (precision, recall) ${quality(doc.classifiers.cut, c)}` : plain.accuracy != null && c == null ? `plain ${percent(plain.accuracy, 1)}${model.menu.same ? "" : model.menu.images == null ? ", on images of its front" : `, on ${whole(model.menu.images)} images`}` : "")));
  if (low) root.lastChild.querySelector(".of").append(low);
  root.classList.toggle("stale", Boolean(live?.gone));
  root.classList.toggle("waiting", Boolean(found.answer?.waiting));
}
