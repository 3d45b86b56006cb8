// View 2, how an output comes from its input, by the layer's type: pooling's windows, sums, softmax, neurons.
const LayerTypes = (() => {
  const {part, card, chosen, large, histogram} = LayerMaps;

  const TYPES = {
    async Pooling(layer) {
      const x = await Values.stage(layer.bottoms[0]);
      const y = await Values.stage(layer.tops[0]);
      if (!x.data || !y.data || x.step > 1 || !layer.window) return [];
      const [, h, w] = x.shape;
      const [, oh, ow] = y.shape;
      const {kernel, stride, pad} = layer.window;
      const i = chosen(y, y.shape[0]);
      const j = x.maps ? x.maps.indexOf(y.maps ? y.maps[i] : i) : i;
      if (j < 0) return [];
      const data = part(x.data, j, h * w);
      const range = Maps.range(x.data);
      const frame = Maps.pixels(
        Maps.tile(data, h, w, {
          ...range,
          scale: Maps.scaleFor(h, w, 190, 224),
          label: `${stageName(layer.bottoms[0])}, map ${State.map}`,
        }),
        data,
        h,
        w,
        {name: stageName(layer.bottoms[0]), focus: "window"},
      );
      let text = "choose a pixel of the output: its window is outlined here";
      if (State.at && State.at[0] < oh && State.at[1] < ow) {
        const [top, left] = [0, 1].map(a => State.at[a] * stride[a] - pad[a]);
        const ys = [Math.max(0, top), Math.min(h, top + kernel[0])];
        const xs = [Math.max(0, left), Math.min(w, left + kernel[1])];
        let best = null;
        for (let a = ys[0]; a < ys[1]; a++)
          for (let b = xs[0]; b < xs[1]; b++)
            if (!best || data[a * w + b] > data[best[0] * w + best[1]]) best = [a, b];
        const box = (name, y0, x0, y1, x1) =>
          frame.append(
            el("div", {
              class: `mark ${name}`,
              style: {
                top: (100 * y0) / h + "%",
                left: (100 * x0) / w + "%",
                height: (100 * (y1 - y0)) / h + "%",
                width: (100 * (x1 - x0)) / w + "%",
              },
            }),
          );
        box("window", ys[0], xs[0], ys[1], xs[1]);
        text = `the mean of this window is ${fmt(part(y.data, i, oh * ow)[State.at[0] * ow + State.at[1]], 4)}`;
        if (best && /MAX/i.test(layer.settings.find(s => s[0] === "pool")?.[1] ?? "MAX")) {
          box("best", best[0], best[1], best[0] + 1, best[1] + 1);
          text =
            `the largest of the window is at row ${best[0]}, column ${best[1]}: ` +
            `${fmt(data[best[0] * w + best[1]], 4)}`;
        }
      }
      return [
        card(
          `Map ${y.maps ? y.maps[i] : i}: input and output`,
          el("div", {class: "pair"}, frame, el("span", {class: "sign"}, "→"), large(layer.tops[0], y)),
          quiet(text),
        ),
      ];
    },
    async Eltwise(layer) {
      const all = await Promise.all([...layer.bottoms, ...layer.tops].map(key => Values.stage(key)));
      if (all.some(v => !v.data || v.shape.length !== 3)) return [];
      const how = layer.settings.find(s => s[0] === "operation")?.[1] ?? "SUM";
      const sign = {PROD: "·", MAX: "max"}[how] || "+";
      const keys = [...layer.bottoms, ...layer.tops];
      return [
        card(
          `Map ${State.map}: ${keys
            .slice(0, -1)
            .map(k => stageName(source(k)))
            .join(` ${sign} `)} = ${stageName(keys[keys.length - 1])}`,
          el(
            "div",
            {class: "pair"},
            all.map((v, i) => [
              i ? el("span", {class: "sign"}, i === all.length - 1 ? "=" : sign) : "",
              large(keys[i], v),
            ]),
          ),
        ),
      ];
    },
    async Softmax(layer) {
      const z = await Values.stage(layer.bottoms[0]);
      const p = await Values.stage(layer.tops[0]);
      if (!z.data || z.data.length !== p.data.length || z.data.length !== R.stages[layer.tops[0]].shape[0])
        return [];
      const top = Math.max(...z.data);
      const order = Array.from(z.data, (_, i) => i)
        .sort((a, b) => z.data[b] - z.data[a])
        .slice(0, 20);
      const e = i => Math.exp(z.data[i] - top);
      const bar = (v, size) => [
        el("span", {
          class: `stick ${v < 0 ? "loss" : "conv"}`,
          style: {width: (90 * Math.abs(v)) / size + "px"},
        }),
        num(v),
      ];
      const size = Math.max(...order.map(i => Math.abs(z.data[i])));
      return [
        card(
          "Scores, powers, probabilities",
          el(
            "table",
            {class: "net"},
            headOf(["class", "score z", "exp(z − largest)", "p = its share of the sum"]),
            el(
              "tbody",
              {},
              order.map(i =>
                el(
                  "tr",
                  {},
                  el("th", {scope: "row"}, className(i)),
                  el("td", {}, bar(z.data[i], size)),
                  el("td", {}, bar(e(i), 1)),
                  el("td", {}, bar(p.data[i], 1)),
                ),
              ),
            ),
          ),
        ),
        quiet(z.data.length > 20 ? "the 20 largest" : ""),
      ];
    },
    async Concat(layer) {
      let from = 0;
      return [
        card(
          "From where the maps come",
          el(
            "ol",
            {},
            layer.bottoms.map(key => {
              const n = R.stages[key].shape[0];
              const text = `${from} … ${from + n - 1}: ${stageName(source(key))}`;
              from += n;
              return el("li", {}, text);
            }),
          ),
        ),
      ];
    },
  };
  async function neuron(layer) {
    // before and after, for layers that work on each number alone, or on each channel
    const [a, b] = [source(layer.bottoms[0]), layer.tops[0]];
    const x = await Values.stage(a);
    const y = await Values.stage(b);
    const s = R.stages[b];
    const cards = [
      card(
        "Before and after, over all images",
        el(
          "div",
          {class: "pair"},
          histogram(`How large is ${stageName(a)}?`, R.stages[a], "value before"),
          histogram(`How large is ${stageName(b)}?`, s, "value after"),
        ),
        layer.type === "ReLU" ? quiet(`${percent(s.zeros / s.count)} of the numbers are 0 after it.`) : "",
      ),
    ];
    if (x.data && y.data && y.shape.length === 3 && y.shape[1] > 1)
      cards.unshift(
        card(
          `Map ${State.map}: before and after`,
          el("div", {class: "pair"}, large(a, x), el("span", {class: "sign"}, "→"), large(b, y)),
        ),
      );
    return cards;
  }
  const NEURONS = [
    "ReLU",
    "PReLU",
    "ELU",
    "Sigmoid",
    "TanH",
    "ReLU6",
    "Swish",
    "BatchNorm",
    "Scale",
    "Bias",
    "BN",
    "Power",
    "LRN",
    "AbsVal",
    "Exp",
    "Log",
    "BNLL",
    "Clip",
    "Dropout",
  ];

  const isNeuron = layer => NEURONS.includes(layer.type) && layer.bottoms.length > 0;
  const has = layer => Boolean(TYPES[layer.type]) || isNeuron(layer);
  // The cards of a layer; none where its type has no picture of its own.
  async function cards(layer) {
    if (TYPES[layer.type]) return TYPES[layer.type](layer);
    return isNeuron(layer) ? neuron(layer) : [];
  }
  return {has, isNeuron, cards};
})();
