// The left rail: the drawing of the net, whose boxes choose a layer; or a list of layers where there is no drawing.
const Graph = (() => {
  let boxes = new Map(); // layer name -> the element that stands for it

  function list() {
    const rail = document.getElementById("rail");
    const items = State.layers.map(layer => el("li", {}, el("button", {class: `box ${layer.kind}`, "data-layer": layer.name}, layer.name,
      el("span", {class: "quiet"}, " " + layer.type))));
    rail.append(el("ol", {class: "layers"}, items));
  }

  function sentence(layer) {
    const shapes = layer.tops.map(key => R.stages[key].shape.join(" × ")).join(", ");
    return `${layer.name}: ${layer.type}, top ${shapes || "one number"}` +
      (layer.parameters ? `, ${whole(layer.parameters)} parameters` : "") +
      (layer.multiply_adds ? `, ${whole(layer.multiply_adds)} multiply-adds` : "");
  }

  function start() {
    const rail = document.getElementById("rail");
    if (!rail.querySelector("[data-layer]")) list();
    for (const node of rail.querySelectorAll("[data-layer]")) {
      const layer = layerOf(node.dataset.layer);
      if (!layer) continue;
      if (!boxes.has(layer.name)) boxes.set(layer.name, node);
      node.setAttribute("role", "button");
      node.setAttribute("tabindex", "-1");
      node.setAttribute("aria-label", sentence(layer));
      node.setAttribute("data-focus", "box-" + layer.name);
    }
    const chosen = event => event.target.closest("[data-layer]");
    rail.addEventListener("click", event => { const node = chosen(event); if (node) choose(node.dataset.layer); });
    rail.addEventListener("keydown", event => {
      const node = chosen(event);
      if (node && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); event.stopPropagation(); choose(node.dataset.layer); }
    });
    show(true);
  }

  // A layer that is chosen in the rail is looked at: from the table of all layers this leads to its own view.
  function choose(name) {
    State.set({layer: name, ...(State.view === "net" ? {view: "layer"} : {})});
  }

  function show(isFirst) {
    const inRail = document.getElementById("rail").contains(document.activeElement);
    for (const [name, node] of boxes) {
      const isChosen = name === State.layer;
      node.classList.toggle("chosen", isChosen);
      node.setAttribute("aria-pressed", String(isChosen));
      node.setAttribute("tabindex", isChosen ? "0" : "-1");
      if (isChosen) {
        if (!isFirst || State.layer !== State.layers[0].name) node.scrollIntoView({block: "nearest"});
        if (inRail) node.focus();
      }
    }
  }

  return {start, show, sentence};
})();
