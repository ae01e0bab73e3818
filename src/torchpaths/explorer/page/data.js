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
export const inflated = (text) => inflate(bytesOf(text));
export const deflate = (bytes, form = "deflate") => through(new CompressionStream(form), bytes);

// uint8 [rows, columns], row by row, 255 = 100 %. They come column by column; of fewer levels as many as fit share a byte.
export async function unpacked({ data, shape: [rows, columns], levels }) {
  const bytes = await inflated(data);
  const each = Math.floor(Math.log(256) / Math.log(levels)), step = 255 / (levels - 1);
  const out = new Uint8Array(rows * columns);
  for (let i = 0, at = 0, row = 0, column = 0; at < out.length; i++)
    for (let k = 0, rest = bytes[i]; k < each && at < out.length; k++, at++, rest = Math.floor(rest / levels)) {
      out[row * columns + column] = Math.round((rest % levels) * step);
      if (++row === rows) (row = 0), column++;
    }
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
  // Where neither image nor class decides, and still some images alone open a unit, chance does.
  const set = sites.every((site) => site.decided_by === "outside"), drawn = (units.rate ?? []).some((rate) => rate > 0 && rate < 1);
  // A site of many units is a box, and so are all of several where there are too many to draw a track for each.
  const tracks = sites.reduce((sum, { units }) => sum + (units > 1 && units <= 32 ? units : 0), 0);
  const boxed = ({ units }) => units > (tracks > 320 ? 1 : 32);
  const model = {
    // [MACs, parameters, whether a decider, spans of units]: where they are not told, each unit is one by itself.
    terms: doc.layout?.terms ?? units.macs.map((macs, u) => [macs, units.params[u], 0, [u, u + 1]]),
    doc, names, order, sites, count, siteOf, label, at, position, noun, front, images,
    byInput: sites.some((site) => site.decided_by === "input"),
    chance: set && drawn, outside: set && !drawn, // the rows are networks then, where several were measured
    nets: set && !drawn && front.filter((point) => point.bits).length > 1,
    boxed, wide: sites.some(boxed),
    menu: doc.menu ?? {}, // of which run and images the front is
    open: null, energy: null, code: null, rate: null, missing: new Set(doc.openness.missing ?? []),
  };
  // By site, the units that must be open for it to run.
  model.around = sites.map(({ name }) => (doc.layout?.inside?.[name] ?? []).map(([outer, i]) => sites.find((site) => site.name === outer).start + i));
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
