// View 2, what was recorded beside the image: patches that fire a filter most, gates of LSTM and RNN.
const LayerTested = (() => {
  const {part, card} = LayerMaps;

  async function patches(layer) {
    const found = R.views.layer.patches?.[layer.name];
    if (!found) return [];
    const [c, n, h, w] = found.pixels.shape;
    const all = await Pack.bytes(found.pixels);
    const f = State.map;
    if (f >= c) return [];
    const values = await Pack.array(found.values);
    const r = layer.receptive_field;
    const scale = Maps.scaleFor(h, w, 48, 72);
    const across = innerWidth > 1180 ? Math.ceil(n / 2) : n; // two rows, or one
    const cells = Array.from(
      {length: n},
      (_, i) =>
        Number.isFinite(values[f * n + i]) &&
        el(
          "figure",
          {class: "patch"},
          Maps.rgb(part(all, f * n + i, h * w * 3), h, w, {
            scale,
            label: `patch ${i}`,
          }),
          el("figcaption", {}, fmt(values[f * n + i])),
        ),
    );
    return [
      card(
        `Filter ${f} fires most for`,
        el("div", {class: "patches", style: {gridTemplateColumns: `repeat(${across}, max-content)`}}, cells),
        quiet(
          `of ${many(R.views.layer.tested, "test image")}. Each output sees ${r.size.join(" × ")} pixels, ` +
            (r.stride[0] > 1 ? `every ${r.stride[0]} pixels.` : "at every pixel."),
        ),
      ),
    ];
  }
  async function gates(layer) {
    const found = R.views.layer.gates?.[layer.name];
    if (!found) return [];
    const [n, t, d] = found.ref.shape;
    const all = await Pack.array(found.ref);
    const names = found.names;
    const size = d / names.length;
    if (State.image >= n) return [];
    return [
      card(
        "Gates",
        el(
          "div",
          {class: "pair"},
          names.map((name, g) => {
            const map = Float32Array.from(
              {length: size * t},
              (_, i) => all[(State.image * t + (i % t)) * d + g * size + Math.floor(i / t)],
            );
            return el(
              "figure",
              {class: "patch"},
              Maps.tile(map, size, t, {
                lo: -1,
                hi: 1,
                scale: Maps.scaleFor(size, t, 120, 240),
                label: `gate ${name}`,
              }),
              el("figcaption", {}, name),
            );
          }),
        ),
      ),
    ];
  }

  return {patches, gates};
})();
