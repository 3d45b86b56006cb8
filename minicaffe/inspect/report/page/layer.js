// View 2: one layer: formula, settings, count; its parameters and what it makes of the image, by its type.
View("layer", () => {
  const MOST = 256;
  const FILTERS = 64;
  const SLICES = 49; // maps, filters and slices that are drawn

  const part = (data, i, size) => data.subarray(i * size, (i + 1) * size);
  const card = (title, ...content) => el("section", {class: "layer-card"}, el("h3", {}, title), content);
  const quiet = text => (text ? el("p", {class: "quiet"}, text) : "");
  const shape = s => s.join(" × ") || "one number";
  const areMaps = v => v.data && v.shape.length === 3 && v.shape[1] > 1;
  const chosen = (values, n) =>
    values.maps ? Math.max(0, values.maps.indexOf(State.map)) : Math.min(State.map, n - 1);

  // -- maps and rows of numbers --

  // All maps of a stage, and the chosen one larger, whose pixels can be read.
  function maps(key, values, onhover, group) {
    const [c, h, w] = values.shape;
    const n = Math.min(c, MOST);
    const range = Maps.range(values.data);
    const shared = State.scale === "blob" ? range : {};
    const list = Array.from({length: n}, (_, i) => ({
      values: part(values.data, i, h * w),
      h,
      w,
      number: values.maps ? values.maps[i] : i,
      label: `${key}, map ${values.maps ? values.maps[i] : i}`,
    }));
    const whole = [
      values.note,
      c > n && `the first ${n} of ${c} maps`,
      values.exact ? "" : "≈ recorded in 8 bits",
    ]
      .filter(Boolean)
      .join(" · ");
    return [
      Maps.legend(range.lo, range.hi),
      quiet(whole),
      Maps.grid(list, {
        ...shared,
        selected: State.map,
        focus: `map-${key}`,
        onhover,
        onselect: map => State.set({map, at: null}),
      }),
    ];
  }
  function large(key, values, extra = {}) {
    const [c, h, w] = values.shape;
    const i = chosen(values, c);
    const data = part(values.data, i, h * w);
    const range = State.scale === "blob" ? Maps.range(values.data) : Maps.range(data);
    const canvas = Maps.tile(data, h, w, {
      ...range,
      scale: Maps.scaleFor(h, w, 190, 224),
      label: `${key}, map ${values.maps ? values.maps[i] : i}`,
    });
    const at = State.at && State.at[0] < h && State.at[1] < w ? State.at : null;
    const read = at
      ? [`row ${at[0]}, column ${at[1]}: `, values.exact ? "" : "≈ ", num(data[at[0] * w + at[1]], 5)]
      : "choose a pixel";
    return el(
      "div",
      {},
      Maps.pixels(canvas, data, h, w, {
        at,
        name: key,
        exact: values.exact,
        focus: `pixels-${key}`,
        onpixel: (y, x) => State.set({at: [y, x]}),
        ...extra,
      }),
      el("p", {class: "quiet"}, read),
    );
  }
  function numbers(key, values) {
    const n = values.data.length;
    if (n === 1) return el("p", {}, num(values.data[0], 5));
    if (n <= 24) {
      const isClasses = source(key) === R.answer;
      return Chart.bar({
        title: `What is in ${stageName(key)}?`,
        x: {label: "value"},
        rows: Array.from(values.data, (v, i) => ({
          name: isClasses && R.classes.length ? className(i) : String(i),
          value: v,
          kind: v < 0 ? "minus" : "plus",
        })),
        label: isClasses && R.classes.length ? 110 : 40,
        row: 17,
      });
    }
    const w = [50, 64, 48, 40, 32, 25, 20].find(k => n % k === 0) || 50;
    const h = Math.ceil(n / w);
    const padded = new Float32Array(h * w);
    const range = Maps.range(values.data);
    padded.set(values.data);
    return [
      Maps.legend(range.lo, range.hi),
      Maps.pixels(Maps.tile(padded, h, w, {...range, scale: 9, label: key}), padded, h, w, {
        at: State.at,
        name: key,
        exact: values.exact,
        focus: `pixels-${key}`,
        onpixel: (y, x) => State.set({at: [y, x]}),
      }),
      quiet(`${n} numbers in rows of ${w}${values.note ? " · " + values.note : ""}`),
    ];
  }
  // A stage; where it is not carried but its blob is, as later layers have left it, that.
  async function stageOr(key) {
    const values = await Values.stage(key);
    if (values.data) return values;
    const later = Object.keys(R.stages).find(
      k => k !== key && R.stages[k].blob === R.stages[key].blob && R.stages[k].values,
    );
    const found = later && (await Values.stage(later));
    return found && found.data
      ? {...found, note: [`as it is after ${R.stages[later].layer}`, found.note].filter(Boolean).join(" · ")}
      : values;
  }
  async function shown(key, onhover) {
    const values = await stageOr(key);
    if (!values.data)
      return quiet(
        `${key} (${shape(R.stages[key].shape)}): too large to be carried for this image; only its ` +
          "statistics are here",
      );
    if (areMaps(values)) return values.shape[0] > 1 ? maps(key, values, onhover) : large(key, values);
    if (values.shape.length === 2 || (values.shape.length === 3 && values.shape[2] > 1))
      return grid2(key, values);
    return numbers(key, values);
  }
  function grid2(key, values) {
    // rows × columns, as time × numbers: time goes to the right
    const t = values.shape[0];
    const d = values.data.length / t;
    const turned = new Float32Array(t * d);
    values.data.forEach((v, i) => {
      turned[(i % d) * t + Math.floor(i / d)] = v;
    });
    const range = Maps.range(turned);
    return [
      Maps.legend(range.lo, range.hi, true),
      Maps.tile(turned, d, t, {...range, scale: Maps.scaleFor(d, t, 240, 480), label: key}),
      quiet(`${d} numbers (downwards) of each of ${t} steps (to the right)`),
    ];
  }

  // -- statistics --
  function histogram(title, s, label) {
    if (!s.histogram) return null;
    return el(
      "div",
      {class: "stats"},
      Chart.histogram({
        title,
        x: {label},
        ...s.histogram,
        zeros: s.zeros,
        total: s.count,
        width: 290,
        height: 140,
      }),
      el(
        "p",
        {class: "quiet"},
        "mean ",
        num(s.mean),
        " · standard deviation ",
        num(s.std),
        " · ",
        num(s.min),
        " … ",
        num(s.max),
        ` · ${percent(s.not_positive / s.count)} ≤ 0`,
        s.not_finite ? el("b", {class: "warning"}, ` · ${whole(s.not_finite)} not finite`) : "",
      ),
    );
  }

  // -- parameters --

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
    const order = R.input.preparation && R.input.preparation.channels === "rgb" ? [0, 1, 2] : [2, 1, 0];
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
        `${layer.params[0].shape[0]} filters`,
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
          `Row ${row} of W, folded back to the ${c} maps that it looks at`,
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

  // -- types --
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
            el(
              "thead",
              {},
              el(
                "tr",
                {},
                ["class", "score z", "exp(z − largest)", "p = its share of the sum"].map(t =>
                  el("th", {scope: "col"}, t),
                ),
              ),
            ),
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

  // -- patches of test images, and gates of recurrent layers --
  async function patches(layer) {
    const found = R.views.layer.patches?.[layer.name];
    if (!found) return [];
    const [c, n, h, w] = found.pixels.shape;
    const all = await Pack.bytes(found.pixels);
    const f = State.map;
    if (f >= c) return [];
    const values = await Pack.array(found.values);
    const r = layer.receptive_field;
    const cells = Array.from(
      {length: n},
      (_, i) =>
        Number.isFinite(values[f * n + i]) &&
        el(
          "figure",
          {class: "patch"},
          Maps.rgb(part(all, f * n + i, h * w * 3), h, w, {
            scale: Maps.scaleFor(h, w, 48, 72),
            label: `patch ${i}`,
          }),
          el("figcaption", {}, fmt(values[f * n + i])),
        ),
    );
    return [
      card(
        `Filter ${f} fires most for`,
        el("div", {class: "pair"}, cells),
        quiet(
          `of ${whole(R.views.layer.tested)} test images. Each output sees ${r.size.join(" × ")} pixels, ` +
            `every ${r.stride[0]} pixel${r.stride[0] > 1 ? "s" : ""}.`,
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

  function about() {
    const layer = layerOf(State.layer);
    const stages = keys => keys.map(k => `${R.stages[k].blob} ${shape(R.stages[k].shape)}`).join(" + ");
    return el(
      "div",
      {class: "about"},
      el("pre", {class: "formula", tabindex: "0", "aria-label": "formula"}, R.formulas[layer.formula]),
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
    const isNeuron = NEURONS.includes(layer.type) && layer.bottoms.length;
    const main = TYPES[layer.type] ? await TYPES[layer.type](layer) : isNeuron ? await neuron(layer) : [];
    const side = [];
    if (layer.kind === "conv") main.push(...(await kernels(layer, light)));
    for (const key of tops) {
      const values = await stageOr(key);
      const isMaps = areMaps(values);
      const [c, ...size] = R.stages[key].shape;
      const title =
        isMaps && c > 1
          ? `${c} maps of ${size.join(" × ")}: ${stageName(key)}`
          : `${stageName(key)}: ${shape([c, ...size].filter(Boolean))}`;
      if (isMaps && c > 1 && !TYPES[layer.type] && !isNeuron) {
        const i = chosen(values, values.shape[0]);
        side.push(card(`Map ${values.maps ? values.maps[i] : i}`, large(key, values)));
      }
      if (layer.type === "Softmax" && main.length) continue; // its table says it all
      const output = card(title, await shown(key, light));
      if (main.some(node => node.querySelector?.(".filters"))) output.classList.add("beside");
      main.push(output);
    }
    if (layer.kind === "ip") main.push(...(await matrix(layer)));
    side.push(...(await patches(layer)));
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
      ...(await gates(layer)),
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
