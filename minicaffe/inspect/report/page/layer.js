// View 2: one layer: formula, settings, count; its parameters and what it makes of the image, by its type.
View("layer", () => {
  const {card, shape, areMaps, numberOf, image, scene, sign, large, reading, stageOr, shown, histogram} = LayerMaps;

  function about() {
    const layer = layerOf(State.layer);
    const stages = keys => keys.map(k => `${R.stages[k].blob} ${shape(R.stages[k].shape)}`).join(" + ");
    const [first, ...more] = R.formulas[layer.formula].split("\n").map(line => el("span", {}, line + "\n"));
    return el(
      "div",
      {class: "about"},
      more.length
        ? el("details", {class: "formula"}, el("summary", {"aria-label": "formula"}, first), el("pre", {}, more))
        : el("pre", {class: "formula"}, first),
      el(
        "p",
        {class: "settings count"},
        el("span", {}, layer.bottoms.length ? `${stages(layer.bottoms.map(source))} → ` : "", stages(layer.tops)),
        el("span", {}, layer.count_text),
      ),
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
    const {kind} = layer;
    const filters = kind === "conv" ? await LayerWeights.filters(layer) : null;
    const cards = await (LayerWeights[kind] || LayerTypes.cards)(layer, filters);
    let [first, ...main] = cards;
    const outputs = [];
    for (const key of layer.tops) {
      const values = await stageOr(key);
      const own = key === layer.tops[0] ? filters : null;
      const isMaps = areMaps(values);
      const [c, ...size] = R.stages[key].shape;
      const name = stageName(values.key || key);
      const title =
        isMaps && c > 1
          ? `${c} maps of ${size.join(" × ")}${own ? ", each below its filter" : ""}: ${name}`
          : `${name}: ${shape(R.stages[key].shape)}`;
      if (layer.type === "Softmax" && first) continue; // its table says it all
      const output = card(title, await shown(key, values, own));
      output.classList.add("all");
      if (isMaps && c > 1 && !first)
        first = scene(`Map ${numberOf(values)}`, [large(key, values, name)], reading([values]));
      if (first) outputs.push(output);
      else first = output;
    }
    main = [...outputs, ...main];
    const isFirst = !layer.bottoms.length || layer.bottoms.some(key => source(key) === R.input.stage);
    const picture = await image(isFirst ? 140 : 72);
    const patches = await LayerTested.patches(layer);
    const stats = [
      ...(LayerTypes.isNeuron(layer)
        ? []
        : layer.tops
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
    root.append(
      el(
        "div",
        {class: "layer-cards"},
        el("div", {class: "layer-first"}, picture, picture && !filters && isFirst ? sign("→") : "", first),
        innerWidth > 1180 ? [patches, main] : [main, patches],
        await LayerTested.gates(layer),
        stats.length > 0 && card("How the numbers are spread", el("div", {class: "pair"}, stats)),
      ),
    );
  }

  return {
    title: () => `${State.layer} · ${layerOf(State.layer).type}`,
    draw,
    aside: about,
    say: () => layerOf(State.layer).say,
    tries: () => layerOf(State.layer).try,
  };
});
