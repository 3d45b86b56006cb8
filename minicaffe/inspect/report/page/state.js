// What is looked at (view, layer, image, map, pixel, rank, …): kept in the URL's hash, so that a link leads to it.
const State = (() => {
  const NUMBERS = ["image", "map", "rank"];
  const listeners = [];
  const layers = R.layers.filter(l => l.type !== "Split");
  const convs = layers.filter(l => l.kind === "conv");
  const first = convs.find(l => l.rank) || convs[0] || layers.find(l => l.params.length) || layers[0];
  const defaults = {view: R.order[0], layer: first.name, image: 0, map: 0, at: null, rank: null, scale: "blob"};
  const state = {...defaults};
  const PUSHED = ["view", "layer"];
  // Fields that some views alone have: in the others they stay out of the address.
  const OF_VIEWS = {
    map: ["layer", "convolution", "low_rank", "backward"],
    at: ["layer", "convolution"],
    scale: ["layer", "backward"],
    rank: ["convolution", "low_rank"],
    step: ["convolution"],
    class: ["answer"],
    cover: ["answer"],
    with: ["answer"],
    cam: ["answer"],
    part: ["backward"],
    weight: ["backward"],
    x: ["training"],
    smooth: ["training"],
    snapshot: ["training"],
    cell: ["test_set"],
  };
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
    own.notes = corrected(found);
    return found;
  }
  // Change what is not there to what is; returns a sentence for each change.
  function corrected(found) {
    const notes = [];
    const change = (key, to, text) => {
      found[key] = to;
      notes.push(text);
    };
    const {view, layer, image, map, at} = found;
    if (!R.order.includes(view))
      change("view", defaults.view, `There is no view ${view}; here is ${R.titles[defaults.view]}.`);
    if (!layers.some(l => l.name === layer))
      change("layer", defaults.layer, `There is no layer ${layer} in this net; here is ${defaults.layer}.`);
    if (image >= imageCount())
      change(
        "image",
        0,
        `Image ${image} of this link was drawn or opened in another window; it is not in this file. ` +
          `Here is ${R.images[0].name}.`,
      );
    const shapes = layerOf(found.layer).tops.map(key => R.stages[key].shape);
    const most = shapes.length ? Math.max(...shapes.map(([c]) => c ?? Infinity)) - 1 : Infinity;
    const word = shapes.some(s => s.length === 3) ? "map" : "unit";
    if (map > most)
      change(
        "map",
        most,
        `${found.layer} has no ${word} ${map}: they are 0 … ${most}. Here is ${word} ${most}.`,
      );
    const [, h, w] = shapes.find(s => s.length === 3) || [];
    if (at && (at[0] >= h || at[1] >= w))
      change(
        "at",
        null,
        `The maps of ${found.layer} have ${h} × ${w} places: row ${at[0]}, column ${at[1]} is none of them.`,
      );
    const fullOf = Object.fromEntries(
      Object.entries(R.views.low_rank?.layers || {}).map(([name, {full}]) => [encodeURIComponent(name), full]),
    );
    const full = fullOf[encodeURIComponent(found.layer)];
    const rank = Math.max(1, Math.min(full, found.rank)); // not a number where no rank is known
    if (rank && found.rank !== null && rank !== found.rank)
      change("rank", rank, `${found.layer} has no rank ${found.rank}: they are 1 … ${full}. Here is rank ${rank}.`);
    const isThere = part => {
      const [name, r] = part.split(":");
      return part === "none" || (r >= 1 && r <= fullOf[name]);
    };
    const ranks = (found.ranks || "none").split(",");
    const gone = ranks.filter(part => !isThere(part)).join(", ");
    if (gone) change("ranks", ranks.filter(isThere).join(",") || null, `There is no rank ${gone}.`);
    const chosen = found.class && found.class.split(":")[1];
    const classes = R.stages[R.answer]?.shape[0];
    if (chosen && classes && !(chosen >= 0 && chosen < classes))
      change("class", null, `There is no class ${chosen} in this net: they are 0 … ${classes - 1}.`);
    for (const [key, those] of Object.entries(views.get(found.view)?.choices || {}))
      if (found[key] && those && !those.includes(found[key]))
        change(key, null, `There is no ${key} ${found[key]} in this view: there are ${those.join(", ")}.`);
    return notes;
  }
  const imageCount = () => R.images.length + (typeof Live === "object" && Live.images ? Live.images.length : 0);

  function hash() {
    const parts = new URLSearchParams();
    for (const [key, value] of Object.entries(state))
      if (OF_VIEWS[key] && !OF_VIEWS[key].includes(state.view)) continue;
      else if (
        value !== null &&
        value !== undefined &&
        (key === "view" || String(value) !== String(defaults[key]))
      )
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
    own.notes = [];
    write(changed.some(key => PUSHED.includes(key)));
    tell(changed);
  }

  function load() {
    const found = parse(location.hash);
    const changed = [...new Set([...Object.keys(state), ...Object.keys(found)])].filter(
      key => String(state[key]) !== String(found[key]),
    );
    for (const key of changed) state[key] = found[key];
    if (own.notes.length) write(false);
    if (changed.length || own.notes.length) tell([...changed, "redraw"]);
  }
  addEventListener("hashchange", load); // whatever goes back or forward changes the hash, too

  const own = {
    set,
    load,
    hash,
    layers,
    imageCount,
    notes: [], // of a link: what of it is not there
    on(f) {
      listeners.push(f);
    },
    redraw() {
      tell(["redraw"]);
    },
  };
  return new Proxy(own, {get: (target, key) => (key in target ? target[key] : state[key])});
})();
