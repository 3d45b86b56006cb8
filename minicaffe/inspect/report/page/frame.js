// The frame: header, tabs, keys, help; and the drawing of the view that is chosen.
const Frame = (() => {
  const KEYS = [
    ["1 … 8", "views"],
    ["↑ ↓", "layer before, after"],
    ["← →", "image before, after"],
    ["[ ]", "rank smaller, larger"],
    ["arrows", "in a map: choose a pixel; among maps: move"],
    ["Enter", "open"],
    ["Space", "play, pause"],
    ["Esc", "up; close"],
    ["/", "find a layer"],
    ["n", "colours: one scale for all maps, or one for each"],
    ["r", "reset ranks"],
    ["t", "light or dark"],
    ["g", "hide or show the net"],
    ["?", "this list"],
  ];
  let drawing = 0;

  // -- header --
  async function header() {
    const top = document.getElementById("top");
    const t = R.totals;
    const facts = [
      [count(t.parameters), "parameters", whole(t.parameters)],
      [count(t.multiply_adds), "multiply-adds", whole(t.multiply_adds) + " for one image"],
      [bytes(t.activation_bytes), "blobs", whole(t.activation_bytes) + " bytes for one image"],
    ];
    if (t.ms !== null) facts.push([fmt(t.ms), "ms"]);
    const strip = el("div", {class: "images", role: "group", "aria-label": "images"});
    top.replaceChildren(
      el("h1", {title: R.title}, R.title),
      el(
        "span",
        {class: "quiet"},
        el("span", {class: "phase"}, `phase ${R.phase} · `),
        R.untrained
          ? el("b", {class: "warning"}, R.zeros ? "untrained: weights are 0" : "untrained")
          : `weights ${R.weights}`,
      ),
      el(
        "span",
        {class: "facts"},
        facts.map(([value, name, title]) =>
          el("span", {title: title || null}, el("b", {class: "num"}, value), " " + name),
        ),
      ),
      strip,
      el(
        "span",
        {class: "mode", title: R.live.on ? "The net runs in this page." : `As it was recorded: ${R.live.why}.`},
        R.live.on ? "live" : "recorded",
      ),
      el(
        "span",
        {class: "tools"},
        el("button", {"aria-label": "hide or show the net", title: "the net (g)", onclick: rail}, "▤"),
        el("button", {"aria-label": "light or dark", title: "light or dark (t)", onclick: theme}, "◐"),
        el("button", {"aria-label": "keys and help", title: "help (?)", onclick: help}, "?"),
      ),
    );
    await thumbnails(strip);
  }

  async function thumbnails(strip) {
    const names = Array.from({length: State.imageCount()}, (_, i) => i);
    const cells = await Promise.all(
      names.map(async i => {
        const shown = i < R.images.length ? R.images[i] : Live.images[i - R.images.length];
        const picture = await Maps.image(i, null);
        if (picture) {
          picture.style.height = "36px";
          picture.style.width = "";
        }
        const isWrong =
          Number.isInteger(shown.label) && Number.isInteger(shown.top) && shown.label !== shown.top;
        const says = Number.isInteger(shown.top) ? className(shown.top) : "";
        const label =
          shown.name +
          (says && `: the net says ${says}`) +
          (isWrong ? `, wrong: it is ${className(shown.label)}` : "");
        return el(
          "button",
          {
            class: "image" + (isWrong ? " wrong" : ""),
            "data-image": i,
            "aria-pressed": String(i === State.image),
            title: label,
            "aria-label": label,
            tabindex: i === State.image ? "0" : "-1",
            "data-focus": `image-${i}`,
            onclick: () => State.set({image: i}),
          },
          picture || el("span", {class: "blank"}, String(i)),
          el(
            "span",
            {class: "number"},
            isWrong ? "✗" : "",
            !R.classes.length
              ? String(shown.top ?? i)
              : says.length > 8
                ? says.slice(0, 7) + "…"
                : says || String(i),
          ),
        );
      }),
    );
    strip.replaceChildren(...cells);
    strip.onkeydown = event => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      move("image", step);
      cells[State.image].focus();
    };
  }

  // -- tabs --
  function tabs() {
    const list = document.getElementById("tabs");
    list.replaceChildren(
      ...R.order.map((key, i) =>
        el(
          "button",
          {
            role: "tab",
            id: `tab-${key}`,
            "data-view": key,
            "aria-controls": "main",
            "aria-selected": String(key === State.view),
            tabindex: key === State.view ? "0" : "-1",
            class: missing(key) ? "missing" : null,
            title: missing(key),
            onclick: () => State.set({view: key}),
          },
          el("kbd", {}, String(i + 1)),
          " ",
          R.titles[key],
        ),
      ),
    );
    list.onkeydown = event => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const next = R.order[Math.max(0, Math.min(R.order.length - 1, R.order.indexOf(State.view) + step))];
      State.set({view: next});
      document.getElementById(`tab-${next}`).focus();
    };
  }
  function missing(key) {
    if (!views.has(key)) return "not built yet";
    return (R.views[key] && R.views[key].missing) || null;
  }

  // -- the view --
  async function draw() {
    const mine = ++drawing;
    const key = State.view;
    const view = views.get(key);
    const main = document.getElementById("main");
    main.setAttribute("aria-labelledby", `tab-${key}`);
    const text = x => (typeof x === "function" ? x(State) : x);
    const next = el("div", {class: "view pending", "data-view": key});
    const root = el("div", {class: "root"});
    const why = missing(key);
    if (why)
      next.append(
        el("h2", {}, R.titles[key]),
        el("p", {class: "absent"}, "This view is empty; what is missing: ", el("b", {}, why)),
      );
    else
      next.append(
        el(
          "div",
          {class: "head"},
          el(
            "div",
            {class: "words"},
            el("h2", {}, text(view.title)),
            el("p", {class: "say"}, text(view.say)),
            el("p", {class: "try"}, el("b", {}, "Try: "), text(view.tries)),
          ),
          text(view.aside),
        ),
        root,
      );
    if (State.gone !== null)
      next.prepend(
        el(
          "p",
          {class: "absent", role: "status", id: "gone"},
          `Image ${State.gone} of this link was drawn or opened in another window; it is not in this file. ` +
            `Here is ${R.images[0].name}.`,
        ),
      );
    main.querySelectorAll(".pending").forEach(node => node.remove());
    main.append(next);
    try {
      if (!why) await view.draw(root, State);
    } catch (error) {
      root.replaceChildren(el("p", {class: "error"}, `This view failed: ${error.message}`));
      console.error(error);
    }
    if (mine !== drawing) {
      next.remove();
      return;
    }
    const focused = document.activeElement && document.activeElement.closest("[data-focus], [id]");
    const mark = focused && main.contains(focused) && focused !== main && (focused.dataset.focus || focused.id);
    const opened = [...main.querySelectorAll(".view:not(.pending) details[open] > summary")].map(
      s => s.getAttribute("aria-label") || s.textContent,
    );
    const isSame = main.firstElementChild && main.firstElementChild.dataset.view === key;
    for (const old of [...main.children]) if (old !== next) old.remove();
    next.classList.remove("pending");
    if (!isSame) main.scrollTop = 0;
    for (const s of next.querySelectorAll("details > summary"))
      if (opened.includes(s.getAttribute("aria-label") || s.textContent)) s.parentElement.open = true;
    if (mark) {
      const found = [...next.querySelectorAll("[data-focus], [id]")].find(
        n => (n.dataset.focus || n.id) === mark,
      );
      if (found) found.focus({preventScroll: true});
      else main.focus({preventScroll: true});
    }
    document.body.dataset.drawn = State.hash();
  }

  // -- keys --
  function move(what, step) {
    if (what === "image") State.set({image: Math.max(0, Math.min(State.imageCount() - 1, State.image + step))});
    else {
      const here = State.layers.findIndex(layer => layer.name === State.layer);
      State.set({layer: State.layers[Math.max(0, Math.min(State.layers.length - 1, here + step))].name});
    }
  }
  function theme() {
    const html = document.documentElement;
    const isDark = Maps.css("--dark") === "1";
    html.dataset.theme = isDark ? "light" : "dark";
    Maps.forget();
    State.redraw();
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
    const view = views.get(State.view);
    const own = Object.entries((view && view.keys) || {}).map(([key, [what]]) => [
      key === " " ? "Space" : key,
      what,
    ]);
    const row = ([key, what]) => el("tr", {}, el("th", {scope: "row"}, el("kbd", {}, key)), el("td", {}, what));
    const box = dialog(
      "help",
      el("h2", {}, "Keys"),
      el("table", {class: "keys"}, el("tbody", {}, KEYS.map(row), own.map(row))),
      el("p", {}, "Whatever is chosen is in the page's address: a link to it leads to the same place."),
      el(
        "p",
        {class: "quiet"},
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

  function key(event) {
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
      t: theme,
      g: rail,
      "?": help,
      Escape: () =>
        State.at
          ? State.set({at: null})
          : State.set({view: State.view === "net" || State.view === "layer" ? "net" : "layer"}),
    };
    const f =
      own && !missing(State.view)
        ? own[1]
        : /^[1-8]$/.test(k)
          ? () => State.set({view: R.order[k - 1]})
          : actions[k];
    if (!f) return;
    event.preventDefault();
    f(State);
  }

  function changed(keys) {
    if (keys.has("view")) tabs();
    if (keys.has("layer")) Graph.show();
    if (keys.has("redraw") || keys.has("image")) {
      const inStrip =
        document.activeElement &&
        document.activeElement.dataset &&
        document.activeElement.dataset.image !== undefined;
      thumbnails(document.querySelector("#top .images")).then(() => {
        if (inStrip) document.querySelector(`#top [data-image="${State.image}"]`)?.focus();
      });
    }
    draw();
  }

  function start() {
    State.load();
    tabs();
    header();
    Graph.start();
    State.on(changed);
    document.addEventListener("keydown", key);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      Maps.forget();
      State.redraw();
    });
    if (typeof Live === "object" && Live.start) Live.start();
    draw();
  }
  return {start, missing, dialog, header, theme};
})();
Frame.start();
