// The picture by keyboard: one tab stop, a grid of which only the focused cell exists. Arrows move, Home, End and the Page keys
// go by site, where all sites are one unit by row and stage; Space shuts or opens the unit, Enter keeps the class, / finds a class, Escape lets go.

import { html, put, set } from "./dom.js";
import { cellName } from "./told.js";
import { pen } from "./scene.js";

export function gridOn(root, app) {
  const cell = html("div", { role: "gridcell", id: "focused-cell" });
  const line = html("div", { role: "row" }, cell);
  const holder = html("div", { class: "hidden", role: "rowgroup" }, line);
  root.prepend(holder);
  set(root, { role: "grid", tabindex: "0", "aria-activedescendant": "focused-cell", "aria-label": "Units by class: arrow keys move, Space shuts or opens, Enter keeps the class, slash finds one" });
  const at = { row: 0, p: 0 };
  let entered = false;
  const rows = () => [null, ...app.picture.scene.rows]; // first all images, the rail

  function show() {
    const list = rows(), { model } = app;
    at.row = Math.max(0, Math.min(at.row, list.length - 1));
    at.p = Math.max(0, Math.min(at.p, model.count - 1));
    set(root, { "aria-rowcount": list.length, "aria-colcount": model.count });
    if (!model.open) return;
    const row = list[at.row], unit = model.at[at.p];
    set(line, { "aria-rowindex": at.row + 1 });
    set(cell, { "aria-colindex": at.p + 1, "aria-selected": row && row.c === app.state.class ? "true" : "false" });
    put(cell, cellName(app, row, unit));
    if (!entered) return app.picture.ring(null);
    const { scene } = app.picture, draw = pen(scene);
    const band = row && scene.bands.lanes.find((each) => each.row.key === row.key);
    const [v, dv] = band ? [band.v0 + 1, band.pitch - 2] : [scene.rail.v0, scene.rail.v1 - scene.rail.v0];
    app.picture.ring(draw.box(scene.start[unit], v, Math.max(3, scene.size[unit]), dv));
    app.hover(row ? { unit, c: row.c, row } : { unit });
    const site = model.siteOf[unit];
    if (model.boxed(model.sites[site]) && app.state.site === site) {
      const p = at.p - model.sites[site].start;
      if (p < app.state.from || p >= app.state.from + 64) app.change((state) => (state.from = Math.max(0, Math.min(model.sites[site].units - 64, p - 32))), { replace: true });
    }
  }

  function bySite(step) {
    const { model } = app;
    const site = Math.max(0, Math.min(model.sites.length - 1, model.siteOf[model.at[at.p]] + step));
    at.p = model.sites[site].start;
  }

  // Where every site is one unit, ends are those of the row, and a page is a stage.
  const lone = () => app.model.sites.every((site) => site.units === 1);
  function byStage(step) {
    const { sites } = app.model, stage = (p) => sites[p].stage || sites[p].name;
    const starts = sites.map((_, p) => p).filter((p) => !p || stage(p) !== stage(p - 1));
    const here = starts.findLastIndex((p) => p <= at.p);
    at.p = starts[Math.max(0, Math.min(starts.length - 1, here + step))];
  }

  root.addEventListener("focus", () => {
    entered = root.matches(":focus-visible");
    show();
  });
  root.addEventListener("blur", () => {
    entered = false;
    app.picture.ring(null);
    app.hover({});
  });
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { model } = app;
    const turned = app.picture.scene.turned;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const unit = model.at[at.p], row = rows()[at.row];
    if (step) {
      const [du, dv] = turned ? [step[1], step[0]] : step;
      at.p += du;
      at.row += dv;
    } else if (event.key === "Home") at.p = lone() ? 0 : model.sites[model.siteOf[unit]].start;
    else if (event.key === "End") at.p = lone() ? model.count - 1 : model.sites[model.siteOf[unit]].start + model.sites[model.siteOf[unit]].units - 1;
    else if (event.key === "PageDown") lone() ? byStage(1) : bySite(1);
    else if (event.key === "PageUp") lone() ? byStage(-1) : bySite(-1);
    else if (event.key === " ") app.toggleUnit(unit);
    else if (event.key === "Enter") {
      if (row?.point) app.chooseNet(row.point);
      else if (row) app.keepClass(row.c);
      else if (model.boxed(model.sites[model.siteOf[unit]])) app.openSite(model.siteOf[unit], at.p - model.sites[model.siteOf[unit]].start);
    } else if (event.key === "Escape") app.letGo();
    else return;
    event.preventDefault();
    entered = true;
    show();
  });
  // To a class's row, from where it was found.
  function go(c) {
    at.row = Math.max(0, rows().findIndex((row) => row?.c === c));
    root.focus();
    show();
  }

  return { show, go, leave: () => (entered = false) };
}
