// The state of the page and the link that keeps it: everything in the fragment, so that it works from a file.

import { imageOf } from "./answers.js";
import { partner } from "./two.js";
import { deflate, inflate } from "./data.js";

const LONGEST = 1500;

export const empty = () => ({
  class: null, pin: [], image: null, with: null, shut: new Set(), open: new Set(), budget: null, cut: new Set(),
  show: null, site: null, from: 0, view: null, rest: {},
});

const write = (text) => encodeURIComponent(text).replace(/%20/g, "+").replace(/%3A/g, ":");
const decoded = (text) => decodeURIComponent(text.replace(/\+/g, " "));

function classOf(model, text) {
  const found = model.names.indexOf(text);
  if (found >= 0) return found;
  const number = /^#(\d+)$/.exec(text);
  return number && +number[1] < model.names.length ? +number[1] : null;
}

// A class by its name where that says which, else by its number.
function classText(model, c) {
  const name = model.names[c];
  return model.names.indexOf(name) === c && !/[,#]/.test(name) ? name : `#${c}`;
}

// "layer4.1:592-600" -> unit numbers, null for what is not there.
function unitsOf(model, text) {
  const whole = model.sites.find((site) => site.name === text);
  if (whole) return Array.from({ length: whole.units }, (_, i) => whole.start + i);
  const parts = /^(.*):(\d+)(?:-(\d+))?$/.exec(text);
  const site = parts && model.sites.find((each) => each.name === parts[1]);
  if (!site) return null;
  const first = +parts[2], last = +(parts[3] ?? parts[2]);
  if (first > last || last >= site.units) return null;
  return Array.from({ length: last - first + 1 }, (_, i) => site.start + first + i);
}

function unitsText(model, units) {
  const out = [];
  for (const site of model.sites) {
    const own = [...units].filter((u) => u >= site.start && u < site.start + site.units).sort((a, b) => a - b);
    if (own.length === site.units) {
      out.push(site.name);
      continue;
    }
    for (let i = 0; i < own.length; ) {
      let j = i;
      while (own[j + 1] === own[j] + 1) j++;
      const first = own[i] - site.start, last = own[j] - site.start;
      out.push(`${site.name}:${first}${last > first ? `-${last}` : ""}`);
      i = j + 1;
    }
  }
  return out;
}

const list = (text) => text.split(",").filter(Boolean).map(decoded);

// Returns the state and what could not be understood, in words.
export async function parse(fragment, model, live) {
  const state = empty();
  const problems = [];
  const classes = (text) => list(text).flatMap((name) => classOf(model, name) ?? (problems.push(`class ${name}`), []));
  for (const pair of fragment.replace(/^#/, "").split("&").filter(Boolean)) {
    const [key, raw = ""] = [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)];
    try {
      if (key === "v") {
        if (raw !== "1") problems.push(`version ${raw}, this page reads 1`);
      } else if (key === "class") [state.class = null] = classes(raw);
      else if (key === "pin") state.pin = [...new Set(classes(raw))].slice(0, 5);
      else if (key === "cut") state.cut = new Set(classes(raw));
      else if (key === "image" || key === "with") state[key] = decoded(raw);
      else if (key === "shut" || key === "open")
        for (const name of list(raw))
          (unitsOf(model, name) ?? (problems.push(`unit ${name}`), [])).forEach((u) => state[key].add(u));
      else if (key === "path") await unpack(raw, state, model, problems);
      else if (key === "budget") {
        const found = /^(macs|ms):(\d*\.?\d+)$/.exec(decoded(raw));
        if (found && model.front.length) state.budget = { by: found[1], value: +found[2] };
        else problems.push(`budget ${decoded(raw)}`);
      } else if (key === "show" || key === "view") {
        const known = { show: "difference", view: "table" }[key];
        if (raw === known) state[key] = raw;
        else problems.push(`${key} ${decoded(raw)}`);
      } else if (key === "site") {
        const number = model.sites.findIndex((site) => site.name === decoded(raw));
        if (number < 0 || !model.boxed(model.sites[number])) problems.push(`site ${decoded(raw)}`);
        else state.site = number;
      } else if (key === "from") {
        if (/^\d+$/.test(raw)) state.from = +raw;
        else problems.push(`from ${decoded(raw)}`);
      } else state.rest[key] = raw;
    } catch {
      problems.push(`${key} (damaged)`);
    }
  }
  for (const u of state.open) state.shut.delete(u);
  const gone = (key) => problems.push(state[key].startsWith("upload-") ? "an image of your own (upload it again)" : `image ${state[key]}`);
  if (state.image != null && !model.images.some((i) => String(i.id) === state.image)) {
    gone("image");
    state.image = state.with = null;
  }
  const strength = /^fgsm-(\d+)$/.exec(state.with);
  if (strength && state.image != null) await live?.attack(imageOf(model, state), +strength[1]);
  if (state.with != null && state.image != null && !partner(model, state)) {
    gone("with");
    state.with = null;
  }
  state.from = state.site == null ? 0 : Math.max(0, Math.min(state.from, model.sites[state.site].units - 64));
  return { state, problems };
}

const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function unpack(text, state, model, problems) {
  const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  const bytes = await inflate(Uint8Array.from(raw, (c) => c.charCodeAt(0)), "deflate-raw");
  const each = Math.ceil(model.count / 8);
  if (bytes.length !== 2 * each) return problems.push("path of another network");
  for (let u = 0; u < model.count; u++) {
    const bit = 128 >> (u & 7);
    if (bytes[u >> 3] & bit) state.shut.add(u);
    if (bytes[each + (u >> 3)] & bit) state.open.add(u);
  }
}

async function packed(state, model) {
  const each = Math.ceil(model.count / 8);
  const bytes = new Uint8Array(2 * each);
  for (const u of state.shut) bytes[u >> 3] |= 128 >> (u & 7);
  for (const u of state.open) bytes[each + (u >> 3)] |= 128 >> (u & 7);
  return base64url(await deflate(bytes, "deflate-raw"));
}

export async function format(state, model) {
  const names = (classes) => [...classes].map((c) => write(classText(model, c))).join(",");
  const units = (set) => unitsText(model, set).map(write).join(",");
  const pairs = {
    class: state.class == null ? "" : names([state.class]),
    pin: names(state.pin),
    image: state.image == null ? "" : write(state.image),
    with: state.with == null ? "" : write(state.with),
    shut: units(state.shut),
    open: units(state.open),
    budget: state.budget ? `${state.budget.by}:${+state.budget.value.toPrecision(6)}` : "",
    cut: names(state.cut),
    show: state.show ?? "",
    view: state.view ?? "",
    site: state.site == null ? "" : write(model.sites[state.site].name),
    from: state.site == null ? "" : String(state.from),
    ...state.rest,
  };
  const joined = () => Object.entries(pairs).filter(([, value]) => value !== "").map((pair) => pair.join("=")).join("&");
  let text = joined();
  if (text.length > LONGEST) {
    pairs.shut = pairs.open = "";
    pairs.path = await packed(state, model);
    text = joined();
  }
  return text ? `#v=1&${text}` : "";
}
