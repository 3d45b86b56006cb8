// View 7: curves of training logs; filters and scores of snapshots. The live page draws with it, too.
View("training", (() => {
  const DASHES = ["", "6 3", "2 3", "8 3 2 3", "3 1 1 1", "12 4"], USUAL = {lo: 1e-4, hi: 1e-2, label: "usual: 0.0001 to 0.01"};
  const UNITS = [[7200, "hours", 3600], [300, "minutes", 60], [0, "seconds", 1]];
  const data = () => R.views.training;

  // At each place the mean of `width` values around it; at the start as many on both sides, at the end as many as there are.
  function means(values, width) {
    const half = Math.floor(Math.max(0, width - 1) / 2);
    return values.map((_, i) => {
      const reach = Math.min(half, i), near = values.slice(i - reach, i + reach + 1).filter(v => v !== null);
      return near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
    });
  }

  // What goes from left to right, as the state says: the axis, and the places of a series.
  function across() {
    const longest = Math.max(0, ...data().runs.flatMap(r => Object.values(r.loss)).map(c => c.s[c.s.length - 1] ?? 0));
    if (State.x !== "time" || !longest) return [{label: "iteration"}, c => c.x];
    const [, name, size] = UNITS.find(u => longest >= u[0]);
    return [{label: `${name} of training`}, c => c.s.map(s => s / size)];
  }

  function charts() {
    const {runs} = data(), width = Number(State.smooth) || data().smooth, [axis, places] = across();
    const ends = runs.flatMap(run => Object.values(run.loss)).flatMap(c => { const p = places(c); return [p[0], p[p.length - 1]]; });
    const x = ends.length ? {...axis, lo: Math.min(...ends), hi: Math.max(...ends)} : axis;
    const short = name => name.length > 15 ? name.slice(0, 7) + "…" + name.slice(-7) : name;
    const named = (run, what) => runs.length > 1 ? short(run.name) + (what && ", " + what) : what;
    const curve = (run, c, what, more) => ({name: named(run, what), x: places(c), y: c.y, dash: DASHES[runs.indexOf(run) % DASHES.length], ...more});
    const loss = runs.flatMap(run => Object.entries(run.loss).flatMap(([phase, c]) => phase !== "train"
      ? curve(run, c, phase, {kind: "loss", dots: runs.length > 1 ? "both" : true})
      : [width > 1 ? curve(run, c, "train, as shown", {kind: "conv", thin: true}) : [], curve(run, {...c, y: means(c.y, width)}, "train", {kind: "conv"})].flat()));
    const marks = runs.flatMap(run => run.snapshots.map(([n, s]) => ({x: places({x: [n], s: [s]})[0], label: `snapshot of ${n}`})));
    const scores = runs.flatMap(run => run.scores.map(c => curve(run, c, c.name, {kind: "data", dots: "both"})));
    const rates = runs.map(run => curve(run, run.rate, "", {kind: "pool"}));
    const positive = rates.flatMap(s => s.y).filter(v => v > 0), isLog = Math.max(...positive) > 30 * Math.min(...positive);
    const all = runs.flatMap(run => run.ratios.map(c => [run, c])), first = all.filter(([, c]) => c.name.endsWith("/0"));
    const kinds = ["conv", "ip", "data", "pool", "loss", "other"];
    const told = first.length <= 8 ? first : [first[0], first[first.length - 1]];
    const ratios = all.map(([run, c]) => {
      const layers = [...new Set(run.ratios.map(o => o.name.split("/")[0]))];
      return curve(run, c, c.name.replace(/\/0$/, ""), {kind: kinds[layers.indexOf(c.name.split("/")[0]) % 6], thin: !told.some(e => e[1] === c)});
    });
    const isShare = scores.every(s => s.y.every(v => v === null || (v >= 0 && v <= 1))), size = {width: 490};
    return [[
      Chart.line({title: "Does the loss still fall?", x, y: {label: "loss", lo: Math.min(0, ...loss.flatMap(s => s.y))}, series: loss, marks, height: 260, ...size}),
      rates.some(s => s.x.length) ? Chart.line({title: "Where was the learning rate cut?", x, y: {label: "learning rate", log: isLog}, series: rates, marks, height: 140, ...size}) : null,
    ], [
      scores.length ? Chart.line({title: "How well does it do?", x, y: {label: "score", ...(isShare ? {lo: 0, hi: 1} : {})}, series: scores, height: 180, ...size}) : null,
      ratios.length ? Chart.line({title: "How large is an update beside the weights? (thin: biases)", x, y: {label: "‖Δw‖ / ‖w‖", log: true}, series: ratios, bands: [USUAL], height: 240, ...size}) : null,
    ]].map(column => el("div", {}, column));
  }

  function controls() {
    const {runs, smooth} = data(), width = Number(State.smooth) || smooth;
    const hasTime = runs.some(run => Object.values(run.loss).some(c => c.s.some(s => s > 0)));
    const choice = (key, text) => el("button", {"aria-pressed": String((State.x || "iteration") === key), "data-focus": `training-x-${key}`, onclick: () => State.set({x: key})}, text);
    return el("p", {class: "controls"}, "across: ", choice("iteration", "iterations"), hasTime ? choice("time", "time") : null,
      " ", el("label", {}, "thick line: mean of ", el("input", {type: "range", min: 1, max: 101, step: 2, value: width, "data-focus": "training-smooth", "aria-label": "losses in the mean",
        oninput: e => State.set({smooth: e.target.value})}), ` ${width}`), el("span", {class: "quiet"}, " ticks below the loss: snapshots"));
  }

  function table() {
    const last = c => c && c.y.length ? num(c.y[c.y.length - 1]) : "";
    const name = run => [...run.name, run.note && ` (${run.note})`].join("");
    return el("table", {class: "net", "aria-label": "runs"}, el("thead", {}, el("tr", {}, ["run", "shown up to", "loss", "test loss", "scores", "seconds", "seed", "resumed at"].map(h => el("th", {scope: "col"}, h)))),
      el("tbody", {}, data().runs.map(run => {
        const c = run.loss.train || Object.values(run.loss)[0] || {x: [], s: [], y: []};
        return el("tr", {"data-run": run.name}, el("th", {scope: "row"}, run.solver ? el("details", {}, el("summary", {}, name(run)), el("pre", {}, run.solver)) : name(run)),
          [c.x.length ? whole(c.x[c.x.length - 1]) : "", last(run.loss.train), last(run.loss.test),
            run.scores.map((s, i) => [i ? ", " : "", `${s.name} `, last(s)]), c.s.length && c.s[c.s.length - 1] ? num(c.s[c.s.length - 1]) : "", run.seed === null ? "" : String(run.seed), run.resumes.join(", ")]
            .map(v => el("td", {}, v)));
      })));
  }

  // Filters (M, C, h, w) as a grid; three channels as a colour, grey being 0.
  function filters({layer, note}, values, [m, c, h, w]) {
    const n = h * w, {lo, hi} = Maps.range(values), extent = Math.max(-lo, hi) || 1, scale = Maps.scaleFor(h, w, 48);
    const maps = Array.from({length: m}, (_, f) => {
      const own = values.subarray(f * c * n, (f + 1) * c * n), label = `${layer}, filter ${f}`;
      if (c !== 3) return {values: own, h, w, label};
      const pixels = Uint8ClampedArray.from({length: 3 * n}, (_, i) => 127.5 * (1 + own[(i % 3) * n + Math.floor(i / 3)] / extent));
      return {picture: Maps.rgb(pixels, h, w, {scale, label})};
    });
    return [el("h3", {}, `Filters of ${layer}`, note && el("span", {class: "quiet"}, ` (${note})`)),
      Maps.grid(maps, {lo: -extent, hi: extent, scale, focus: "training-filter"}), c === 3 ? el("p", {class: "quiet"}, `red, green, blue; grey is 0, white ${fmt(extent)}`) : Maps.legend(lo, hi, true)];
  }

  async function snapshots() {
    const all = data().snapshots;
    if (!all || !all.length) return [];
    const at = Math.min(all.length - 1, /^\d+$/.test(State.snapshot) ? Number(State.snapshot) : all.length - 1), now = all[at];
    const title = now.iteration === null ? now.name : `iteration ${whole(now.iteration)}`;
    const slider = el("label", {}, "snapshot ", el("input", {type: "range", min: 0, max: all.length - 1, value: at, "data-focus": "training-snapshot", "aria-label": "snapshot",
      oninput: e => { State.set({snapshot: e.target.value}); say(title); }}), ` ${title}`);
    const bars = (now.scores || []).slice(0, R.images.length).map((row, i) => {
      const top = row.indexOf(Math.max(...row)), {name, label} = R.images[i];
      return el("tr", {"data-image-row": i}, el("th", {scope: "row"}, name), el("td", {}, className(top), Number.isInteger(label) ? (label === top ? " ✓" : " ✗") : ""),
        el("td", {class: "number"}, num(row[top])), el("td", {class: "part"}, el("span", {class: "stick data", style: {width: 80 * Math.max(0, Math.min(1, row[top])) + "px"}})),
        el("td", {class: "number"}, Number.isInteger(label) ? num(row[label]) : ""));
    });
    return [el("h3", {}, "What the weights were at each snapshot"), slider,
      el("div", {style: {display: "flex", flexWrap: "wrap", gap: "0 28px"}},
        el("div", {}, now.filters ? filters(now.filters, await Pack.array(now.filters.values), now.filters.values.shape) : null),
        bars.length ? el("table", {class: "net", "aria-label": "answers at this snapshot"}, el("thead", {}, el("tr", {}, ["image", "answer", "score", "", "score of its class"].map(h => el("th", {scope: "col"}, h)))), el("tbody", {}, bars)) : null)];
  }

  async function draw(root) {
    const {runs} = data();
    if (runs.length) root.append(controls(), el("div", {class: "charts", style: {display: "flex", flexWrap: "wrap", gap: "0 28px"}}, charts()), table());
    root.append(...await snapshots());
  }

  return {title: "How the net was trained", draw, filters,
    say: "Loss falls fast, then slowly. Test loss rising while train loss falls: it learns the training images by heart. Updates of about 1/1000 of the weights are usual; 1/10 jumps, 1/100,000 sleeps.",
    tries: "Where was the learning rate cut?"};
})());
