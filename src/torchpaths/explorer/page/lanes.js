// Lanes: one row for each class, or each sub-network where all is set from outside. Thickness at a unit is the share of images
// that open it (or its share of the energy); in the difference view, bars over and under the mean of all classes.

import { svg } from "./dom.js";
import { best, executedBy } from "./answers.js";
import { pen, ribbon, underOf } from "./scene.js";
import { count, middle, ms, one, percent } from "./numbers.js";

const HAIRLINE = 0.9;

// The rows that a survey has, in its order.
export function rowsOf(model, state) {
  const { doc } = model;
  if (model.nets) {
    const points = model.front.filter((point) => point.bits);
    const better = (a, b) => a.accuracy >= b.accuracy && a.macs <= b.macs && (a.accuracy > b.accuracy || a.macs < b.macs);
    return [...points].sort((a, b) => b.macs - a.macs || b.accuracy - a.accuracy).slice(0, 40).map((point) => {
      const open = point.bits.reduce((a, b) => a + b, 0);
      const name = model.count <= 8 ? [...point.bits].map((bit) => (bit ? "w" : "s")).join(" ") : `${open} of ${model.count}`;
      return { point, name, key: `net:${[...point.bits].join("")}`, value: (u) => point.bits[u], pale: points.some((other) => better(other, point)),
        columns: [percent(point.macs / doc.plain.macs), ...(timed(model) ? [point.ms == null ? "" : ms(point.ms).slice(0, -3)] : []), percent(point.accuracy, 2)] };
    });
  }
  return model.order.map((c) => ({
    c, name: model.names[c], key: `class:${c}`, group: doc.classes.group?.[c] ?? "", none: !doc.classes.images[c],
    value: (u) => model.flow(c, u),
    columns: [executedBy(model, c), doc.classes.accuracy[c]].map((value, i) => (value == null ? "" : i ? percent(value, 1) : count(value))),
  }));
}

const timed = (model) => model.front.some((point) => point.ms != null);
const columnNames = (model) => (model.nets ? ["MACs", ...(timed(model) ? ["ms"] : []), "accuracy"] : ["open", "accuracy"]);
const columnAt = (scene, i) => scene.lead + scene.length + (scene.model.nets && timed(scene.model) ? [66, 122, 184][i] : [52, 122][i]);

export function drawLanes(scene, state, layer) {
  const { bands, turned, model, heat } = scene;
  const made = bands.lanes.map((band) => {
    const lane = svg("g", { class: "lane", "data-row": band.row.key });
    const text = turned
      ? svg("text", { class: "name", transform: `translate(${band.v + 4} ${scene.lead - 12}) rotate(-62)` }, middle(band.row.name, 16))
      : svg("text", { class: "name", x: scene.lead - 12, y: band.v + 4, "text-anchor": "end" }, middle(band.row.name, Math.floor((scene.names - 12) / 6.4)));
    if (band.row.pale) lane.classList.add("dominated");
    lane.append(text, shape(scene, state, band));
    if (!turned)
      band.row.columns.slice(0, heat ? 1 : 3).forEach((value, i) => lane.append(svg("text", { class: "column", x: columnAt(scene, i), y: band.v + 4, "text-anchor": "end" }, value)));
    else if (footed(scene))
      band.row.columns.forEach((value, i) => lane.append(svg("text", { class: "column", "text-anchor": "end", transform: `translate(${band.v + 4} ${footAt(scene, i)}) rotate(-62)` }, value)));
    if (band.row.none) lane.append(svg("text", { class: "digit", ...pen(scene).at(8, band.v + (turned ? 0 : -3)) }, "no images"));
    dots(scene, lane, band);
    layer.append(lane);
    return { lane, band };
  });
  if (!turned && made.length)
    columnNames(model).slice(0, heat ? 1 : 3).forEach((name, i) => layer.append(svg("text", { class: "digit", x: columnAt(scene, i), y: bands.lanes[0].v0 - 4, "text-anchor": "end" }, name)));
  if (footed(scene))
    columnNames(model).forEach((name, i) => layer.append(svg("text", { class: "digit", x: bands.lanes[0].v0 - 22, y: footAt(scene, i) + 20, "text-anchor": "end" }, name)));
  return made;
}

// On a phone, columns stand under their lanes where these leave room for a line of text each.
export const footed = (scene) => scene.turned && !scene.heat && scene.bands.lanes.length > 0 && scene.bands.lanes[0].pitch >= 13;
const FOOT = 44;
const footAt = (scene, i) => scene.lead + scene.length + 16 + i * FOOT;

export function shape(scene, state, band) {
  if (band.row.none) {
    const draw = pen(scene);
    return svg("path", { class: "dotted", d: draw.move(0, band.v) + draw.line(scene.length, band.v) });
  }
  return state.show === "difference" && band.row.c != null ? differences(scene, band) : thickness(scene, band);
}

function thickness(scene, band) {
  const draw = pen(scene);
  const { start, size, model } = scene;
  const thick = (share) => Math.max(HAIRLINE, share * scene.bands.full);
  let d = "", stops = [];
  const end = () => ((d += ribbon(draw, stops, band.v)), (stops = []));
  for (const { site, form, u0, u1 } of scene.sites) {
    if (form === "station" || form === "part") {
      const u = start[site.start], width = size[site.start];
      stops.push(form === "part" ? [u, u + width * 0.48, scene.bands.full] : [], form === "part" ? [u + width * 0.6, u + width * 0.86, thick(band.row.value(site.start))] : [u + width * 0.16, u + width * 0.84, thick(band.row.value(site.start))]);
      stops = stops.filter((stop) => stop.length);
      continue;
    }
    end();
    for (const [from, to, share] of columns(scene, site, u0, u1, band.row.value)) {
      const t = thick(form === "fan" && model.energy ? Math.min(1, share * (site.units / 3.5)) : share);
      d += draw.rect(from, band.v - t / 2, to - from, t);
    }
  }
  end();
  return svg("path", { class: "flow", d });
}

// Bars of a site: one for each unit while there is room for it, else means of those that fall on a column.
function* columns({ model, start, size }, site, u0, u1, value) {
  const width = size[site.start];
  if (width >= 2.5) {
    const gap = width > 6 ? Math.min(3, width * 0.2) : 0.5;
    for (const unit of model.at.subarray(site.start, site.start + site.units)) yield [start[unit] + gap / 2, start[unit] + width - gap / 2, value(unit)];
    return;
  }
  const bins = Math.max(1, Math.floor((u1 - u0) / 1.5));
  for (let bin = 0; bin < bins; bin++) {
    const first = Math.floor((bin * site.units) / bins), last = Math.max(first + 1, Math.floor(((bin + 1) * site.units) / bins));
    let sum = 0;
    for (let p = first; p < last; p++) sum += value(model.at[site.start + p]);
    yield [u0 + (bin * (u1 - u0)) / bins, u0 + ((bin + 1) * (u1 - u0)) / bins, sum / (last - first)];
  }
}

function differences(scene, band) {
  const draw = pen(scene);
  const { model } = scene;
  const half = scene.bands.full * 0.6, most = model.energy ? 0.3 : 0.6;
  let over = "", under = "";
  for (const { site, u0, u1 } of scene.sites)
    for (const [from, to, value] of columns(scene, site, u0, u1, (u) => band.row.value(u) - model.mean[u])) {
      const t = Math.min(half, (Math.abs(value) / most) * half);
      if (t < 0.4) continue;
      const inset = to - from > 8 ? (to - from) * 0.2 : 0;
      const away = scene.turned ? value > 0 : value < 0; // over the mean is up, on a phone to the right
      const box = draw.rect(from + inset, away ? band.v : band.v - t, to - from - 2 * inset, t);
      if (value > 0) over += box;
      else under += box;
    }
  return svg("g", {}, svg("path", { class: "axis", d: draw.move(0, band.v) + draw.line(scene.length, band.v) }), svg("path", { class: "flow", d: over }), svg("path", { class: "outline", d: under }));
}

// Dots under bars: the code says that the class's images work there.
function dots(scene, lane, band) {
  const { model, start, size, turned } = scene;
  if (!model.code || band.row.c == null) return;
  let d = "";
  for (let u = 0; u < model.count; u++)
    if (model.code[band.row.c * model.count + u] && size[u] > 5) {
      const { x, y } = pen(scene).at(start[u] + size[u] / 2, band.v + (turned ? band.pitch * 0.4 : 12));
      d += `M${x - 1} ${y}a1 1 0 1 0 2 0a1 1 0 1 0 -2 0`;
    }
  lane.append(svg("path", { class: "dots", d }));
}

// One image: dots on its own class's lane where it opens.
export function imageDots(scene, layer, image) {
  layer.replaceChildren();
  const band = image && scene.bands.lanes.find(({ row }) => row.c === image.label);
  if (!band || scene.heat) return;
  for (const { site, form } of scene.sites)
    if (form === "station" && image.bits[site.start]) {
      const { x, y } = pen(scene).at(scene.start[site.start] + scene.size[site.start] / 2, band.v);
      layer.append(svg("circle", { class: "dot", cx: x, cy: y, r: 3.2 }));
    }
}

// "If shut alone": points of accuracy lost, or, where units are many, how much classes differ in them.
export function drawUnder(scene, layer) {
  const { bands, model, start, size, turned } = scene;
  if (!bands.under) return;
  const draw = pen(scene);
  const { alone, values } = underOf(model);
  const { v0, v1 } = bands.under;
  const known = [...values].filter((value) => value != null && value > 0).sort((a, b) => a - b);
  const top = alone ? known[Math.floor(known.length * 0.8)] || 1 : Math.max(0.05, known[known.length - 1] || 1);
  const room = turned ? v1 - v0 - 14 : alone ? 22 : 30;
  let free = -Infinity; // where the next number may begin
  const bar = (u, from, to) => {
    const value = values[u];
    if (value == null) return; // not tried: no bar, not one of nothing
    const [inset, v] = [(to - from) > 8 ? (to - from) * 0.22 : 0, v0];
    const w = to - from - 2 * inset;
    if (alone && value > top * 1.3) {
      layer.append(svg("path", { class: "loss", "data-unit": u, d: draw.rect(from + inset, v, w, room) + draw.rect(from + inset, v + room + 2, w, 5) }));
      const text = `\u2212${value < 9.95 ? one(value) : Math.round(value)}`, at = (from + to) / 2, half = text.length * 3.4;
      if (turned || at - half < free) return; // what finds no room is in the read-out
      free = at + half;
      layer.append(svg("text", { class: "digit", "text-anchor": "middle", ...draw.at(at, v + room + 20) }, text));
    } else layer.append(svg("path", { class: `loss${value < 0 ? " gain" : ""}`, "data-unit": u, d: draw.rect(from + inset, v, w, Math.max(0.6, (Math.min(top, Math.abs(value)) / top) * room)) }));
  };
  for (const { site, form, u0, u1 } of scene.sites)
    if (form === "box") {
      let d = "";
      for (const [from, to, value] of columns(scene, site, u0, u1, (u) => values[u] ?? 0)) d += draw.rect(from, v0, to - from, Math.max(0.6, Math.min(1, value / top) * room));
      layer.append(svg("path", { class: "loss", d }));
    } else for (let i = 0; i < site.units; i++) bar(model.at[site.start + i], start[model.at[site.start + i]], start[model.at[site.start + i]] + size[model.at[site.start + i]]);
  if (turned) layer.append(svg("text", { class: "name", transform: `translate(${v0 + 10} ${scene.lead - 12}) rotate(-62)` }, alone ? "if shut" : "differs"));
  else
    layer.append(svg("text", { class: "name plainer", x: scene.lead - 12, y: v0 + 9, "text-anchor": "end" }, alone ? "if shut alone" : "differs by class"),
      svg("text", { class: "digit", x: scene.lead - 12, y: v0 + 23, "text-anchor": "end" }, alone ? "points lost" : "deviation"));
}

// What is chosen of sub-networks, as a row's key.
export function chosenRow(model, state, set) {
  if (!model.nets) return null;
  const point = best(model, state.budget);
  const bits = [...set].map((value, u) => (value >= 0 ? value : point?.bits ? point.bits[u] : 1)).join("");
  return `net:${bits}`;
}

// What a share of the images says in points.
export const lost = (share, value = share * 100) => (value < 0 ? `${one(-value)} points gained` : `${one(value)} points lost`);
