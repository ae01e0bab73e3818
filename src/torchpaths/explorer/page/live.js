// The model behind the page, where there is one: what it answers is cached by path, and a newer click cancels an older one's.

import { measured } from "./answers.js";

const bitsText = (set) => [...set].map((value) => (value < 0 ? "-" : value)).join("");

export function liveOf(app) {
  const cache = new Map();
  const live = { gone: false };
  let running = null, timer = null;

  async function ask(address, options = {}) {
    const response = await fetch(address, options);
    const answer = await response.json();
    if (!response.ok && !answer.error) throw new Error(response.statusText);
    return answer;
  }

  const post = (address, body, signal) => ask(address, { method: "POST", signal, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

  function lost(error) {
    if (error.name === "AbortError") return;
    live.gone = true;
    app.tell("Saved numbers; the model no longer answers. Trying again\u2026");
    clearTimeout(timer);
    timer = setTimeout(() => ask("api/health").then(() => ((live.gone = false), (live.key = null), app.tell(null), app.draw()), lost), 3000);
    app.draw();
  }

  // Server-sent events of one answer that grows better: value, low, high, n, done.
  async function stream(address, signal, take) {
    const reader = (await fetch(address, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const line = text.slice(0, end).split("\n").find((each) => each.startsWith("data: "));
        if (line) take(JSON.parse(line.slice(6)));
      }
    }
  }

  const keyOf = (set, c, image) => `${bitsText(set)}/${image ? `image ${image.id}` : c ?? ""}`;

  const asked = ({ id, upload = null }) => ({ image: upload ? null : id, upload });

  // An image under FGSM becomes one of its attacked selves; whether it is there now.
  live.attack = async (image, strength) => {
    if (!(strength > 0) || image.attacked?.some((each) => each.name === "fgsm" && each.strength === strength)) return strength > 0;
    const found = await post("api/run", { ...asked(image), path: "-".repeat(app.model.count), attack: { name: "fgsm", strength } }).catch(lost);
    if (!found) return false;
    app.tell(found.error ? found : null);
    if (found.error) return false;
    (image.attacked ??= []).push(found);
    return true;
  };

  // Starts what is not known yet for what is set; called once for each new state.
  live.want = (set, c, image) => {
    const key = keyOf(set, c, image);
    if (live.key === key) return;
    live.key = key;
    running?.abort();
    const { signal } = (running = new AbortController());
    if (!set.some((value) => value >= 0) || cache.get(key)?.done) return;
    const path = bitsText(set);
    const answer = { ...cache.get(key), waiting: true };
    cache.set(key, answer);
    const arrived = (more) => {
      Object.assign(answer, more, { waiting: !more.done });
      app.draw();
    };
    const work = image
      ? post("api/run", { ...asked(image), path }, signal).then((found) => {
          if (found.error) return app.tell(found);
          arrived({ ...found, done: false });
        })
      : stream(`api/accuracy?path=${path}${c == null ? "" : `&label=${c}`}`, signal, (found) => {
          if (found.error) app.tell(found);
          else arrived({ ...found, done: false });
        });
    work.then(() => stream(`api/time?path=${path}`, signal, (found) => arrived({ ms: found.value, timed: { from: "live", plain: found.plain, setting: found.setting }, done: found.done }))).catch(lost);
  };

  live.answer = (set, c, image) => {
    const found = cache.get(keyOf(set, c, image));
    if (!found || (found.n == null && found.macs == null)) return null;
    const pending = { value: null, kind: "unknown", why: "being measured" };
    // Until it is over all images, or where they are not the survey's, it is no more than what it says of its own.
    const of = image ? {} : { from: found.all && app.model.doc.page.same ? "survey" : "live" };
    return {
      waiting: found.waiting, n: found.n,
      values: found.open ?? null,
      now: {
        open: measured(found.open.reduce((a, b) => a + b, 0), of), macs: measured(found.macs, of),
        ms: found.ms != null ? measured(found.ms, found.timed) : pending,
        accuracy: found.value == null ? pending : measured(found.value, { ...of, n: found.n, ...(found.low == null || found.all ? {} : { low: found.low, high: found.high }) }),
        top: found.top ?? null,
      },
    };
  };

  live.values = (set, c, image) => live.answer(set, c, image)?.values ?? null;
  live.cut = (classes, budget) => post("api/cut", { classes, budget }).catch((error) => (lost(error), { error: "The model no longer answers.", remedy: "" }));
  live.upload = (file) => {
    const body = new FormData();
    body.append("file", file);
    return ask("api/upload", { method: "POST", body }).catch((error) => (lost(error), null));
  };
  return live;
}
