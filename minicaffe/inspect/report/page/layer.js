// View 2: one layer: its formula, settings, count, parameters and maps.
View("layer", (() => {
  async function draw(root) {
    const layer = layerOf(State.layer);
    root.append(el("pre", {class: "formula"}, layer.formula),
      el("table", {class: "settings"}, el("tbody", {}, layer.settings.map(([name, value]) => el("tr", {}, el("th", {scope: "row"}, name), el("td", {}, value))))),
      layer.count_text ? el("p", {class: "count"}, layer.count_text) : "");
    for (const key of layer.tops) {
      const top = await Values.stage(key);
      if (!top.data || top.shape.length !== 3) continue;
      const [c, h, w] = top.shape, range = Maps.range(top.data);
      const shared = State.scale === "blob" ? range : {};
      root.append(el("h3", {}, key), el("p", {class: "quiet"}, top.note || ""), Maps.legend(range.lo, range.hi), Maps.grid(Array.from({length: c}, (_, i) => ({
        values: top.data.subarray(i * h * w, (i + 1) * h * w), h, w, number: top.maps ? top.maps[i] : i, label: `${key} map ${i}`})),
      {...shared, selected: State.map, onselect: map => State.set({map})}));
    }
  }
  return {title: () => State.layer, draw, tries: "Find a filter for vertical strokes. Check it on another image.",
    say: "Each filter slides over all input maps and answers strongly (blue) where the image looks like it, against it (red) where it looks like the opposite. White is 0."};
})());
