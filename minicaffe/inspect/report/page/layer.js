// View 2: one layer: formula, settings, count; its parameters and what it makes of the image, by its type.
View("layer", () => {
  const {card, shape, areMaps, chosen, large, stageOr, shown, histogram} = LayerMaps;

  function about() {
    const layer = layerOf(State.layer);
    const stages = keys => keys.map(k => `${R.stages[k].blob} ${shape(R.stages[k].shape)}`).join(" + ");
    return el(
      "div",
      {class: "about"},
      el(
        "pre",
        {class: "formula", tabindex: "0", "aria-label": "formula"},
        R.formulas[layer.formula].split("\n").map(line => el("span", {}, line + "\n")),
      ),
      el(
        "p",
        {class: "count"},
        layer.bottoms.length ? `${stages(layer.bottoms.map(source))} → ` : "",
        stages(layer.tops),
      ),
      layer.count_text ? el("p", {class: "count"}, layer.count_text) : "",
      el(
        "div",
        {class: "settings"},
        layer.settings.map(([name, value]) => el("span", {}, el("b", {}, name), " ", value)),
        quiet(layer.note),
      ),
    );
  }

  async function draw(root) {
    const layer = layerOf(State.layer);
    const tops = layer.tops;
    const light = f =>
      root.querySelectorAll("[data-map]").forEach(n => n.classList.toggle("lit", Number(n.dataset.map) === f));
    const isNeuron = LayerTypes.isNeuron(layer);
    const main = await LayerTypes.cards(layer);
    const side = [];
    if (layer.kind === "conv") main.push(...(await LayerWeights.kernels(layer, light)));
    for (const key of tops) {
      const values = await stageOr(key);
      const isMaps = areMaps(values);
      const [c, ...size] = R.stages[key].shape;
      const title =
        isMaps && c > 1
          ? `${c} maps of ${size.join(" × ")}: ${stageName(key)}`
          : `${stageName(key)}: ${shape([c, ...size].filter(Boolean))}`;
      if (isMaps && c > 1 && !LayerTypes.has(layer)) {
        const i = chosen(values, values.shape[0]);
        side.push(card(`Map ${values.maps ? values.maps[i] : i}`, large(key, values)));
      }
      if (layer.type === "Softmax" && main.length) continue; // its table says it all
      const output = card(title, await shown(key, light));
      if (main.some(node => node.querySelector?.(".filters"))) output.classList.add("beside");
      main.push(output);
    }
    if (layer.kind === "ip") main.push(...(await LayerWeights.matrix(layer)));
    side.push(...(await LayerTested.patches(layer)));
    const stats = [
      ...(isNeuron
        ? []
        : tops
            .filter(key => R.stages[key].shape.length)
            .map(key => histogram(`How large is ${stageName(key)}?`, R.stages[key], "value, all images"))),
      ...layer.params.map(p =>
        histogram(
          `How large is ${/^\d/.test(p.name) ? "parameter " + p.name : p.name} (${shape(p.shape)})?`,
          p,
          "value",
        ),
      ),
    ].filter(Boolean);
    main.push(
      ...(await LayerTested.gates(layer)),
      ...(stats.length ? [card("How the numbers are spread", el("div", {class: "pair"}, stats))] : []),
    );
    root.append(
      el(
        "div",
        {class: "layer-cards"},
        el("div", {class: "layer-main"}, main),
        side.length ? el("div", {class: "layer-side"}, side) : "",
      ),
    );
  }

  const SAYS = {
    conv:
      "Each filter slides over all input maps and answers strongly (blue) where the image looks like " +
      "it, against it (red) where it looks like the opposite. The colour of the page is 0.",
    ip:
      "Each output is a sum of all inputs, each times a weight: one row of W. A row whose weights " +
      "resemble the input gives a large output.",
    pool:
      "Each output is the largest number of a window, or its mean. Moving the image by a pixel changes " +
      "little here, and the maps get smaller.",
    data:
      "What goes into the net, or comes out of it, as the net sees it: numbers, after the mean is " +
      "subtracted and the scale applied.",
    loss: "One number that is small where the net is right. Training makes it smaller, by its gradients.",
    other: "What this layer makes of the numbers that it gets, for the image that is chosen above.",
  };
  return {
    title: () => `${State.layer} · ${layerOf(State.layer).type}`,
    draw,
    aside: about,
    say: () => SAYS[layerOf(State.layer).type === "Softmax" ? "other" : layerOf(State.layer).kind],
    tries: () =>
      layerOf(State.layer).kind === "conv"
        ? "Find a filter for vertical strokes. Check it on another image."
        : "Go through the images with ← and →. What stays the same?",
  };
});
