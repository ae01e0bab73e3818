// Commands that the page prints: of the run it was made from, where that is known, so that they work as they stand.

export const quoted = (text) => (/^[\w.,+/~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

const runOf = (model) => model.doc.page?.run ?? "RUN";

export const command = (model, verb, ...more) => ["torchpaths", verb, quoted(runOf(model)), ...more].join(" ");

export const frontOf = (model) => quoted(`${runOf(model)}/front.json`);

export const needsModel = (model) => `needs the model: ${command(model, "explore")}`;
