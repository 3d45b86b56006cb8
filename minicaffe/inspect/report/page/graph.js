// The left rail: the drawing of the net, whose boxes choose a layer. What is repeated is drawn once, until it is
// unfolded.
const Graph = (() => {
  let boxes = new Map(); // layer name -> the element that stands for it
  const rail = () => document.getElementById("rail");

  function ready() {
    boxes = new Map();
    for (const node of rail().querySelectorAll(".fold, .box")) {
      for (const name of JSON.parse(node.dataset.layers)) boxes.set(name, node);
      node.setAttribute("data-focus", "box-" + (node.dataset.layer || node.dataset.fold));
    }
    const svg = rail().querySelector("svg");
    const wide = Number(svg.getAttribute("width"));
    // a wide net is drawn smaller, but so that it can be read
    const scale = Math.max(0.72, Math.min(1, 286 / wide));
    svg.style.width = wide * scale + "px";
    svg.style.height = svg.getAttribute("height") * scale + "px";
  }

  function start() {
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
    rail().addEventListener("click", act);
    rail().addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") act(event);
    });
    show(true);
  }

  function unfold() {
    const text = document.getElementById("unfolded").textContent;
    if (!text.trim()) return;
    rail().replaceChildren(
      document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true),
    );
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
