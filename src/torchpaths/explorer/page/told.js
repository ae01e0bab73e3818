// Sentences: what is under pointer or focus, for the read-out, and what a cell of the grid is called.

import { elsewhere, executedBy } from "./answers.js";
import { lost } from "./lanes.js";
import { amount, count, percent, plural, whole } from "./numbers.js";

// Of a point of the front at which gates decide otherwise than in the survey.
export const RAIL = "Gates decide at another threshold here: the numbers above are that point\u2019s; rail and lanes still show the survey\u2019s, since which units open then is not known.";

const strong = (text) => ({ strong: text });

function how(state, unit) {
  return state.shut.has(unit) ? "Shut by you." : state.open.has(unit) ? "Opened by you." : "";
}

// Parts of a sentence: texts, `{strong}` and `{accent}`.
export function sentence(app, hot) {
  const { model, state } = app;
  const { doc } = model;
  if (!model.open) return ["Reading the survey\u2026"];
  if (hot.row?.point) {
    const { point, pale, name } = hot.row;
    return [strong(name), `: ${percent(point.accuracy, 2)} right with ${percent(point.macs / doc.plain.macs)} of the MACs. `, pale ? "Another network is both cheaper and more accurate." : "Click to choose it."];
  }
  if (hot.unit != null) {
    const site = model.sites[model.siteOf[hot.unit]], name = model.label[hot.unit];
    const most = extremes(model, hot.unit);
    const parts = [strong(name)];
    if (hot.c != null) parts.push(` ${model.energy ? "carries" : "opens for"} ${percent(model.flow(hot.c, hot.unit))} of ${model.energy ? "the energy for" : "the images of"} `, strong(model.names[hot.c]), ", ");
    else parts.push(" ");
    if (model.energy) parts.push(`${percent(model.mean[hot.unit])} on average: `);
    else parts.push(`${hot.c == null ? "opens for " : ""}${percent(model.rate[hot.unit])} of all images: `);
    if (most) parts.push("most for ", strong(most.high), ` (${percent(most.top)}), least for `, strong(most.low), ` (${percent(most.bottom)}). `);
    else parts.push("as many of every class. ");
    parts.push(`${amount(doc.units.macs[hot.unit])} MACs, ${amount(doc.units.params[hot.unit])} parameters. `);
    const points = doc.units.alone_points?.[hot.unit];
    if (points != null) parts.push(`Shut alone: ${lost(points)}. `);
    const by = how(state, hot.unit);
    if (by) parts.push({ accent: `${by} ` });
    if (!model.boxed(site)) parts.push(by ? "Click to change it." : `Click it on the rail to shut it.`);
    return parts;
  }
  if (hot.c != null) {
    const n = doc.classes.images[hot.c];
    if (!n) return [strong(model.names[hot.c]), ": no images of this class in the survey."];
    const mean = executedBy(model, hot.c);
    return [strong(model.names[hot.c]), `: ${mean == null ? "" : `${count(mean)} of ${whole(model.count)} ${plural(model.noun)} open, `}`, doc.classes.accuracy[hot.c] == null ? "" : `${percent(doc.classes.accuracy[hot.c], 1)} of ${whole(n)} images right. `, app.state.class === hot.c ? "Click to let go." : "Click to keep it."];
  }
  if (hot.site != null) {
    const site = model.sites[hot.site];
    let sum = 0;
    for (let i = 0; i < site.units; i++) sum += (app.picture.shown?.values ?? model.rate)[site.start + i];
    return [strong(site.name), `, ${whole(site.units)} ${model.noun}s: ${percent(sum / site.units)} open. `, app.state.site === hot.site ? "Click a place of it to move the window." : "Click to look into it."];
  }
  if (elsewhere(model, state)) return [RAIL];
  const why = app.numbers?.changed && app.numbers.now.accuracy.value == null && app.numbers.now.accuracy.why;
  if (why && !app.live) return [`What this path gets right ${why}. `, "Shut one unit alone, or turn the dial, for numbers that were measured."];
  if (model.nets) return ["Lanes are networks that were measured; pale ones another beats in cost and accuracy. ", strong("w"), " whole, ", strong("s"), " short."];
  if (model.wide) return [`Click a box of the rail to look into it; type / and a class name to pin its lane.`];
  if (model.sites.every((site) => site.units > 1)) return [`Each line through a block is a ${model.noun}, the thin one around them the shortcut that everything takes. Point at a class to see its own. `, strong(`Click a ${model.noun} on the rail to shut it`), "; the numbers above change at once."];
  return [`Images that open a ${model.noun} run straight through its station; the others take the shortcut above. `, strong(`Click a ${model.noun} to shut it`), "; the numbers above change at once."];
}

function extremes(model, unit) {
  let high = -1, low = -1;
  model.names.forEach((_, c) => {
    if (!model.doc.classes.images[c]) return;
    if (high < 0 || model.flow(c, unit) > model.flow(high, unit)) high = c;
    if (low < 0 || model.flow(c, unit) < model.flow(low, unit)) low = c;
  });
  if (high < 0 || model.flow(high, unit) - model.flow(low, unit) < 0.005) return null;
  return { high: model.names[high], top: model.flow(high, unit), low: model.names[low], bottom: model.flow(low, unit) };
}

// "layer3.2, cat, opens for 33 per cent, shut by you"
export function cellName(app, row, unit) {
  const { model, state } = app;
  const who = row?.name ?? "all images";
  const share = row ? row.value(unit) : model.rate[unit];
  const what = row?.point ? (share ? "runs" : "is skipped") : row?.none ? "no images" : `${model.energy && row ? "carries" : "opens for"} ${Math.round(share * 100)} per cent`;
  return [model.label[unit], who, what, how(state, unit).toLowerCase().replace(".", "")].filter(Boolean).join(", ");
}
