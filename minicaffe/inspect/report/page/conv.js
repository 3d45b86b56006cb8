// View 3: window → column → product → output, and the way back. The product is staggered: X stands above Y and W left
// of it, so row f of W, column p of X and cell (f, p) of Y line up. The input stands in the free corner.
const Conv = (() => {
  const STEPS = {1: "window", 2: "column", 3: "all columns", 4: "W · X", 5: "output", 6: "rank r"};
  const BACK = {b1: "dY", b2: "dW = dY · Xᵀ", b3: "Wᵀ · dY", b4: "col2im"};
  const ROWS = 1000, CHOSEN = 8; // of more rows, those of this many input maps are drawn
  const LABEL = 18, GAP = 16;
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  let playing = false, run = 0; // run: the number of the animation; a later one ends it

  const shown = () => R.layers.map(l => l.name).filter(name => R.views.convolution.layers[name]);
  // The chosen layer, or the last one before it that is a product.
  function layerName() {
    const names = shown(), at = R.layers.findIndex(l => l.name === State.layer);
    return names.includes(State.layer) ? State.layer
      : names.filter(name => R.layers.findIndex(l => l.name === name) < at).pop() || names[0];
  }
  const step = () => STEPS[State.step] || BACK[State.step] ? String(State.step) : "5";
  const go = next => State.set({step: next});

  // ---- what is chosen --------------------------------------------------------------------------------------

  // Filter f, output place (y, x) with its column, and row k of X: from the address, else the strongest.
  function choose(m) {
    const f = Math.min(State.map, m.M - 1), given = State.at || [];
    let s;
    if (given.length === 2) {
      const [y, x] = [Math.min(given[0], m.oh - 1) - m.py, Math.min(given[1], m.ow - 1) - m.px];
      s = y * m.cw + x;
    } else s = strongest(m.n, i => Math.abs(m.WX[f * m.n + i] + (m.b ? m.b[f] : 0)));
    const p = m.column(s), from = Math.floor(f / m.filters) * m.depth;
    let k = State.row === undefined || State.row === null ? -1 : Number(State.row);
    if (!(k >= from && k < from + m.depth)) {
      const map = strongest(m.maps, c => Math.abs(partial(m, f, s, from + c * m.area)));
      k = from + map * m.area + strongest(m.area, i => Math.abs(term(m, f, s, from + map * m.area + i)));
    }
    return {f, s, p, y: Math.floor(p / m.ow), x: p % m.ow, k, c: Math.floor(k / m.area), from};
  }
  function strongest(n, value) {
    let best = 0, most = -1;
    for (let i = 0; i < n; i++) { const v = value(i); if (v > most) { most = v; best = i; } }
    return best;
  }
  const term = (m, f, s, k) => Product.weight(m, f, k) * m.X[k * m.n + s];
  const partial = (m, f, s, k) => { // the products of one input map
    let sum = 0;
    for (let i = 0; i < m.area; i++) sum += term(m, f, s, k + i);
    return sum;
  };
  // Choose a column and a row; a row of another group takes the group's first filter along.
  function pick(m, {f, s, k}) {
    const patch = {};
    if (f !== undefined) patch.map = f;
    if (s !== undefined) { const p = m.column(s); patch.at = [Math.floor(p / m.ow), p % m.ow]; }
    if (k !== undefined) {
      patch.row = k;
      const group = Math.floor(k / m.depth), now = f ?? State.map;
      if (Math.floor(now / m.filters) !== group) patch.map = group * m.filters;
    }
    State.set(patch);
  }

  // ---- painting --------------------------------------------------------------------------------------------

  const shades = () => Array.from({length: 257}, (_, i) => Maps.colour((i - 128) / 128, 1));
  // A canvas of w × h pixels that shows rows × cols numbers; at(r, c) gives null where padding or another group
  // makes a zero (hatched), undefined where nothing is yet.
  function paint(w, h, rows, cols, extent, at) {
    const canvas = el("canvas", {width: w, height: h}), context = canvas.getContext("2d");
    const image = context.createImageData(w, h), lut = shades(), zero = lut[128];
    const hatch = zero[0] > 128 ? [190, 196, 204] : [80, 88, 98];
    for (let y = 0, o = 0; y < h; y++) {
      const r = Math.floor(y * rows / h);
      for (let x = 0; x < w; x++, o += 4) {
        const v = at(r, Math.floor(x * cols / w));
        if (v === undefined) continue;
        const t = extent ? Math.max(-1, Math.min(1, v / extent)) : 0;
        const rgb = v === null ? ((x + y) % 6 < 1 ? hatch : zero) : lut[Math.round(128 + 128 * t)];
        image.data[o] = rgb[0]; image.data[o + 1] = rgb[1]; image.data[o + 2] = rgb[2]; image.data[o + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  const px = value => Math.round(value) + "px";
  // A block of the figure: a picture of rows × cols numbers with a label above it, that can be clicked and has keys.
  function block(figure, {name, label, x, y, w, h, labelX = x, rows, cols, extent, at, onpick, here, describe, ghost}) {
    w = Math.max(3, Math.round(w)); h = Math.max(3, Math.round(h));
    const box = el("div", {class: "conv-block" + (ghost ? " ghost" : ""), "data-block": name, "data-focus": "conv-" + name,
      tabindex: onpick ? "0" : null, role: onpick ? "application" : "img", "aria-label": `${label}: ${describe}`,
      style: {left: px(x), top: px(y), width: px(w), height: px(h)}});
    const title = el("div", {class: "conv-label", style: {left: px(labelX), top: px(y - LABEL)}}, label);
    let canvas = null;
    const fill = () => {
      const next = paint(w, h, rows, cols, extent, at);
      if (canvas) canvas.replaceWith(next); else box.append(next);
      canvas = next;
    };
    if (!ghost) fill();
    if (onpick) {
      box.addEventListener("click", event => {
        const area = box.getBoundingClientRect(), r = (event.clientY - area.top) / area.height, c = (event.clientX - area.left) / area.width;
        onpick(Math.max(0, Math.min(rows - 1, Math.floor(r * rows))), Math.max(0, Math.min(cols - 1, Math.floor(c * cols))));
      });
      box.addEventListener("keydown", event => {
        const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
        if (!move || event.altKey || event.ctrlKey) return;
        event.preventDefault(); event.stopPropagation();
        const [r, c] = here();
        onpick(Math.max(0, Math.min(rows - 1, r + move[0])), Math.max(0, Math.min(cols - 1, c + move[1])), true);
      });
    }
    figure.append(title, box);
    // where a part of it lies in the figure: rows r … r + height, columns c … c + width
    const part = (r, c, height = 1, width = 1) => ({x: x + c * w / cols, y: y + r * h / rows, w: width * w / cols, h: height * h / rows});
    return {x, y, w, h, box, part, fill, rows, cols};
  }

  const mark = ({x, y, w, h}, kind = "") => el("rect", {class: "conv-mark " + kind, x: x - 1, y: y - 1,
    width: Math.max(3, w + 2), height: Math.max(3, h + 2)});
  const line = (x1, y1, x2, y2) => el("line", {class: "conv-link", x1, y1, x2, y2});


  // ---- the figure ------------------------------------------------------------------------------------------

  // Sides of the blocks in pixels. They grow with the square roots of K, M and P, so that a long X does not make W
  // invisible; the labels have the numbers. The factors' sides are exact parts of W's: area is parameters.
  function sizes(m, width, height, rows, rank) {
    const extra = rank ? rank / m.M : 0, labels = LABEL * (rank ? 3 : 2) + (rank ? 12 : 6);
    const room = height - labels, [a, b] = [Math.sqrt(m.K), Math.sqrt(m.M)];
    let mpx = Math.max(b / (a + b * (1 + extra)) * room, Math.min(2 * m.M, 0.3 * room));
    if (m.M > 1) mpx = Math.max(mpx, 90);
    mpx = Math.min(mpx, (room - 60) / (1 + extra));
    let kpx = room - mpx * (1 + extra);
    const beside = m.small ? 2 * (LABEL + 8 + 19 * m.kh) : 150; // the height of the tables beside X
    const map = Math.min(room - Math.max(mpx * (1 + extra), 110), 230); // the input's side
    const top = Math.max(kpx, map, Math.min(beside, room - 100));
    if (top > kpx) mpx = (room - top) / (1 + extra);
    kpx = Math.min(kpx, Math.max(40, 12 * rows));
    const left = Math.max(map, kpx), most = width - left - GAP - 24 - (m.small ? Math.max(190, 52 * m.kw + 6) : 236);
    const ppx = Math.max(24, Math.min(most, Math.max(Math.sqrt(m.n) * kpx / a, 4 * m.n, m.n > 1 ? 120 : 0)));
    return {mpx, kpx, ppx, map, top, left, rpx: mpx * extra};
  }

  function rowsOf(m, chosen) {
    if (m.K <= ROWS || m.C <= CHOSEN) return {list: null, count: m.K, first: 0, note: null};
    const first = Math.min(m.C - CHOSEN, CHOSEN * Math.floor(chosen.c / CHOSEN));
    return {first: first * m.area, count: CHOSEN * m.area, note: `rows of input maps ${first}–${first + CHOSEN - 1} of ${m.C}`};
  }

  async function draw(root) {
    const mine = ++run, name = layerName(), layer = layerOf(name), entry = R.views.convolution.layers[name];
    const now = step(), isBack = now[0] === "b", bar = controls(name, now);
    root.append(bar);
    if (entry.missing) { root.append(el("p", {class: "absent"}, `${name}: ${entry.missing}.`)); return; }
    const [, oh, ow] = entry.output;
    const m = await Product.model(name, State.image, State.at && State.at.length === 2 ? State.at : [oh >> 1, ow >> 1]);
    if (m.missing) { root.append(el("p", {class: "absent"}, `${name}: ${m.missing}.`)); return; }
    const chosen = choose(m), rows = rowsOf(m, chosen), full = Math.min(m.M, m.K);
    let rank = 0, low = null;
    if (now === "6") {
      rank = m.own ? m.own.rank : Math.max(1, Math.min(full, State.rank ?? Math.max(1, Math.round(full / 4))));
      low = await Product.factors(m, rank);
    }
    if (isBack) Product.backward(m);
    const sentence = el("p", {class: "conv-sentence"}), figure = el("div", {class: "conv-figure"}), sum = el("p", {class: "conv-sum num"});
    root.append(sentence, figure, sum);
    if (now === "6" && !low) { sentence.textContent = m.g.group > 1 ? "Factors of a layer in groups are not drawn here." : "No factors of this layer are carried; view 4 has what is known."; }
    if (isBack && !m.dYall) { sentence.textContent = R.no_gradient || "No gradient was recorded for this image at this layer, in full."; return; }
    const room = innerHeight - figure.getBoundingClientRect().top - 78;
    const width = Math.max(640, root.clientWidth), height = Math.max(330, Math.min(room, 560));
    figure.style.height = px(height);
    const part = {m, chosen, rows, rank: low ? rank : 0, low, now, isBack, width, height, figure, layer};
    const drawn = picture(part);
    const text = words(part);
    if (!sentence.textContent) sentence.append(...text.sentence);
    sum.append(...text.sum);
    if (playing && !still()) animate(part, drawn, mine);
  }

  // ---- controls --------------------------------------------------------------------------------------------

  function controls(name, now) {
    const isBack = now[0] === "b", steps = isBack ? BACK : STEPS;
    const buttons = Object.entries(steps).map(([key, what], i) => el("button", {role: "radio", "aria-checked": String(key === now), class: "conv-step",
      tabindex: key === now ? "0" : "-1", "data-step": key, "data-focus": "conv-step-" + key, onclick: () => { playing = false; go(key); }}, `${i + 1} ${what}`));
    const group = el("div", {role: "radiogroup", "aria-label": "step", class: "conv-steps"}, buttons);
    group.addEventListener("keydown", event => {
      const move = {ArrowLeft: -1, ArrowRight: 1}[event.key], at = Object.keys(steps).indexOf(now);
      if (!move) return;
      event.preventDefault(); event.stopPropagation();
      const next = Object.keys(steps)[Math.max(0, Math.min(buttons.length - 1, at + move))];
      buttons.find(b => b.dataset.step === next).focus();
      go(next);
    });
    const choice = el("select", {"aria-label": "layer", "data-focus": "conv-layer", onchange: event => State.set({layer: event.target.value, row: null})},
      shown().map(one => el("option", {value: one, selected: one === name}, one)));
    return el("div", {class: "conv-bar"}, choice, group,
      still() ? null : el("button", {"aria-pressed": String(playing), "data-focus": "conv-play", title: "play (Space)", onclick: play}, playing ? "❚❚ pause" : "▶ play"),
      el("button", {"aria-pressed": String(isBack), "data-focus": "conv-back", title: "backward (b)", onclick: turn}, "backward"),
      now === "6" ? slider(name) : null);
  }
  function turn() { playing = false; go(step()[0] === "b" ? "5" : "b2"); }
  function play() {
    playing = !playing;
    const keys = Object.keys(step()[0] === "b" ? BACK : STEPS);
    if (playing && step() === keys[keys.length - 1]) go(keys[0]); else State.redraw();
  }
  function slider(name) {
    const g = R.views.convolution.layers[name], full = Math.min(g.output[0], g.input[0] / g.group * g.kernel[0] * g.kernel[1]);
    if (g.left) return el("span", {class: "quiet"}, `its own rank: ${g.left.shape[1]} of ${full}`);
    const value = Math.max(1, Math.min(full, State.rank ?? Math.max(1, Math.round(full / 4))));
    return el("label", {}, "rank ", el("input", {type: "range", min: 1, max: full, value, "data-focus": "conv-rank", "aria-label": `rank, of ${full}`,
      oninput: event => State.set({rank: Number(event.target.value)})}), el("b", {class: "num"}, ` ${value}`), ` of ${full}`);
  }

  // ---- the picture -----------------------------------------------------------------------------------------

  function picture(part) {
    const {m, chosen, rows, rank, low, now, isBack, width, height, figure} = part, {f, s, y, x, k, c} = chosen;
    const z = sizes(m, width, height, rows.count, rank), x0 = z.left + GAP, yX = LABEL + z.top - z.kpx;
    const yZ = LABEL + z.top + 6 + LABEL, yY = rank ? yZ + z.rpx + 6 + LABEL : yZ;
    const number = Number(now), k0 = rows.first, inside = k >= k0 && k < k0 + rows.count;
    const on = from => isBack || number >= from;
    const mid = v => Math.max(1e-30, m.extent(v));
    const X = isBack && now !== "b2" ? m.dX : m.X, W = now === "b2" ? m.dW : m.w, Y = isBack ? m.dY : m.WX;
    const padded = m.g.pad[0] + m.g.pad[1] > 0;
    const isPad = (r, q) => padded && m.place(r, m.column(q)) < 0;
    const weight = (g, r) => { const from = Math.floor(g / m.filters) * m.depth; return r < from || r >= from + m.depth ? null : W[g * m.depth + r - from]; };
    const limits = {columns: m.n, rows: m.K, sums: m.n}; // what an animation has filled so far
    const has = {X: (r, q) => number === 2 ? q === s && r + k0 < limits.rows : q < limits.columns};
    const b = {};
    // the input (or its gradient), with its padding
    const [ph, pw] = m.g.pad, H = m.H + 2 * ph, Wd = m.W + 2 * pw, unit = Math.min(z.map / H, z.map / Wd, 40);
    const isGradient = isBack && now !== "b2", input = isGradient ? Product.col2im(m, now === "b4" ? m.n : 0) : m.x;
    part.input = input;
    const plane = i => (part.input || input)[c * m.H * m.W + i];
    const inputs = m.g.folded ? `the ${whole(m.W * m.H)} inputs, folded` : `input map ${c} of ${m.C}`;
    b.input = block(figure, {name: "input", label: isGradient ? `dX: gradient of ${inputs}` : `${inputs} (${R.stages[m.g.bottom].blob})`,
      x: 0, y: LABEL, w: Wd * unit, h: H * unit, rows: H, cols: Wd, extent: mid(input), ghost: isGradient && now !== "b4",
      at: (r, q) => r < ph || q < pw || r >= m.H + ph || q >= m.W + pw ? null : plane((r - ph) * m.W + q - pw),
      describe: `${m.H} × ${m.W}; arrows move the window`, here: () => [y * m.g.stride[0], x * m.g.stride[1]],
      onpick: (r, q, isKey) => pickPixel(m, chosen, r, q, isKey)});
    // X, W, Y, and Z between factors
    const xName = isBack && now !== "b2" ? "Wᵀ·dY" : "X";
    b.X = block(figure, {name: "X", label: `${xName}  ${whole(m.K)} × ${whole(m.P)}` + (rows.note ? `: ${rows.note}` : "") + (m.n < m.P ? `, ${m.ch} × ${m.cw} places` : ""),
      x: x0, y: yX, w: z.ppx, h: z.kpx, rows: rows.count, cols: m.n, extent: mid(X), ghost: !on(2) || now === "b1",
      at: (r, q) => !isBack && !has.X(r, q) ? undefined : isPad(k0 + r, q) ? null : X[(k0 + r) * m.n + q],
      describe: "a column is one window; arrows choose a column and a row", here: () => [k - k0, s],
      onpick: (r, q) => pick(m, {s: q, k: k0 + r})});
    if (rank) {
      const wide = Math.max(4, z.kpx * rank / m.K), Z = part.Z = Product.product(low.right, m.X, rank, m.K, m.n);
      b.B = block(figure, {name: "B", label: `B  ${rank} × ${whole(m.K)}`, x: z.left - z.kpx, y: yZ, w: z.kpx, h: z.rpx, rows: rank, cols: rows.count,
        extent: mid(low.right), at: (r, q) => low.right[r * m.K + k0 + q], describe: "basis filters, one in each row"});
      b.Z = block(figure, {name: "Z", label: `Z = B·X  ${rank} × ${whole(m.P)}`, x: x0, y: yZ, w: z.ppx, h: z.rpx, rows: rank, cols: m.n,
        extent: mid(Z), at: (r, q) => Z[r * m.n + q], describe: "answers of the basis filters"});
      b.W = block(figure, {name: "A", label: `A  ${m.M} × ${rank}`, x: z.left - wide, labelX: z.left - Math.max(wide, 84), y: yY, w: wide, h: z.mpx, rows: m.M, cols: rank, extent: mid(low.left),
        at: (r, q) => low.left[r * rank + q], describe: "each row mixes the basis filters to one filter", here: () => [f, 0], onpick: r => pick(m, {f: r})});
      part.Y = Product.product(low.left, Z, m.M, rank, m.n);
    } else
      b.W = block(figure, {name: "W", label: `${now === "b2" ? "dW" : "W"}  ${m.M} × ${whole(m.K)}` + (m.g.group > 1 ? `, ${m.g.group} groups` : ""), x: z.left - z.kpx, y: yY,
        w: z.kpx, h: z.mpx, rows: m.M, cols: rows.count, extent: mid(W), ghost: !on(4) || now === "b1", at: (r, q) => weight(r, k0 + q),
        describe: "a row is one filter; arrows choose a row and a column", here: () => [f, k - k0], onpick: (r, q) => pick(m, {f: r, k: k0 + q})});
    const yData = part.Y || Y, bias = g => (m.b && !isBack && number >= 5 ? m.b[g] : 0);
    b.Y = block(figure, {name: "Y", label: isBack ? `dY  ${m.M} × ${whole(m.P)}` : `Y = ${rank ? "A·Z" : "W·X"}${bias.length && m.b && number >= 5 ? " + b" : ""}  ${m.M} × ${whole(m.P)}`,
      x: x0, y: yY, w: z.ppx, h: z.mpx, rows: m.M, cols: m.n, extent: mid(yData), ghost: !on(4),
      at: (r, q) => q < limits.sums ? yData[r * m.n + q] + bias(r) : undefined,
      describe: "row f is output map f; arrows choose", here: () => [f, s], onpick: (r, q) => pick(m, {f: r, s: q})});
    // the output map
    const xR = x0 + Math.max(z.ppx + 24, 170), rowOf = data => g => data[f * m.n + g];
    const outs = isBack ? [[`dY: gradient of output map ${f}`, rowOf(m.dY)]] : [[`output map ${f}`, g => m.WX[f * m.n + g] + (m.b ? m.b[f] : 0)]];
    if (rank && !m.own) outs.push([`at rank ${rank}`, g => part.Y[f * m.n + g] + (m.b ? m.b[f] : 0)]);
    const most = Math.min(Math.max(60, height - yY), outs.length > 1 ? 104 : 200), side = Math.min(most / m.ch, most / m.cw, 40);
    const row = Array.from({length: m.n}, (_, g) => outs[0][1](g));
    b.outputs = m.P === 1 ? [] : outs.map(([label, value], i) => block(figure, {name: i ? "low" : "output", label, x: xR + i * (m.cw * side + 20), y: yY, w: m.cw * side, h: m.ch * side,
      rows: m.ch, cols: m.cw, extent: mid(row), ghost: !on(5), at: (r, q) => value(r * m.cw + q), describe: `${m.oh} × ${m.ow}; arrows choose a pixel`,
      here: () => [y - m.py, x - m.px], onpick: (r, q) => pick(m, {s: r * m.cw + q})}));
    tables(part, xR, yY - LABEL);
    part.limits = limits;
    b.overlay = marks(part, b, {inside, unit, ph, pw, k0, on, z});
    return b;
  }

  // Choose the window whose middle lies nearest to a pixel of the padded input, and the pixel's place in it.
  function pickPixel(m, {f, y, x, k}, r, q, isKey) {
    const [sh, sw] = m.g.stride, [dh, dw] = m.g.dilation, [kh, kw] = [m.kh, m.kw];
    const near = (v, size, stride, reach) => Math.max(0, Math.min(size - 1, Math.round((v - reach / 2) / stride)));
    const to = isKey ? [r, q].map((v, i) => { const now = [y, x][i], at = now * [sh, sw][i];
      return Math.max(0, Math.min([m.oh, m.ow][i] - 1, now + Math.sign(v - at))); })
      : [near(r, m.oh, sh, (kh - 1) * dh), near(q, m.ow, sw, (kw - 1) * dw)];
    const i = (r - to[0] * sh) / dh, j = (q - to[1] * sw) / dw, c = Math.floor(k / m.area);
    const isTap = !isKey && Number.isInteger(i) && Number.isInteger(j) && i >= 0 && j >= 0 && i < kh && j < kw;
    State.set({at: to, row: isTap ? c * m.area + i * kw + j : k, map: f});
  }

  // ---- frames, links and tables ----------------------------------------------------------------------------

  function marks(part, b, {inside, unit, ph, pw, k0, on}) {
    const {m, chosen, now, isBack, width, height, figure, rank} = part, {f, s, y, x, k, c} = chosen, [sh, sw] = m.g.stride, [dh, dw] = m.g.dilation;
    const number = Number(now), svg = el("svg", {class: "conv-overlay", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true"});
    const window = b.input.part(y * sh, x * sw, (m.kh - 1) * dh + 1, (m.kw - 1) * dw + 1);
    const add = (...nodes) => svg.append(...nodes);
    if (!isBack && number === 3 && sh * sw > 1 && m.n < 5000) // the windows' corners: a stride leaves gaps
      for (let g = 0; g < m.n; g++) {
        const p = m.column(g), at = b.input.part(Math.floor(p / m.ow) * sh, p % m.ow * sw);
        add(el("circle", {class: "conv-dot", cx: at.x + at.w / 2, cy: at.y + at.h / 2, r: 1.2}));
      }
    if (dh * dw > 1) for (let i = 0; i < m.kh; i++) for (let j = 0; j < m.kw; j++) add(mark(b.input.part(y * sh + i * dh, x * sw + j * dw), "thin"));
    if (now !== "b1" && now !== "b2") add(mark(window));
    const place = [Math.floor(k % m.area / m.kw), k % m.kw];
    if (now !== "1" && now !== "b1") add(mark(b.input.part(y * sh + place[0] * dh, x * sw + place[1] * dw), "pixel"));
    const column = b.X.part(0, s, b.X.rows);
    if (on(2) && now !== "b1" && now !== "b2") add(line(window.x + window.w, window.y, column.x, column.y), line(window.x + window.w, window.y + window.h, column.x, column.y + column.h), mark(column));
    if (inside && on(2) && now !== "b1") add(mark(b.X.part(k - k0, now === "b2" ? 0 : s, 1, now === "b2" ? m.n : 1), "pixel"));
    if (number === 3) repeats(part, b, add, k0);
    for (let map = 1; map < b.X.rows / m.area && on(2); map++) // thin lines part the input maps
      if (b.X.h * m.area / b.X.rows >= 5) {
        const at = b.X.part(map * m.area, 0);
        add(el("line", {class: "conv-part", x1: b.X.x, x2: b.X.x + b.X.w, y1: at.y, y2: at.y}));
        if (on(4) && !rank) { const w = b.W.part(0, map * m.area); add(el("line", {class: "conv-part", x1: w.x, x2: w.x, y1: b.W.y, y2: b.W.y + b.W.h})); }
      }
    const cell = b.Y.part(f, s);
    if (on(4)) {
      if (now === "b2") add(mark(b.Y.part(f, 0, 1, m.n)), inside ? mark(b.W.part(f, k - k0), "pixel") : "");
      else if (now === "b3" || now === "b4") add(mark(b.Y.part(0, s, m.M)), inside ? mark(b.W.part(0, k - k0, m.M, 1)) : "");
      else if (now !== "b1") {
        const row = b.W.part(f, 0, 1, b.W.cols);
        add(mark(row), line(row.x + row.w, row.y + row.h / 2, cell.x, cell.y + cell.h / 2), line(column.x + column.w / 2, column.y + column.h, cell.x + cell.w / 2, cell.y));
      }
      add(mark(cell, "pixel"));
    }
    if (rank) add(mark(b.Z.part(0, s, rank)));
    if (on(5)) for (const out of b.outputs) {
      const at = out.part(y - m.py, x - m.px);
      add(mark(at));
      if (out === b.outputs[0] && now !== "b3") add(line(b.Y.x + b.Y.w, cell.y + cell.h / 2, at.x, at.y + at.h / 2));
    }
    figure.append(svg);
    return svg;
  }

  // Where the chosen pixel occurs in X.
  function repeats(part, b, add, k0) {
    const {m, chosen} = part, at = m.place(chosen.k, chosen.p);
    part.repeats = 0;
    for (let i = 0; at >= 0 && i < m.area; i++) {
      const k = chosen.c * m.area + i;
      for (let g = 0; g < m.n; g++) if (m.place(k, m.column(g)) === at) {
        part.repeats++;
        if (k >= k0 && k < k0 + b.X.rows) { const q = b.X.part(k - k0, g); add(el("circle", {class: "conv-repeat", cx: q.x + q.w / 2, cy: q.y + q.h / 2, r: 2.5})); }
      }
    }
  }

  // The numbers of the window and of the filter's slice, beside X.
  function tables(part, x, height) {
    const {m, chosen, now, isBack, figure} = part, {f, s, k, c} = chosen, base = c * m.area;
    const box = el("div", {class: "conv-numbers", style: {left: px(x), top: "0px", maxHeight: px(height)}});
    const add = (label, value) => {
      const data = Array.from({length: m.area}, (_, i) => value(base + i)), extent = Math.max(...data.map(v => Math.abs(v ?? 0)));
      const digits = extent >= 100 ? 0 : extent >= 10 ? 1 : extent >= 0.1 ? 2 : 3, at = k - base;
      box.append(el("div", {class: "conv-label"}, label), !m.small
        ? Maps.tile(data.map(v => v ?? 0), m.kh, m.kw, {lo: -extent, hi: extent, scale: Math.max(1, Math.min(12, Math.floor(110 / Math.max(m.kh, m.kw)))), label})
        : numbers(label, data, m.kw, extent, digits, at));
    };
    const pad = r => m.place(r, chosen.p) < 0;
    if (isBack) {
      if (now === "b2") add(`dW of filter ${f}, its slice for map ${c}`, r => m.dW[f * m.depth + r - chosen.from]);
      else if (now !== "b1") add(`Wᵀ·dY: the window's share of dX`, r => m.dX[r * m.n + s]);
    } else {
      add(`the window, numbers of map ${c}`, r => pad(r) ? null : m.X[r * m.n + s]);
      if (Number(now) >= 4) add(`filter ${f}, its slice for map ${c}`, r => Product.weight(m, f, r));
    }
    figure.append(box);
  }
  function numbers(label, data, wide, extent, digits, at) {
    const cell = (v, i) => {
      const [r, g, b] = Maps.colour(v ?? 0, extent);
      return el("td", {class: [i === at ? "chosen" : "", v === null ? "pad" : ""].join(" ").trim() || null, title: v === null ? "padding" : exact(v),
        style: v === null ? {} : {backgroundColor: `rgb(${r},${g},${b})`, color: (r + 2 * g + b) / 4 > 128 ? "#000" : "#fff"}}, (v ?? 0).toFixed(digits).replace("-", "−"));
    };
    const rows = [];
    for (let i = 0; i < data.length; i += wide) rows.push(el("tr", {}, data.slice(i, i + wide).map((v, j) => cell(v, i + j))));
    return el("table", {class: "cells conv-cells", "aria-label": label}, el("tbody", {}, rows));
  }

  // ---- words -----------------------------------------------------------------------------------------------

  // Numbers of one sum get the same decimals: four digits of the largest.
  function decimals(...values) {
    const most = Math.max(...values.map(Math.abs).filter(Number.isFinite), 1e-30);
    return Math.max(0, Math.min(12, 3 - Math.floor(Math.log10(most))));
  }
  const fixed = (v, d) => el("b", {class: "num", title: exact(v)}, v.toFixed(d).replace("-", "−"));

  function words(part) {
    const {m, chosen, now, rank, low, layer} = part, {f, s, p, y, x, k, c, from} = chosen, place = `(${y}, ${x})`;
    const maps = m.g.folded ? "the inputs" : m.C > 1 ? `each of the ${m.C} input maps` : "the input map";
    const at = m.place(k, p), pixel = at < 0 ? "the padding" : `the pixel at (${Math.floor(at % (m.H * m.W) / m.W)}, ${at % m.W})`;
    const own = partial(m, f, s, from + (c * m.area - from)), all = m.WX[f * m.n + s], bias = m.b ? m.b[f] : 0, total = all + bias;
    const d = decimals(own, all, bias, total), sum = [];
    const group = m.g.group > 1 ? `, ${m.maps} maps of its group` : "";
    const sentences = {
      1: [`The window at output place ${place}: ${m.kh} × ${m.kw} numbers of ${maps}${m.g.pad[0] || m.g.pad[1] ? "; hatched: padding, which counts as 0" : ""}.`],
      2: [`Written one under the other, map after map, they are column ${p} of X: ${whole(m.K)} numbers.`],
      3: [`All ${whole(m.P)} windows side by side are X. Here ${pixel} of map ${c} occurs ${part.repeats} times in it (dots).`],
      4: [`Row ${f} of W is filter ${f}${group}. Row ${f} times column ${p} is one number of Y: its place is where they cross.`],
      5: [m.P === 1 ? `With the bias, row ${f} of Y is output ${f}.` : `With the bias, row ${f} of Y, folded to ${m.oh} × ${m.ow}, is output map ${f}. Column ${p} is its pixel ${place}.`],
      b1: [`dY: how the loss grows with each output number. Row ${f} is output map ${f}.`],
      b2: [`dW = dY·Xᵀ: row ${f} of dY times row ${k} of X, over all ${whole(m.P)} places, is the gradient of one weight.`],
      b3: [`Wᵀ·dY: column ${k} of W times column ${p} of dY is what this window passes to one of its pixels.`],
      b4: [`col2im: every column goes back to its window, and where windows overlap their numbers add up: ${"dX"}.`],
    };
    if (rank) {
      const error = m.own ? 0 : norm(part.Y, m.WX) / (norm(m.WX) || 1), params = rank * (m.M + m.K), dense = m.M * m.K;
      sentences[6] = [`W ≈ A·B, so Y ≈ A·(B·X): `, el("b", {class: "num"}, whole(params)), ` numbers in place of ${whole(dense)} (${percent(params / dense)}), `,
        el("b", {class: "num"}, count(params * m.P)), ` multiply-adds in place of ${count(dense * m.P)}. `,
        ...(m.own ? ["This layer has no other weights."] : ["Error of these answers: ", el("b", {class: "num", "data-read": "error"}, percent(error)), "."])];
      const near = part.Y[f * m.n + s] + bias;
      if (!m.own) sum.push(`output ${f} at ${place}: exact `, fixed(total, d), ` · at rank ${rank}: `, fixed(near, d));
    } else if (now === "b2") {
      const v = m.dW[f * m.depth + k - from], dd = decimals(v);
      sum.push(`${m.n} products of row ${f} of dY and row ${k} of X: `, fixed(v, dd), ` = dL/dw of filter ${f}, map ${c}, place (${Math.floor(k % m.area / m.kw)}, ${k % m.kw})`,
        m.n < m.P ? ` (of ${m.n} of the ${whole(m.P)} places)` : "");
    } else if (now === "b3" || now === "b4") {
      const v = m.dX[k * m.n + s], back = Product.col2im(m, m.n), dd = decimals(v, at < 0 ? 0 : back[at]);
      sum.push(`from this window to ${pixel} of map ${c}: `, fixed(v, dd));
      if (now === "b4" && at >= 0) sum.push(" · all windows that see it: ", fixed(back[at], dd), " = dL/dx", m.n < m.P ? " (of the shown places)" : "");
    } else if (!now.startsWith("b") && Number(now) >= 4) {
      sum.push(m.g.folded ? "" : `${m.area} products of map ${c}: `, m.g.folded ? "" : fixed(own, d), m.g.folded ? `${whole(m.depth)} products: ` : ` · all ${m.maps} maps: `, fixed(all, d));
      if (m.b) sum.push(` · ${bias < 0 ? "−" : "+"} bias `, fixed(Math.abs(bias), d), " = ", fixed(total, d));
      sum.push(el("span", {"data-read": "net"}));
      said(m, f, p, d, sum[sum.length - 1]);
    }
    return {sentence: sentences[now] || [], sum, layer};
  }
  const norm = (a, b) => Math.sqrt(a.reduce((sum, v, i) => sum + (v - (b ? b[i] : 0)) ** 2, 0));

  // What the net has at this place: exact, or as recorded in 8 bits.
  async function said(m, f, p, d, target) {
    const top = await Values.stage(m.g.top, State.image);
    if (!top.data || top.data.length !== m.M * m.P) return;
    const v = top.data[f * m.P + p];
    target.replaceChildren(" · the net: ", top.exact ? "" : "≈ ", fixed(v, d));
  }

  // ---- playing ---------------------------------------------------------------------------------------------

  // One step lasts a second, in which its block fills; then the next one begins.
  function animate(part, b, mine) {
    const {m, now, limits, figure, chosen} = part, begin = performance.now(), last = now === "6" || now === "b4";
    const flying = now === "2" ? fly(part, b) : null;
    const frame = time => {
      if (mine !== run || !playing || !figure.isConnected && time - begin > 400) { if (mine === run) playing = false; return; }
      const t = Math.min(1, (time - begin) / 1000);
      if (now === "2") { flying(Math.min(1, t / 0.6)); limits.rows = t < 0.6 ? 0 : Math.ceil(m.K * (t - 0.6) / 0.4); b.X.fill(); }
      if (now === "3") { limits.columns = Math.ceil(t * m.n); b.X.fill(); }
      if (now === "4") { limits.sums = Math.ceil(t * m.n); b.Y.fill(); }
      if (now === "b4") { part.input = Product.col2im(m, Math.ceil(t * m.n)); b.input.fill(); }
      if (t < 1) { requestAnimationFrame(frame); return; }
      if (last) { playing = false; State.redraw(); return; }
      const keys = Object.keys(now[0] === "b" ? BACK : STEPS);
      setTimeout(() => { if (mine === run && playing) go(keys[keys.indexOf(now) + 1]); }, 500);
    };
    requestAnimationFrame(frame);
    void chosen;
  }
  // The window's cells fly to their places in the column.
  function fly({m, chosen}, b) {
    const {s, k, c, y, x} = chosen, extent = m.extent(m.X), cells = [], [sh, sw] = m.g.stride, [dh, dw] = m.g.dilation;
    void k;
    for (let i = 0; i < m.area; i++) {
      const from = b.input.part(y * sh + Math.floor(i / m.kw) * dh, x * sw + i % m.kw * dw), to = b.X.part(c * m.area + i, s);
      const rect = el("rect", {class: "conv-flying", width: from.w, height: from.h, fill: `rgb(${Maps.colour(m.X[(c * m.area + i) * m.n + s], extent).join()})`});
      b.overlay.append(rect);
      cells.push([rect, from, to]);
    }
    return t => cells.forEach(([rect, from, to], i) => {
      const u = Math.max(0, Math.min(1, t * 1.6 - 0.6 * i / cells.length)), e = u * u * (3 - 2 * u), mix = (p, q) => p + (q - p) * e;
      rect.setAttribute("x", mix(from.x, to.x)); rect.setAttribute("y", mix(from.y, to.y));
      rect.setAttribute("width", Math.max(2, mix(from.w, to.w))); rect.setAttribute("height", Math.max(1.5, mix(from.h, to.h)));
      rect.style.display = t >= 1 ? "none" : "";
    });
  }

  return {draw, play, turn, step, still};
})();

View("convolution", {
  title: "Convolution", draw: Conv.draw,
  say: "A window of the input, written as one column; all windows side by side are the matrix X. A row of W times a column of X is one output pixel. " +
    "So a convolution is one matrix product, and a computer is very good at those.",
  tries: "How often does the pixel at (5, 5) occur in X? Why less at the border?",
  keys: {" ": ["play the steps, pause", () => { if (!Conv.still()) Conv.play(); }], b: ["backward, forward", Conv.turn]},
});
