// The page: reads one document, keeps one state, draws everything from the two.

import { copied, byId, html, put, set } from "./dom.js";
import { forced, imageOf, numbers } from "./answers.js";
import { costIn } from "./cost.js";
import { cutIn } from "./cut.js";
import { SCHEMA, bitsOf, fill, inflated, modelOf } from "./data.js";
import { galleryIn } from "./gallery.js";
import { gridOn } from "./grid.js";
import { drawLedger } from "./ledger.js";
import { empty, format, parse } from "./link.js";
import { liveOf } from "./live.js";
import { plural, whole } from "./numbers.js";
import { pictureIn } from "./picture.js";
import { underOf } from "./scene.js";
import { drawTable } from "./table.js";
import { sentence } from "./told.js";
import { twoIn } from "./two.js";

const app = { state: empty(), picture: null, live: null, model: null };

// In words, or what the model refused; null lets it go.
app.tell = (text) => {
  const banner = byId("banner");
  banner.textContent = text?.error ? `${text.error} ${text.remedy}` : text ?? "";
  banner.hidden = !text;
};

function refuse(text) {
  app.tell(text);
  byId("page").hidden = true;
}

async function read() {
  const inlined = byId("survey");
  if (inlined) return JSON.parse(inlined.textContent);
  const response = await fetch("api/survey");
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.error} ${answer.remedy}`);
  return answer;
}

async function start() {
  let doc;
  try {
    doc = await read();
  } catch (error) {
    return refuse(`No survey could be read (${error.message}). Make one: torchpaths survey RUN, then torchpaths explore RUN.`);
  }
  if (!doc || !doc.schema) return refuse("There is no survey in this page. Make one: torchpaths survey RUN, then torchpaths explore RUN --out explorer.html.");
  if (doc.schema !== SCHEMA) return refuse(`This is a ${doc.schema}, the page reads ${SCHEMA}. Make it anew with this version: torchpaths survey RUN.`);
  const model = (app.model = modelOf(doc));
  if (doc.page?.live) app.live = liveOf(app);
  const { overview } = doc.openness;
  if (overview) overview.bytes = { shape: overview.shape, data: await inflated(overview.data) };
  else await fill(model);
  heading(doc, model);
  app.picture = pictureIn(byId("picture"), app);
  app.grid = gridOn(byId("picture"), app);
  const panels = { cost: costIn, two: twoIn, cut: cutIn, gallery: galleryIn };
  app.panels = Object.entries(panels).map(([name, make]) => {
    const root = byId(name), panel = make(root, app);
    root.hidden = !panel;
    return panel;
  }).filter(Boolean);
  byId("panels").hidden = !byId("panels").querySelector("section:not([hidden])");
  listen();
  if (!model.open) {
    app.picture.draw(); // the overview first; what is exact after it is painted
    await new Promise((ready) => requestAnimationFrame(() => setTimeout(ready)));
    await fill(model);
  }
  await follow();
  document.body.dataset.ready = "yes";
}

function heading(doc, model) {
  const { network } = doc;
  document.title = `${network.name} on ${network.dataset} \u2013 Path Explorer`;
  byId("title").textContent = network.dataset ? `${network.name} on ${network.dataset}` : network.name;
  const where = doc.page?.live ? `live on ${doc.page.live}` : "saved report";
  const nan = model.missing.size ? `${whole(model.missing.size)} cells without a number` : "";
  const big = model.count > 500 ? `${whole(model.count)} ${plural(model.noun)} in ${model.sites.length} sites, ${whole(model.names.length)} classes` : "";
  const levels = doc.openness.levels && doc.openness.levels < 100 ? `shares to the nearest ${Math.round(100 / (doc.openness.levels - 1))}\u2009%` : "";
  const chance = model.chance && `units are drawn by chance${doc.page?.live ? ", anew for each answer" : ""}`;
  byId("about").textContent = [network.method.join(", ") || (model.outside ? "decided from outside" : model.chance ? "" : model.byInput ? "decided by each image" : "decided by the class"), chance, big, `survey of ${whole(network.images)} ${network.split ? `${network.split} ` : ""}images`, levels, where, nan].filter(Boolean).join(" \u00b7 ");
  const points = model.front.filter((p) => p.bits).length, all = 2 ** model.count, { nets } = model;
  byId("question").textContent = nets ? `${model.count < 20 ? whole(all) : "Many"} networks in one${points < all ? `, ${whole(points)} of them measured` : ""}` : model.energy ? `Which ${plural(model.noun)} carry a class` : `Which ${plural(model.noun)} open, class by class`;
  const say = model.energy ? `thickness = the ${model.noun}\u2019s share of the energy, as measured${model.code ? "; a dot = the code says it should" : ""}` : nets ? "a line through = it runs; nothing here depends on the class" : `share of images that open the ${model.noun}`;
  put(byId("legend"), html("span", {}, say), !nets && !model.energy && html("span", { class: "step" }, model.names.length > 40
    ? ["0", html("i", { class: "ramp" }), "100\u2009%"]
    : ["0", "50", "100"].map((share) => [html("i", { class: "thick", "data-share": share }), share === "100" ? "100\u2009%" : share])),
    underOf(model) && html("span", { class: "narrow" }, underOf(model).alone ? "bars at the right: points of accuracy lost if shut alone" : "bars at the right: standard deviation over classes"));
  put(byId("classes"), model.names.map((name) => html("option", { value: name })));
  byId("difference").hidden = nets;
  byId("find").hidden = model.names.length <= 12;
}

// What arrives by itself (answers, another width or theme) waits while a button of the mouse is down: a node that is replaced
// between press and release gets no click. What a hand does is drawn at once.
let frame = 0, pressed = false, owed = false;
app.draw = () => {
  if (pressed) return (owed = true);
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(render);
};

function released() {
  pressed = false;
  if (owed) app.draw();
  owed = false;
}

function render() {
  cancelAnimationFrame(frame);
  const { model, state } = app;
  if (!model?.open) return;
  if (app.live) app.live.want(forced(model, state), imageOf(model, state) ? null : state.class, imageOf(model, state));
  app.numbers = numbers(model, state, app.live);
  drawLedger(byId("ledger"), model, state, app.numbers, app.live);
  app.picture.draw();
  app.panels.forEach((panel) => panel.draw());
  drawTable(byId("table"), app);
  set(byId("difference"), { "aria-pressed": state.show === "difference" ? "true" : "false" });
  set(byId("as-table"), { "aria-pressed": state.view === "table" ? "true" : "false" });
  app.grid.show();
  readOut();
}

let written = Promise.resolve();
app.change = (act, { replace = false } = {}) => {
  act(app.state);
  render();
  const { state, model } = app;
  written = written.then(async () => {
    const link = (await format(state, model)) || location.pathname + location.search;
    history[replace ? "replaceState" : "pushState"](null, "", link);
  });
  return written;
};

async function follow() {
  const { state, problems } = await parse(location.hash, app.model, app.live);
  app.state = state;
  app.tell(problems.length ? `The link names what this survey does not have: ${problems.join(", ")}. The rest is kept.` : null);
  render();
}

app.toggleUnit = (unit) => app.change((state) => {
  const free = app.model.sites[app.model.siteOf[unit]].decided_by !== "input";
  if (state.shut.delete(unit)) free || state.open.add(unit);
  else if (!state.open.delete(unit)) state.shut.add(unit);
});
app.keepClass = (c) => app.change((state) => {
  state.class = state.class === c ? null : c;
  state.image = state.with = null;
});
app.chooseNet = (point) => app.change((state) => {
  state.budget = null;
  state.open = new Set();
  state.shut = new Set([...point.bits.keys()].filter((u) => !point.bits[u]));
});
app.openSite = (site, from) => app.change((state) => {
  const most = Math.max(0, app.model.sites[site].units - 64);
  if (state.site === site && from == null) state.site = null;
  else state.site = site;
  state.from = Math.max(0, Math.min(most, from ?? 0));
});
app.followImage = (id) => app.change((state) => {
  if (state.image === id) state.image = state.with = null;
  else if (state.with === id) state.with = null;
  else if (state.image == null) state.image = id;
  else state.with = id;
});
app.letGo = () => app.change((state) => Object.assign(state, { class: null, image: null, with: null, site: null, from: 0 }));
app.pin = (c) => app.change((state) => {
  state.pin = [c, ...state.pin.filter((other) => other !== c)].slice(0, 5);
  state.class = c;
  state.image = state.with = null;
});

app.upload = async (file) => {
  if (!file || !app.live) return;
  if (file.size > 20e6) return app.tell("That file is larger than 20\u2009MB; make the image smaller.");
  const found = await app.live.upload(file);
  if (!found) return;
  if (found.error) return app.tell(found);
  app.tell(null);
  const id = `upload-${found.id}`; // so that a link to it, when it is gone, can say what to do
  app.model.images.unshift({ ...found, id, upload: found.id, label: null, bits: bitsOf(found.path, app.model.count) });
  app.change((state) => Object.assign(state, { image: id, with: null, class: null }));
};

let spoken = 0, waiting = null;
function readOut() {
  const parts = sentence(app, app.picture.hot);
  put(byId("readout"), parts.map((part) => (part.strong ? html("b", {}, part.strong) : part.accent ? html("em", {}, part.accent) : part)));
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    spoken = Date.now();
    const text = byId("readout").textContent;
    if (byId("spoken").textContent !== text) byId("spoken").textContent = text;
  }, Math.max(0, spoken + 300 - Date.now()));
}

app.hover = (hot) => app.picture.point(hot) && readOut();

function listen() {
  addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("input, select")) return; // these are drawn anew by themselves while held
    pressed = true;
    cancelAnimationFrame(frame);
    owed = true;
  }, true);
  for (const name of ["pointerup", "pointercancel", "blur"]) addEventListener(name, () => setTimeout(released)); // behind the click
  const picture = byId("picture");
  let drag = null;
  picture.addEventListener("pointermove", (event) => {
    if (drag) {
      const { scene } = app.picture;
      const site = app.model.sites[app.state.site];
      const moved = (event.clientX - drag.x) / (app.picture.zoom == null ? scene.sites[app.state.site].u1 - scene.sites[app.state.site].u0 : scene.length);
      drag.far ||= Math.abs(event.clientX - drag.x) > 4;
      if (drag.far) app.change((state) => (state.from = Math.round(Math.max(0, Math.min(site.units - 64, drag.from + moved * site.units)))), { replace: true });
      return;
    }
    app.hover(app.picture.find(event));
  });
  picture.addEventListener("pointerleave", () => app.hover({}));
  picture.addEventListener("pointerdown", (event) => {
    app.grid.leave();
    const found = app.picture.find(event);
    if (found.means === "frame" && app.state.site != null) drag = { x: event.clientX, from: app.state.from, far: false };
  });
  addEventListener("pointerup", () => setTimeout(() => (drag = null)));
  picture.addEventListener("click", (event) => {
    if (drag?.far) return;
    const found = app.picture.find(event);
    if (found.row?.point) app.chooseNet(found.row.point);
    else if (found.means === "unit" && found.unit != null) app.toggleUnit(found.unit);
    else if (found.means === "site") app.openSite(found.site);
    else if (found.c != null) app.keepClass(found.c);
  });
  byId("reset").addEventListener("click", () => app.change((state) => Object.assign(state, { shut: new Set(), open: new Set(), budget: null })));
  byId("copy").addEventListener("click", async (event) => {
    await written;
    copied(location.href, event.target);
  });
  byId("difference").addEventListener("click", () => app.change((state) => (state.show = state.show ? null : "difference")));
  byId("as-table").addEventListener("click", () => app.change((state) => (state.view = state.view ? null : "table")));
  const find = byId("find-class");
  let entered = false; // Enter leaves the box for the picture; whoever clicks elsewhere stays there
  find.addEventListener("keydown", (event) => {
    entered = event.key === "Enter";
    if (event.key === "Escape") byId("picture").focus();
  });
  find.addEventListener("change", () => {
    const c = app.model.names.indexOf(find.value);
    if (c < 0) return app.tell(`No class is called \u201c${find.value}\u201d.`);
    app.tell(null);
    find.value = "";
    app.pin(c);
    if (entered) app.grid.go(c);
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
    event.preventDefault();
    byId("find").hidden = false;
    find.focus();
  });
  addEventListener("popstate", follow);
  addEventListener("hashchange", follow);
  let last = innerWidth;
  addEventListener("resize", () => last !== innerWidth && ((last = innerWidth), app.draw()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.draw());
  addEventListener("dragover", (event) => app.live && event.preventDefault());
  addEventListener("drop", (event) => app.live && (event.preventDefault(), app.upload(event.dataTransfer.files[0])));
}

start();
