// The frame: tabs, and the drawing of the view that is chosen. It starts the page.
const Frame = (() => {
  let drawing = 0;

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
    delete document.body.dataset.drawn; // until it is
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
    if (State.notes.length)
      next.prepend(el("p", {class: "warning", role: "status", id: "gone"}, State.notes.join(" ")));
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
    if (!why) view.shown?.(next);
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

  function changed(keys) {
    if (keys.has("view")) tabs();
    if (keys.has("layer")) Graph.show();
    if (keys.has("redraw") || keys.has("image")) {
      const inStrip =
        document.activeElement &&
        document.activeElement.dataset &&
        document.activeElement.dataset.image !== undefined;
      Header.thumbnails(document.querySelector("#top .images")).then(() => {
        if (inStrip) document.querySelector(`#top [data-image="${State.image}"]`)?.focus();
      });
    }
    draw();
  }

  function start() {
    document.getElementById("wait").remove();
    State.load();
    tabs();
    Header.draw();
    Graph.start();
    State.on(changed);
    document.addEventListener("keydown", Keys.press);
    if (typeof Live === "object" && Live.start) Live.start();
    draw();
  }
  return {start, missing};
})();
Frame.start();
