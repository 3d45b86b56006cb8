// Pictures of view 4: a filter and its answers, exact and at rank r; and how it is mixed from r basis filters.
const Mix = (() => {
  const {V} = Rank;
  const norm = a => Math.sqrt(a.reduce((sum, v) => sum + v * v, 0)) || 1;
  const row = (...children) => el("div", {class: "row"}, children);
  const captioned = (canvas, ...text) => el("figure", {class: "small"}, canvas, el("figcaption", {}, text));

  // k numbers as the slices of a filter, side by side: 64 at most.
  function sheet(values, [C, h, w], label, range, room = 90) {
    if (C > 1 && h * w === 1) [h, w, C] = [Math.ceil(C / Math.ceil(Math.sqrt(C))), Math.ceil(Math.sqrt(C)), 1];
    const most = Math.min(C, 64);
    const across = most < 5 ? most : Math.ceil(Math.sqrt((most * (h + 1)) / (w + 1)));
    const W = across * (w + 1) - 1;
    const H = Math.ceil(most / across) * (h + 1) - 1;
    const data = new Float64Array(W * H);
    for (let i = 0; i < Math.min(most * h * w, values.length); i++) {
      const c = Math.floor(i / (h * w));
      const p = i % (h * w);
      data[(Math.floor(c / across) * (h + 1) + Math.floor(p / w)) * W + (c % across) * (w + 1) + (p % w)] =
        values[i];
    }
    return Maps.tile(data, H, W, {...range, scale: Math.max(1, Math.floor(room / Math.max(H, W))), label});
  }
  function shapeOf(name) {
    const {
      k,
      kernel: [h, w],
    } = V.layers[name];
    const bottom = R.stages[layerOf(name).bottoms[0]].shape;
    return layerOf(name).kind !== "ip" ? [k / (h * w), h, w] : bottom.length === 3 ? bottom : [k, 1, 1];
  }
  // Exact, at rank r, and the difference: in the same colours, or where it is small, in some times as strong ones.
  function trio(title, all, low, r, draw, approx = "") {
    const off = Float64Array.from(all, (v, i) => v - low[i]);
    const range = Maps.range(all);
    const most = ({lo, hi}) => Math.max(-lo, hi);
    const part = norm(off) / norm(all);
    const times = part < 0.001 ? 1 : Math.max(1, Math.floor(most(range) / most(Maps.range(off)))); // else rounding
    return el(
      "div",
      {},
      el("h3", {}, title),
      row(
        captioned(draw(all, "exact", range), "exact"),
        captioned(draw(low, `rank ${r}`, range), `rank ${r}`),
        captioned(
          draw(off, "difference", {lo: range.lo / times, hi: range.hi / times}),
          "off by ",
          el("b", {}, approx + percent(part)),
          times > 1 && `, colours ×${times}`,
        ),
      ),
    );
  }
  function filter(name, o, r, f, title) {
    return trio(
      title,
      o.W.subarray(f * o.k, (f + 1) * o.k),
      Rank.row(o, f, r),
      r,
      (values, label, range) => sheet(values, shapeOf(name), `filter ${f}, ${label}`, range),
    );
  }
  // What filters answer to this image, exact and at rank r: W·X and A·(B·X), with their biases. X is view 3's.
  async function maps(name, o, r, f) {
    const g = R.views.convolution.layers && R.views.convolution.layers[name];
    const x =
      g && !g.missing
        ? await Product.model(name, State.image, [0, 0])
        : {missing: "its input is not in this page"};
    if (x.missing) return el("div", {}, el("h3", {}, "Answers"), quiet(`Not shown: ${x.missing}.`));
    const {n, X, b} = x;
    const from = Math.floor(f / o.m);
    const bias = Rank.shift(o, r);
    const Z = new Float64Array(r * n);
    const K = from * o.k;
    const add = (y, at, c, k) => {
      for (let s = 0; s < n; s++) y[at + s] += c * X[(K + k) * n + s];
    };
    for (let j = 0; j < r; j++) for (let k = 0; k < o.k; k++) add(Z, j * n, o.B[(from * o.c + j) * o.k + k], k);
    const exact = h => {
      const y = new Float64Array(n).fill(b ? b[h] : 0);
      for (let k = 0; k < o.k; k++) add(y, 0, o.W[h * o.k + k], k);
      return y;
    };
    const low = h =>
      Float64Array.from({length: n}, (_, s) => {
        let sum = (b ? b[h] : 0) + bias[h];
        for (let j = 0; j < r; j++) sum += o.A[h * o.c + j] * Z[j * n + s];
        return sum;
      });
    const side = Math.ceil(Math.sqrt(o.M));
    const [h, w] = n > 1 ? [x.ch, x.cw] : [Math.ceil(o.M / side), side]; // of one number for each filter: all
    const all = get =>
      n > 1 ? get(f) : Float64Array.from({length: h * w}, (_, i) => (i < o.M ? get(i)[0] : 0));
    return trio(
      n === 1
        ? `All ${o.M} answers to this image`
        : `Its answers to this image: map ${f}${n < x.P ? `, ${h} × ${w} of it` : ""}`,
      all(exact),
      all(low),
      r,
      (values, label, range) =>
        Maps.tile(values, h, w, {...range, scale: Maps.scaleFor(h, w, 64, 80), label: `answers, ${label}`}),
      Values.isLive() ? "" : "≈ ",
    );
  }

  // W ≈ A·B, and how filter f is mixed from the rows of B.
  function draw(name, o, r, f, room) {
    const from = Math.floor(f / o.m);
    const shape = shapeOf(name);
    const tall = Math.max(40, Math.min(150, 3 * o.m));
    const most = 24;
    const broad = Math.max(6, Math.min(150, (r * tall) / o.m));
    const long = Math.max(60, Math.min(400, 3 * o.k, (room - Math.max(broad, 84) - 90) / 2));
    const line = j => o.B.subarray((from * o.c + j) * o.k, (from * o.c + j + 1) * o.k);
    const a = j => o.A[f * o.c + j];
    // a picture of rows × columns, with a frame around row f where it has one
    const box = (label, values, rows, columns, h, w, isRow) => {
      const canvas = Maps.tile(values, rows, columns, {scale: 1, label});
      Object.assign(canvas.style, {height: h + "px", width: w + "px", cursor: isRow ? "pointer" : ""});
      if (isRow)
        canvas.addEventListener("click", e =>
          State.set({map: from * o.m + Math.min(o.m - 1, Math.floor((e.offsetY / h) * o.m))}),
        );
      return captioned(
        el(
          "div",
          {class: "pixels"},
          canvas,
          isRow &&
            el("div", {
              class: "mark",
              style: {left: 0, right: 0, top: (100 * (f % o.m)) / o.m + "%", height: 100 / o.m + "%"},
            }),
        ),
        `${label}  ${rows} × ${whole(columns)}`,
      );
    };
    const A = Float64Array.from(
      {length: o.m * r},
      (_, i) => o.A[(from * o.m + Math.floor(i / r)) * o.c + (i % r)],
    );
    const size = Array.from({length: r}, (_, j) => Math.abs(a(j)) * norm(line(j)));
    const order = [...size.keys()].sort((i, j) => size[j] - size[i]).slice(0, most);
    return el(
      "div",
      {id: "rank-mix"},
      el("h3", {}, `${many(r, "basis filter")}; each of the ${many(o.m, "filter")} is a mix: its row of A`),
      row(
        box("W", o.W.subarray(from * o.m * o.k, (from + 1) * o.m * o.k), o.m, o.k, tall, long, true),
        el("b", {}, "≈"),
        box("A", A, o.m, r, tall, broad, true),
        el("b", {}, "·"),
        box(
          "B",
          o.B.subarray(from * o.c * o.k, (from * o.c + r) * o.k),
          r,
          o.k,
          Math.max(6, Math.min(tall, (r * tall) / o.m)),
          long,
        ),
      ),
      el(
        "p",
        {},
        `Filter ${f} at rank ${r} is the sum of these, each times the number below it` +
          (r > most ? `; the ${most} largest of ${r}:` : ":"),
      ),
      el(
        "div",
        {class: "grid"},
        order.map(j =>
          el(
            "figure",
            {class: "small framed"},
            sheet(line(j), shape, `basis filter ${j}`, {}, 52),
            el("figcaption", {class: "num"}, fmt(a(j), 2)),
          ),
        ),
      ),
    );
  }

  return {row, filter, maps, draw};
})();
