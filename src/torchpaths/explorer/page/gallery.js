// Easy and hard images: a histogram of units open with thumbnails at their own bar; a site's top images where a window is open.

import { html, put, svg } from "./dom.js";
import { imageName } from "./two.js";
import { percent, plural, whole } from "./numbers.js";

const DEEP = 64;

export function galleryIn(root, app) {
  const { model } = app;
  const histogram = model.doc.histogram?.all ?? [];
  const total = histogram.reduce((a, b) => a + b, 0);
  if (!total || (histogram.filter(Boolean).length < 2 && !model.images.length)) return null;

  // Bins of so many units open that their bars stay wide enough for a thumbnail.
  function bins(width) {
    const first = histogram.findIndex(Boolean), last = histogram.findLastIndex(Boolean);
    const most = Math.max(1, Math.floor(width / (width < 608 ? 40 : 64)));
    const step = Math.ceil((last - first + 1) / most);
    const out = [];
    for (let from = first; from <= last; from += step) {
      const to = Math.min(last, from + step - 1);
      let n = 0;
      for (let k = from; k <= to; k++) n += histogram[k];
      out.push({ from, to, n });
    }
    return out;
  }

  const opened = new Set(); // bars, by where they begin, of which all images are shown

  // A bar's images in rows of as many as fit; what a third row would hold waits behind a button.
  function thumbs(own, { from, to }, room, all) {
    const found = own.filter(({ open }) => open >= from && open <= to);
    const each = Math.max(1, Math.floor(room / 40)), most = all || opened.has(from) ? found.length : 2 * each;
    const shown = found.slice(0, found.length > most ? most - 1 : most);
    const more = found.length - shown.length;
    return [shown.map(({ image }) => thumb(app, image)), more > 0 && html("button", {
      class: "more", "aria-label": `${whole(more)} more that open ${from === to ? whole(from) : `${whole(from)} to ${whole(to)}`}`,
      click: () => (opened.add(from), draw()) }, `+${whole(more)}`)];
  }

  function draw() {
    const { state } = app;
    const width = Math.max(280, Math.min(1216, root.clientWidth || 1216));
    const list = bins(width);
    const high = Math.max(...list.map(({ n }) => n));
    const every = model.images.map((image) => ({ image, open: image.bits.reduce((a, b) => a + b, 0) }));
    const ofClass = state.class == null ? [] : every.filter(({ image }) => image.label === state.class || image.upload);
    const alone = ofClass.some(({ image }) => !image.upload); // a selected class's images, where some were kept
    const own = alone ? ofClass : every;
    const upload = app.live && html("label", { class: "button" }, "Upload", html("input", { type: "file", accept: "image/*", class: "hidden", change: (event) => app.upload(event.target.files[0]) }));
    const columns = list.map(({ from, to, n }) => {
      const bar = html("div", { class: "count-bar", title: `${whole(n)} images` });
      bar.style.height = `${Math.max(n ? 1 : 0, (n / high) * DEEP)}px`;
      const label = from === to || from > 99 ? whole(from) : `${whole(from)}\u2013${whole(to)}`;
      return html("div", { class: "count" }, html("div", { class: "count-room" }, n === high && html("span", { class: "digit" }, whole(n)), bar), html("div", { class: n === high ? "digit strong" : "digit" }, label), thumbs(own, { from, to }, width / list.length - 3, alone));
    });
    const filters = state.site != null && model.doc.filters && topImages(app);
    return put(root, html("h2", {}, "Easy and hard images"),
      html("p", { class: "said" }, `How many ${plural(model.noun)} each of the ${whole(total)} images opens. `, kept(alone)),
      html("div", { class: "row" }, upload, alone && html("button", { click: () => app.change((s) => (s.class = null)) }, "Images of all classes")), html("div", { class: "counts" }, columns), html("div", { class: "ends" }, html("b", {}, "easy"), html("b", {}, "hard")), filters);
  }

  function kept(alone) {
    const c = app.state.class, n = whole(model.images.length);
    if (!model.images.length) return "";
    const follow = "Click one to follow it, a second one to compare.";
    if (alone) return [`Of ${n} kept images those of `, html("b", {}, model.names[c]), ` stand here. ${follow}`];
    return [`${n} of them ${model.images.length === 1 ? "was" : "were"} kept${c == null ? "" : [", none of ", model.names[c]].join("")}. ${follow}`];
  }
  return { draw };
}

function thumb(app, image) {
  const { model, state } = app;
  const id = String(image.id), name = model.names[image.label] ?? "uploaded";
  const role = state.image === id ? "first" : state.with === id ? "second" : "";
  return html("button", { class: `thumb ${role}`, "data-image": id, "aria-pressed": role ? "true" : "false", "aria-label": `${imageName(image)}, ${name}${image.top ? `, taken for ${model.names[image.top[0][0]]}, ${percent(image.top[0][1])}` : ""}`, click: () => app.followImage(id) },
    image.thumb ? html("img", { src: image.thumb, alt: "", width: 32, height: 32, loading: "lazy" }) : svg("svg", { width: 32, height: 32 }));
}

function topImages(app) {
  const { model, state } = app;
  const unit = app.picture.hot.unit ?? model.at[model.sites[state.site].start + state.from];
  const found = (model.doc.filters[unit] ?? []).map((id) => model.images.find((image) => String(image.id) === String(id))).filter(Boolean);
  return found.length > 0 && html("div", { class: "tops" }, html("h3", {}, `What ${model.label[unit]} answers to most`), found.slice(0, 9).map((image) => thumb(app, image)));
}
