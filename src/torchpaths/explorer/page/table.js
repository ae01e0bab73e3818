// "As a table": the same shares as a real table; of small networks all, of large ones the window.

import { html, put } from "./dom.js";
import { executedBy } from "./answers.js";
import { DASH, count, percent } from "./numbers.js";

export function drawTable(root, app) {
  const { model, state } = app;
  if (state.view !== "table" || !model.open) return put(root);
  const rows = app.picture.scene.rows.length > 40
    ? app.picture.scene.rows.filter((row) => row.c === state.class || state.pin.includes(row.c)) : app.picture.scene.rows;
  const shown = rows.length ? rows : app.picture.scene.rows.slice(0, 40);
  const units = model.count <= 128 ? [...model.at] : windowOf(model, state);
  const button = (unit) => html("button", { class: "plain-button", click: () => app.toggleUnit(unit), "aria-pressed": state.shut.has(unit) ? "true" : "false" },
    state.shut.has(unit) ? "shut" : state.open.has(unit) ? "opened" : "shut it");
  const head = html("tr", {}, html("th", { scope: "col" }, "unit"), html("th", { scope: "col" }, "all"), shown.map((row) => html("th", { scope: "col" }, row.name)), html("th", { scope: "col" }, "by hand"));
  const body = units.map((unit) => html("tr", {}, html("th", { scope: "row" }, model.label[unit]), html("td", {}, share(model.rate[unit])),
    shown.map((row) => html("td", {}, row.none ? "no images" : share(row.value(unit)))), html("td", {}, button(unit))));
  const foot = shown[0]?.c != null && html("tr", {}, html("th", { scope: "row" }, "open"), html("td", {}, executedBy(model, null) == null ? DASH : count(executedBy(model, null))), shown.map((row) => html("td", {}, row.columns[0])), html("td"));
  return put(root, html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shares as a table" },
    html("table", {}, html("caption", { class: "hidden" }, "Share of images that open each unit"), html("thead", {}, head), html("tbody", {}, body), foot && html("tfoot", {}, foot))));
}

// A phone shows per cent without their sign, so that ten classes stand beside each other.
const share = (value) => [percent(value).slice(0, -2), html("span", { class: "sign" }, "\u2009%")];

function windowOf(model, state) {
  const site = model.sites[state.site ?? 0];
  const from = state.site == null ? 0 : state.from;
  return Array.from({ length: Math.min(64, site.units) }, (_, i) => model.at[site.start + from + i]).filter((unit) => unit != null);
}
