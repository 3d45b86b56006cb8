// View 6: how the loss would change: sizes of gradients, the chain rule number by number, maps, and one weight.
View("backward", (() => {
  const D = R.views.backward || {}, VANISHING = 1e-3, EXPLODING = 1e3;
  const PARTS = [["sizes", "How large"], ["walk", "Chain rule"], ["maps", "Maps"], ["weight", "One weight"], ["units", "Dead units"]];
  const decoder = new TextDecoder();
  const part = () => PARTS.some(([key]) => key === State.part) ? State.part : "sizes";
  const place = at => at.length === 3 ? `map ${at[0]} at (${at[1]}, ${at[2]})` : at.length ? at.join(", ") : "the number";
  const at = (list, i) => list && list[Math.min(i, list.length - 1)];
  const signed = v => v < 0 ? `(${fmt(v)})` : fmt(v);

  // -- how large --
  function sizes(root, i) {
    const layers = State.layers.filter(l => l.kind !== "loss" && l.tops.length && R.stages[l.tops[0]].diff_mean), withWeights = layers.filter(l => l.params.length && l.params[0].diff_mean);
    const shown = layers.length > 60 ? withWeights : layers, size = l => R.stages[l.tops[0]].diff_mean[i];
    const row = (l, value) => ({name: l.name, value, kind: l.kind, chosen: l.name === State.layer, key: l.name});
    const choose = row => State.set({layer: row.key});
    const kind = layers.filter(l => l.kind === "conv").length > 1 ? "conv" : "ip", ends = layers.filter(l => l.kind === kind);
    const [first, last] = [ends[0], ends[ends.length - 1]];
    if (ends.length > 1 && size(last)) {
      const ratio = size(first) / size(last), verdict = ratio < VANISHING ? "vanishing" : ratio > EXPLODING ? "exploding" : "";
      root.append(el("p", {class: "verdict", "data-verdict": verdict || "none"}, `Blobs: ${first.name} has `, num(ratio), ` of ${last.name}'s mean |gradient|: `,
        verdict ? el("b", {class: "warning"}, verdict) : "neither vanishing nor exploding", el("span", {class: "quiet"}, ` (by rule: below ${VANISHING}, above ${EXPLODING})`)));
    } else if (ends.length > 1) root.append(el("p", {class: "verdict", "data-verdict": "none"}, el("b", {class: "warning"}, `No gradient arrives at ${last.name}`), ": it is 0 everywhere."));
    const end = layers[layers.length - 1], both = el("div", {class: "two"});
    const log = values => ({log: true, lo: 10 ** Math.floor(Math.log10(Math.min(...values.filter(v => v > 0), 1)))});
    both.append(Chart.bar({title: "How much would the loss change with a blob's numbers?", x: {label: "mean |dL/d blob|", ...log(shown.map(size))}, rows: shown.map(l => row(l, size(l))),
      width: 480, onselect: choose, reference: end && size(end) > 0 ? {value: size(end), label: `at ${end.name}`} : null}));
    const steep = l => at(l.params[0].diff_mean, i), isOne = i > 0 && withWeights.some(l => l.params[0].diff_mean.length === 1);
    both.append(Chart.bar({title: `And with its weights?${isOne ? " (image 0)" : ""}`, x: {label: "mean |dL/dw|", ...log(withWeights.map(steep))}, rows: withWeights.map(l => row(l, steep(l))), width: 480, onselect: choose}));
    root.append(both);
  }

  // -- the walk --
  const product = ([name, factors, isBefore]) => el("span", {class: isBefore ? "before" : "term", title: `${name}${isBefore ? " (the line above)" : ""}`},
    factors.map((f, k) => [k ? " · " : "", factors.length > 1 ? signed(f) : fmt(f)]));
  function sum(line) {
    const others = line.count - line.terms.length, result = [];
    line.terms.forEach((term, k) => result.push(k ? " + " : "", product(term)));
    if (others) result.push(` + ${whole(others)} others, `, el("span", {class: "term"}, signed(line.rest)));
    return result;
  }
  function step(line, n) {
    const layer = layerOf(line.layer), [key, index] = line.below, letter = (line.formula.match(/dL\/d(\w)/) || [0, "x"])[1], isRight = Math.abs(line.total - line.said) <= 1e-4 * Math.abs(line.said) + 1e-12;
    const item = el("li", {class: line.layer === State.layer ? "chosen" : null, "data-line": line.layer},
      el("p", {}, el("button", {class: "link", "data-focus": `walk-${n}`, onclick: () => State.set({layer: line.layer})}, el("b", {}, line.layer)), el("span", {class: `kind ${layer.kind}`}, ` ${layer.type}`),
        " · ", el("code", {}, line.formula || layer.formula.split("\n").pop().trim()), ` · ${letter} is `, el("b", {}, `${R.stages[source(key)].blob}, ${place(index)}`)));
    if (line.table) item.append(el("table", {class: "cells", "aria-label": "gradient of the loss"}, el("thead", {}, el("tr", {}, line.head.map(h => el("th", {scope: "col"}, h)))),
      el("tbody", {}, line.table.map(row => el("tr", {class: row[0] === index[0] ? "chosen" : null}, row.map((v, k) => el(k ? "td" : "th", k ? {title: exact(v)} : {scope: "row"}, k ? fmt(v) : line.head[0] === "class" ? className(v) : String(v))))))));
    item.append(el("p", {class: "sum"}, `dL/d${letter} = `, line.terms ? [sum(line), " = "] : "", "total" in line ? [el("b", {"data-total": line.total}, num(line.total)), el("span", {class: "quiet"}, " · minicaffe: ")] : "",
      el("span", {"data-said": line.said}, num(line.said)), "total" in line ? el("span", {class: isRight ? "true" : "warning"}, isRight ? " ✓" : " ✗") : el("span", {class: "quiet"}, ": this layer type has no line of its own here")));
    if (line.note) item.append(el("p", {class: "quiet"}, line.note));
    if (line.terms && line.terms[0][0]) item.append(el("details", {class: "as-table"}, el("summary", {"aria-label": `terms of ${line.layer}`}, "terms"), el("table", {}, el("tbody", {},
      line.terms.map(t => el("tr", {}, el("th", {scope: "row"}, t[0], t[2] ? " ← the line above" : ""), t[1].map(f => el("td", {}, exact(f))), el("td", {}, "= " + exact(t[1].reduce((a, b) => a * b, 1)))))))));
    return item;
  }
  async function walk(root, i) {
    const ref = D.walks && D.walks[i];
    if (!ref) { root.append(el("p", {}, `Recorded for the first ${D.walks ? D.walks.length : 0} images.`)); return; }
    const lines = JSON.parse(decoder.decode(await Pack.bytes(ref)));
    root.append(el("p", {class: "quiet"}, "From the loss down, one number x in each blob: the one with the largest gradient among those below the line before. ",
      el("span", {class: "before"}, "Pink"), " is what the line above has computed; the others come from x's other users."), el("ol", {class: "walk"}, lines.map(step)));
  }

  // -- maps --
  async function maps(root, i) {
    const key = layerOf(State.layer).tops[0], found = key && await Values.diff(key, i), input = await Values.diff(R.input.stage, i), scale = Math.max(1, Math.floor(168 / Math.max(...R.input.shape.slice(1)))), picture = await Maps.image(i, scale);
    const row = el("div", {class: "two"}), [c, h, w] = R.input.shape;
    if (picture) row.append(el("figure", {class: "chart"}, el("figcaption", {}, "the image"), picture));
    if (input.data && input.shape.length === 3) {
      const total = new Float32Array(h * w);
      if (input.shape[1] === h) for (let k = 0; k < c * h * w; k++) total[k % (h * w)] += input.data[k];
      const {lo, hi} = Maps.range(total);
      if (input.shape[1] === h) row.append(el("figure", {class: "chart"}, el("figcaption", {}, c > 1 ? "dL/d image, channels added" : "dL/d image"), Maps.tile(total, h, w, {scale, label: "gradient of the image"})),
        el("div", {}, Maps.legend(lo, hi, true), el("p", {class: "quiet"}, "Blue: the loss grows if the pixel does; red: it falls.")));
    }
    root.append(row, el("h3", {}, `dL/d ${key}`));
    if (!found || !found.data) { root.append(el("p", {class: "quiet"}, "Not recorded for this layer and image.")); return; }
    const {lo, hi} = Maps.range(found.data), shared = State.scale === "blob" ? {lo, hi} : {};
    root.append(el("p", {class: "quiet"}, found.note || "", found.exact ? "" : " ≈ recorded in 8 bits"), Maps.legend(lo, hi));
    if (found.shape.length === 3) {
      const [n, fh, fw] = found.shape;
      root.append(Maps.grid(Array.from({length: n}, (_, k) => ({values: found.data.subarray(k * fh * fw, (k + 1) * fh * fw), h: fh, w: fw, number: found.maps ? found.maps[k] : k, label: `gradient of ${key}, map ${k}`})),
        {...shared, selected: State.map, onselect: map => State.set({map})}));
    } else {
      const wide = Math.min(found.data.length, 50), rows = Math.ceil(found.data.length / wide), padded = new Float32Array(rows * wide);
      padded.set(found.data);
      root.append(found.data.length <= 50 ? Maps.table(padded, rows, wide) : Maps.tile(padded, rows, wide, {scale: 12, label: `gradient of ${key}, ${wide} numbers a row`}));
    }
  }

  // -- one weight: dL/dw = Σ dL/dY · X, over the places that the window takes --
  async function gradientOf(key, i) {
    const ref = D.exact && D.exact[key];
    if (ref && i < ref.shape[0]) { const n = Pack.count(ref) / ref.shape[0]; return {data: (await Pack.array(ref)).subarray(i * n, (i + 1) * n), exact: true, maps: null, step: 1}; }
    return Values.diff(key, i);
  }
  async function weight(root, i) {
    const products = State.layers.filter(l => (l.kind === "conv" && l.window && l.type !== "Deconvolution" || l.kind === "ip") && !l.rank && l.bottoms.length === 1);
    const layer = products.find(l => l.name === State.layer) || products[0];
    if (!layer) { root.append(el("p", {}, "No plain convolution or inner product.")); return; }
    const isConv = layer.kind === "conv", top = layer.tops[0], bottom = layer.bottoms[0], x = await Values.stage(bottom, i), dy = await gradientOf(top, i);
    if (!x.data || !dy.data || x.maps || dy.maps || x.step > 1 || dy.step > 1) { root.append(el("p", {class: "quiet"}, `Of ${layer.name} not everything was recorded for this image.`)); return; }
    const [C, H, W] = x.shape.length === 3 ? x.shape : [1, 1, x.data.length], M = R.stages[top].shape[0], group = layer.group || 1;
    const g = isConv ? layer.window : {kernel: [H, W], stride: [1, 1], pad: [0, 0], dilation: [1, 1]}, [kh, kw] = g.kernel, [OH, OW] = isConv ? R.stages[top].shape.slice(1) : [1, 1], slices = C / group;
    const wanted = (State.weight || "").split(",").map(Number), limit = (v, n) => Math.max(0, Math.min(n - 1, Number.isInteger(v) ? v : 0));
    const f = limit(State.map, M), c = limit(wanted[0], slices), ky = limit(wanted[1] ?? kh >> 1, kh), kx = limit(wanted[2] ?? kw >> 1, kw), channel = Math.floor(f / (M / group)) * slices + c;
    function terms(a, b) {
      const found = [];
      for (let oy = 0; oy < OH; oy++) for (let ox = 0; ox < OW; ox++) {
        const y = oy * g.stride[0] - g.pad[0] + a * g.dilation[0], z = ox * g.stride[1] - g.pad[1] + b * g.dilation[1];
        if (y >= 0 && z >= 0 && y < H && z < W) found.push([oy, ox, dy.data[(f * OH + oy) * OW + ox], x.data[(channel * H + y) * W + z]]);
      }
      return found;
    }
    const total = list => list.reduce((s, t) => s + t[2] * t[3], 0), set = (a, b, d) => State.set({layer: layer.name, map: a, weight: [b, ...d].join(",")});
    const values = Float32Array.from({length: kh * kw}, (_, k) => total(terms(Math.floor(k / kw), k % kw))), list = terms(ky, kx), sum = total(list), isExact = x.exact && dy.exact;
    const field = (label, value, n, change) => el("label", {}, `${label} `, el("input", {type: "number", min: 0, max: n - 1, value, "data-focus": `weight-${label}`, onchange: e => change(limit(Number(e.target.value), n))}), ` of ${n}  `);
    root.append(el("p", {}, el("b", {}, layer.name), ": ", el("code", {}, isConv ? "dL/dw = Σ dL/dY · X, over the places of the window" : "dL/dw = dL/dY · X: one place")),
      el("p", {class: "fields"}, field(isConv ? "filter" : "unit", f, M, v => set(v, c, [ky, kx])), field("input map", c, slices, v => set(f, v, [ky, kx]))),
      el("p", {class: "quiet"}, `All ${kh} × ${kw} weights of this ${isConv ? "slice" : "unit for this map"}; click one, or move with arrows:`));
    const shown = el("div", {class: "two"});
    if (kh * kw <= 400) {
      const canvas = Maps.tile(values, kh, kw, {scale: Math.max(6, Math.floor(130 / Math.max(kh, kw))), label: `dL/dw of ${layer.name}`});
      shown.append(Maps.pixels(canvas, values, kh, kw, {at: [ky, kx], name: "dL/dw", exact: isExact, focus: "weight", onpixel: (a, b) => set(f, c, [a, b])}),
        kh * kw <= 64 ? Maps.table(values, kh, kw, {at: [ky, kx], label: "dL/dw of the slice"}) : "");
    }
    list.sort((a, b) => Math.abs(b[2] * b[3]) - Math.abs(a[2] * a[3]));
    const silent = list.every(t => t[2] === 0), dark = list.every(t => t[3] === 0), blame = sum !== 0 ? "" : silent ? `It is 0 because dL/dY is 0 for ${isConv ? "filter" : "unit"} ${f} at every place: nothing above passes a gradient to it.` : dark ? `It is 0 because X is 0 at every place: input map ${channel} is 0 there.` : "It is 0 because wherever dL/dY is not 0, X is.";
    root.append(shown, el("p", {class: "sum", "data-weight-gradient": sum}, `dL/dw(${[f, c, ky, kx].join(", ")}) = Σ over ${whole(list.length)} places = `, isExact ? "" : "≈ ", el("b", {}, num(sum))), el("p", {}, blame),
      el("table", {class: "cells", "aria-label": "largest terms"}, el("thead", {}, el("tr", {}, ["place of Y", "dL/dY", "X", "product"].map(h => el("th", {scope: "col"}, h)))),
        el("tbody", {}, list.slice(0, 5).map(t => el("tr", {}, el("th", {scope: "row"}, isConv ? `(${t[0]}, ${t[1]})` : `unit ${f}`), [t[2], t[3], t[2] * t[3]].map(v => el("td", {title: exact(v)}, fmt(v))))))),
      list.length > 5 ? el("p", {class: "quiet"}, `and ${list.length - 5} smaller ones, together ${fmt(sum - total(list.slice(0, 5)))}`) : "");
  }

  // -- dead units --
  function units(root) {
    if (!D.units) { root.append(el("p", {class: "absent"}, D.no_units || "Needs at least 100 test images: a net with its data (train.yaml), and --test 1000.")); return; }
    root.append(el("p", {}, `Over ${whole(D.units.count)} test images. A dead unit is 0 for all of them: no gradient ever passes, so its weights do not learn. One that is always on does nothing that a linear layer could not.`),
      el("table", {class: "settings", "aria-label": "dead units"}, el("thead", {}, el("tr", {}, ["layer", "dead", "always on", "dead units"].map(h => el("th", {scope: "col"}, h)))),
        el("tbody", {}, D.units.layers.map(u => el("tr", {"data-units": u.name}, el("th", {scope: "row"}, el("button", {class: "link", onclick: () => State.set({layer: u.name, view: "layer"})}, u.name)), el("td", {}, percent(u.dead)), el("td", {}, percent(u.always_on)), el("td", {class: "quiet"}, u.units.length ? u.units.join(", ") + (u.more ? ` and ${u.more} more` : "") : "none"))))));
  }

  async function draw(root) {
    const i = State.image, chosen = part();
    root.append(el("div", {class: "parts", role: "group", "aria-label": "parts of this view"}, PARTS.map(([key, title]) =>
      el("button", {"aria-pressed": String(key === chosen), "data-focus": `part-${key}`, "data-part": key, onclick: () => State.set({part: key})}, title))));
    if (i >= R.images.length && chosen !== "units") { root.append(el("p", {class: "absent"}, "Backward was recorded for the images of the report; choose one of them.")); return; }
    const image = R.images[i], truth = Number.isInteger(image.label);
    if (chosen !== "units") root.append(el("p", {class: "loss"}, `L, the ${R.loss.name === "loss" ? "net's loss" : R.loss.name} for ${image.name}`, truth ? ` (it is ${className(image.label)}${image.top !== null && image.top !== image.label ? `, the net says ${className(image.top)}` : ""})` : image.top !== null ? ` (of ${className(image.top)}, which the net says)` : "", ": ", el("b", {}, num(R.loss.values[i], 4))));
    await {sizes, walk, maps, weight, units}[chosen](root, i);
  }

  return {title: "Backward: which numbers would change the loss", draw, tries: "Pick a weight with gradient 0. Which unit is to blame?",
    say: "Backward asks: if this number were a little larger, by how much would the loss grow? Each layer multiplies by its own derivative. Products of many small numbers vanish, of large ones explode."};
})());
