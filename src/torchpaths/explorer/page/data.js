// A survey's document as the page uses it: arrays unpacked, units and classes by number, in the survey's order.

export const SCHEMA = "torchpaths.survey/2";

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

export const inflate = (bytes, form = "deflate") => through(new DecompressionStream(form), bytes);
export const deflate = (bytes, form = "deflate") => through(new CompressionStream(form), bytes);

// uint8 [rows, columns], 255 = 100 %; fewer levels come packed, three of six to a byte.
export async function unpacked(array) {
  const bytes = await inflate(bytesOf(array.data));
  const levels = array.levels ?? 256;
  if (levels > 16) return bytes;
  const each = Math.floor(Math.log(256) / Math.log(levels));
  const [rows, columns] = array.shape;
  const out = new Uint8Array(rows * columns);
  const step = 255 / (levels - 1);
  for (let i = 0, at = 0; at < out.length; i++)
    for (let k = 0, rest = bytes[i]; k < each && at < out.length; k++, rest = Math.floor(rest / levels))
      out[at++] = (rest % levels) * step;
  return out;
}

export function bitsOf(hex, count) {
  const bits = new Uint8Array(count);
  for (let i = 0; i < count; i++) bits[i] = (parseInt(hex.substr((i >> 3) * 2, 2), 16) >> (7 - (i & 7))) & 1;
  return bits;
}

// Everything but the large arrays, which come later through `fill`.
export function modelOf(doc) {
  const { classes, sites, units } = doc;
  const count = units.macs.length;
  const names = classes.name;
  const order = classes.order ?? names.map((_, i) => i);
  const siteOf = new Int32Array(count);
  const label = [];
  const at = new Int32Array(count); // display position -> unit
  const position = new Int32Array(count);
  sites.forEach((site, number) => {
    for (let i = 0; i < site.units; i++) {
      siteOf[site.start + i] = number;
      label[site.start + i] = site.units === 1 ? site.name : `${site.name}:${i}`;
      at[site.start + i] = site.start + (site.order?.length ? site.order[i] : i);
    }
  });
  at.forEach((unit, p) => (position[unit] = p));
  const kinds = [...new Set(sites.map((site) => site.kind ?? "block"))];
  const noun = kinds.length > 1 ? "unit" : { filters: "filter", branches: "branch" }[kinds[0]] ?? kinds[0];
  const front = (doc.front ?? []).map((point) => ({ ...point, bits: point.path && bitsOf(point.path, count) }));
  const images = (doc.images ?? []).map((image) => ({ ...image, bits: bitsOf(image.path, count) }));
  const model = {
    doc, names, order, sites, count, siteOf, label, at, position, noun, front, images,
    byInput: sites.some((site) => site.decided_by === "input"),
    outside: sites.every((site) => site.decided_by === "outside"),
    wide: sites.some((site) => site.units > 32),
    menu: doc.menu ?? {}, // of which run and images the front is
    open: null, energy: null, code: null, rate: null, missing: new Set(doc.openness.missing ?? []),
  };
  model.share = (c, u) => model.open[c * count + u] / 255;
  // What thickness says: energy where the network measured it, else the share of images that open the unit.
  model.flow = (c, u) => (model.energy ? model.energy[c * count + u] / 255 : model.share(c, u));
  return model;
}

export async function fill(model) {
  const { doc, count } = model;
  model.open = await unpacked(doc.openness);
  if (doc.energy) model.energy = await unpacked(doc.energy);
  if (doc.code) model.code = await unpacked(doc.code);
  settle(model);
}

// Means that follow from the arrays.
export function settle(model) {
  const { doc, count, names } = model;
  const mean = (array, weights) => {
    const sums = new Float64Array(count);
    let total = 0;
    names.forEach((_, c) => {
      total += weights[c];
      if (weights[c]) for (let u = 0; u < count; u++) sums[u] += (array[c * count + u] / 255) * weights[c];
    });
    return sums.map((sum) => sum / (total || 1));
  };
  const present = doc.classes.images.map((n) => (n > 0 ? 1 : 0));
  model.rate = doc.units.rate ? Float64Array.from(doc.units.rate) : mean(model.open, doc.classes.images);
  model.mean = mean(model.energy ?? model.open, present); // of the classes, each alike
  model.spread = doc.units.spread ?? model.mean.map(() => 0);
}

// MACs and parameters of what is open, `[unit]` of 0 to 1: what always runs and products of how many are open.
export function costOf(model, opened) {
  const { fixed, units, layout } = model.doc;
  let macs = fixed.macs, params = fixed.params;
  const terms = layout?.terms;
  if (!terms) {
    for (let u = 0; u < model.count; u++) (macs += units.macs[u] * opened[u]), (params += units.params[u] * opened[u]);
    return { macs, params };
  }
  const sums = new Float64Array(model.count + 1);
  for (let u = 0; u < model.count; u++) sums[u + 1] = sums[u] + opened[u];
  for (const [termMacs, termParams, , ...spans] of terms) {
    const times = spans.reduce((product, [start, stop]) => product * (sums[stop] - sums[start]), 1);
    macs += termMacs * times;
    params += termParams * times;
  }
  return { macs, params };
}

// The units that images of these classes open most, within a share of the plain MACs; as `Survey.path` chooses.
export function chosen(model, classes, budget) {
  const { doc, count } = model;
  const rates = new Float64Array(count);
  const total = classes.reduce((sum, c) => sum + doc.classes.images[c], 0) || 1;
  for (const c of classes)
    for (let u = 0; u < count; u++) rates[u] += (model.share(c, u) * doc.classes.images[c]) / total;
  if (model.code) return Uint8Array.from(rates, (_, u) => (classes.some((c) => model.code[c * count + u]) ? 1 : 0));
  if (budget == null) return Uint8Array.from(rates, (rate) => (rate >= 0.5 ? 1 : 0));
  const most = budget * doc.plain.macs;
  const opened = new Uint8Array(count);
  const byRate = [...rates.keys()].filter((u) => rates[u] > 0);
  byRate.sort((a, b) => rates[b] - rates[a] || doc.units.macs[a] - doc.units.macs[b] || a - b);
  let low = 0, high = byRate.length; // terms make each trial a sum over the network: halve for the first, then go on
  const upTo = (n) => (opened.fill(0), byRate.slice(0, n).forEach((u) => (opened[u] = 1)), costOf(model, opened).macs);
  while (low < high) {
    const mid = (low + high + 1) >> 1;
    if (upTo(mid) <= most) low = mid;
    else high = mid - 1;
  }
  upTo(low);
  for (const u of byRate.slice(low + 1, low + 400)) {
    opened[u] = 1;
    if (costOf(model, opened).macs > most) opened[u] = 0;
  }
  return opened;
}
