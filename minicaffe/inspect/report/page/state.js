// What is looked at (view, layer, image, map, pixel, rank, …): kept in the URL's hash, so that a link leads to it.
const R = JSON.parse(document.getElementById("report").textContent);
const views = new Map(); // key -> view, as View registers them

// A view is what make() returns: draw(root, state) fills an empty root, and may be async; it is called again
// whenever the state changes. say and tries are texts (or functions that return one); keys: {"x": ["what it
// does", function]}.
function View(key, make) {
  views.set(key, make());
}

const State = (() => {
  const NUMBERS = ["image", "map", "rank"];
  const listeners = [];
  const layers = R.layers.filter(l => l.type !== "Split");
  const first = layers.find(l => l.kind === "conv") || layers.find(l => l.params.length) || layers[0];
  const defaults = {view: "net", layer: first.name, image: 0, map: 0, at: null, rank: null, scale: "blob"};
  const state = {...defaults};
  const PUSHED = ["view", "layer"];
  let pending = null;

  function parse(hash) {
    const found = {...defaults};
    for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
      if (NUMBERS.includes(key)) {
        if (/^\d+$/.test(text)) found[key] = Number(text);
      } else if (key === "at") {
        if (/^\d+(,\d+)*$/.test(text)) found.at = text.split(",").map(Number);
      } else found[key] = text;
    }
    if (!layers.some(l => l.name === found.layer)) found.layer = defaults.layer;
    if (!R.order.includes(found.view)) found.view = defaults.view;
    own.gone = found.image < imageCount() ? null : found.image; // a link to a drawing, which is not in the file
    if (own.gone !== null) found.image = 0;
    return found;
  }
  const imageCount = () => R.images.length + (typeof Live === "object" && Live.images ? Live.images.length : 0);

  function hash() {
    const parts = new URLSearchParams();
    for (const [key, value] of Object.entries(state))
      if (value !== null && value !== undefined && (key === "view" || String(value) !== String(defaults[key])))
        parts.set(key, String(value));
    return "#" + parts.toString().replace(/%2C/g, ",").replace(/%2F/g, "/");
  }

  function write(isPushed) {
    try {
      history[isPushed ? "pushState" : "replaceState"](null, "", hash());
    } catch {
      /* a page inside a notebook has no address of its own */
    }
  }

  function tell(changed) {
    if (pending) {
      changed.forEach(key => pending.add(key));
      return;
    }
    pending = new Set(changed);
    requestAnimationFrame(() => {
      const keys = pending;
      pending = null;
      listeners.forEach(f => f(keys));
    });
  }

  // Change some fields: State.set({layer: "conv2"}). A new layer starts at its first map; a field of null is
  // dropped.
  function set(patch) {
    if (patch.layer && patch.layer !== state.layer) patch = {map: 0, at: null, rank: null, ...patch};
    const changed = Object.keys(patch).filter(key => String(patch[key]) !== String(state[key]));
    if (!changed.length) return;
    Object.assign(state, patch);
    if ("image" in patch) own.gone = null;
    write(changed.some(key => PUSHED.includes(key)));
    tell(changed);
  }

  function load() {
    const found = parse(location.hash);
    const changed = [...new Set([...Object.keys(state), ...Object.keys(found)])].filter(
      key => String(state[key]) !== String(found[key]),
    );
    for (const key of changed) state[key] = found[key];
    if (changed.length) tell(changed);
  }
  addEventListener("popstate", load);
  addEventListener("hashchange", load);

  const own = {
    set,
    load,
    hash,
    layers,
    imageCount,
    gone: null,
    on(f) {
      listeners.push(f);
    },
    redraw() {
      tell(["redraw"]);
    },
  };
  return new Proxy(own, {get: (target, key) => (key in target ? target[key] : state[key])});
})();

// -- building the page: text is data, so it is only ever set as textContent --

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(
  "svg g path rect line circle text tspan polyline polygon title defs pattern clipPath".split(" "),
);
SVG_TAGS.delete("title");

// el("button", {class: "x", onclick: f, "aria-label": "…"}, "text", child, [more]): an element.
function el(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(node.style, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

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
const bytes = n => count(n) + (n < 999.5 ? " B" : "B");
function percent(x) {
  return x === 0 ? "0 %" : x < 0.001 ? "< 0.1 %" : (100 * x).toFixed(x < 0.0995 ? 1 : 0) + " %";
}

const layerOf = name => R.layers.find(layer => layer.name === name);
const stageLayer = key => R.layers.find(layer => layer.tops.includes(key));
const className = c => (c === null || c === undefined ? "?" : (R.classes[c] ?? "class " + c));
// The stage before Splits, which copy it.
function source(key) {
  const maker = stageLayer(key);
  return maker && maker.type === "Split" ? source(maker.bottoms[0]) : key;
}

// What a stage is called: its blob, and where several layers write into that, the one that it comes after.
const stageName = key => {
  const s = R.stages[key];
  return key === s.blob ? key : `${s.blob} after ${s.layer}`;
};

// Speak a line to those who listen to the page.
function say(text) {
  document.getElementById("spoken").textContent = text;
}
