// Numbers as people read them: three significant digits, units, shares.

// A number with three significant digits, and the exact one where the mouse rests.
const exact = x => (Number.isFinite(x) ? String(Number(x.toPrecision(9))) : String(x));
function fmt(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "not a number";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text =
    size >= 1e6 || size < 1e-4
      ? x.toExponential(digits - 1).replace("e+", "e")
      : size >= 10 ** digits
        ? Math.round(x).toLocaleString("en-US")
        : x.toPrecision(digits);
  return text.replace(/-/g, "−");
}
const num = (x, digits) => el("span", {class: "num", title: exact(x)}, fmt(x, digits));
const whole = n => n.toLocaleString("en-US");
// 1600000 -> "1.60 M"
function count(n) {
  for (const [size, letter] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ])
    if (n >= size * 0.9995) return (n / size).toPrecision(3) + " " + letter;
  return String(n);
}
// 12288 -> "12.0 KiB", as in_bytes in summary.py
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  while (n >= 1000 && units.length > 1) {
    n /= 1024;
    units.shift();
  }
  const digits = units[0] === "B" || n >= 100 ? 0 : n >= 10 ? 1 : 2;
  const scaled = n * 10 ** digits;
  const nearest = scaled % 1 === 0.5 ? 2 * Math.round(scaled / 2) : Math.round(scaled); // a half to even, as Python
  return (nearest / 10 ** digits).toFixed(digits) + " " + units[0];
}
// The accuracy of all images, between which two numbers it lies when it is p among n of them: Wilson's interval,
// as wilson_interval in confusion.py.
function wilson(p, n) {
  const z = 1.96;
  const middle = (p + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const reach = (z / (1 + (z * z) / n)) * Math.sqrt((p * (1 - p)) / n + (z / (2 * n)) ** 2);
  return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
}
const between = ([lo, hi]) => `${(100 * lo).toFixed(1)} to ${(100 * hi).toFixed(1)} %`;
function percent(x) {
  return x === 0 ? "0 %" : x < 0.001 ? "< 0.1 %" : (100 * x).toFixed(x < 0.0995 ? 1 : 0) + " %";
}
// One of n that are counted from 0: 18, 20 -> "18 (of 0 … 19)".
const outOf = (i, n) => (n > 1 ? `${i} (of 0 … ${n - 1})` : String(i));
// 1 -> "1 map", 2 -> "2 maps"; of words that are irregular both are given.
const many = (n, one, more = one + "s") =>
  `${typeof n === "number" ? whole(n) : n} ${Number(n) === 1 ? one : more}`;
