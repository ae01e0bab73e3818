// What paths cost, and which path some classes keep within a budget, as `torchpaths.layout` and `torchpaths.surveys.choose` say.

// MACs and parameters of what is open, `[unit]` of 0 to 1: what always runs, and terms times how many of their units are open.
// `asked` is the share of deciders that run: none of a cut, where nothing is decided any more.
export function costOf(model, opened, asked = 0) {
  const { fixed, layout } = model.doc;
  let macs = fixed.macs - (1 - asked) * (layout?.deciding?.macs ?? 0), params = fixed.params - (1 - asked) * (layout?.deciding?.params ?? 0);
  const sums = new Float64Array(model.count + 1);
  for (let u = 0; u < model.count; u++) sums[u + 1] = sums[u] + opened[u];
  for (const [termMacs, termParams, decides, ...spans] of model.terms) {
    const times = spans.reduce((product, [start, stop]) => product * (sums[stop] - sums[start]), decides ? asked : 1);
    macs += termMacs * times;
    params += termParams * times;
  }
  return { macs, params };
}

// The share of deciders that are asked while these units are set: a site that is set whole decides nothing. A survey knows what all
// of them cost together, so each counts alike.
export function askedBy(model, set) {
  const deciding = model.sites.filter((site) => site.decided_by === "input");
  const free = deciding.filter((site) => set.subarray(site.start, site.start + site.units).includes(-1));
  return free.length / (deciding.length || 1);
}

// The units that a cut for these classes keeps: their codewords', else what half of their images open, or within a budget of MACs
// (up to 1 a share of the plain network's) the most open first, of equals the outer, then the cheaper. Null where nothing fits.
export function chosen(model, classes, budget) {
  const { doc, count } = model;
  if (model.code) return Uint8Array.from({ length: count }, (_, u) => (classes.some((c) => model.code[c * count + u]) ? 1 : 0));
  const total = classes.reduce((sum, c) => sum + doc.classes.images[c], 0) || 1;
  const own = Float64Array.from({ length: count }, (_, u) => classes.reduce((sum, c) => sum + Math.round(model.share(c, u) * doc.classes.images[c]), 0) / total);
  const around = (u) => model.around[model.siteOf[u]];
  const rates = own.map((rate, u) => around(u).reduce((least, outer) => Math.min(least, own[outer]), rate));
  if (budget == null) return Uint8Array.from(rates, (rate) => (rate >= 0.5 ? 1 : 0));
  const opened = new Uint8Array(count);
  let left = Math.floor(budget <= 1 ? budget * doc.plain.macs : budget) - costOf(model, opened).macs;
  if (left < 0) return null;
  // Of each term how many units are open in each of its spans: what one more unit adds is their product without its own span.
  const terms = model.terms.filter(([, , decides]) => !decides), counts = terms.map(([, , , ...spans]) => spans.map(() => 0));
  const parts = Array.from({ length: count }, () => []);
  terms.forEach(([, , , ...spans], t) => spans.forEach(([start, stop], factor) => {
    for (let u = start; u < stop; u++) parts[u].push([t, factor]);
  }));
  const order = [...rates.keys()].sort((a, b) => rates[b] - rates[a] || around(a).length - around(b).length || doc.units.macs[a] - doc.units.macs[b] || a - b);
  for (const u of order) {
    if (!rates[u] || !around(u).every((outer) => opened[outer])) continue;
    const gain = parts[u].reduce((sum, [t, factor]) => sum + counts[t].reduce((product, n, i) => (i === factor ? product : product * n), terms[t][0]), 0);
    if (gain > left) continue;
    left -= gain;
    opened[u] = 1;
    for (const [t, factor] of parts[u]) counts[t][factor]++;
  }
  return opened;
}
