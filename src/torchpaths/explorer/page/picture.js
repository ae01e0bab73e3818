// The picture: rail above, lanes below, everything lined up on depth. It listens once on its root and finds the mark under the
// pointer from where it stands; hovering changes attributes only, so no node is replaced between press and release.

import { html, put, set, svg } from "./dom.js";
import { applied, forced, imageOf, rates } from "./answers.js";
import { annotate, drawWindow, paint } from "./heat.js";
import { chosenRow, drawLanes, drawUnder, imageDots, rowsOf } from "./lanes.js";
import { middle } from "./numbers.js";
import { drawRail } from "./rail.js";
import { pen, sceneOf } from "./scene.js";

export function pictureIn(root, app) {
  const canvas = html("canvas", { "aria-hidden": "true" });
  const drawing = svg("svg", { "aria-hidden": "true", focusable: "false" });
  root.append(canvas, drawing);
  const own = { root, scene: null, rail: null, lanes: [], hot: {}, window: null };

  own.draw = () => {
    const { model, state } = app;
    const width = Math.min(1216, root.clientWidth || 1216);
    const rows = rowsOf(model, state);
    const scene = (own.scene = sceneOf(model, state, width, rows));
    set(drawing, { width, height: scene.height, viewBox: `0 0 ${width} ${scene.height}` });
    const layers = Object.fromEntries(["tint", "head", "rail", "lanes", "dots", "under", "window", "values", "ring"].map((name) => [name, svg("g", { class: name })]));
    own.layers = layers;
    drawHead(scene, layers.head, imageOf(model, state) != null);
    own.rail = drawRail(scene, layers.rail);
    own.lanes = drawLanes(scene, state, layers.lanes);
    drawUnder(scene, layers.under);
    canvas.hidden = !scene.heat;
    own.zoom = scene.heat && state.site != null ? state.site : null;
    if (scene.heat) {
      if (model.open || model.doc.openness.overview?.data) own.paint();
      annotate(scene, state, layers.head);
    }
    own.window = state.site != null && model.open ? drawWindow(scene, state, layers.window, own.zoom != null) : null;
    put(drawing, Object.values(layers));
    own.update();
  };

  own.paint = () => paint(own.scene, canvas, matchMedia("(prefers-color-scheme: dark)").matches, own.zoom);

  // What follows the pointer or focus: attributes and a few texts, never the marks themselves.
  own.update = () => {
    const { model, state } = app;
    const { scene, hot, layers } = own;
    if (!model.open) return;
    const image = imageOf(model, state);
    const c = hot.c ?? (image ? null : state.class);
    const set_ = forced(model, state);
    const hotRow = hot.row?.point ? hot.row : null;
    const single = Boolean(image && hot.c == null) || model.nets;
    const live = hot.c == null && app.live?.values(set_, c, image);
    const values = live || (hotRow ? Float64Array.from(hotRow.point.bits) : applied(hot.c == null && image ? rates(model, null, image) : flows(model, c), set_));
    const code = model.code && c != null ? (u) => model.code[c * model.count + u] && set_[u] !== 0 : null;
    own.rail.update(values, { single, accent: c != null || image || hotRow || model.nets, coded: code ?? (model.energy ? () => false : null), shut: state.shut, open: state.open, site: model.sites[state.site] });
    own.shown = { values, c };
    const chosen = chosenRow(model, state, set_);
    const picked = hot.row?.key ?? chosen ?? (c == null ? null : `class:${c}`);
    set(drawing, { class: `${picked || image ? "picked" : ""}${model.nets ? " nets" : ""}` });
    for (const { lane, band } of own.lanes) lane.classList.toggle("on", band.row.key === picked);
    imageDots(scene, layers.dots, image);
    tint(hot.unit);
    for (const mark of layers.under.querySelectorAll("[data-unit]")) mark.classList.toggle("on", state.shut.has(+mark.dataset.unit));
  };

  function tint(unit) {
    const { scene, layers } = own;
    layers.tint.replaceChildren();
    layers.values.replaceChildren();
    if (unit == null || !scene) return;
    const draw = pen(scene);
    const u = scene.start[unit], width = Math.max(1, scene.size[unit]);
    const end = scene.bands.under?.v1 ?? scene.bands.end;
    layers.tint.append(svg("rect", { class: "column-tint", ...draw.box(u, scene.rail.v0, width, end - scene.rail.v0) }));
    if (scene.heat || (width < 22 && !scene.turned)) return;
    for (const { row, v, pitch } of scene.bands.lanes) {
      if (row.none || pitch < 16) continue;
      const at = draw.at(u + width / 2, v);
      layers.values.append(svg("text", { class: "share", x: at.x, y: at.y + 4, "text-anchor": "middle" }, Math.round(row.value(unit) * 100)));
    }
  }

  // The mark under a place of the page: a unit, a row, what a click there would mean.
  own.find = (event) => {
    const { scene } = own;
    const box = drawing.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const [u, v] = scene.turned ? [y, x] : [x, y];
    const inside = u >= scene.lead - 2 && u <= scene.lead + scene.length + 2;
    const { bands, rail } = scene;
    const win = own.window;
    if (win?.along && v >= win.along.v0 && v <= win.along.v1 && inside)
      return { unit: win.cells[Math.floor(((u - scene.lead) / scene.length) * win.shown)], means: "unit" };
    if (win?.across && y >= win.across.y0) return { unit: win.cells[Math.floor((y - win.across.y0) / 24)], means: "unit" };
    const unit = inside ? scene.unitAt(u) : null;
    const site = unit == null ? null : app.model.siteOf[unit];
    if (bands.heat && v >= bands.heat.v0 && v < bands.heat.v1 && inside) {
      const rows = app.model.order, c = rows[Math.floor(((v - bands.heat.v0) / (bands.heat.v1 - bands.heat.v0)) * rows.length)];
      return { unit: own.zoom == null ? unit : zoomed(u), c, row: { c, key: `class:${c}` }, site: own.zoom ?? site, means: "frame", share: own.zoom == null ? null : (u - scene.lead) / scene.length };
    }
    const band = bands.lanes.find(({ v0, pitch }) => v >= v0 && v < v0 + pitch);
    const named = !scene.turned || u < scene.lead;
    const boxed = site != null && app.model.boxed(app.model.sites[site]);
    if (band && named) return { unit, c: band.row.c, row: band.row, site, means: "row" };
    if (unit == null) return {};
    let mark = unit;
    const form = scene.sites[site];
    if (form.form === "fan" && v >= rail.v0 && v <= rail.v1 && !scene.turned) {
      const p = Math.round((v - rail.line) / rail.track + (form.site.units - 1) / 2);
      mark = app.model.at[form.site.start + Math.max(0, Math.min(form.site.units - 1, p))];
    }
    if (v < rail.v0 && !scene.turned) return {};
    return { unit: boxed ? null : mark, c: band?.row.c, row: band?.row, site, means: boxed ? "site" : "unit" };
  };

  function zoomed(u) {
    const site = app.model.sites[own.zoom];
    return app.model.at[site.start + Math.max(0, Math.min(site.units - 1, Math.floor(((u - own.scene.lead) / own.scene.length) * site.units)))];
  }

  own.point = (hot) => {
    if (hot.unit === own.hot.unit && hot.row?.key === own.hot.row?.key) return false;
    own.hot = hot;
    own.update();
    return true;
  };

  own.ring = (box) => {
    own.layers?.ring.replaceChildren(...(box ? [svg("rect", { class: "ring", ...box, rx: 3 })] : []));
  };
  return own;
}

// What the rail of classes shows: energy where it was measured, as lanes do.
function flows(model, c) {
  if (!model.energy) return c == null ? model.rate : rates(model, c);
  return c == null ? model.mean : Float64Array.from({ length: model.count }, (_, u) => model.flow(c, u));
}

// Stages over the sites, and what stands at both ends of the line.
function drawHead(scene, layer, single) {
  const { sites, lead, length, turned, model, rail } = scene;
  const groups = [];
  for (const each of sites) {
    const stage = each.form === "fan" ? each.site.name : each.site.stage || each.site.name;
    const last = groups[groups.length - 1];
    if (last?.stage === stage) Object.assign(last, { u1: each.u1, units: last.units + each.site.units });
    else groups.push({ stage, u0: each.u0, u1: each.u1, units: each.site.units, note: each.form === "part" ? "" : each.site.note });
  }
  if (turned) {
    for (const { site, u0, u1, form } of sites) {
      const first = groups.some((group) => group.u0 === u0);
      const name = first || !site.stage ? site.name : site.name.slice(site.stage.length);
      if (first && u0) layer.append(svg("path", { class: "axis", d: `M0 ${u0 + lead - 3}H${scene.width}` }));
      if (form === "fan") {
        layer.append(svg("text", { class: "strong", x: 0, y: u0 + lead - 6 }, site.name));
        for (let i = 0; i < site.units; i++) layer.append(svg("text", { class: "digit", x: 2, y: scene.start[model.at[site.start + i]] + lead + 16 }, `.${model.at[site.start + i] - site.start}`));
      } else layer.append(svg("text", { class: first ? "strong" : "digit", x: 0, y: lead + (u0 + Math.min(u1, u0 + 24)) / 2 + 4 }, first && name.length > 9 ? site.stage || middle(name, 9) : middle(name, 10)));
    }
    return;
  }
  for (const { stage, u0, u1, note, units } of groups) {
    const room = u1 - u0;
    layer.append(svg("path", { class: "axis", d: `M${u0 + lead + 2} 24H${u1 + lead - 2}` }));
    const fits = Math.floor(room / 7.2);
    if (fits < 3) continue;
    const text = svg("text", { class: "strong", x: u0 + lead + 4, y: 16 }, middle(stage, fits));
    const more = note || (units > 32 ? `${units.toLocaleString("en-US")} ${model.noun}s` : "");
    if (more && room > 8 * stage.length + 6.4 * more.length + 14) text.append(svg("tspan", { class: "soft", dx: 8 }, more));
    layer.append(text);
  }
  const one = single || model.nets;
  layer.append(svg("text", { class: "name strong", x: lead - 12, y: rail.line - 2, "text-anchor": "end" }, one ? "the image" : "its images"),
    svg("text", { class: "digit", x: lead - 12, y: rail.line + 12, "text-anchor": "end" }, model.wide ? `% of ${model.noun}s open` : one ? "comes in here" : "come in here"),
    svg("text", { class: "strong", x: lead + length + 14, y: rail.line + 4 }, "prediction"));
  if (sites.some(({ form }) => form === "station")) layer.append(svg("text", { class: "digit", x: lead - 12, y: rail.line - 32, "text-anchor": "end" }, "skip"));
}
