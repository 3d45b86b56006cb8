// View 7: curves of training logs; filters and scores of snapshots. The live page draws with it, too.
View("training", () => {
  const DASHES = ["", "6 3", "2 3", "8 3 2 3", "3 1 1 1", "12 4"];
  const OUTLIER = 20; // times the largest loss that follows: a first loss above that is left out, as in plot.py
  const USUAL = {lo: 1e-4, hi: 1e-2, label: ""};
  const NAMED = 12; // of more lines in a chart only the first and the last have their names at them
  const KINDS = ["conv", "ip", "data", "pool", "loss", "other"];
  const UNITS = [
    [7200, "hours", 3600],
    [300, "minutes", 60],
    [0, "seconds", 1],
  ];
  const data = () => R.views.training;

  // At each place the mean of `width` values around it; at the start as many on both sides, at the end as many
  // as there are.
  function means(values, width) {
    const half = Math.floor(Math.max(0, width - 1) / 2);
    return values.map((_, i) => {
      const reach = Math.min(half, i);
      const near = values.slice(i - reach, i + reach + 1).filter(v => v !== null);
      return near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
    });
  }

  // What goes from left to right, as the state says: the axis, and the places of a series.
  function across() {
    const longest = Math.max(
      0,
      ...data()
        .runs.flatMap(r => Object.values(r.loss))
        .map(c => c.s[c.s.length - 1] ?? 0),
    );
    if (State.x !== "time" || !longest) return [{label: "iteration"}, c => c.x];
    const [, name, size] = UNITS.find(u => longest >= u[0]);
    return [{label: `${name} of training`}, c => c.s.map(s => s / size)];
  }

  // Whether a rate was cut: it stays the same for most of the training, and falls at once.
  function isCut({y}) {
    const steps = y.slice(1).map((rate, i) => rate / y[i]);
    const falls = steps.filter(step => step < 0.9).length;
    return falls > 0 && 2 * steps.filter(step => step === 1).length >= steps.length;
  }

  function charts() {
    const {runs} = data();
    const mean = Number(State.smooth) || data().smooth;
    const room = roomOf();
    const width = Math.min(490, room > 640 ? (room - 28) / 2 : room);
    const [axis, places] = across();
    const isMany = runs.length > 1;
    const ends = runs
      .flatMap(run => Object.values(run.loss))
      .flatMap(c => {
        const p = places(c);
        return [p[0], p[p.length - 1]];
      });
    const x = ends.length ? {...axis, lo: Math.min(...ends), hi: Math.max(...ends)} : axis;
    const short = name => (name.length > 15 ? name.slice(0, 7) + "…" + name.slice(-7) : name);
    const curve = (run, c, what, more) => ({
      name: isMany ? [short(run.name), what].filter(Boolean).join(", ") : what,
      x: places(c),
      y: c.y,
      dash: DASHES[runs.indexOf(run) % DASHES.length],
      dots: c.y.filter(Number.isFinite).length < 2 && "both", // one point has no line
      ...more,
    });
    const loss = runs.flatMap(run =>
      Object.entries(run.loss).flatMap(([phase, c]) =>
        phase !== "train"
          ? [curve(run, c, phase, {kind: "loss", dots: "both"})]
          : [
              ...(mean > 1 ? [curve(run, c, "train, as shown", {kind: "conv", thin: true})] : []),
              curve(run, {...c, y: means(c.y, mean)}, "train", {kind: "conv"}),
            ],
      ),
    );
    const all = runs.flatMap(run => Object.entries(run.loss).map(([phase, c]) => curve(run, c, phase)));
    const later = all.flatMap(s => s.y.slice(1)).filter(Number.isFinite);
    const most = later.length ? OUTLIER * Math.max(...later) : Infinity;
    const above = most > 0 ? all.filter(s => s.y[0] > most) : [];
    const marks = runs.flatMap(run =>
      run.snapshots.map(([n, s]) => ({x: places({x: [n], s: [s]})[0], label: `snapshot of ${n}`})),
    );
    const scores = runs.flatMap(run =>
      run.scores.map(c => curve(run, c, c.name, {kind: "data", dots: "both"})),
    );
    const rates = runs.map(run => curve(run, run.rate, "", {kind: "pool"}));
    const positive = rates.flatMap(s => s.y).filter(v => v > 0);
    const isWide = Math.max(...positive) > 30 * Math.min(...positive);
    const weights = runs.flatMap(run => run.ratios.filter(c => c.name.endsWith("/0")));
    const told = weights.length > 8 ? [weights[0], weights[weights.length - 1]] : weights;
    const isNamed = runs.flatMap(run => run.ratios).length <= NAMED;
    const ratios = runs.flatMap(run => {
      const layerOf = c => c.name.replace(/\/\d+$/, "");
      const layers = [...new Set(run.ratios.map(layerOf))];
      return run.ratios.map(c =>
        curve(run, c, c.name.replace(/\/0$/, "").replace(/\/1$/, ", bias"), {
          kind: KINDS[layers.indexOf(layerOf(c)) % 6],
          thin: !told.includes(c),
          named: isNamed,
        }),
      );
    });
    const isShare = scores.every(s => s.y.every(v => v === null || (v >= 0 && v <= 1)));
    const chart = (series, title, y, height, more) =>
      series.some(s => s.x.length) ? Chart.line({title, x, y, series, height, width, ...more}) : null;
    return [
      [
        ...runs
          .filter(run => Number.isInteger(run.diverged))
          .map(run => {
            const which = isMany ? short(run.name) : "It";
            return el("p", {class: "warning"}, `${which} diverged at iteration ${whole(run.diverged)}.`);
          }),
        chart(
          loss,
          "Does the loss still fall?",
          {
            label: "loss",
            lo: Math.min(0, ...loss.flatMap(s => s.y)),
            ...(above.length ? {hi: 1.05 * Math.max(...all.flatMap(s => s.y).filter(v => v <= most))} : {}),
          },
          230,
          {marks},
        ),
        ...above.map(s => quiet(`${s.name}: ${fmt(s.y[0])} at ${x.label} ${fmt(s.x[0])} is above`)),
        chart(
          rates,
          runs.some(run => isCut(run.rate))
            ? "Where was the learning rate cut?"
            : "How large was the learning rate?",
          {label: "learning rate", ...(isWide ? {log: true} : {lo: 0})},
          110,
          {marks},
        ),
      ],
      [
        chart(scores, "How well does it do?", {label: "score", ...(isShare ? {lo: 0, hi: 1} : {})}, 130),
        chart(
          ratios,
          `How large is an update beside the weights?${isNamed || weights.length > 8 ? "" : " (thin: biases)"}`,
          {label: "‖Δw‖ / ‖w‖; grey: usual, 0.0001 to 0.01", log: true},
          205,
          {bands: [USUAL]},
        ) || quiet("How large the updates were is not in the log: train with --log-norms."),
      ],
    ].map(column => el("div", {style: {width: `${width}px`}}, column));
  }

  const flex = (...parts) =>
    el("div", {class: "charts", style: {display: "flex", flexWrap: "wrap", gap: "0 28px"}}, parts);
  const slider = (name, text, least, most, step, value, shown, onmove) =>
    el(
      "label",
      {},
      text,
      el("input", {
        type: "range",
        min: least,
        max: most,
        step,
        value,
        "data-focus": `training-${name}`,
        "aria-label": text,
        oninput: e => {
          State.set({[name]: e.target.value});
          onmove?.();
        },
      }),
      ` ${shown}`,
    );
  const tableOf = (label, heads, rows) =>
    el("table", {class: "net", "aria-label": label}, headOf(heads), el("tbody", {}, rows));
  const cells = (...values) => values.map(v => el("td", {}, v));

  function controls() {
    const {runs, smooth} = data();
    const width = Number(State.smooth) || smooth;
    const hasTime = runs.some(run => Object.values(run.loss).some(c => c.s.some(s => s > 0)));
    const choice = (key, text) =>
      el(
        "button",
        {
          "aria-pressed": String((State.x || "iteration") === key),
          "data-focus": `training-x-${key}`,
          onclick: () => State.set({x: key}),
        },
        text,
      );
    return el(
      "p",
      {class: "controls"},
      "across: ",
      choice("iteration", "iterations"),
      hasTime ? choice("time", "time") : null,
      " ",
      slider("smooth", "thick line: mean of ", 1, 101, 2, width, width),
      runs.some(run => run.snapshots.length) && el("span", {class: "quiet"}, " · ticks: snapshots"),
    );
  }

  function table() {
    const end = list => (list && list.length ? list[list.length - 1] : null);
    const shown = v => (v === null ? "" : num(v));
    return tableOf(
      "runs",
      ["run", "shown up to", "loss", "test loss", "scores", "seconds", "seed", "resumed at"],
      data().runs.map(run => {
        const {train, test} = run.loss;
        const c = train || test || run.rate;
        const name = run.name + (run.note && ` (${run.note})`);
        const last = end(c.x);
        return el(
          "tr",
          {"data-run": run.name},
          el(
            "th",
            {scope: "row"},
            run.solver ? el("details", {}, el("summary", {}, name), el("pre", {}, run.solver)) : name,
          ),
          cells(
            last === null ? "" : whole(last),
            shown(end(train?.y)),
            shown(end(test?.y)),
            run.scores.map((s, i) => [i ? ", " : "", `${s.name} `, shown(end(s.y))]),
            shown(end(c.s)),
            run.seed === null ? "" : String(run.seed),
            run.resumes.join(", "),
          ),
        );
      }),
    );
  }

  // Filters (M, C, h, w) as a grid; three channels as a colour, grey being 0.
  function filters({layer, note}, values, [m, c, h, w]) {
    const n = h * w;
    const {lo, hi} = Maps.range(values);
    const extent = Math.max(-lo, hi) || 1;
    const scale = Maps.scaleFor(h, w, 48);
    const maps = Array.from({length: m}, (_, f) => {
      const own = values.subarray(f * c * n, (f + 1) * c * n);
      const label = `${layer}, filter ${f}`;
      if (c !== 3) return {values: own, h, w, label};
      const pixels = Uint8ClampedArray.from(
        {length: 3 * n},
        (_, i) => 127.5 * (1 + own[(i % 3) * n + Math.floor(i / 3)] / extent),
      );
      return {picture: Maps.rgb(pixels, h, w, {scale, label})};
    });
    return [
      el("h3", {}, `Filters of ${layer}`, note && el("span", {class: "quiet"}, ` (${note})`)),
      Maps.grid(maps, {lo: -extent, hi: extent, scale, focus: "training-filter"}),
      quiet(
        c === 3
          ? `in the image's colours; grey: 0, white: ${fmt(extent)}`
          : `blue: up to ${fmt(extent)}, red: down to ${fmt(-extent)}, background: 0`,
      ),
    ];
  }

  async function snapshots() {
    const all = data().snapshots || [];
    const most = all.length - 1;
    if (!all.length) return [];
    const at = Math.min(most, /^\d+$/.test(State.snapshot) ? Number(State.snapshot) : most);
    const now = all[at];
    const title = now.iteration === null ? now.name : `iteration ${whole(now.iteration)}`;
    const rows = (now.scores || []).map((row, i) => {
      const top = row.indexOf(Math.max(...row));
      const {name, label} = R.images[i];
      const isKnown = Number.isInteger(label);
      return el(
        "tr",
        {"data-image-row": i},
        el("th", {scope: "row"}, name),
        cells(
          className(top) + (isKnown ? (label === top ? " ✓" : " ✗") : ""),
          num(row[top]),
          el("span", {class: "stick data", style: {width: 80 * Math.max(0, Math.min(1, row[top])) + "px"}}),
          isKnown ? num(row[label]) : "",
        ),
      );
    });
    return [
      el("h3", {}, "What the weights were at each snapshot"),
      slider("snapshot", "snapshot ", 0, most, 1, at, title, () => say(title)),
      flex(
        now.filters
          ? el("div", {}, filters(now.filters, await Pack.array(now.filters.values), now.filters.values.shape))
          : null,
        rows.length
          ? tableOf("answers at this snapshot", ["image", "answer", "score", "", "score of its class"], rows)
          : null,
      ),
    ];
  }

  async function draw(root) {
    if (data().runs.length) root.append(controls(), flex(charts()), table());
    root.append(...(await snapshots()));
  }

  return {
    title: "How the net was trained",
    draw,
    filters,
    say:
      "Loss falls fast, then slowly. Test loss rising while train loss falls: it learns the training " +
      "images by heart. Updates of about 1/1000 of the weights are usual; 1/10 jumps, 1/100,000 sleeps.",
    tries: () =>
      data().runs.some(run => isCut(run.rate))
        ? "Where was the learning rate cut, and what did the loss do there?"
        : "When did the loss stop falling fast? How large were the updates then?",
  };
});
