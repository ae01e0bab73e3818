// Cut out a network: the units that some classes open, within the dial's budget. A saved page gives the command; the model itself,
// where it is live, gives measured numbers and the network as a file.

import { copied, html, put } from "./dom.js";
import { command, frontOf, quoted } from "./commands.js";
import { chosen, costOf } from "./costs.js";
import { quality } from "./ledger.js";
import { DASH, amount, middle, ms, percent, plural, whole } from "./numbers.js";

export function commandOf(model, state) {
  const names = [...state.cut].map((c) => (model.names.indexOf(model.names[c]) === c && !/,/.test(model.names[c]) ? model.names[c] : String(c)));
  const budget = state.budget?.by === "macs" ? ` --budget-macs ${+state.budget.value.toPrecision(4)}` : "";
  return `${command(model, "cut")} ${model.code ? "--classes" : "--label"} ${quoted(names.join(","))}${model.code ? "" : budget} --out cut`;
}

export function cutIn(root, app) {
  const { model } = app;
  const { doc, names } = model;
  let answered = null;

  function draw() {
    const { state } = app;
    const heading = html("h2", {}, "Cut out a network");
    if (!model.byInput && !model.code) return put(root, heading, html("p", { class: "said" }, `${model.chance ? "Chance opens units here" : "Every image opens the same units here"}; ${model.front.length ? "the dial chooses, this cuts." : "what to keep is chosen from a front, which this makes:"}`), copyable(!model.front.length ? command(model, "front") : command(model, "cut", `--budget-${state.budget?.by ?? "macs"}`, +(state.budget?.value ?? 0.8).toPrecision(4), "--front", frontOf(model), "--out cut")));
    const inMs = state.budget?.by === "ms" && !model.code;
    const said = html("p", { class: "said" }, model.code ? `Keeps the ${plural(model.noun)} that these classes\u2019 codewords name.` : `Keeps the ${plural(model.noun)} these classes open${state.budget && !inMs ? ", within the dial\u2019s budget" : " for half of their images"}.`,
      inMs && " What classes take in milliseconds is not known before they are cut: turn the dial in MACs for a budget.");
    const offered = names.length <= 20 ? model.order : [...new Set([...state.cut, ...(state.class == null ? [] : [state.class]), ...state.pin])];
    const chips = html("div", { class: "chips", role: "group", "aria-label": "Classes to keep" }, offered.map((c) => html("button", {
      class: "chip", title: names[c], "data-class": c, "aria-pressed": state.cut.has(c) ? "true" : "false", click: () => app.change((s) => (s.cut.has(c) ? s.cut.delete(c) : s.cut.add(c))),
    }, middle(names[c], 18))), !offered.length && html("span", { class: "soft" }, "Pin a class to offer it here."));
    if (!state.cut.size) return put(root, heading, said, chips);
    const bits = chosen(model, [...state.cut], state.budget?.by === "macs" ? state.budget.value : null);
    if (!bits) return put(root, heading, said, chips, html("p", { class: "why" }, "What always runs takes more than the dial allows; turn it up."));
    const cost = costOf(model, bits);
    const counted = state.budget?.by !== "macs" || [...state.cut].every((c) => doc.classes.images[c] < 128); // from a share of 255
    const exact = doc.openness.levels === 256 && counted;
    const key = JSON.stringify([[...state.cut], state.budget]);
    const live = answered?.key === key ? answered : null;
    const kept = [...state.cut], n = kept.reduce((sum, c) => sum + doc.classes.images[c], 0);
    const right = kept.reduce((sum, c) => sum + (doc.classes.images[c] && doc.classes.accuracy[c] * doc.classes.images[c]), 0) / n;
    const units = bits.reduce((sum, bit, u) => sum + bit * (doc.units.ms?.[u] ?? NaN), doc.fixed.ms ?? NaN);
    const time = live?.ms ?? (Number.isNaN(units) ? null : units), plainTime = live ? live.plain_ms : time == null ? null : doc.plain.ms?.value;
    const row = (name, plain, cut, about) => html("tr", {}, html("th", { scope: "row" }, name), html("td", {}, plain), html("td", { class: about ? "estimated" : "" }, about ? `\u2248\u2009${cut}` : cut));
    const table = html("table", { class: "small" }, html("thead", {}, html("tr", {}, html("td"), html("th", { scope: "col" }, "plain"), html("th", { scope: "col" }, "cut"))), html("tbody", {},
      row(plural(model.noun), whole(model.count), whole(live?.units ?? bits.reduce((a, b) => a + b, 0)), !live && !model.code && !exact),
      row("parameters", amount(doc.plain.params), amount(live?.params ?? cost.params), !live),
      row("MACs", amount(doc.plain.macs), amount(live?.macs ?? cost.macs), !live),
      row("time", plainTime == null ? DASH : ms(plainTime), time == null ? DASH : ms(time), time != null && !live),
      row(`right on ${kept.length > 2 ? `${kept.length} classes` : middle(kept.map((c) => names[c]).join(", "), 18)}`, live?.plain_accuracy != null ? percent(live.plain_accuracy, 1) : DASH, live?.accuracy != null ? percent(live.accuracy, 1) : DASH),
      kept.length === 1 && doc.classifiers && row("F1 (precision, recall)", quality(doc.classifiers.whole, kept[0]), quality(doc.classifiers.cut, kept[0]))));
    const buttons = app.live ? liveButtons(key) : copyable(commandOf(model, state));
    return put(root, heading, said, chips, table, n > 0 && html("p", { class: "why" }, `As it is, uncut, the network gets ${percent(right, 1)} of their ${whole(n)} images right.${live ? ` Both columns: ${whole(live.n)} images, times of one image in one run.` : ""}`),
      kept.length === 1 && doc.classifiers && html("p", { class: "why" }, `F1 as yes or no against all other classes, on the left of the whole network\u2019s score, on ${whole(doc.classifiers.images)} images; the least score for a yes is chosen on training images.`),
      !app.live && html("p", { class: "why" }, "Accuracy needs the model; this command cuts it:"), buttons);
  }

  const copyable = (text) => {
    const button = html("button", { click: () => copied(text, button) }, "Copy command");
    return html("div", { class: "command" }, html("code", {}, text), button);
  };

  function liveButtons(key) {
    const state = app.state;
    if (answered?.key === key && answered.id) return html("a", { class: "button", href: `api/cut/${answered.id}.zip`, download: `${doc.network.name}-${[...state.cut].map((c) => names[c]).join("-")}`.replace(/[^\w.-]+/g, "_").slice(0, 80) + ".zip" }, `Download ${amount(answered.bytes)}B`);
    const button = html("button", { class: "strong", disabled: answered?.waiting === key, click: async () => {
      answered = { key: null, waiting: key };
      draw();
      answered = { key, ...(await app.live.cut([...state.cut], state.budget)) };
      if (answered.error) {
        app.tell(answered);
        answered = null;
      }
      app.draw(); // it arrives by itself, perhaps between press and release
    } }, answered?.waiting === key ? "Cutting\u2026" : "Cut and measure");
    return html("div", { class: "row" }, button);
  }
  return { draw };
}
