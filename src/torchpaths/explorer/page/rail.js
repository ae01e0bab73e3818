// The rail: the network for one selection. The line runs through a station when the unit opens and over it, on the shortcut,
// when not; thickness through and over together are constant. Nodes are made once, `update` only sets their attributes.

import { set, svg } from "./dom.js";
import { pen, ribbon } from "./scene.js";
import { percent } from "./numbers.js";

const MANY = 11, SINGLE = 5;

export function drawRail(scene, layer) {
  const { rail, sites, model, turned } = scene;
  const draw = pen(scene);
  const line = svg("path", { class: "flow through" });
  const marks = [];
  layer.append(line);
  for (const { site, form, u0, u1 } of sites) {
    const parts = { site, form, u0, u1, units: [] };
    if (form === "box") {
      parts.box = svg("rect", { class: "station", rx: 4, ...draw.box(u0, rail.line - 24, u1 - u0, 48) });
      layer.insertBefore(parts.box, line);
      const at = draw.at((u0 + u1) / 2, rail.line + 38);
      parts.text = svg("text", { class: "digit", ...at, "text-anchor": turned ? "start" : "middle" });
      if (!turned && u1 - u0 > 16) layer.append(parts.text);
    } else if (form === "fan") fan(scene, draw, layer, parts);
    else station(scene, draw, layer, parts, line);
    marks.push(parts);
  }
  const ends = svg("g");
  for (const parts of marks.filter(({ form }) => form === "fan"))
    for (const u of [parts.u0, parts.u1])
      ends.append(svg("circle", { class: "junction", r: 4.5, cx: draw.at(u, rail.line).x, cy: draw.at(u, rail.line).y }));
  layer.append(ends);
  return { update: (values, look) => update(scene, draw, line, marks, values, look, model), marks, line };
}

function station(scene, draw, layer, parts, line) {
  const { rail, model, start, size, turned } = scene;
  const unit = parts.site.start, u = start[unit], width = size[unit];
  const part = parts.form === "part";
  const inner = part ? width * 0.36 : Math.min(20, width * 0.62);
  const middle = part ? u + width * 0.72 : u + width / 2;
  if (part) {
    layer.insertBefore(svg("rect", { class: "station always", rx: 4, ...draw.box(u + width * 0.06, rail.line - 14, width * 0.36, 28) }), line);
    const [first, second] = (parts.site.note || "always|may be skipped").split("|");
    const room = turned ? 86 : width * 0.46;
    const fits = (text) => [text, text.split(":")[0], ""].find((each) => each.length * 6 < room);
    const place = (share) => (turned ? { x: rail.line - 17, y: draw.at(u + width * share, 0).y + 5, "text-anchor": "end" } : { "text-anchor": "middle", ...draw.at(u + width * share, rail.line + 30) });
    layer.append(svg("text", { class: "digit", ...place(0.24) }, fits(first)), svg("text", { class: "digit", ...place(0.72) }, fits(second ?? "")));
  }
  const box = svg("rect", { class: "station", rx: part ? 4 : 5, "data-unit": unit, ...draw.box(middle - inner / 2, rail.line - 13, inner, 26) });
  const arc = svg("path", { class: "arc" });
  layer.insertBefore(box, line);
  layer.insertBefore(arc, line);
  const half = part ? inner / 2 + width * 0.06 : Math.min(width / 2, 15);
  const top = rail.line - (part ? 32 : 34);
  const [a, b] = [middle - half, middle + half];
  const d = draw.move(a, rail.line) + draw.curve(a + half * 0.55, rail.line, a + half * 0.25, top, a + half * (part ? 0.5 : 0.9), top)
    + draw.line(b - half * (part ? 0.5 : 0.9), top) + draw.curve(b - half * 0.25, top, b - half * 0.55, rail.line, b, rail.line);
  arc.setAttribute("d", d);
  const name = parts.site.name.startsWith(`${parts.site.stage}.`) ? parts.site.name.slice(parts.site.stage.length + 1) : "";
  if (!turned && !part && width > 11) layer.append(svg("text", { class: "digit", "text-anchor": "middle", ...draw.at(middle, rail.line + 29) }, name || model.label[unit]));
  parts.units.push({ unit, box, arc, stop: [middle - inner / 2 + 2, middle + inner / 2 - 2] });
}

function fan(scene, draw, layer, parts) {
  const { rail, model, turned } = scene;
  const { site, u0, u1 } = parts;
  const top = rail.line - (site.units * rail.track) / 2 - 14;
  const width = u1 - u0, bend = turned ? 11 : Math.min(34, width * 0.3);
  layer.append(svg("path", { class: "thin", d: draw.move(u0, rail.line) + draw.curve(u0 + bend / 2, rail.line, u0 + bend / 3, top, u0 + bend, top)
    + draw.line(u1 - bend, top) + draw.curve(u1 - bend / 3, top, u1 - bend / 2, rail.line, u1, rail.line) }));
  const tracks = svg("g"), labels = svg("g");
  layer.append(tracks, labels);
  for (let i = 0; i < site.units; i++) {
    const unit = model.at[site.start + i];
    const v = rail.line + (i - (site.units - 1) / 2) * rail.track;
    const d = draw.move(u0, rail.line) + draw.curve(u0 + bend * 0.5, rail.line, u0 + bend * 0.5, v, u0 + bend, v)
      + draw.line(u1 - bend, v) + draw.curve(u1 - bend * 0.5, v, u1 - bend * 0.5, rail.line, u1, rail.line);
    const arc = svg("path", { class: "track", d });
    tracks.append(arc);
    const middle = draw.at(turned ? scene.start[unit] + scene.size[unit] / 2 : (u0 + u1) / 2, v); // on a phone in the unit's own row
    const box = svg("rect", { class: "station", "data-unit": unit, rx: 3, x: middle.x - (turned ? 5.5 : 7), y: middle.y - 5.5, width: turned ? 11 : 14, height: 11 });
    if (rail.track >= (turned ? 7 : 9)) labels.append(box, svg("text", { class: "tiny", x: middle.x, y: middle.y + 3.5, "text-anchor": "middle" }, unit - site.start));
    parts.units.push({ unit, box, arc, v });
  }
}

function update(scene, draw, line, marks, values, look, model) {
  const { rail, length, turned } = scene;
  const full = look.single ? SINGLE : MANY;
  const runs = [[[-8, 0, full]]];
  for (const parts of marks) {
    const last = () => runs[runs.length - 1];
    if (parts.form === "box") {
      let share = 0;
      for (let unit = parts.site.start; unit < parts.site.start + parts.site.units; unit++) share += values[unit];
      share /= parts.site.units;
      last().push([parts.u0 + 2, parts.u1 - 2, share * 42]);
      parts.text.textContent = percent(share).slice(0, -2);
      set(parts.box, { class: `station${look.site === parts.site ? " opened" : ""}` });
    } else if (parts.form === "fan") {
      last().push([parts.u0, parts.u0, 2]);
      runs.push([[parts.u1, parts.u1, 2]]);
      for (const { unit, box, arc } of parts.units) {
        const on = look.coded ? look.coded(unit) : values[unit] > 0.5;
        set(arc, { class: `track${on ? " on" : ""}`, "stroke-width": Math.max(0.9, Math.min(rail.track - 1.5, values[unit] * (look.coded ? 30 : 9))).toFixed(2) });
        set(box, { class: `station${hand(look, unit)}${on ? " on" : ""}` });
      }
    } else
      for (const { unit, box, arc, stop } of parts.units) {
        const through = values[unit] * full, over = full - through;
        last().push([...stop, through]);
        set(arc, { class: `arc${over > full / 2 ? " major" : ""}${over < 0.05 ? " none" : ""}`, "stroke-width": over.toFixed(3) });
        set(box, { class: `station${hand(look, unit) || (parts.form === "part" && !values[unit] ? " shut" : "")}` });
      }
  }
  runs[runs.length - 1].push([length, length + 8, full]);
  line.setAttribute("d", runs.map((stops) => ribbon(draw, shaped(stops), rail.line)).join(""));
  set(line.parentNode, { class: `rail${look.accent ? " accent" : ""}${turned ? " turned" : ""}` });
}

// Between two stations the line has its whole thickness again, where there is room for it.
function shaped(stops) {
  const full = Math.max(stops[0][2], 2);
  return stops.flatMap((stop, i) => {
    const next = stops[i + 1];
    if (!next || stop[2] > full || next[2] > full || next[0] - stop[1] < 9 || full < 3) return [stop];
    const middle = (stop[1] + next[0]) / 2, flat = Math.max(0, (next[0] - stop[1]) / 2 - 5);
    return [stop, [middle - flat, middle + flat, full]];
  });
}

const hand = (look, unit) => (look.shut.has(unit) ? " shut" : look.open.has(unit) ? " forced" : "");
