// The numbers of view 4: errors at each rank, factors of W in three ways, ranks for the whole net and their cost.
const Rank = (() => {
  const V = R.views.low_rank;
  const models = new Map();
  const curves = new Map();
  const WAYS = {
    weights: {letter: "a", name: "weights", long: "SVD of W", symbol: "σ of W", param: r => `{rank: ${r}}`},
    data: {
      letter: "b",
      name: "data",
      long: "main directions of X",
      symbol: "√λ of X",
      param: r => `{rank: ${r}, target: data}`,
    },
    fitted: {
      letter: "c",
      name: "answers",
      long: "fitted to W·X",
      symbol: "√λ of Y",
      param: r => `{rank: ${r}, factored: true}`,
    },
  };
  const names = () => R.layers.map(l => l.name).filter(name => V.layers && V.layers[name]);
  // The chosen layer, if it is one that was looked at; else the last such before it.
  function layerName() {
    const all = R.layers.map(l => l.name);
    const at = all.indexOf(State.layer);
    return (
      names()
        .filter(n => all.indexOf(n) <= at)
        .pop() || names()[0]
    );
  }
  const clamp = (r, layer) => Math.max(1, Math.min(layer.full, r));

  const first = a => a.indexOf(Math.max(...a)); // the place of the largest

  // -- the plan: ranks by layer, in the address as "conv2:12,ip1:40", or "none" --
  // Before any is chosen, the shown layer has the rank that it starts with, unless it is of low rank already.
  function plan() {
    const found = {};
    const shown = layerName();
    const layer = V.layers && V.layers[shown];
    const written = Object.fromEntries(names().map(name => [encodeURIComponent(name), name]));
    for (const part of (State.ranks || "").split(",")) {
      const at = part.lastIndexOf(":");
      const name = written[part.slice(0, at)];
      if (at > 0 && name) found[name] = clamp(parseInt(part.slice(at + 1), 10) || 1, V.layers[name]);
    }
    if (layer && shown === State.layer && State.rank !== null) found[shown] = clamp(State.rank, layer);
    else if (layer && !State.ranks && !layer.rank) found[shown] = layer.start;
    return found;
  }
  function planWith(name, r) {
    const next = {...plan(), [name]: r};
    if (r === null) delete next[name];
    return (
      Object.entries(next)
        .map(([n, rank]) => `${encodeURIComponent(n)}:${rank}`)
        .join(",") || "none"
    );
  }
  const way = name => (WAYS[State.way] ? State.way : WAYS[V.layers[name].way] ? V.layers[name].way : "fitted");
  const rank = name => plan()[name] ?? V.layers[name].rank ?? V.layers[name].full;
  function setRank(name, r) {
    r = clamp(r, V.layers[name]);
    State.set({layer: name, rank: r, ranks: planWith(name, r)});
  }

  // -- numbers --
  // Of each way: response, weight (errors), energy, spectrum; a number for each rank from 0 on.
  async function numbers(name) {
    if (!curves.has(name))
      curves.set(
        name,
        (async () => {
          const layer = V.layers[name];
          const all = await Pack.array(layer.curves);
          const spectra = await Pack.array(layer.spectra);
          const n = layer.full + 1;
          return Object.fromEntries(
            V.ways.map((w, i) => [
              w,
              {
                response: all.subarray(3 * i * n, (3 * i + 1) * n),
                weight: all.subarray((3 * i + 1) * n, (3 * i + 2) * n),
                energy: all.subarray((3 * i + 2) * n, (3 * i + 3) * n),
                spectrum: spectra.subarray(i * (n - 1), (i + 1) * (n - 1)),
              },
            ]),
          );
        })(),
      );
    return curves.get(name);
  }
  // W (M, k): what the layer's answers are computed with.
  async function weights(name) {
    const {bases} = V.layers[name];
    const found = bases && bases.w ? await Pack.array(bases.w) : (await Values.param(name, 0)).data;
    const {m, k, group} = V.layers[name];
    return found && found.length === group * m * k ? found : null;
  }
  // W ≈ A·B with all the directions that are carried: A (M, c), B (groups, c, k). Those of rank r are its first r.
  async function model(name, w) {
    const key = name + " " + w;
    if (!models.has(key)) models.set(key, build(name, w));
    return models.get(key);
  }
  async function build(name, w) {
    const {bases, m, k, group} = V.layers[name];
    const W = bases ? await weights(name) : null;
    if (!W) return null;
    const base = await Pack.array(bases[w]);
    const c = bases[w].shape[2];
    const A = new Float64Array(group * m * c);
    const B = new Float64Array(group * c * k);
    for (let g = 0; g < group; g++)
      for (let i = 0; i < m; i++) {
        const f = g * m + i;
        for (let j = 0; j < c; j++) {
          const at = (g * c + j) * k;
          let sum = 0;
          if (w === "data") {
            for (let t = 0; t < k; t++)
              sum += W[f * k + t] * (i ? B[at + t] : (B[at + t] = base[(g * k + t) * c + j]));
            A[f * c + j] = sum;
          } else {
            const u = (A[f * c + j] = base[f * c + j]);
            for (let t = 0; t < k; t++) B[at + t] += u * W[f * k + t];
          }
        }
      }
    return {W, A, B, c, m, k, group, M: group * m, way: w, means: await Pack.array(V.layers[name].means)};
  }
  // Row f of Ŵ at rank r.
  function row(o, f, r) {
    const found = new Float64Array(o.k);
    const from = Math.floor(f / o.m) * o.c;
    for (let j = 0; j < Math.min(r, o.c); j++)
      for (let t = 0, a = o.A[f * o.c + j], at = (from + j) * o.k; t < o.k; t++) found[t] += a * o.B[at + t];
    return found;
  }
  // What the fitted way adds to the bias (M), so that means are kept: (I − V·Vᵀ)·W·x̄.
  function shift(o, r) {
    const found = new Float64Array(o.M);
    if (o.way === "fitted")
      for (let g = 0; g < o.group; g++) {
        const first = g * o.m;
        const kept = new Float64Array(Math.min(r, o.c));
        for (let i = first; i < first + o.m; i++)
          kept.forEach((_, j) => {
            kept[j] += o.A[i * o.c + j] * o.means[i];
          });
        for (let i = first; i < first + o.m; i++)
          found[i] = kept.reduce((left, z, j) => left - o.A[i * o.c + j] * z, o.means[i]);
      }
    return found;
  }
  // {A, B, bias, shapes} of rank r, or null: A (M, r) and B (groups · r, k), so that W ≈ A·B; bias is to be added.
  async function factors(name, r, w = way(name)) {
    const o = V.layers && V.layers[name] ? await model(name, w) : null;
    if (!o || r > o.c) return null;
    const A = Float32Array.from({length: o.M * r}, (_, i) => o.A[Math.floor(i / r) * o.c + (i % r)]);
    const B = Float32Array.from({length: o.group * r * o.k}, (_, i) => {
      const line = Math.floor(i / o.k);
      return o.B[(Math.floor(line / r) * o.c + (line % r)) * o.k + (i % o.k)];
    });
    return {A, B, bias: shift(o, r), shapes: {A: [o.M, r], B: [o.group * r, o.k]}};
  }
  async function basis(name) {
    const layer = V.layers && V.layers[name];
    return layer && layer.bases && layer.group === 1 ? Pack.array(layer.bases.weights) : null;
  }

  // -- the net at these ranks --
  // Parameters that stand in for the net's own; layers whose rank is not carried, or that have another scheme,
  // stay.
  async function params(ranks) {
    const found = {};
    const left = [];
    for (const [name, r] of Object.entries(ranks)) {
      const steps = R.live.steps.filter(s => s.layer === name);
      const layer = V.layers[name];
      const o = await model(name, way(name));
      const last = steps[steps.length - 1];
      const b = last.params[1];
      if (
        !o ||
        (r > o.c && r < layer.full) ||
        (steps.length > 1 && (r > layer.rank || layer.way === "spatial"))
      ) {
        left.push(name);
        continue;
      }
      if (r === layer.full) continue;
      const bias = shift(o, r);
      const ref = R.layers.flatMap(l => l.params).find(p => p.key === b);
      if (b) found[b] = (await Pack.array(ref ? ref.values : R.live.params[b])).map((v, i) => v + bias[i]);
      if (steps.length > 1) {
        const {A, B} = await factors(name, r);
        const R0 = layer.rank;
        found[steps[0].params[0]] = Float32Array.from({length: R0 * o.k}, (_, i) => (i < r * o.k ? B[i] : 0));
        found[last.params[0]] = Float32Array.from({length: o.M * R0}, (_, i) =>
          i % R0 < r ? A[Math.floor(i / R0) * r + (i % R0)] : 0,
        );
      } else {
        const w = new Float32Array(o.M * o.k);
        for (let f = 0; f < o.M; f++) w.set(row(o, f, r), f * o.k);
        found[last.params[0]] = last.transpose ? w.map((_, i) => w[(i % o.M) * o.k + Math.floor(i / o.M)]) : w;
      }
    }
    return {params: found, left};
  }
  const cost = (layer, r) => Math.min(layer.dense, r * layer.cost_of_rank);
  const size = (layer, r) => Math.min(layer.m * layer.k, r * (layer.m + layer.k)) * layer.group;
  function totals(ranks) {
    let work = R.totals.multiply_adds;
    let held = R.totals.parameters;
    for (const [name, r] of Object.entries(ranks)) {
      const layer = V.layers[name];
      work += cost(layer, r) - layer.now.work;
      held += size(layer, r);
      // W itself goes when no layer needs it any more, and only once
      if ([name, ...layer.shared].every(n => ranks[n]) && layer.shared.every(n => n < name))
        held -= layer.now.numbers;
    }
    return {work, held};
  }
  // What the net says of the chosen image, dense (or as it is) and with these ranks: {dense, low, left}; live only.
  async function scores(ranks) {
    const {params: own, left} = await params(ranks);
    const dense = await Values.answer();
    const s = (await Live.forward(await Values.input(State.image), {params: own}))[R.answer];
    return {dense, low: R.softmax ? Values.softmax(s) : s, left};
  }
  const yaml = ranks =>
    Object.entries(ranks)
      .map(([name, r]) => {
        // a dense layer cannot share factors
        const w = V.layers[name].shared.length ? "weights" : way(name);
        return `- name: ${name}\n  low_rank_param: ${WAYS[w].param(r)}\n`;
      })
      .join("");

  return {
    V,
    WAYS,
    first,
    unit: R.softmax || (R.answer && stageLayer(R.answer).type === "Softmax") ? "probability" : "score",
    isQuick: R.totals.multiply_adds <= 2e7,
    names,
    layerName,
    plan,
    planWith,
    way,
    rank,
    setRank,
    numbers,
    model,
    row,
    shift,
    factors,
    basis,
    params,
    cost,
    size,
    totals,
    scores,
    yaml,
  };
})();
