// Keys, and the boxes that they open: help, find a layer.
const Keys = (() => {
  const KEYS = [
    ["1 … 8", "views"],
    ["↑ ↓", "layer before, after"],
    ["← →", "image before, after"],
    ["arrows", "in a map: choose a pixel; among maps: move"],
    ["Enter", "open"],
    ["Esc", "up; close"],
    ["/", "find a layer"],
    ["n", "colours: one scale for all maps, or one for each"],
    ["t", "light or dark"],
    ["g", "hide or show the net and the introductions"],
    ["?", "this list"],
  ];
  function move(what, step) {
    if (what === "image") State.set({image: Math.max(0, Math.min(State.imageCount() - 1, State.image + step))});
    else {
      const here = State.layers.findIndex(layer => layer.name === State.layer);
      State.set({layer: State.layers[Math.max(0, Math.min(State.layers.length - 1, here + step))].name});
    }
  }
  function rail() {
    document.body.classList.toggle("no-rail");
    State.redraw();
  }

  function dialog(label, ...content) {
    const box = el("dialog", {"aria-label": label}, ...content);
    box.addEventListener("close", () => box.remove());
    document.body.append(box);
    box.showModal();
    return box;
  }
  function help() {
    const own = R.order.flatMap(name =>
      Object.entries(views.get(name)?.keys || {}).map(([key, [what]]) => [
        key === " " ? "Space" : key,
        `${R.titles[name]}: ${what}`,
      ]),
    );
    const row = ([key, what]) => el("tr", {}, el("th", {scope: "row"}, el("kbd", {}, key)), el("td", {}, what));
    const box = dialog(
      "help",
      el("h2", {}, "Keys"),
      el("table", {class: "keys"}, el("tbody", {}, KEYS.map(row), own.map(row))),
      el("p", {}, "Whatever is chosen is in the page's address: a link to it leads to the same place."),
      quiet(
        R.live.on
          ? "The net runs in this page: its numbers are exact."
          : `Numbers with ≈ were recorded in 8 bits: ${R.live.why}.`,
      ),
      el("button", {onclick: () => box.close()}, "close"),
    );
  }
  function find() {
    const field = el("input", {type: "text", "aria-label": "layer", list: "layer-names", autocomplete: "off"});
    const box = dialog(
      "find a layer",
      el(
        "form",
        {
          method: "dialog",
          onsubmit: () => {
            const words = field.value.toLowerCase();
            const found =
              State.layers.find(l => l.name.toLowerCase() === words) ||
              State.layers.find(l => l.name.toLowerCase().includes(words));
            if (words && found) Graph.reveal(found.name);
            if (words && found)
              State.set({layer: found.name, ...(State.view === "net" ? {view: "layer"} : {})});
            else say("no such layer");
          },
        },
        el("label", {}, "layer ", field),
        el(
          "datalist",
          {id: "layer-names"},
          State.layers.map(l => el("option", {value: l.name})),
        ),
        el("button", {}, "go"),
      ),
    );
    field.focus();
    return box;
  }

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range") return;
    if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
    const own = views.get(State.view)?.keys?.[event.key];
    const k = event.key;
    const isOnButton = /^(BUTTON|SUMMARY|A)$/.test(event.target.tagName) && (k === " " || k === "Enter");
    if (isOnButton) return;
    const actions = {
      ArrowUp: () => move("layer", -1),
      ArrowDown: () => move("layer", 1),
      ArrowLeft: () => move("image", -1),
      ArrowRight: () => move("image", 1),
      "/": find,
      n: () => State.set({scale: State.scale === "blob" ? "map" : "blob"}),
      t: Theme.change,
      g: rail,
      "?": help,
      Escape: () =>
        State.at
          ? State.set({at: null})
          : State.set({view: State.view === "net" || State.view === "layer" ? "net" : "layer"}),
    };
    const f =
      own && !Frame.missing(State.view)
        ? own[1]
        : /^[1-8]$/.test(k)
          ? () => State.set({view: R.order[k - 1]})
          : actions[k];
    if (!f) return;
    event.preventDefault();
    f(State);
  }

  return {press, move, rail, help};
})();
