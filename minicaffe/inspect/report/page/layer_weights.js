// View 2, the weights of a layer: filters of a convolution, the matrix W of an inner product.
const LayerWeights = (() => {
  const FILTERS = 64;
  const SLICES = 49; // filters, and slices of each, that are drawn
  const {MOST, part, card} = LayerMaps;

  // The slices of filter f, (slices, kh, kw), side by side; a filter on a colour picture is drawn in colours.
  function filter(data, f, [, slices, kh, kw], extent, isColour) {
    const n = isColour ? 1 : Math.min(slices, SLICES);
    const scale =
      slices === 1 || isColour
        ? Maps.scaleFor(kh, kw, 44, 66)
        : Math.max(2, Math.floor((n > 24 ? 13 : 20) / kw));
    const w = n * (kw * scale + 1) - 1;
    const canvas = el("canvas", {
      width: w,
      height: kh * scale,
      role: "img",
      class: "map",
      "aria-label": `filter ${f}, ${slices} × ${kh} × ${kw}`,
    });
    const context = canvas.getContext("2d");
    const at = (c, y, x) => data[((f * slices + c) * kh + y) * kw + x];
    const {channels} = R.input.preparation || {channels: [2, 1, 0]};
    const order = [0, 1, 2].map(c => (channels ? channels.indexOf(c) : c));
    for (let s = 0; s < n; s++)
      for (let y = 0; y < kh; y++)
        for (let x = 0; x < kw; x++) {
          const rgb = isColour
            ? order.map(c => Math.round(127.5 + (127.5 * at(c, y, x)) / (extent || 1)))
            : Maps.colour(at(s, y, x), extent);
          context.fillStyle = `rgb(${rgb.join(",")})`;
          context.fillRect(s * (kw * scale + 1) + x * scale, y * scale, scale, scale);
        }
    return canvas;
  }
  async function kernels(layer, light) {
    const w = await Values.param(layer.name, 0);
    if (!w.data || w.shape.length !== 4) return [];
    const range = Maps.range(w.data);
    const extent = Math.max(-range.lo, range.hi);
    const n = Math.min(w.shape[0], FILTERS);
    const isColour =
      w.shape[1] === 3 && layer.params[0].shape[1] === 3 && source(layer.bottoms[0]) === R.input.stage;
    const list = Array.from({length: n}, (_, f) => ({
      number: f,
      picture: filter(w.data, f, w.shape, extent, isColour),
    }));
    const note = [
      layer.rank && `of W as it is stored: the layer computes with rank ${layer.rank.r}, as view 4 shows`,
      w.note,
      !extent && "all are 0",
      !w.note && n < w.shape[0] && `the first ${n} of ${w.shape[0]} filters`,
      isColour
        ? "in colours: grey is 0"
        : layer.params[0].shape[1] > 1 && "one row for each filter, one square for each input map",
    ]
      .filter(Boolean)
      .join(" · ");
    const isLong = !isColour && w.shape[1] > 1;
    return [
      card(
        many(layer.params[0].shape[0], "filter"),
        isColour ? "" : Maps.legend(range.lo, range.hi, true),
        quiet(note),
        el(
          "div",
          {class: isLong ? "filters" : ""},
          Maps.grid(list, {
            selected: State.map,
            focus: "filter",
            onhover: light,
            onselect: map => State.set({map, at: null}),
            columns: isLong ? 1 : 0,
          }),
        ),
      ),
    ];
  }
  async function matrix(layer) {
    const w = await Values.param(layer.name, 0);
    const [m, k] = w.shape;
    const whole = layer.params[0].shape;
    if (!w.data || whole.length !== 2) return [];
    const range = Maps.range(w.data);
    const row = Math.min(State.map, m - 1);
    const from = R.stages[source(layer.bottoms[0])].shape;
    const isWhole = k === whole[1];
    const cards = [
      card(
        `W, ${whole[0]} × ${whole[1]}`,
        Maps.legend(range.lo, range.hi, true),
        quiet(w.note),
        Maps.tile(w.data, m, k, {
          ...range,
          scale: Math.min(3, 480 / k, 300 / m),
          label: "W: a row for each output",
        }),
      ),
    ];
    if (isWhole && from.length === 3 && from[1] * from[2] > 1) {
      const [c, h, v] = from;
      const list = Array.from({length: Math.min(c, MOST)}, (_, i) => ({
        values: part(w.data, row * c + i, h * v),
        h,
        w: v,
        label: `weights on map ${i}`,
      }));
      cards.push(
        card(
          `Row ${row} of W, folded back to ${c === 1 ? "the map" : `the ${c} maps`} that it looks at`,
          unit(m),
          Maps.grid(list, {...range, focus: "fold", scale: Maps.scaleFor(h, v, 32, 64)}),
        ),
      );
    }
    return cards;
  }
  const unit = m =>
    el(
      "label",
      {},
      "unit ",
      el("input", {
        type: "number",
        min: 0,
        max: m - 1,
        value: Math.min(State.map, m - 1),
        "data-focus": "unit",
        onchange: e => State.set({map: Math.max(0, Math.min(m - 1, Math.round(Number(e.target.value)) || 0))}),
      }),
    );

  return {kernels, matrix};
})();
