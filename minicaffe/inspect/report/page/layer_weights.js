// View 2, the weights of a layer: filters of a convolution, the matrix W of an inner product, and what one of them
// makes of the input.
const LayerWeights = (() => {
  const SLICES = 64; // of a filter, that are drawn
  const {part, card, areMaps, numberOf, figure, scene, sign, mosaic, large, reading, stageOr} = LayerMaps;
  const biasOf = (layer, k) =>
    Values.param(layer.name, 1).then(b => (b.data && b.shape.length === 1 ? b.data[k] : null));
  const equals = (layer, y, bias) =>
    y.key ? "→" : layer.rank ? "≈" : bias ? `${bias < 0 ? "−" : "+"} ${fmt(Math.abs(bias))} =` : "=";
  const isPicture = key => source(key) === R.input.stage;

  // The filters of a convolution, as far as they are carried; null where no filter stands for an output map.
  async function filters(layer) {
    const w = await Values.param(layer.name, 0);
    const isUp = layer.type === "Deconvolution";
    const [C] = R.stages[layer.bottoms[0]].shape;
    const [M] = R.stages[layer.tops[0]].shape;
    if (!w.data || w.shape.length !== 4 || layer.params[0].shape[0] !== (isUp ? C : M)) return null;
    const [, , kh, kw] = w.shape;
    const ins = isUp ? C / layer.group : layer.params[0].shape[1];
    const outs = (M * ins) / C;
    const groupOf = k => Math.floor(k / outs) * ins; // the first channel that filter k sees
    const [rows, columns] = layer.params[0].channels;
    const place = (list, i) => (list ? list.indexOf(i) : i);
    const slice = (k, c) => {
      const i = place(rows, isUp ? groupOf(k) + c : k);
      const j = place(columns, isUp ? k % outs : c);
      return i < 0 || j < 0 ? null : part(w.data, i * w.shape[1] + j, kh * kw);
    };
    const all = Array.from({length: ins}, (_, c) => c).filter(c => place(isUp ? rows : columns, c) >= 0);
    const {lo, hi} = Maps.range(w.data);
    const isColour = ins === 3 && all.length === 3 && isPicture(layer.bottoms[0]);
    const {channels} = R.input.preparation || {channels: [2, 1, 0]};
    const order = [0, 1, 2].map(c => (channels ? channels.indexOf(c) : c));

    // Filter k about `side` pixels large: in colours, or a square for each channel; null where it is not carried.
    function drawn(k, side, channels = all.slice(0, SLICES)) {
      const slices = channels.map(c => slice(k, c));
      if (!slices.length || !slices.every(Boolean)) return null;
      const label = `filter ${k}, ${ins} × ${kh} × ${kw}`;
      if (!isColour) return mosaic(slices, kh, kw, {lo, hi, side, label});
      const bytes = Float32Array.from(
        {length: 3 * kh * kw},
        (_, i) => 127.5 + (127.5 * slices[order[i % 3]][Math.floor(i / 3)]) / (Math.max(-lo, hi) || 1),
      );
      return Maps.rgb(bytes, kh, kw, {scale: Math.max(1, Math.floor(side / Math.max(kh, kw))), label});
    }
    const notes = [
      lo === hi && !hi && "all filters are 0",
      Math.min(all.length, SLICES) < ins && `filters with ${Math.min(all.length, SLICES)} of ${ins} slices`,
      layer.rank && `filters of W as it is stored: the layer computes with rank ${layer.rank.r}, as view 4 shows`,
    ];
    const legend = isColour ? quiet("Filters are in colours: grey is 0.") : Maps.legend(lo, hi, true, "filters");
    return {drawn, notes, legend, all, groupOf, size: `${ins} × ${kh} × ${kw}`};
  }

  // What one filter makes of the input: the input, or its maps, the filter, the map.
  async function conv(layer, found) {
    const [x, y] = await Promise.all([layer.bottoms[0], layer.tops[0]].map(stageOr));
    if (!areMaps(y)) return [];
    const k = numberOf(y);
    const first = found ? found.groupOf(k) : 0;
    const side = innerWidth > 1180 ? 160 : 136;
    const parts = [];
    const carried = x.data && areMaps(x) ? x.maps || Array.from({length: x.shape[0]}, (_, c) => c) : [];
    const channels = (found ? found.all : carried).filter(c => carried.includes(first + c)).slice(0, SLICES);
    if (!isPicture(layer.bottoms[0])) parts.push(sign("⋯"));
    if (parts.length && channels.length) {
      const [, h, w] = x.shape;
      const maps = channels.map(c => part(x.data, carried.indexOf(first + c), h * w));
      const all = R.stages[layer.bottoms[0]].shape[0];
      const count = maps.length < all ? `${maps.length} of ${all} maps` : many(all, "map");
      const label = `${R.stages[source(layer.bottoms[0])].blob}: ${count}`;
      parts.push(figure(mosaic(maps, h, w, {...Maps.range(x.data), side, label}), label));
    }
    const size = isPicture(layer.bottoms[0]) ? 100 : side;
    const filter = found?.drawn(k, size, channels.length ? channels : undefined);
    if (filter) parts.push(sign("∗"), figure(filter, `filter ${k}: ${found.size}`));
    parts.push(sign(filter ? equals(layer, y, await biasOf(layer, k)) : "→"));
    parts.push(large(layer.tops[0], y, `map ${k}`));
    return [
      scene(
        filter ? `Filter ${k} and what it makes of the input` : `Map ${k}`,
        parts,
        filter && found.legend,
        reading([y]),
      ),
    ];
  }

  // One output of an inner product: the input, its row of W, their sum; and all of W.
  async function ip(layer) {
    const w = await Values.param(layer.name, 0);
    const [x, y] = await Promise.all([layer.bottoms[0], layer.tops[0]].map(stageOr));
    const whole = layer.params[0].shape;
    if (!w.data || whole.length !== 2) return [];
    const isTurned = layer.settings.some(([name, value]) => name === "transpose" && value === "true");
    const [m, n] = isTurned ? [whole[1], whole[0]] : whole;
    const k = Math.min(State.map, m - 1);
    const {lo, hi} = Maps.range(w.data);
    const cards = [
      card(
        `W, ${whole[0]} × ${whole[1]}`,
        Maps.legend(lo, hi, true),
        quiet(w.note),
        Maps.tile(w.data, w.shape[0], w.shape[1], {
          lo,
          hi,
          scale: Math.min(3, 480 / w.shape[1], 300 / w.shape[0]),
          label: "W: a row for each output",
        }),
      ),
    ];
    if (w.note || !x.data || !y.data || x.data.length !== n || y.data.length !== m) return cards;
    const row = Float32Array.from({length: n}, (_, i) => w.data[isTurned ? i * m + k : k * n + i]);
    const across = Math.ceil(Math.sqrt(n));
    const [c, h, v] = areMaps(x) ? x.shape : [1, Math.ceil(n / across), across];
    const square = (data, label, range) => {
      const padded = new Float32Array(c * h * v);
      padded.set(data);
      const list = Array.from({length: c}, (_, i) => part(padded, i, h * v));
      return figure(mosaic(list, h, v, {...range, side: 140, label}), label);
    };
    const name = stageName(x.key || layer.bottoms[0]);
    const choose = e => State.set({map: Math.max(0, Math.min(m - 1, Math.round(e.target.value) || 0))});
    const unit = el("input", {
      type: "number",
      "aria-label": "unit",
      value: k,
      min: 0,
      max: m - 1,
      "data-focus": "unit",
      onchange: choose,
    });
    const isClass = isOfClasses(layer.tops[0]);
    return [
      scene(
        ["Unit ", unit, isClass ? ` (${className(k)})` : "", ": input times weight, place by place, added up"],
        [
          square(x.data, areMaps(x) ? `${name}, ${many(c, "map")}` : name, Maps.range(x.data)),
          sign("·"),
          square(row, `row ${k} of W`, {lo, hi}),
          sign(equals(layer, y, await biasOf(layer, k))),
          figure(el("div", {class: "sign"}, num(y.data[k], 4)), `number ${k}`),
        ],
      ),
      ...cards,
    ];
  }

  return {filters, conv, ip};
})();
