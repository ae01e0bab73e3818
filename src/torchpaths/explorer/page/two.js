// Two images, two paths: A above, B mirrored below one line of stations; where they disagree the column is tinted and named.

import { html, put, svg } from "./dom.js";
import { best, imageOf } from "./answers.js";
import { bitsOf } from "./data.js";
import { DASH, percent, plural, whole } from "./numbers.js";

const WIDE = 336, HIGH = 92, LINE = 38;

// What `with` names: an attack on the image, another image, or the path of a budget.
export function partner(model, state) {
  const image = imageOf(model, state);
  if (!image || state.with == null) return null;
  const attacked = image.attacked?.find((each) => `${each.name}-${each.strength}` === state.with);
  if (attacked) return { ...attacked, bits: bitsOf(attacked.path, model.count), label: image.label, title: `${attacked.name.toUpperCase()} ${attacked.strength}`, what: `after ${attacked.name.toUpperCase()} at ${attacked.strength}/255` };
  const budget = /^(macs|ms):(\d*\.?\d+)$/.exec(state.with);
  const point = budget && best(model, { by: budget[1], value: +budget[2] });
  if (point?.bits) return { bits: point.bits, thumb: image.thumb, label: image.label, title: `at most ${budget[1] === "ms" ? `${budget[2]} ms` : percent(+budget[2])}`, what: "under a budget" };
  const other = imageOf(model, state, state.with);
  return other && { ...other, title: model.names[other.label] ?? "image", what: "side by side" };
}

export const imageName = (image) => (image.upload ? "your image" : `image ${image.id}`);

const key = (bits) => [...bits].join("");

export function twoIn(root, app) {
  const { model } = app;
  if (!model.images.length) return null;

  // Live: itself under FGSM, as strong as the slider says. One node for good, so that it keeps the focus.
  const shown = html("output", {}), strength = html("input", { type: "range", min: "0", max: "16", "aria-label": "Strength of an attack by FGSM, of 255 levels",
    input: () => (shown.value = `${strength.value}/255`),
    change: async () => {
      const image = imageOf(model, app.state), by = +strength.value;
      if (by && !(await app.live.attack(image, by))) return draw();
      if (image === imageOf(model, app.state)) app.change((s) => (s.with = by ? `fgsm-${by}` : null));
    } });
  const attack = app.live && html("label", { class: "row" }, "attack it by FGSM at ", shown, strength);

  function draw() {
    const held = document.activeElement === strength;
    panel();
    if (held) strength.focus();
  }

  function panel() {
    const { state } = app;
    strength.value = /^fgsm-(\d+)$/.exec(state.with)?.[1] ?? 0;
    shown.value = `${strength.value}/255`;
    const image = imageOf(model, state);
    if (!image) return put(root, html("h2", {}, "Two images, two paths"), html("p", { class: "said" }, "Click an image below to follow it, a second one to compare."));
    const other = partner(model, state);
    const options = [["", "nothing"], ...(image.attacked ?? []).map((a) => [`${a.name}-${a.strength}`, `${a.name.toUpperCase()} at ${a.strength}/255`]),
      ...(model.front.some((p) => p.bits) ? [0.8, 0.6, 0.4].filter((value) => best(model, { by: "macs", value })?.bits).map((value) => [`macs:${value}`, `itself at most ${percent(value)} of the MACs`]) : [])];
    if (state.with != null && !options.some(([value]) => value === state.with)) options.push([state.with, other ? imageName(other) : `image ${state.with}`]);
    const pick = html("select", { "aria-label": "Compare with", change: () => app.change((s) => (s.with = pick.value || null)) }, options.map(([value, text]) => html("option", { value, selected: value === (state.with ?? "") }, text)));
    const choose = html("label", { class: "row" }, "compare with ", pick);
    if (!other) return put(root, html("h2", {}, "Two images, two paths"), html("p", { class: "said" }, `Following ${imageName(image)}. Choose what to compare it with, or click a second image.`), card(image, "this image"), choose, attack);
    const differ = [...image.bits.keys()].filter((u) => image.bits[u] !== other.bits[u]);
    const total = (bits) => bits.reduce((a, b) => a + b, 0);
    const of = (bits) => {
      const found = model.doc.paths?.top?.find((path) => key(bitsOf(path.path, model.count)) === key(bits));
      const n = model.doc.classes.images[image.label];
      if (!found || !n) return null;
      if (!found.confused) return found.class === image.label ? found.share : null;
      return found.confused.reduce((sum, [label, , count]) => sum + (label === image.label ? count : 0), 0) / n;
    };
    const shares = [of(image.bits), of(other.bits)].map((share) => (share == null ? DASH : percent(share, 1)));
    const most = model.doc.paths?.top?.length ?? 0;
    const why = shares.includes(DASH) && (image.label == null ? "no class of it is known" : most ? `not among the ${whole(most)} paths that the survey names` : "the survey names no path");
    const row = (name, a, b) => html("tr", {}, html("th", { scope: "row" }, name), html("td", {}, a), html("td", {}, b));
    const name = model.names[image.label] ?? "this class";
    return put(root, html("h2", {}, "Two images, two paths"),
      html("p", { class: "said" }, `${model.images.includes(other) || other.id != null ? "Two images" : `The same ${model.names[image.label] ?? "image"}`}, ${other.what}. Where the halves mirror each other they agree; `, html("b", { class: "accent" }, `${whole(differ.length)} of ${whole(model.count)}`), " differ."),
      html("div", { class: "cards" }, card(image, image.label == null ? "first" : `first: ${model.names[image.label]}`), card(other, `second: ${other.title}`, true)), mirror(model, image, other, differ), choose, attack,
      html("table", { class: "small" }, html("thead", {}, html("tr", {}, html("td"), html("th", { scope: "col" }, "first"), html("th", { scope: "col" }, "second"))), html("tbody", {},
        row(`${plural(model.noun)} open`, whole(total(image.bits)), whole(total(other.bits))), row(`share of ${name} with this path`, ...shares))), why && html("p", { class: "why" }, `${DASH} ${why}.`));
  }

  const card = (image, title, second) => html("figure", { class: second ? "card second" : "card" },
    image.thumb ? html("img", { src: image.thumb, alt: "", width: 42, height: 42 }) : html("span", { class: "no-thumb" }),
    html("figcaption", {}, html("b", {}, title), (image.top ?? []).slice(0, 2).map(([c, p]) => html("span", {}, `${model.names[c]} ${percent(p)}`)), !image.top && html("span", {}, "prediction needs the model")));
  return { draw };
}

function mirror(model, a, b, differ) {
  const step = WIDE / model.count;
  const wave = (bits, up) => {
    let d = `M0 ${LINE}`;
    for (let u = 0; u < model.count; u++) {
      const x = u * step, top = LINE + (up ? -1 : 1) * 28, y = LINE;
      d += bits[u] ? `H${x + step}` : `C${x + step * 0.35} ${y} ${x + step * 0.15} ${top} ${x + step / 2} ${top}S${x + step * 0.65} ${y} ${x + step} ${y}`;
    }
    return d;
  };
  const runs = [];
  for (const u of differ) {
    const last = runs[runs.length - 1];
    if (last && last[1] === u - 1) last[1] = u;
    else runs.push([u, u]);
  }
  let free = -99;
  const names = runs.map(([first, last]) => {
    const text = model.label[first].replace(/^\D*/, "") + (last > first ? `\u2013${model.label[last].replace(/^.*[.:]/, "")}` : "");
    const x = Math.max(12, Math.min(WIDE - 12, ((first + last + 1) / 2) * step));
    if (x - free < text.length * 6) return null;
    free = x + text.length * 3;
    return svg("text", { class: "digit accent", x, y: HIGH - 6, "text-anchor": "middle" }, text);
  });
  return svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "mirror", role: "img", "aria-label": `${differ.length} units differ: ${differ.slice(0, 30).map((u) => model.label[u]).join(", ")}` },
    runs.map(([first, last]) => svg("rect", { class: "differs", "data-units": differ.filter((u) => u >= first && u <= last).map((u) => model.label[u]).join(" "), x: first * step, y: 4, width: (last - first + 1) * step, height: 68 })),
    step > 4 && [...a.bits.keys()].map((u) => svg("rect", { class: "station", x: u * step + step * 0.2, y: LINE - 4, width: step * 0.6, height: 8, rx: 2 })),
    svg("path", { class: "wave first", d: wave(a.bits, true) }), svg("path", { class: "wave second", d: wave(b.bits, false) }), names);
}
