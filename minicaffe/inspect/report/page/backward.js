// View 6: how the loss would change: sizes of gradients, maps, dead units. Its other parts: walk.js and weight.js.
View("backward", () => {
  const D = R.views.backward || {};
  const VANISHING = 1e-3;
  const EXPLODING = 1e3;
  const MANY = 40; // layers, whose bars no screen holds
  const SIZES = "How much do blobs change the loss?";
  const PARTS = [
    ["sizes", "How large"],
    ["walk", "Chain rule"],
    ["maps", "Maps"],
    ["weight", "One weight"],
    ["units", "Dead units"],
  ];
  const part = () => (PARTS.some(([key]) => key === State.part) ? State.part : "sizes");
  const at = (list, i) => list && list[Math.min(i, list.length - 1)];

  // -- how large --
  function sizes(root, i) {
    const layers = State.layers.filter(
      l => l.kind !== "loss" && l.tops.length && R.stages[l.tops[0]].diff_mean,
    );
    const withWeights = layers.filter(l => l.params.length && l.params[0].diff_mean);
    const shown = layers.length > 60 ? withWeights : layers;
    const size = l => R.stages[l.tops[0]].diff_mean[i];
    const row = (l, value) => ({
      name: l.name,
      value,
      kind: l.kind,
      chosen: l.name === State.layer,
      key: l.name,
    });
    const choose = row => State.set({layer: row.key});
    const kind = layers.filter(l => l.kind === "conv").length > 1 ? "conv" : "ip";
    const ends = layers.filter(l => l.kind === kind);
    const [first, last] = [ends[0], ends[ends.length - 1]];
    if (ends[1] && size(last)) {
      const ratio = size(first) / size(last);
      const verdict = ratio < VANISHING ? "vanishing" : ratio > EXPLODING ? "exploding" : "";
      root.append(
        el(
          "p",
          {class: "verdict", "data-verdict": verdict || "none"},
          `Blobs: ${first.name} has `,
          num(ratio),
          ` of ${last.name}'s mean |gradient|: `,
          verdict ? el("b", {class: "warning"}, verdict) : "neither vanishing nor exploding",
          el("span", {class: "quiet"}, ` (by rule: below ${VANISHING}, above ${EXPLODING})`),
        ),
      );
    } else if (ends[1])
      root.append(
        el(
          "p",
          {class: "verdict", "data-verdict": "none"},
          el("b", {class: "warning"}, `No gradient arrives at ${last.name}`),
          ": it is 0 everywhere.",
        ),
      );
    const steep = l => at(l.params[0].diff_mean, i);
    if (shown.length > MANY) {
      const lines = (!ends[1] || size(last)) && overDepth(["blobs", layers, size], ["weights", withWeights, steep]);
      root.append(lines || "", locked(layers));
      return;
    }
    const end = layers[layers.length - 1];
    const both = el("div", {class: "beside"});
    // three decades at least, so that what is nearly as large lies near
    const width = Math.min(480, (roomOf() - 26) / 2);
    const log = values => {
      const powers = values.filter(v => v > 0).map(Math.log10);
      return {log: true, lo: 10 ** Math.floor(Math.min(...powers, Math.max(-3, ...powers) - 2))};
    };
    both.append(
      Chart.bar({
        title: SIZES,
        x: {label: "mean |dL/d blob|", ...log(shown.map(size))},
        rows: shown.map(l => row(l, size(l))),
        width,
        onselect: choose,
        reference:
          end && size(end) > 0 ? {value: size(end), label: `at the end, ${end.name}: ${fmt(size(end))}`} : null,
      }),
    );
    const isOne = i > 0 && withWeights.some(l => l.params[0].diff_mean.length === 1);
    both.append(
      Chart.bar({
        title: `And how much do weights?${isOne ? " (image 0)" : ""}`,
        x: {label: "mean |dL/dw|", ...log(withWeights.map(steep))},
        rows: withWeights.map(l => row(l, steep(l))),
        width,
        top: 24, // so that rows stand beside those of the chart before
        onselect: choose,
      }),
    );
    root.append(both, locked(layers));
  }
  // The same of a deep net, over its layers from the image to the loss.
  function overDepth(...series) {
    return Chart.line({
      title: SIZES,
      x: {label: "layer"},
      y: {label: "mean |gradient|", log: true},
      series: series.map(([name, layers, size]) => {
        const shown = layers.filter(l => size(l) > 0);
        return {name, x: shown.map(l => R.layers.indexOf(l)), y: shown.map(size), dots: true};
      }),
      width: Math.min(900, roomOf()),
      onpick: x => State.set({layer: R.layers[x].name}),
    });
  }
  // Which layers have weights, but no gradient of them.
  function locked(layers) {
    const names = layers.filter(l => l.params.length && !l.params[0].diff_mean).map(l => l.name);
    if (names[6]) names.splice(5, names.length, "…");
    return names[0] ? quiet(`No gradient of the weights of ${names.join(", ")} (lr_mult 0)`) : "";
  }

  // -- maps --
  async function maps(root, i) {
    const own = layerOf(State.layer).tops[0];
    // where there is no room for that, it is of what the layers in place leave
    const left = own && Object.keys(R.stages).findLast(key => R.stages[key].blob === R.stages[own].blob);
    const key = own && R.stages[own].diff ? own : left;
    const found = key && (await OneWeight.gradientOf(key, i));
    const input = await Values.diff(R.input.stage, i);
    const room = 168 / Math.max(...R.input.shape.slice(1));
    const scale = room < 1 ? room : Math.floor(room);
    const picture = await Maps.image(i, scale);
    const row = el("div", {class: "beside"});
    const [c, h, w] = R.input.shape;
    if (picture) row.append(el("figure", {class: "chart"}, el("figcaption", {}, "the image"), picture));
    if (input.data && input.shape.length === 3) {
      const [, gh, gw] = input.shape; // smaller than the image where pixels are averaged
      const total = new Float32Array(gh * gw);
      input.data.forEach((v, k) => (total[k % (gh * gw)] += v));
      const {lo, hi} = Maps.range(total);
      row.append(
        el(
          "figure",
          {class: "chart"},
          el("figcaption", {}, c > 1 ? "dL/d image, channels added" : "dL/d image"),
          Maps.tile(total, gh, gw, {scale: (scale * h) / gh, label: "gradient of the image"}),
        ),
        el(
          "div",
          {style: {flex: "1 1 180px"}},
          Maps.legend(lo, hi, true),
          quiet("Blue: the loss grows if the pixel does; red: it falls."),
          quiet(input.note),
        ),
      );
    }
    root.append(row, el("h3", {}, key ? `dL/d ${stageName(key)}` : State.layer));
    if (!found || !found.data) {
      const {diff, diff_mean: size} = R.stages[key] || {};
      root.append(
        ...(diff
          ? Walk.firstOnly(diff.shape[0])
          : [quiet(size ? "Not recorded for want of room: see --max-size." : "No gradient arrives here.")]),
      );
      return;
    }
    const {lo, hi} = Maps.range(found.data);
    const shared = State.scale === "blob" ? {lo, hi} : {};
    root.append(
      quiet(found.note || "", found.exact ? "" : " ≈ recorded in 8 bits"),
      Maps.legend(lo, hi, found.shape.length !== 3),
    );
    if (found.shape.length === 3) {
      const [n, fh, fw] = found.shape;
      root.append(
        Maps.grid(
          Array.from({length: n}, (_, k) => ({
            values: found.data.subarray(k * fh * fw, (k + 1) * fh * fw),
            h: fh,
            w: fw,
            number: found.maps ? found.maps[k] : k,
            label: `gradient of ${stageName(key)}, map ${k}`,
          })),
          {...shared, selected: State.map, onselect: map => State.set({map})},
        ),
      );
    } else {
      const wide = Math.min(found.data.length, 50);
      const rows = Math.ceil(found.data.length / wide);
      const padded = new Float32Array(rows * wide);
      padded.set(found.data);
      root.append(
        found.data.length <= 50
          ? Maps.table(padded, rows, wide)
          : Maps.tile(padded, rows, wide, {
              scale: 12,
              label: `gradient of ${stageName(key)}, ${wide} numbers a row`,
            }),
      );
    }
  }

  // -- dead units --
  function units(root) {
    if (!D.units) {
      root.append(
        el(
          "p",
          {class: "absent"},
          D.no_units || "Needs at least 100 test images: a net with its data (train.yaml), and --test 1000.",
        ),
      );
      return;
    }
    root.append(
      el(
        "p",
        {},
        `Over ${many(D.units.count, "test image")}. A dead unit is 0 for all of them: no gradient ever ` +
          "passes, so its weights do not learn. One that is always on does nothing that a linear layer could not.",
      ),
      el(
        "table",
        {class: "units", "aria-label": "dead units"},
        headOf(["layer", "dead", "always on", "which are dead"]),
        el(
          "tbody",
          {},
          D.units.layers.map(u =>
            el(
              "tr",
              {"data-units": u.name},
              el(
                "th",
                {scope: "row"},
                el("button", {class: "link", onclick: () => State.set({layer: u.name, view: "layer"})}, u.name),
              ),
              el("td", {}, percent(u.dead)),
              el("td", {}, percent(u.always_on)),
              el(
                "td",
                {class: "quiet"},
                u.units.length ? u.units.join(", ") + (u.more ? ` and ${u.more} more` : "") : "none",
              ),
            ),
          ),
        ),
      ),
    );
  }

  async function draw(root) {
    const i = State.image;
    const chosen = part();
    root.append(
      el(
        "div",
        {class: "parts controls", role: "group", "aria-label": "parts of this view"},
        PARTS.map(([key, title]) =>
          el(
            "button",
            {
              "aria-pressed": String(key === chosen),
              "data-focus": `part-${key}`,
              "data-part": key,
              onclick: () => State.set({part: key}),
            },
            title,
          ),
        ),
      ),
    );
    if (i >= R.images.length && chosen !== "units") {
      root.append(noGradients("This view"));
      return;
    }
    const image = R.images[i];
    const truth = image && Number.isInteger(image.label); // the units are of all test images
    const top = image && image.top !== null ? className(image.top) : null;
    const isRight = !top || image.top === image.label;
    const classes = truth
      ? ` (it is ${className(image.label)}${isRight ? "" : `, the net says ${top}`})`
      : top && ` (of ${top}, which the net says)`;
    if (chosen !== "units")
      root.append(
        el(
          "p",
          {class: "loss"},
          `L, ${R.loss.name === "loss" ? "the net's loss" : R.loss.name} for ${image.name}`,
          classes,
          ": ",
          el("b", {}, num(R.loss.values[i], 4)),
          R.loss.name !== "loss" && !R.loss.values[i] && ", the least it can be: all gradients before it are 0",
        ),
      );
    await {sizes, walk: Walk.draw, maps, weight: OneWeight.draw, units}[chosen](root, i);
  }

  return {
    choices: {part: PARTS.map(([key]) => key)},
    title: "Backward: which numbers would change the loss",
    draw,
    tries: "Pick a weight with gradient 0. Which unit is to blame?",
    say:
      "Backward asks: if this number were a little larger, by how much would the loss grow? Each layer " +
      "multiplies by its own derivative. Products of many small numbers vanish, of large ones explode.",
  };
});
