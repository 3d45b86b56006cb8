// What is looked at (view, layer, image, map, pixel, rank, …): kept in the URL's hash, so that a link leads to it.
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
    const follow = patch.view ? null : views.get(state.view)?.follow;
    if (patch.layer && follow) patch = {...follow(patch.layer), ...patch};
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
