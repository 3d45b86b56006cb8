// View 4: what a layer loses at rank r, in three ways; and the net with a rank for each layer.
const Rank = (() => {
  const V = R.views.low_rank, models = new Map(), curves = new Map();
  const WAYS = {
    weights: {letter: "a", name: "weights", long: "SVD of W", symbol: "σ of W", param: r => `{rank: ${r}}`},
    data: {letter: "b", name: "data", long: "main directions of X", symbol: "√λ of X", param: r => `{rank: ${r}, target: data}`},
    fitted: {letter: "c", name: "answers", long: "fitted to W·X", symbol: "√λ of Y", param: r => `{rank: ${r}, factored: true}`},
  };
  const names = () => R.layers.map(l => l.name).filter(name => V.layers && V.layers[name]);
  // The chosen layer, if it is one that was looked at; else the last such before it.
  function layerName() {
    const all = R.layers.map(l => l.name), at = all.indexOf(State.layer);
    return names().filter(n => all.indexOf(n) <= at).pop() || names()[0];
  }
  const clamp = (r, layer) => Math.max(1, Math.min(layer.full, r));

  // -- the plan: ranks by layer, in the address as "conv2:12,ip1:40" --
  function plan() {
    const found = {}, written = Object.fromEntries(names().map(name => [encodeURIComponent(name), name]));
    for (const part of (State.ranks || "").split(",")) {
      const at = part.lastIndexOf(":"), name = written[part.slice(0, at)];
      if (at > 0 && name) found[name] = clamp(parseInt(part.slice(at + 1), 10) || 1, V.layers[name]);
    }
    return found;
  }
  function planWith(name, r) {
    const next = {...plan(), [name]: r};
    if (r === null) delete next[name];
    return Object.entries(next).map(([n, rank]) => `${encodeURIComponent(n)}:${rank}`).join(",") || null;
  }
  const way = name => WAYS[State.way] ? State.way : WAYS[V.layers[name].way] ? V.layers[name].way : "fitted";
  const rank = name => {
    const layer = V.layers[name], shown = name === State.layer ? State.rank : null;
    return clamp(shown ?? plan()[name] ?? layer.rank ?? Math.floor(layer.full / 4), layer);
  };
  function setRank(name, r) {
    r = clamp(r, V.layers[name]);
    State.set({layer: name, rank: r, ranks: planWith(name, r)});
  }

  // -- numbers --
  // Of each way: response, weight (errors), energy, spectrum; a number for each rank from 0 on.
  async function numbers(name) {
    if (!curves.has(name)) curves.set(name, (async () => {
      const layer = V.layers[name], all = await Pack.array(layer.curves), spectra = await Pack.array(layer.spectra), n = layer.full + 1;
      return Object.fromEntries(V.ways.map((w, i) => [w, {response: all.subarray(3 * i * n, (3 * i + 1) * n), weight: all.subarray((3 * i + 1) * n, (3 * i + 2) * n),
        energy: all.subarray((3 * i + 2) * n, (3 * i + 3) * n), spectrum: spectra.subarray(i * (n - 1), (i + 1) * (n - 1))}]));
    })());
    return curves.get(name);
  }
  // W (M, k): what the layer's answers are computed with.
  async function weights(name) {
    const {bases} = V.layers[name], found = bases && bases.w ? await Pack.array(bases.w) : (await Values.param(name, 0)).data;
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
    const {bases, m, k, group} = V.layers[name], W = bases ? await weights(name) : null;
    if (!W) return null;
    const base = await Pack.array(bases[w]), c = bases[w].shape[2], A = new Float64Array(group * m * c), B = new Float64Array(group * c * k);
    for (let g = 0; g < group; g++)
      for (let i = 0; i < m; i++) {
        const f = g * m + i;
        for (let j = 0; j < c; j++) {
          const at = (g * c + j) * k;
          let sum = 0;
          if (w === "data") {
            for (let t = 0; t < k; t++) sum += W[f * k + t] * (i ? B[at + t] : B[at + t] = base[(g * k + t) * c + j]);
            A[f * c + j] = sum;
          } else {
            const u = A[f * c + j] = base[f * c + j];
            for (let t = 0; t < k; t++) B[at + t] += u * W[f * k + t];
          }
        }
      }
    return {W, A, B, c, m, k, group, M: group * m, way: w, means: await Pack.array(V.layers[name].means)};
  }
  // Row f of Ŵ at rank r.
  function row(o, f, r) {
    const found = new Float64Array(o.k), from = Math.floor(f / o.m) * o.c;
    for (let j = 0; j < Math.min(r, o.c); j++)
      for (let t = 0, a = o.A[f * o.c + j], at = (from + j) * o.k; t < o.k; t++) found[t] += a * o.B[at + t];
    return found;
  }
  // What the fitted way adds to the bias (M), so that means are kept: (I − V·Vᵀ)·W·x̄.
  function shift(o, r) {
    const found = new Float64Array(o.M);
    if (o.way === "fitted") for (let g = 0; g < o.group; g++) {
      const first = g * o.m, kept = new Float64Array(Math.min(r, o.c));
      for (let i = first; i < first + o.m; i++) kept.forEach((_, j) => { kept[j] += o.A[i * o.c + j] * o.means[i]; });
      for (let i = first; i < first + o.m; i++) found[i] = kept.reduce((left, z, j) => left - o.A[i * o.c + j] * z, o.means[i]);
    }
    return found;
  }
  // {A, B, bias, shapes} of rank r, or null: A (M, r) and B (groups · r, k), so that W ≈ A·B; bias is to be added.
  async function factors(name, r, w = way(name)) {
    const o = V.layers && V.layers[name] ? await model(name, w) : null;
    if (!o || r > o.c) return null;
    const A = Float32Array.from({length: o.M * r}, (_, i) => o.A[Math.floor(i / r) * o.c + i % r]);
    const B = Float32Array.from({length: o.group * r * o.k}, (_, i) => {
      const line = Math.floor(i / o.k);
      return o.B[(Math.floor(line / r) * o.c + line % r) * o.k + i % o.k];
    });
    return {A, B, bias: shift(o, r), shapes: {A: [o.M, r], B: [o.group * r, o.k]}};
  }
  async function basis(name) {
    const layer = V.layers && V.layers[name];
    return layer && layer.bases && layer.group === 1 ? Pack.array(layer.bases.weights) : null;
  }

  // -- the net at these ranks --
  // Parameters that stand in for the net's own; layers whose rank is not carried, or that have another scheme, stay.
  async function params(ranks) {
    const found = {}, left = [];
    for (const [name, r] of Object.entries(ranks)) {
      const steps = R.live.steps.filter(s => s.layer === name), layer = V.layers[name], o = await model(name, way(name));
      const last = steps[steps.length - 1], b = last.params[1];
      if (!o || r > o.c && r < layer.full || steps.length > 1 && (r > layer.rank || layer.way === "spatial")) { left.push(name); continue; }
      if (r === layer.full) continue;
      const bias = shift(o, r), ref = R.layers.flatMap(l => l.params).find(p => p.key === b);
      if (b) found[b] = (await Pack.array(ref ? ref.values : R.live.params[b])).map((v, i) => v + bias[i]);
      if (steps.length > 1) {
        const {A, B} = await factors(name, r), R0 = layer.rank;
        found[steps[0].params[0]] = Float32Array.from({length: R0 * o.k}, (_, i) => i < r * o.k ? B[i] : 0);
        found[last.params[0]] = Float32Array.from({length: o.M * R0}, (_, i) => i % R0 < r ? A[Math.floor(i / R0) * r + i % R0] : 0);
      } else {
        const w = new Float32Array(o.M * o.k);
        for (let f = 0; f < o.M; f++) w.set(row(o, f, r), f * o.k);
        found[last.params[0]] = last.transpose ? w.map((_, i) => w[i % o.M * o.k + Math.floor(i / o.M)]) : w;
      }
    }
    return {params: found, left};
  }
  const cost = (layer, r) => Math.min(layer.dense, r * layer.cost_of_rank);
  const size = (layer, r) => Math.min(layer.m * layer.k, r * (layer.m + layer.k)) * layer.group;
  function totals(ranks) {
    let work = R.totals.multiply_adds, held = R.totals.parameters;
    for (const [name, r] of Object.entries(ranks)) {
      const layer = V.layers[name], now = layer.rank ?? layer.full;
      work += cost(layer, r) - cost(layer, now);
      held += size(layer, r) - (layer.rank && !layer.factored ? layer.m * layer.k * layer.group : size(layer, now));
    }
    return {work, held};
  }
  // What the net says of the chosen image, dense (or as it is) and with these ranks: {dense, low, left}; live only.
  async function scores(ranks) {
    const {params: own, left} = await params(ranks), dense = await Values.answer(), s = (await Live.forward(await Values.input(State.image), {params: own}))[R.answer];
    return {dense, low: R.softmax ? Values.softmax(s) : s, left};
  }
  const yaml = ranks => Object.entries(ranks).map(([name, r]) => `- name: ${name}\n  low_rank_param: ${WAYS[way(name)].param(r)}\n`).join("");

  return {V, WAYS, names, layerName, plan, planWith, way, rank, setRank, numbers, model, row, shift, factors, basis, params, cost, size, totals, scores, yaml};
})();

View("low_rank", (() => {
  const {V, WAYS} = Rank;
  let measuring = null, result = "", best = null;
  const share = x => (100 * x).toFixed(x < 0.0995 ? 1 : 0) + " %";
  const first = a => a.indexOf(Math.max(...a));
  const norm = a => Math.sqrt(a.reduce((sum, v) => sum + v * v, 0)) || 1;
  const row = (...children) => el("div", {class: "row"}, children);
  const captioned = (canvas, ...text) => el("figure", {class: "small"}, canvas, el("figcaption", {}, text));

  // -- what is said of rank r --
  function sentence(layer, r) {
    const {m, k, group, dense, full, break_even: even} = layer, g = group > 1 ? group + " · " : "", all = group * m * k, held = group * r * (m + k), now = Rank.cost(layer, r);
    return el("p", {id: "rank-cost"}, el("b", {}, `rank ${r} of ${full}: `), `${g}${r}·(${m} + ${whole(k)}) = `, el("b", {class: "num", "data-read": "parameters"}, whole(held)),
      ` numbers in place of ${whole(all)} (${share(held / all)}), `, el("b", {class: "num", "data-read": "multiply-adds"}, whole(now)), ` of ${whole(dense)} multiply-adds (${share(now / dense)}). `,
      el("span", {class: r > even ? "warning" : "quiet", "data-read": "break-even"}, r > even
        ? `Beyond rank ${even} = ⌊${m}·${whole(k)} / (${m} + ${whole(k)})⌋ two thin products cost more than one: dense is cheaper, and that is what runs.` : `Break-even at rank ${even}.`));
  }
  function readings(name, numbers, r) {
    const rows = [["answers off by", "response", true], ["W off by", "weight", true], ["energy kept", "energy", false]], chosen = Rank.way(name);
    return el("table", {class: "net", id: "rank-readings", "aria-label": `errors at rank ${r}`},
      el("thead", {}, el("tr", {}, el("td", {}, `rank ${r}`), V.ways.map(w => el("th", {scope: "col", class: w === chosen ? "chosen" : null}, `${WAYS[w].letter} ${WAYS[w].name}`)))),
      el("tbody", {}, rows.map(([text, key, isError]) => {
        const values = V.ways.map(w => numbers[w][key][r]), least = Math.min(...values);
        return el("tr", {}, el("th", {scope: "row"}, text), V.ways.map((w, i) => el("td", {class: "number", title: exact(values[i]), "data-read": `${key}-${w}`},
          el(isError && values[i] === least ? "b" : "span", {}, fmt(values[i])))));
      })));
  }

  // Whether this image keeps its class with the layer at rank r, and the others as they are planned.
  async function verdict(name, r) {
    if (!Values.isLive()) return "";
    const ranks = {...Rank.plan(), [name]: r}, {dense, low, left} = await Rank.scores(ranks), [a, b] = [first(dense), first(low)];
    if (left.includes(name)) return "";
    return el("p", {id: "rank-verdict"}, `This image: ${className(a)} (${fmt(dense[a])}) → `, el("b", {class: a === b ? "" : "warning"}, `${className(b)} (${fmt(low[b])})`), Object.keys(ranks).length > 1 ? " at these ranks" : ` at rank ${r}`);
  }

  // -- pictures --
  // k numbers as the slices of a filter, side by side: 64 at most.
  function sheet(values, [C, h, w], label, range, room = 90) {
    if (C > 1 && h * w === 1) [h, w, C] = [Math.ceil(C / Math.ceil(Math.sqrt(C))), Math.ceil(Math.sqrt(C)), 1];
    const most = Math.min(C, 64), across = most < 5 ? most : Math.ceil(Math.sqrt(most * (h + 1) / (w + 1))), W = across * (w + 1) - 1, H = Math.ceil(most / across) * (h + 1) - 1;
    const data = new Float64Array(W * H);
    for (let i = 0; i < Math.min(most * h * w, values.length); i++) {
      const c = Math.floor(i / (h * w)), p = i % (h * w);
      data[(Math.floor(c / across) * (h + 1) + Math.floor(p / w)) * W + c % across * (w + 1) + p % w] = values[i];
    }
    return Maps.tile(data, H, W, {...range, scale: Math.max(1, Math.floor(room / Math.max(H, W))), label});
  }
  function shapeOf(name) {
    const {k, kernel: [h, w]} = V.layers[name], bottom = R.stages[layerOf(name).bottoms[0]].shape;
    return layerOf(name).kind !== "ip" ? [k / (h * w), h, w] : bottom.length === 3 ? bottom : [k, 1, 1];
  }
  // Exact, at rank r, and the difference, in the same colours.
  function trio(title, all, low, r, draw, approx = "") {
    const off = Float64Array.from(all, (v, i) => v - low[i]), range = Maps.range(all);
    return el("div", {}, el("h3", {}, title), row(captioned(draw(all, "exact", range), "exact"), captioned(draw(low, `rank ${r}`, range), `rank ${r}`),
      captioned(draw(off, "difference", range), "off by ", el("b", {}, approx + share(norm(off) / norm(all))))));
  }
  function filter(name, o, r, f) {
    return trio(`Filter ${f}`, o.W.subarray(f * o.k, (f + 1) * o.k), Rank.row(o, f, r), r, (values, label, range) => sheet(values, shapeOf(name), `filter ${f}, ${label}`, range));
  }
  // What filters answer to this image, exact and at rank r: W·X and A·(B·X), with their biases. X is view 3's.
  async function maps(name, o, r, f) {
    const g = R.views.convolution.layers && R.views.convolution.layers[name], x = g && !g.missing ? await Product.model(name, State.image, [0, 0]) : {missing: "its input is not in this page"};
    if (x.missing) return el("div", {}, el("h3", {}, "Answers"), el("p", {class: "quiet"}, `Not shown: ${x.missing}.`));
    const {n, X, b} = x, from = Math.floor(f / o.m), bias = Rank.shift(o, r), Z = new Float64Array(r * n), K = from * o.k;
    const add = (y, at, c, k) => { for (let s = 0; s < n; s++) y[at + s] += c * X[(K + k) * n + s]; };
    for (let j = 0; j < r; j++) for (let k = 0; k < o.k; k++) add(Z, j * n, o.B[(from * o.c + j) * o.k + k], k);
    const exact = h => { const y = new Float64Array(n).fill(b ? b[h] : 0); for (let k = 0; k < o.k; k++) add(y, 0, o.W[h * o.k + k], k); return y; };
    const low = h => Float64Array.from({length: n}, (_, s) => { let sum = (b ? b[h] : 0) + bias[h]; for (let j = 0; j < r; j++) sum += o.A[h * o.c + j] * Z[j * n + s]; return sum; });
    const side = Math.ceil(Math.sqrt(o.M)), [h, w] = n > 1 ? [x.ch, x.cw] : [Math.ceil(o.M / side), side]; // of one number for each filter: all
    const all = get => n > 1 ? get(f) : Float64Array.from({length: h * w}, (_, i) => i < o.M ? get(i)[0] : 0);
    return trio(n === 1 ? `All ${o.M} answers` : `Its answers: map ${f}${n < x.P ? `, ${h} × ${w} of it` : ""}`, all(exact), all(low), r,
      (values, label, range) => Maps.tile(values, h, w, {...range, scale: Maps.scaleFor(h, w, 64, 80), label: `answers, ${label}`}), Values.isLive() ? "" : "≈ ");
  }

  // W ≈ A·B, and how filter f is mixed from the rows of B.
  function mix(name, o, r, f, room) {
    const from = Math.floor(f / o.m), shape = shapeOf(name), tall = Math.max(40, Math.min(150, 3 * o.m)), most = 24;
    const broad = Math.max(6, Math.min(150, r * tall / o.m)), long = Math.max(60, Math.min(400, 3 * o.k, (room - Math.max(broad, 84) - 90) / 2));
    const line = j => o.B.subarray((from * o.c + j) * o.k, (from * o.c + j + 1) * o.k), a = j => o.A[f * o.c + j];
    // a picture of rows × columns, with a frame around row f where it has one
    const box = (label, values, rows, columns, h, w, isRow) => {
      const canvas = Maps.tile(values, rows, columns, {scale: 1, label});
      Object.assign(canvas.style, {height: h + "px", width: w + "px", cursor: isRow ? "pointer" : ""});
      if (isRow) canvas.addEventListener("click", e => State.set({map: from * o.m + Math.min(o.m - 1, Math.floor(e.offsetY / h * o.m))}));
      return captioned(el("div", {class: "pixels"}, canvas, isRow && el("div", {class: "mark", style: {left: 0, right: 0, top: 100 * (f % o.m) / o.m + "%", height: 100 / o.m + "%"}})), `${label}  ${rows} × ${whole(columns)}`);
    };
    const A = Float64Array.from({length: o.m * r}, (_, i) => o.A[(from * o.m + Math.floor(i / r)) * o.c + i % r]);
    const size = Array.from({length: r}, (_, j) => Math.abs(a(j)) * norm(line(j))), order = [...size.keys()].sort((i, j) => size[j] - size[i]).slice(0, most);
    return el("div", {id: "rank-mix"}, el("h3", {}, `${r} basis filters; each of the ${o.m} filters is a mix: its row of A`),
      row(box("W", o.W.subarray(from * o.m * o.k, (from + 1) * o.m * o.k), o.m, o.k, tall, long, true), el("b", {}, "≈"), box("A", A, o.m, r, tall, broad, true), el("b", {}, "·"),
        box("B", o.B.subarray(from * o.c * o.k, (from * o.c + r) * o.k), r, o.k, Math.max(6, Math.min(tall, r * tall / o.m)), long)),
      el("p", {}, `Filter ${f} at rank ${r} is the sum of these` + (r > most ? `, the ${most} largest of ${r}:` : ":")),
      el("div", {class: "grid"}, order.map(j => el("figure", {class: "small framed"}, sheet(line(j), shape, `basis filter ${j}`, {}, 52), el("figcaption", {class: "num"}, fmt(a(j), 2))))));
  }

  // -- the net with a rank for each layer --
  async function wholeNet() {
    const ranks = Rank.plan(), {work, held} = Rank.totals(ranks), text = Rank.yaml(ranks);
    const head = names => el("thead", {}, el("tr", {}, names.map(n => el("th", {scope: "col"}, n))));
    const foot = (label, now, all, key) => el("tr", {}, el("th", {scope: "row", colspan: 3}, label), el("td", {class: "part", "data-read": key}, share(now / all)), el("td", {class: "number"}, whole(now)));
    const choose = (name, value) => { if (value >= 1) Rank.setRank(name, value); else State.set({ranks: Rank.planWith(name, null), ...(name === State.layer ? {rank: null} : {})}); };
    const rows = Rank.names().map(name => {
      const layer = V.layers[name], r = ranks[name] ?? layer.rank, now = Rank.cost(layer, r ?? layer.full);
      return el("tr", {class: name === Rank.layerName() ? "chosen" : null}, el("th", {scope: "row"}, el("button", {class: "link", "data-focus": `plan-${name}`, onclick: () => State.set({layer: name})}, name)),
        el("td", {}, el("input", {type: "number", min: 1, max: layer.full, value: r ?? "", placeholder: "dense", "aria-label": `rank of ${name}`, "data-focus": `plan-rank-${name}`, onchange: e => choose(name, parseInt(e.target.value, 10))}), ` of ${layer.full}`),
        el("td", {class: "number"}, whole(layer.break_even)), el("td", {class: "part"}, el("span", {class: "stick conv", style: {width: 60 * now / layer.dense + "px"}}), share(now / layer.dense)), el("td", {class: "number"}, whole(now)));
    });
    const field = el("textarea", {readonly: true, rows: 2 * Object.keys(ranks).length, cols: 44, "aria-label": "lines for the spec", "data-focus": "rank-yaml"}, text);
    const copy = () => { field.focus(); field.select(); say(document.execCommand("copy") ? "copied" : "press Ctrl+C"); };
    return el("section", {"aria-label": "the whole net"}, el("h3", {}, "The whole net" + (V.test && Values.isLive() ? ": keep 98 % of its right answers, spend least" : "")), row(
      el("div", {}, el("table", {class: "net", id: "rank-plan"}, head(["layer", "rank", "break-even", "of its work", "multiply-adds"]), el("tbody", {}, rows),
        el("tfoot", {}, foot("the whole net's work", work, R.totals.multiply_adds, "work"), foot("its parameters", held, R.totals.parameters, "held")))),
      await scores(ranks, work),
      text && el("div", {}, el("p", {}, "Lines for your spec ", el("button", {onclick: copy, "data-focus": "rank-copy"}, "copy")), field, text.includes("factored") && el("p", {class: "quiet"}, "minicaffe lowrank apply fits these factors."))));
  }
  async function scores(ranks, work) {
    if (!Values.isLive()) return el("p", {class: "quiet"}, `Scores at these ranks: not known. ${(typeof Live === "object" && Live.why) || R.live.why || "The net does not run in this page yet."}`);
    const {dense, low, left} = await Rank.scores(ranks), top = Array.from(dense.keys()).sort((i, j) => Math.max(dense[j], low[j]) - Math.max(dense[i], low[i])).slice(0, 5);
    const bar = (p, kind) => [el("td", {class: "number"}, fmt(p)), el("td", {class: "part"}, el("span", {class: `stick ${kind}`, style: {width: 90 * Math.max(0, Math.min(1, p)) + "px"}}))];
    return el("div", {}, el("table", {class: "net", id: "rank-scores"}, el("thead", {}, el("tr", {}, [["this image", 1], ["dense", 2], ["at these ranks", 2]].map(([t, n]) => el("th", {scope: "col", colspan: n}, t)))),
      el("tbody", {}, top.map(c => el("tr", {}, el("th", {scope: "row"}, className(c)), bar(dense[c], "other"), bar(low[c], "conv"))))),
    el("p", {id: "rank-class"}, first(dense) === first(low) ? "It keeps its class." : el("b", {class: "warning"}, `Its class is now ${className(first(low))}.`), left.length ? ` Left as they are: ${left.join(", ")}; this page has no factors for that.` : ""),
    V.test ? el("button", {"data-focus": "rank-measure", onclick: () => measure(ranks, work)}, `measure on ${V.test.count} test images`) : el("p", {class: "quiet"}, "To measure on test images, make the report from the net with its data."),
    el("p", {id: "rank-measured", "aria-live": "polite"}, result));
  }
  // The share of test images that the net is right about, with ± 1.96·√(p(1 − p)/n); another measurement ends this one.
  async function measure(ranks, work) {
    const mine = measuring = {}, {planes, labels, count} = V.test, data = await Promise.all(planes.map(Pack.array)), size = R.input.shape[1] * R.input.shape[2];
    const tell = text => { result = text; const node = document.getElementById("rank-measured"); if (node) node.textContent = text; };
    const nets = [(await Rank.params(ranks)).params, ...(best ? [] : [{}])], right = [0, 0];
    for (let i = 0; i < count; i++) {
      const x = new Float32Array(size * planes.length);
      data.forEach((plane, c) => x.set(plane.subarray(i * size, (i + 1) * size), c * size));
      const said = await Promise.all(nets.map(async params => { const s = (await Live.forward(x, {params}))[R.answer]; return s.indexOf(Math.max(...s)); }));
      if (mine !== measuring) return;
      said.forEach((c, j) => { right[j] += c === labels[i]; });
      if (i % 10 === 9) tell(`${i + 1} of ${count} …`);
    }
    best = best || {dense: right[1] / count, part: Infinity};
    const p = right[0] / count, part = work / R.totals.multiply_adds, keeps = p >= 0.98 * best.dense;
    if (keeps) best.part = Math.min(best.part, part);
    tell(`${(100 * p).toFixed(1)} % ± ${(196 * Math.sqrt(p * (1 - p) / count)).toFixed(1)} of ${count} right (dense ${(100 * best.dense).toFixed(1)} %), with ${share(part)} of the work. ` +
      (keeps ? "That keeps 98 % of them." : "That is less than 98 % of them.") + (best.part < Infinity ? ` Your best: ${share(best.part)}.` : ""));
  }

  function accuracy(name, width, r, n) {
    const series = [...Object.entries((V.accuracy && V.accuracy.points[name]) || {}).map(([w, points]) => [`${WAYS[w].letter} ${WAYS[w].name}`, points]),
      ...Object.entries(V.sweep[name] || {}).map(([scheme, points]) => [`sweep, ${scheme}`, points])];
    if (!series.length) return el("div", {class: "chart wide"}, el("b", {}, "Accuracy against rank: not known. "), el("p", {class: "quiet"},
      V.accuracy ? "It is much work for this layer: " : "Make the report from the net with its data and --test 1000, or ", "give --sweep JOURNAL, which minicaffe lowrank sweep writes."));
    return Chart.line({title: "How often is the net right, with this layer alone at rank r?", x: {label: "rank", lo: 1, hi: n, log: n > 64}, y: {label: `accuracy${V.accuracy ? `, ${V.accuracy.count} test images` : ""}`, hi: 1}, width, height: 210,
      series: series.map(([text, points]) => ({name: text, x: points.map(p => p[0]), y: points.map(p => p[1]), dots: "both"})), cut: {x: r}});
  }

  async function draw(root) {
    const name = Rank.layerName(), layer = V.layers[name], numbers = await Rank.numbers(name), w = Rank.way(name), count = layer.group * layer.m;
    const reason = (V.out.find(([other]) => other === State.layer) || [])[1], n = layer.full, f = Math.min(State.map, count - 1);
    if (name !== State.layer) root.append(el("p", {class: "quiet"}, reason ? `${State.layer}: ${reason}. ` : `${State.layer} has no weights to factor. `, "Shown is ", el("b", {}, name), "."));
    const room = Math.max(300, document.getElementById("main").clientWidth - 32), width = room >= 640 ? Math.floor((room - 20) / 2) : room;
    if (!numbers.weights.spectrum[0]) { root.append(el("p", {class: "absent"}, `All weights of ${name} are 0: there is nothing to factor. Give the net its --weights.`)); return; }
    let r = Rank.rank(name), o = null, waiting = false, held = false, moved = false;
    const slider = el("input", {type: "range", id: "rank-slider", min: 1, max: n, value: r, "aria-label": `rank of ${name}`, "data-focus": "rank-slider",
      oninput: e => soon(Number(e.target.value)), onchange: () => Rank.setRank(name, r)});
    const ways = el("div", {role: "group", "aria-label": "how the factors are found"}, V.ways.map(v => el("button", {"aria-pressed": String(v === w), "data-focus": `way-${v}`, "data-way": v, onclick: () => State.set({way: v})}, el("b", {}, WAYS[v].letter), ` ${WAYS[v].name}: ${WAYS[v].long}`)));
    const cost = el("div"), table = el("div"), pictures = el("div", {class: "row"}), mixing = el("div", {class: "wide"});
    const ranks = Array.from({length: n}, (_, i) => i + 1), cut = {x: r, dots: true, onmove: slide}, least = Math.min(...V.ways.flatMap(v => Array.from(numbers[v].spectrum, s => s / (numbers[v].spectrum[0] || 1)).filter(s => s > 1e-4)));
    const charts = [
      Chart.line({title: "How fast do the directions fade?", x: {label: "direction", lo: 1, hi: n}, y: {label: "size, as part of the first", log: true, lo: 10 ** Math.floor(Math.log10(Math.min(0.1, least))), hi: 1}, width, height: 200, cut: {...cut},
        series: V.ways.map(v => ({name: WAYS[v].symbol, x: ranks, y: Array.from(numbers[v].spectrum, s => s / (numbers[v].spectrum[0] || 1))}))}),
      Chart.line({title: "How far are the answers off?", x: {label: "rank", lo: 1, hi: n}, y: {label: "‖Y − Ŷ‖ / ‖Y‖", lo: 0}, width, height: 200, cut: {...cut},
        series: V.ways.map(v => ({name: `${WAYS[v].letter} ${WAYS[v].name}`, x: ranks, y: Array.from(numbers[v].response).slice(1)}))}),
      accuracy(name, width, r, n)];

    // While it is dragged only what depends on r is drawn again; the state follows when it is let go.
    root.addEventListener("pointerdown", () => {
      held = true;
      addEventListener("pointerup", () => { held = false; if (moved) Rank.setRank(name, r); }, {once: true});
    }, true);
    function slide(v) {
      if (!held) { Rank.setRank(name, Math.round(v)); return; } // an arrow key
      moved = true;
      soon(Math.round(v));
    }
    function soon(v) {
      r = Math.max(1, Math.min(n, v));
      if (!waiting) requestAnimationFrame(() => { waiting = false; paint(r); });
      waiting = true;
    }
    async function paint(next) {
      const mine = r = Math.max(1, Math.min(n, next));
      slider.value = r;
      cost.replaceChildren(sentence(layer, r));
      table.replaceChildren(readings(name, numbers, r));
      for (const chart of charts) if (chart.move) chart.move(r);
      const isCarried = o && (r <= o.c || r === n), parts = isCarried ? [filter(name, o, r, f), await maps(name, o, r, f)] : [];
      const said = await verdict(name, r);
      if (mine !== r) return;
      table.append(said);
      pictures.replaceChildren(...parts, ...(isCarried ? [] : [el("p", {class: "quiet"}, o ? `Filters and maps are in this page up to rank ${o.c}.`
        : `No filters and maps at rank r: the page has no room for this layer's bases. --layers ${name}, or a larger --max-size, makes some.`)]), table);
      mixing.replaceChildren(...(isCarried && r <= o.c ? [mix(name, o, r, f, room >= 740 ? width : room)] : []));
    }
    const step = by => State.set({map: (f + by + count) % count});
    o = layer.bases ? await Rank.model(name, w) : null;
    await paint(r);
    root.append(el("div", {class: "rank-bar"}, ways, el("label", {}, "rank", slider, el("kbd", {}, "[ ]"))), cost, pictures,
      el("p", {class: "quiet"}, o && [el("button", {"aria-label": "filter before", "data-focus": "filter-before", onclick: () => step(-1)}, "‹"), ` filter ${f} of ${count} `, el("button", {"aria-label": "next filter", "data-focus": "filter-next", onclick: () => step(1)}, "›"), " · "],
        `Errors are those of ${whole(V.seen.count)} ${V.seen.what}, ${whole(layer.columns)} columns of X` + (layer.columns < 2 * layer.k || V.seen.count < 16 ? ", few: on other images b and c lose more." : "."),
        layer.rank ? ` In this net the layer has rank ${layer.rank}${layer.way === "spatial" ? " of the spatial scheme, which this view does not show" : ""}.` : ""),
      row(charts[0], charts[1]), row(charts[2], mixing), await wholeNet());
  }

  const step = by => () => { const name = Rank.layerName(); Rank.setRank(name, Rank.rank(name) + by); };
  const next = () => State.set({way: V.ways[(V.ways.indexOf(Rank.way(Rank.layerName())) + 1) % V.ways.length]});
  return {title: () => `Low rank: ${Rank.layerName()}`, draw,
    say: "If the rows of W are nearly mixtures of r rows, W ≈ A·B: r·(M + K) numbers in place of M·K. What must be kept is not W but the answers W·X, so it pays to look at the data.",
    tries: "Lowest rank at which this image keeps its class? And all images?",
    keys: {"[": ["rank smaller", step(-1)], "]": ["rank larger", step(1)], "{": ["smaller by 10", step(-10)], "}": ["larger by 10", step(10)], r: ["all layers as in the net", () => State.set({ranks: null, rank: null})], w: ["next way", next]}};
})());
