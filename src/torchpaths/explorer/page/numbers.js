// How numbers are written: thin space before units, a true minus, no more digits than are known.

const THIN = "\u2009";
const MINUS = "\u2212";
export const DASH = "\u2013";

const minus = (text) => text.replace("-", /[1-9]/.test(text) ? MINUS : ""); // nothing is less than no

export const whole = (value) => minus(Math.round(value).toLocaleString("en-US"));
export const one = (value) => minus(value.toFixed(1));
export const percent = (share, digits = 0) => `${minus((share * 100).toFixed(digits))}${THIN}%`;

// Three significant digits, never as a power of ten.
export function three(value) {
  const size = Math.abs(value);
  return minus(value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3));
}

export function amount(value) {
  const size = Math.abs(value);
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= unit * 0.9995) return `${three(value / unit)}${THIN}${name}`;
  return whole(value);
}

export const ms = (value) => `${three(value)}${THIN}ms`;
export const signed = (text) => (text.startsWith(MINUS) ? text : /[1-9]/.test(text) ? `+${text}` : `\u00b1${text}`);

// Units open: an integer for one image, a mean for many.
export const count = (value) => (value >= 1000 || Number.isInteger(value) ? whole(value) : one(value));

export function middle(name, most) {
  if (name.length <= most) return name;
  const half = (most - 1) / 2;
  return `${name.slice(0, Math.ceil(half))}\u2026${name.slice(name.length - Math.floor(half))}`;
}

export const plural = (noun) => (noun.endsWith("h") ? `${noun}es` : noun.endsWith("s") ? noun : `${noun}s`);
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
