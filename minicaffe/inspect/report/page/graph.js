// The left rail: the drawing of the net, whose boxes choose a layer. What is repeated is drawn once, until it is
// unfolded.
const Graph = (() => {
  const LEAST = 0.68; // of a drawing's own size
  let opened = 0; // the rail's width in pixels, until somebody pulls it wider
  let boxes = new Map(); // layer name -> the element that stands for it
  const rail = () => document.getElementById("rail");

  function ready() {
    boxes = new Map();
    for (const node of rail().querySelectorAll(".fold, .box")) {
      for (const name of JSON.parse(node.dataset.layers)) boxes.set(name, node);
      node.setAttribute("data-focus", "box-" + (node.dataset.layer || node.dataset.fold));
    }
    fit();
  }
  // As large as the rail: of a wide net smaller, but so that it can be read; the rest is there by scrolling.
  function fit() {
    const svg = rail().querySelector("svg");
    const wide = Number(svg.getAttribute("width"));
    const most = rail().clientWidth > opened ? 1.6 : 1;
    const scale = Math.max(LEAST, Math.min(most, (rail().clientWidth - 12) / wide));
    svg.style.width = wide * scale + "px";
    svg.style.height = svg.getAttribute("height") * scale + "px";
    rail().classList.toggle("wide", wide * scale > rail().clientWidth);
  }

  function start() {
    const wide = Number(rail().querySelector("svg").getAttribute("width"));
    if (innerWidth > 800) {
      // a wide net gets more room, and most if it can be seen whole then
      const most = LEAST * wide + 30 > 0.36 * innerWidth ? 0.3 * innerWidth : LEAST * wide + 30;
      rail().style.width = Math.max(300, Math.min(wide + 30, Math.max(0.3 * innerWidth, most))) + "px";
    }
    rail().append(
      el(
        "p",
        {class: "key"},
        "beside an arrow: maps × height × width",
        el("br"),
        [["conv", "multiply-adds "], ["ip", "parameters"]].map(([kind, text]) => [
          el("span", {class: `kind ${kind}`}, "▬ "),
          text,
        ]),
        ": share of all",
      ),
    );
    opened = rail().clientWidth;
    ready();
    const act = event => {
      const node = event.target.closest(".box, .fold");
      if (!node) return;
      event.preventDefault();
      event.stopPropagation();
      // from the table of all layers a box leads to its own view
      if (node.dataset.fold) unfold();
      else State.set({layer: node.dataset.layer, ...(State.view === "net" ? {view: "layer"} : {})});
    };
    new ResizeObserver(fit).observe(rail());
    rail().addEventListener("click", act);
    rail().addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") act(event);
    });
    show(true);
  }

  function unfold() {
    const text = document.getElementById("unfolded").textContent;
    if (!text.trim()) return;
    const drawing = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    rail().querySelector("svg").replaceWith(document.importNode(drawing, true));
    ready();
    show(true);
  }
  // Show a layer's own box, also if it is in a stack.
  function reveal(name) {
    if (boxes.get(name) && boxes.get(name).dataset.fold) unfold();
  }

  function show(isFirst) {
    const isInRail = rail().contains(document.activeElement);
    const node = boxes.get(State.layer);
    for (const old of rail().querySelectorAll(".chosen")) {
      old.classList.remove("chosen");
      old.setAttribute("tabindex", "-1");
      old.setAttribute("aria-pressed", "false");
    }
    if (!node) return;
    node.classList.add("chosen");
    node.setAttribute("aria-pressed", "true");
    node.setAttribute("tabindex", "0");
    node.scrollIntoView({block: isFirst ? "center" : "nearest", inline: "center"});
    if (isInRail) node.focus();
  }

  return {start, show, reveal};
})();
