// The heat map of many rows: for each pixel the mean of the cells under it, through a table of 256 colours, in one
// `putImageData`. It is redrawn on resize, theme and zoom only; what moves lies above it in SVG.

import { svg } from "./dom.js";
import { pen } from "./scene.js";
import { middle } from "./numbers.js";

const RAMP = { light: ["faf8f3", "ccdae3", "89abc4", "427399", "103456"], dark: ["181f27", "26425a", "4f80a8", "8bbadb", "e2f0fa"] };

export function table(dark) {
  const stops = RAMP[dark ? "dark" : "light"].map((hex) => [0, 2, 4].map((i) => parseInt(hex.substr(i, 2), 16)));
  const out = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * 4, low = Math.min(3, Math.floor(at));
    const [r, g, b] = stops[low].map((value, k) => Math.round(value + (stops[low + 1][k] - value) * (at - low)));
    out[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return out;
}

// Columns of pixels -> the display positions under each; -1 between sites.
function spans(scene, zoom, pixels) {
  const first = new Int32Array(pixels).fill(-1), last = new Int32Array(pixels);
  const list = zoom == null ? scene.sites : [{ ...scene.sites[zoom], u0: 0, u1: scene.length }];
  for (const { site, u0, u1 } of list) {
    const [a, b] = [u0, u1].map((u) => Math.round((u / scene.length) * pixels));
    for (let x = a; x < b; x++) {
      const from = Math.floor(((x - a) / (b - a)) * site.units);
      first[x] = site.start + from;
      last[x] = site.start + Math.max(from + 1, Math.floor(((x + 1 - a) / (b - a)) * site.units));
    }
  }
  return { first, last };
}

export function paint(scene, canvas, dark, zoom) {
  const { bands, model, turned } = scene;
  const ratio = Math.min(2, devicePixelRatio || 1);
  const deep = bands.heat.v1 - bands.heat.v0;
  const [du, dv] = [Math.round(scene.length * ratio), Math.round(deep * ratio)];
  const [width, height] = turned ? [dv, du] : [du, dv];
  Object.assign(canvas, { width, height });
  Object.assign(canvas.style, {
    left: `${turned ? bands.heat.v0 : scene.lead}px`, top: `${turned ? scene.lead : bands.heat.v0}px`,
    width: `${width / ratio}px`, height: `${height / ratio}px`,
  });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const colours = table(dark), out = new Uint32Array(picture.data.buffer);
  const { first, last } = spans(scene, zoom, du);
  const rows = model.order.length, count = model.count, overview = !model.open && model.doc.openness.overview?.bytes;
  const sums = new Float64Array(count + 1), cell = new Uint8Array(du);
  for (let y = 0, done = -1, r1 = 0; y < dv; y++) {
    const r0 = Math.floor((y * rows) / dv);
    r1 = Math.max(r0 + 1, Math.floor(((y + 1) * rows) / dv));
    if (r0 !== done || r1 - r0 > 1) {
      done = r0;
      if (overview) coarse(model, overview, (r0 + r1) / 2 / rows, first, last, cell);
      else {
        for (let x = 0; x < du; x++) {
          if (first[x] < 0) continue;
          let sum = 0, n = 0;
          // Every cell where few lie under a pixel, an even sample of at most 16 units where many do.
          const step = Math.max(1, Math.floor((last[x] - first[x]) / 16));
          for (let r = r0; r < r1; r++)
            for (let p = first[x], base = model.order[r] * count; p < last[x]; p += step) (sum += model.open[base + model.at[p]]), n++;
          cell[x] = sum / n;
        }
      }
    }
    for (let x = 0; x < du; x++) out[turned ? x * dv + y : y * du + x] = first[x] < 0 ? 0 : colours[cell[x]];
  }
  hatch(scene, out, first, last, du, dv, colours);
  context.putImageData(picture, 0, 0);
  return sums;
}

function coarse(model, { shape: [rows, columns], data }, at, first, last, cell) {
  const row = Math.min(rows - 1, Math.floor(at * rows)) * columns;
  for (let x = 0; x < cell.length; x++)
    if (first[x] >= 0) cell[x] = data[row + Math.min(columns - 1, Math.floor(((first[x] + last[x]) / 2 / model.count) * columns))];
}

// Cells that hold no number are hatched.
function hatch(scene, out, first, last, du, dv, colours) {
  const { model, turned } = scene;
  if (!model.missing.size) return;
  const rows = model.order.length;
  const rowOf = new Map(model.order.map((c, r) => [c, r]));
  for (const index of model.missing) {
    const r = rowOf.get(Math.floor(index / model.count)), p = model.position[index % model.count];
    const y0 = Math.floor((r * dv) / rows), y1 = Math.max(y0 + 1, Math.floor(((r + 1) * dv) / rows));
    for (let x = 0; x < du; x++)
      if (first[x] >= 0 && p >= first[x] && p < last[x])
        for (let y = y0; y < y1; y++) out[turned ? x * dv + y : y * du + x] = (x + y) % 4 < 2 ? colours[255] : colours[0];
  }
}

// Names of groups at the left, triangles for pinned rows at the right, the frame of the window.
export function annotate(scene, state, layer) {
  const { bands, model, turned } = scene;
  const { v0, v1 } = bands.heat, rows = model.order.length;
  const at = (r) => v0 + ((r + 0.5) / rows) * (v1 - v0);
  const groups = model.doc.classes.group;
  if (groups)
    for (let r = 0; r < rows; ) {
      let end = r;
      while (end < rows && groups[model.order[end]] === groups[model.order[r]]) end++;
      const span = ((end - r) / rows) * (v1 - v0);
      const name = groups[model.order[r]];
      const own = state.class != null && groups[state.class] === name;
      if (!turned && span > 13)
        layer.append(svg("text", { class: `digit${own ? " strong" : ""}`, x: scene.lead - 12, y: (at(r) + at(end - 1)) / 2 + 4, "text-anchor": "end" }, middle(name, 26)));
      if (!turned) layer.append(svg("path", { class: "axis", d: `M${scene.lead - 7} ${at(end - 1) + (v1 - v0) / rows / 2}h5` }));
      r = end;
    }
  if (turned) return;
  const pins = [...new Set([...(state.class == null ? [] : [state.class]), ...state.pin])];
  pins.forEach((c) => {
    const y = at(model.order.indexOf(c)), x = scene.lead + scene.length + 4;
    layer.append(svg("path", { class: c === state.class ? "mark accent" : "mark", d: `M${x} ${y}l6 -3.5v7z` }),
      svg("text", { class: c === state.class ? "digit accent" : "digit", x: x + 9, y: y + 4 }, middle(model.names[c], 13)));
  });
}

// Two thin lines from the frame to the window of 64 units, and those units as bars that can be clicked.
export function drawWindow(scene, state, layer, zoomed) {
  const { model, turned, bands } = scene;
  const { site, u0, u1 } = scene.sites[state.site];
  const shown = Math.min(64, site.units);
  const from = Math.max(0, Math.min(state.from, site.units - shown));
  const draw = pen(scene);
  const [a, b] = zoomed && bands.heat ? [0, scene.length] : [u0, u1];
  const f0 = a + ((b - a) * from) / site.units, f1 = a + ((b - a) * (from + shown)) / site.units;
  const end = bands.heat ? bands.heat.v1 : bands.lanes[bands.lanes.length - 1]?.pitch + bands.lanes[bands.lanes.length - 1]?.v0 || bands.end;
  const begin = bands.heat ? bands.heat.v0 : bands.lanes[0]?.v0 ?? scene.rail.v1;
  const frame = svg("rect", { class: "frame", ...draw.box(f0 - 1, begin - 2, f1 - f0 + 2, end - begin + 4) });
  layer.append(frame);
  const found = { from, shown, site, cells: [], frame };
  const title = `${site.name}, ${model.noun}s ${from} to ${from + shown - 1} in the survey\u2019s order`;
  const rows = bands.window.rows.length ? bands.window.rows : [];
  if (turned) {
    const top = bands.window.u0;
    layer.append(svg("text", { class: "strong", x: 0, y: top - 14 }, `${site.name}, ${from} to ${from + shown - 1}`));
    found.across = { x0: 56, x1: scene.width - 8, y0: top, step: 24 };
    const wide = (scene.width - 64) / Math.max(1, rows.length || 1);
    for (let i = 0; i < shown; i++) {
      const unit = model.at[site.start + from + i], y = top + i * 24;
      layer.append(svg("text", { class: `digit${state.shut.has(unit) ? " accent" : ""}`, x: 0, y: y + 16 }, unit - site.start));
      (rows.length ? rows.map(({ row }) => row) : [{ value: (u) => model.rate[u] }]).forEach((row, k) => layer.append(svg("rect", { class: `cell${row.c != null && row.c === state.class ? " accent" : ""}`, x: 56 + k * wide, y: y + 6, width: Math.max(1, row.value(unit) * (wide - 10)), height: 12 })));
      if (state.shut.has(unit)) layer.append(svg("rect", { class: "station shut", x: 52, y: y + 1, width: scene.width - 60, height: 22, rx: 3 }));
      found.cells.push(unit);
    }
    return found;
  }
  const top = bands.window.v0;
  const wide = scene.length / shown;
  const under = bands.under ? bands.under.v1 - 8 : end + 4;
  layer.append(svg("path", { class: "thin", d: `${draw.move(f0, end)}${draw.line(f0, under)}${draw.curve(f0, under + 18, 0, under, 0, top - 18)}${draw.move(f1, end)}${draw.line(f1, under)}${draw.curve(f1, under + 18, scene.length, under, scene.length, top - 18)}` }),
    svg("text", { class: "strong", x: scene.lead + 8, y: top - 10 }, title));
  const list = rows.length ? rows : [{ row: { name: "all images", value: (u) => model.rate[u] } }];
  list.forEach(({ row }, k) => {
    const v = top + 12 + k * 25;
    const hot = row.c != null && row.c === state.class;
    let d = "";
    for (let i = 0; i < shown; i++) {
      const t = Math.max(0.9, row.value(model.at[site.start + from + i]) * 19);
      d += draw.rect(i * wide + 1, v - t / 2, wide - 2, t);
    }
    layer.append(svg("path", { class: `cell${hot ? " accent" : ""}`, "data-window": row.key ?? "all", d }), svg("text", { class: `name${hot ? " accent" : ""}`, x: scene.lead - 12, y: v + 4, "text-anchor": "end" }, middle(row.name, 24)));
  });
  for (let i = 0; i < shown; i++) {
    const unit = model.at[site.start + from + i];
    found.cells.push(unit);
    if (!state.shut.has(unit) && !state.open.has(unit)) continue;
    layer.append(svg("rect", { class: state.shut.has(unit) ? "station shut" : "station forced", rx: 2, ...draw.box(i * wide, top - 3, wide, 25 * list.length + 6) }),
      svg("text", { class: "digit accent", "text-anchor": "middle", ...draw.at((i + 0.5) * wide, top + 25 * list.length + 16) }, `${unit - site.start}`));
  }
  layer.append(svg("text", { class: "digit", x: scene.lead - 12, y: top + 25 * list.length + 16, "text-anchor": "end" }, `click a ${model.noun} to shut it`));
  found.along = { u0: 0, u1: scene.length, v0: top - 3, v1: top + 25 * list.length + 3 };
  return found;
}
