// Where everything stands. One axis is depth: `u` runs along it, `v` across, so that a phone shows the same picture turned
// by 90 degrees. What is drawn at a site follows from how many units it has, never from the name of a method.

export const FORM = (site, model) =>
  model.boxed(site) ? "box" : site.units > 1 ? "fan" : model.outside && site.kind === "stage" ? "part" : "station";

const STAGE_GAP = 22;

function along(model, room, turned) {
  const sites = model.sites.map((site) => ({ site, form: FORM(site, model) }));
  const each = turned ? 24 : 36;
  const boxes = sites.filter(({ form }) => form === "box");
  const units = boxes.reduce((sum, { site }) => sum + site.units, 0);
  const wants = ({ site, form }) =>
    form === "box" ? 0 : form === "fan" ? site.units * (turned ? 24 : 14) : form === "part" ? (turned ? 96 : 220) : each;
  const stage = ({ site }) => site.stage || site.name;
  const gap = (a, b) => {
    if (a.form === "box" && b.form === "box") return 3;
    if (a.form === "fan" && b.form === "fan") return turned ? 20 : 0;
    if (a.form === "fan" || b.form === "fan") return turned ? 20 : 10;
    return stage(a) === stage(b) ? 0 : turned ? 6 : a.form === "part" ? 30 : STAGE_GAP;
  };
  const gaps = sites.slice(1).map((b, i) => gap(sites[i], b));
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const fixed = sum(sites.map(wants));
  const between = sum(gaps);
  let scale = 1, rest = 0;
  if (turned) rest = boxes.length ? Math.max(480, 30 * boxes.length) : 0;
  else {
    const left = Math.max(120, room - between);
    scale = boxes.length ? Math.min(1, (0.6 * left) / (fixed || 1)) : left / fixed;
    rest = left - fixed * scale;
  }
  let u = 0;
  sites.forEach((each, i) => {
    const length = each.form === "box" ? (rest * each.site.units) / units : wants(each) * scale;
    each.u0 = u;
    each.u1 = u += each.form === "box" && turned ? Math.max(length, 24) : length;
    if (i < gaps.length) u += gaps[i];
  });
  return { sites, length: u };
}

// The whole picture: spans of sites and units along `u`, bands across `v`.
// Whether there is something for the bars under the lanes, and what.
export function underOf(model) {
  const alone = !model.wide && model.doc.units.alone_points;
  if (alone) return { alone: true, values: alone.map((lost) => (lost == null ? null : lost * 100)) }; // shares, drawn in points
  const spread = model.outside ? [] : model.spread ?? model.doc.units.spread ?? [];
  return spread.some((value) => value > 0.005) ? { alone: false, values: spread } : null;
}

export function sceneOf(model, state, width, rows) {
  const turned = width < 640 - 32;
  const heat = rows.length > 40;
  const words = [...rows.slice(0, 40).map((row) => row.name), ...(heat ? rows.map((row) => row.group) : []), model.wide ? "click a filter to shut it" : "differs by class"];
  const names = turned ? 0 : Math.min(180, Math.max(104, 16 + 6.4 * Math.max(...words.map((word) => word.length))));
  const tail = turned ? 14 : heat ? 96 : model.nets ? 190 : 128;
  const { sites, length } = along(model, width - names - tail, turned);
  const start = new Float64Array(model.count), size = new Float64Array(model.count);
  for (const { site, form, u0, u1 } of sites) {
    const pad = form === "fan" && !turned ? 10 : 0;
    const step = (u1 - u0 - 2 * pad) / site.units;
    for (let p = 0; p < site.units; p++) {
      const unit = model.at[site.start + p];
      start[unit] = u0 + pad + p * step;
      size[unit] = step;
    }
  }
  const fans = sites.filter(({ form }) => form === "fan");
  const widest = Math.max(0, ...fans.map(({ site }) => site.units));
  const track = turned ? Math.min(8, 84 / (widest || 1)) : Math.min(13, 170 / (widest || 1));
  const boxed = sites.some(({ form }) => form === "box");
  const arcs = sites.some(({ form }) => form === "station" || form === "part");
  const up = Math.max(arcs ? (turned ? 34 : 42) : 0, boxed ? 26 : 0, (widest * track) / 2 + (widest ? 24 : 0));
  const down = Math.max(arcs ? 16 : 0, boxed ? 26 : 0, (widest * track) / 2);
  const header = !turned ? 34 : sites.some(({ form }) => form === "part") ? 74 : 66; // with room for what a stage's parts are
  const rail = { line: header + up, v0: header, v1: header + up + down, up, down, track };
  let v = rail.v1 + (turned ? 12 : 20);
  if (!turned) v += 14;
  const lanes = heat ? rows.filter((row) => state.pin.includes(row.c) || row.c === state.class) : rows;
  const grouped = !heat && rows.some((row) => row.group);
  const breaks = grouped ? rows.filter((row, i) => i && row.group !== rows[i - 1].group).length : 0;
  const under = underOf(model) ? (turned ? 52 : 56) : 4;
  const window = heat || boxed ? (state.site == null ? 0 : 1) : 0;
  let pitch = 25;
  if (turned) {
    const room = width - v - (heat ? 110 : Math.max(under, 22)) - (grouped ? 8 * breaks : 0);
    pitch = Math.max(3, Math.min(25, room / Math.max(1, lanes.length)));
  }
  const placed = lanes.map((row, i) => {
    if (grouped && i && row.group !== lanes[i - 1].group) v += turned ? 8 : 10;
    const found = { row, v0: v, v: v + pitch / 2, pitch };
    v += pitch;
    return found;
  });
  const bands = { lanes: placed, full: 19 * (pitch / 25) };
  if (heat) {
    v += lanes.length ? 10 : 0;
    const deep = turned ? Math.max(90, width - v - 8) : 300;
    bands.heat = { v0: v, v1: v + deep };
    v += deep;
  }
  if (under > 4 && !(turned && heat)) {
    bands.under = { v0: v + 10, v1: v + under - 4 };
    v += under;
  }
  bands.end = v;
  if (window && !turned) {
    bands.window = { v0: v + 44, rows: placed };
    v += 44 + 25 * Math.max(1, placed.length) + 26;
  }
  const lead = turned ? (heat && !placed.length ? 40 : 84) : names;
  const across = turned ? width : v + 6;
  const more = turned && window ? 60 + 25 * 64 : 0;
  if (turned && window) bands.window = { u0: lead + length + 44 + (!heat && pitch >= 13 ? 44 * (rows[0]?.columns?.length ?? 0) : 0), rows: placed };
  const foot = turned && !heat && pitch >= 13 ? 44 * (rows[0]?.columns?.length ?? 0) : 0; // for columns, as lanes draw them
  return {
    turned, heat, names, tail, sites, start, size, rail, bands, lead, length, rows, model,
    width, height: turned ? lead + length + 24 + foot + more : across, depth: lead + length,
    unitAt: (u) => unitAt(model, sites, start, size, u - lead),
  };
}

// The unit under a place on the axis: positions follow from the order, so this is a search, not a list of marks.
function unitAt(model, sites, start, size, u) {
  for (const { site, u0, u1 } of sites)
    if (u >= u0 - 1 && u < u1 + 1) {
      const first = model.at[site.start];
      const p = Math.max(0, Math.min(site.units - 1, Math.floor((u - start[first]) / size[first])));
      return model.at[site.start + p];
    }
  return null;
}

// Drawing in (u, v), whichever way the picture is turned.
export function pen(scene) {
  const point = (u, v) => {
    const x = (u + scene.lead).toFixed(2), y = v.toFixed(2);
    return scene.turned ? `${y} ${x}` : `${x} ${y}`;
  };
  return {
    move: (u, v) => `M${point(u, v)}`,
    line: (u, v) => `L${point(u, v)}`,
    curve: (a, b, c, d, e, f) => `C${point(a, b)} ${point(c, d)} ${point(e, f)}`,
    rect: (u, v, du, dv) => `M${point(u, v)}L${point(u + du, v)}L${point(u + du, v + dv)}L${point(u, v + dv)}Z`,
    box: (u, v, du, dv) => scene.turned
      ? { x: v, y: u + scene.lead, width: dv, height: du }
      : { x: u + scene.lead, y: v, width: du, height: dv },
    at: (u, v) => (scene.turned ? { x: v, y: u + scene.lead } : { x: u + scene.lead, y: v }),
  };
}

// A band of varying thickness: flat over each stop `[u0, u1, thickness]`, smooth between stops.
export function ribbon(pen, stops, middle) {
  if (!stops.length) return "";
  const side = (list, sign) => {
    let out = "";
    list.forEach(([a, b, t], i) => {
      const v = middle + (sign * t) / 2;
      if (i) {
        const [, last, before] = list[i - 1];
        const half = (last + a) / 2, w = middle + (sign * before) / 2;
        out += pen.curve(half, w, half, v, a, v);
      }
      out += pen.line(b, v);
    });
    return out;
  };
  const back = [...stops].reverse().map(([a, b, t]) => [b, a, t]);
  const [u, , t] = stops[0], [, w, z] = stops[stops.length - 1];
  return `${pen.move(u, middle - t / 2)}${side(stops, -1)}${pen.line(w, middle + z / 2)}${side(back, 1)}Z`;
}
