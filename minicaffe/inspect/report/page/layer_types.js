// View 2, how an output comes from its input, by the layer's type: pooling's windows, sums, softmax, neurons.
const LayerTypes = (() => {
  const {card, areMaps, numberOf, map, placeIn, scene, sign} = LayerMaps;
  const {large, reading, stageOr, histogram} = LayerMaps;

  const both = layer => Promise.all([source(layer.bottoms[0]), layer.tops[0]].map(stageOr));
  const TYPES = {
    async Pooling(layer) {
      const [x, y] = await both(layer);
      if (!areMaps(x) || !y.data || y.shape.length !== 3) return [];
      const [, h, w] = x.shape;
      const data = map(x);
      const {kernel, stride, pad} = layer.window || {};
      const isWhole = x.step === 1 && y.step === 1 && layer.window && areMaps(y);
      const from = source(layer.bottoms[0]);
      const input = large(from, x, stageName(x.key || from), {at: null, onpixel: null});
      const at = placeIn(y);
      let text = isWhole ? "Choose a pixel of the output: its window is outlined in the input." : "";
      if (isWhole && at) {
        const [top, left] = [0, 1].map(a => at[a] * stride[a] - pad[a]);
        const ys = [Math.max(0, top), Math.min(h, top + kernel[0])];
        const xs = [Math.max(0, left), Math.min(w, left + kernel[1])];
        let best = null;
        for (let a = ys[0]; a < ys[1]; a++)
          for (let b = xs[0]; b < xs[1]; b++)
            if (!best || data[a * w + b] > data[best[0] * w + best[1]]) best = [a, b];
        const box = (name, y0, x0, y1, x1) =>
          input.firstChild.append(
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
        text = `the mean of this window is ${fmt(map(y)[at[0] * y.shape[2] + at[1]], 4)}`;
        if (best && /MAX/i.test(layer.settings.find(s => s[0] === "pool")?.[1] ?? "MAX")) {
          box("best", best[0], best[1], best[0] + 1, best[1] + 1);
          text =
            `the largest of the window is at row ${best[0]}, column ${best[1]}: ` +
            `${fmt(data[best[0] * w + best[1]], 4)}`;
        }
      }
      return [
        scene(
          `Map ${numberOf(y)}: input and output`,
          [input, sign("→"), large(layer.tops[0], y)],
          quiet(text),
        ),
      ];
    },
    async Eltwise(layer) {
      const keys = [...layer.bottoms, ...layer.tops];
      const all = await Promise.all(keys.map(stageOr));
      if (!all.every(areMaps)) return [];
      const how = layer.settings.find(s => s[0] === "operation")?.[1] ?? "SUM";
      const op = {PROD: "·", MAX: "max"}[how] || "+";
      const y = all[all.length - 1];
      const factors = layer.settings.find(s => s[0] === "coeff")?.[1].match(/[-−\d.e]+/g) ?? [];
      const signs = all.map((v, i) => {
        if (v === y) return y.key ? "→" : "=";
        const factor = Number(factors[i] ?? 1) === 1 ? "" : `${fmt(Number(factors[i]), 3)} ·`;
        return [i ? op : "", factor].filter(Boolean).join(" ");
      });
      return [
        scene(
          `Map ${numberOf(y)}, number by number`,
          all.map((v, i) => [
            signs[i] && sign(signs[i]),
            large(keys[i], v, v === y ? stageName(y.key || keys[i]) : R.stages[source(keys[i])].blob),
          ]),
          reading(all, signs),
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
          quiet(z.data.length > 20 && "the 20 largest"),
        ),
      ];
    },
    async Concat(layer) {
      const y = await stageOr(layer.tops[0]);
      let from = 0;
      return [
        scene(
          "From where the maps come",
          [
            el(
              "ul",
              {},
              layer.bottoms.map(key => {
                const n = R.stages[key].shape[0];
                const here = State.map >= from && State.map < from + n;
                const text = `${from} … ${from + n - 1}: ${R.stages[source(key)].blob}`;
                from += n;
                return el("li", {}, here ? el("b", {}, text) : text);
              }),
            ),
            areMaps(y) && large(layer.tops[0], y, `map ${numberOf(y)}`),
          ],
          areMaps(y) && reading([y]),
        ),
      ];
    },
  };
  // Before and after.
  async function neuron(layer) {
    const [a, b] = [source(layer.bottoms[0]), layer.tops[0]];
    const [x, y] = await both(layer);
    const cards = [
      card(
        "Before and after, over all images",
        el(
          "div",
          {class: "pair"},
          histogram(`How large is ${stageName(a)}?`, R.stages[a], "value before"),
          histogram(`How large is ${stageName(b)}?`, R.stages[b], "value after"),
        ),
      ),
    ];
    if (areMaps(x) && areMaps(y) && x.key !== (y.key || b))
      cards.unshift(
        scene(
          `Map ${numberOf(y)}: before and after, each in its own colours`,
          [large(a, x, stageName(x.key || a)), sign("→"), large(b, y, stageName(y.key || b))],
          reading([x, y]),
        ),
      );
    return cards;
  }
  // Whether a layer makes as many numbers as it gets, of one blob.
  const isNeuron = ({kind, bottoms, tops}) =>
    kind === "other" &&
    bottoms.length === 1 &&
    String(R.stages[tops[0]]?.shape) === String(R.stages[source(bottoms[0])].shape);
  // The cards of a layer, the one of the chosen map first; none where its type has no picture of its own.
  async function cards(layer) {
    if (TYPES[layer.type]) return TYPES[layer.type](layer);
    return isNeuron(layer) ? neuron(layer) : [];
  }
  return {isNeuron, cards};
})();
