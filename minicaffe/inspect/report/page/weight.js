// View 6, one weight: dL/dw = Σ dL/dY · X, over the places of the window; its largest terms, and why it may be 0.
const OneWeight = (() => {
  // dL/dY: exact as far as there was room, else as recorded.
  async function gradientOf(key, i) {
    const exactly = R.views.backward.exact;
    const ref = exactly && exactly[key];
    if (ref && i < ref.shape[0]) {
      const n = Pack.count(ref) / ref.shape[0];
      return {
        data: (await Pack.array(ref)).subarray(i * n, (i + 1) * n),
        exact: true,
        maps: null,
        step: 1,
        shape: R.stages[key].shape,
      };
    }
    return Values.diff(key, i);
  }
  async function draw(root, i) {
    const products = State.layers.filter(
      l =>
        ((l.kind === "conv" && l.window && l.type !== "Deconvolution") || l.kind === "ip") &&
        !l.rank &&
        l.bottoms.length === 1,
    );
    const layer = products.find(l => l.name === State.layer) || products[0];
    if (!layer) {
      root.append(el("p", {}, "No plain convolution or inner product."));
      return;
    }
    const isConv = layer.kind === "conv";
    const top = layer.tops[0];
    const bottom = layer.bottoms[0];
    const x = await Values.stage(bottom, i);
    const dy = await gradientOf(top, i);
    if (!x.data || !dy.data || x.maps || dy.maps || x.step > 1 || dy.step > 1) {
      root.append(
        quiet(
          `Of ${layer.name} not everything was recorded for this image. What is known of dW is in `,
          link("view 3", {view: "convolution", step: "b2"}),
          ".",
        ),
      );
      return;
    }
    const w = layer.params[0].shape;
    const y = R.stages[top].shape; // a batch in place of an image, or factors, have other shapes
    if (
      isConv
        ? x.shape.length !== 3 || w.length !== 4 || w[0] !== y[0]
        : y.length !== 1 || w.length !== 2 || w[0] * w[1] !== y[0] * x.data.length
    ) {
      root.append(quiet(`${layer.name} is no plain product of one image here.`));
      return;
    }
    const [C, H, W] = x.shape.length === 3 ? x.shape : [1, 1, x.data.length];
    const M = y[0];
    const group = layer.group || 1;
    const g = isConv ? layer.window : {kernel: [H, W], stride: [1, 1], pad: [0, 0], dilation: [1, 1]};
    const [kh, kw] = g.kernel;
    const [OH, OW] = isConv ? y.slice(1) : [1, 1];
    const slices = C / group;
    const wanted = (State.weight || "").split(",").map(Number);
    const limit = (v, n) => Math.max(0, Math.min(n - 1, Number.isInteger(v) ? v : 0));
    const f = limit(State.map, M);
    const c = limit(wanted[0], slices);
    const ky = limit(wanted[1] ?? kh >> 1, kh);
    const kx = limit(wanted[2] ?? kw >> 1, kw);
    const channel = Math.floor(f / (M / group)) * slices + c;
    function terms(a, b) {
      const found = [];
      for (let oy = 0; oy < OH; oy++)
        for (let ox = 0; ox < OW; ox++) {
          const y = oy * g.stride[0] - g.pad[0] + a * g.dilation[0];
          const z = ox * g.stride[1] - g.pad[1] + b * g.dilation[1];
          if (y >= 0 && z >= 0 && y < H && z < W)
            found.push([oy, ox, dy.data[(f * OH + oy) * OW + ox], x.data[(channel * H + y) * W + z]]);
        }
      return found;
    }
    const total = list => list.reduce((s, t) => s + t[2] * t[3], 0);
    const set = (a, b, d) => State.set({layer: layer.name, map: a, weight: [b, ...d].join(",")});
    const values = Float32Array.from({length: kh * kw}, (_, k) => total(terms(Math.floor(k / kw), k % kw)));
    const list = terms(ky, kx);
    const sum = total(list);
    const isExact = x.exact && dy.exact;
    const field = (label, value, n, change) =>
      el(
        "label",
        {},
        `${label} `,
        el("input", {
          type: "number",
          min: 0,
          max: n - 1,
          value,
          "data-focus": `weight-${label}`,
          onchange: e => change(limit(Number(e.target.value), n)),
        }),
        ` of 0 … ${n - 1}  `,
      );
    root.append(
      el(
        "p",
        {},
        el("b", {}, layer.name),
        ": ",
        el(
          "code",
          {},
          isConv ? "dL/dw = Σ dL/dY · X, over the places of the window" : "dL/dw = dL/dY · X: one place",
        ),
      ),
      el(
        "p",
        {class: "fields"},
        field(isConv ? "filter" : "unit", f, M, v => set(v, c, [ky, kx])),
        slices > 1 ? field("input map", c, slices, v => set(f, v, [ky, kx])) : "",
        kh * kw > 64
          ? field("weight", ky * kw + kx, kh * kw, v => set(f, c, [Math.floor(v / kw), v % kw]))
          : "",
      ),
      quiet(
        `${kh} × ${kw} weights of this `,
        isConv ? "slice" : slices > 1 ? "unit for this map" : "unit",
        kh * kw <= 400 ? "; click one, or move with arrows:" : "",
      ),
    );
    const shown = el("div", {class: "beside"});
    if (kh * kw <= 400) {
      const canvas = Maps.tile(values, kh, kw, {
        scale: Math.max(6, Math.floor(130 / Math.max(kh, kw))),
        label: `dL/dw of ${layer.name}`,
      });
      shown.append(
        Maps.pixels(canvas, values, kh, kw, {
          at: [ky, kx],
          name: "dL/dw",
          exact: isExact,
          focus: "weight",
          onpixel: (a, b) => set(f, c, [a, b]),
        }),
        kh * kw <= 64 && kw <= 12
          ? Maps.table(values, kh, kw, {at: [ky, kx], label: "dL/dw of the slice"})
          : "",
      );
    }
    list.sort((a, b) => Math.abs(b[2] * b[3]) - Math.abs(a[2] * a[3]));
    const silent = list.every(t => t[2] === 0);
    const dark = list.every(t => t[3] === 0);
    const blame =
      sum !== 0
        ? ""
        : silent
          ? `It is 0 because dL/dY is 0 for ${isConv ? "filter" : "unit"} ${f} at every place: nothing ` +
            "above passes a gradient to it."
          : dark
            ? `It is 0 because X is 0 at every place: input map ${channel} is 0 there.`
            : "It is 0 because wherever dL/dY is not 0, X is.";
    root.append(
      shown,
      el(
        "p",
        {class: "sum", "data-weight-gradient": sum},
        `dL/dw(${[f, c, ky, kx].join(", ")}) = ${isConv ? `Σ over ${many(list.length, "place")}` : "dL/dY · X"} = `,
        isExact ? "" : "≈ ",
        el("b", {}, num(sum)),
      ),
      el("p", {}, blame),
      el(
        "table",
        {class: "cells", "aria-label": "largest terms"},
        headOf(["place of Y", "dL/dY", "X", "product"]),
        el(
          "tbody",
          {},
          list.slice(0, 5).map(t =>
            el(
              "tr",
              {},
              el("th", {scope: "row"}, isConv ? `(${t[0]}, ${t[1]})` : `unit ${f}`),
              [t[2], t[3], t[2] * t[3]].map(v => el("td", {title: exact(v)}, fmt(v))),
            ),
          ),
        ),
      ),
      list.length > 5
        ? quiet(`and ${many(list.length - 5, "smaller one")}, together ${fmt(sum - total(list.slice(0, 5)))}`)
        : "",
    );
  }
  return {draw, gradientOf};
})();
