// View 3: window → column → product → output, and the way back. The product is staggered: X stands above Y and W left
// of it, so row f of W, column p of X and cell (f, p) of Y line up. The input stands in the free corner.
const Conv = (() => {
  const STEPS = {1: "window", 2: "column", 3: "all columns", 4: "W · X", 5: "output", 6: "rank r"};
  const BACK = {b1: "dY", b2: "dW = dY · Xᵀ", b3: "Wᵀ · dY", b4: "col2im"};
  const ROWS = 1000, CHOSEN = 8; // of more rows of X, those of this many input maps are drawn
  const LABEL = 18, GAP = 16; // pixels
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  let playing = false, run = 0; // run: the number of the last drawing; an animation of another one ends

  const step = () => STEPS[State.step] || BACK[State.step] ? State.step : "5";
  const stepsOf = now => now[0] === "b" ? BACK : STEPS;
  const names = R.layers.map(l => l.name).filter(name => (R.views.convolution.layers || {})[name]);
  // The chosen layer, or the last product before it.
  function layerName() {
    const before = R.layers.slice(0, R.layers.findIndex(l => l.name === State.layer) + 1).map(l => l.name);
    return before.filter(name => names.includes(name)).pop() || names[0];
  }
  const clamp = (v, least, most) => Math.max(least, Math.min(most, v));
  const px = v => Math.round(v) + "px";

  // ---- what is chosen ----

  // Filter f, output place (y, x) with its column (p; s among those shown) and row k of X, of input map c: from the
  // address, else where the answer is strongest.
  function choose(m) {
    const f = Math.min(State.map, m.M - 1), from = Math.floor(f / m.filters) * m.depth, at = placeOf();
    const s = at ? (clamp(at[0], 0, m.oh - 1) - m.py) * m.cw + clamp(at[1], 0, m.ow - 1) - m.px
      : strongest(m.n, i => m.WX[f * m.n + i] + (m.b ? m.b[f] : 0));
    const p = m.column(s), term = k => Product.weight(m, f, k) * m.X[k * m.n + s];
    const partial = c => { let sum = 0; for (let i = 0; i < m.area; i++) sum += term(c * m.area + i); return sum; };
    let k = at ? at[2] ?? -1 : -1;
    if (k < from || k >= from + m.depth) {
      const c = from / m.area + strongest(m.maps, i => partial(from / m.area + i));
      k = c * m.area + strongest(m.area, i => term(c * m.area + i));
    }
    return {f, s, p, y: Math.floor(p / m.ow), x: p % m.ow, k, c: Math.floor(k / m.area), from, partial};
  }
  const placeOf = () => State.at && State.at.length > 1 ? State.at : null; // y, x and perhaps k
  function strongest(n, value) {
    let best = 0, most = -1;
    for (let i = 0; i < n; i++) { const v = Math.abs(value(i)); if (v > most) { most = v; best = i; } }
    return best;
  }
  // Choose filter f, shown column s, row k of X; a row of another group takes the first filter of its group along.
  function pick(m, chosen, {f = chosen.f, s = chosen.s, k = chosen.k}) {
    const p = m.column(s), group = Math.floor(k / m.depth);
    State.set({at: [Math.floor(p / m.ow), p % m.ow, k], map: Math.floor(f / m.filters) === group ? f : group * m.filters});
  }
  // A pixel (r, q) of the padded input: choose the window whose middle is nearest, and the pixel's place in it.
  function pickPixel(m, {k, y, x}, r, q, move) {
    const at = [r, q].map((v, i) => clamp(move ? [y, x][i] + move[i] : Math.round((v - (m.g.kernel[i] - 1) * m.g.dilation[i] / 2) / m.g.stride[i]), 0, [m.oh, m.ow][i] - 1));
    const [i, j] = at.map((v, a) => ([r, q][a] - v * m.g.stride[a]) / m.g.dilation[a]);
    const isSeen = !move && [i, j].every(Number.isInteger) && i >= 0 && j >= 0 && i < m.kh && j < m.kw;
    State.set({at: [...at, isSeen ? Math.floor(k / m.area) * m.area + i * m.kw + j : k]});
  }

  // ---- blocks ----

  // w × h pixels that show rows × cols numbers: at(r, c) is null where padding or another group makes a zero
  // (hatched), undefined where nothing is yet.
  function paint(w, h, rows, cols, extent, at) {
    const canvas = el("canvas", {width: w, height: h}), context = canvas.getContext("2d");
    const image = context.createImageData(w, h), pixels = new Uint32Array(image.data.buffer);
    const code = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    const shades = Uint32Array.from({length: 257}, (_, i) => code(Maps.colour((i - 128) / 128, 1)));
    const hatch = code(Maps.colour(0, 1).map(v => v > 128 ? v - 62 : v + 66)), column = Uint32Array.from({length: w}, (_, x) => Math.floor(x * cols / w));
    for (let y = 0, o = 0; y < h; y++)
      for (let x = 0, r = Math.floor(y * rows / h); x < w; x++, o++) {
        const v = at(r, column[x]);
        if (v === null) pixels[o] = (x + y) % 6 ? shades[128] : hatch;
        else if (v !== undefined) pixels[o] = shades[Math.round(128 + 128 * clamp(v / extent, -1, 1))];
      }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // A picture of rows × cols numbers with a label above it. onpick(r, c, move): it was clicked there, or moved by
  // arrows from here().
  function block(figure, {name, label, x, y, w, h, labelX = x, rows, cols, extent, at, onpick, here, ghost}) {
    w = Math.max(3, Math.round(w)); h = Math.max(3, Math.round(h));
    const box = el("div", {class: "conv-block" + (ghost ? " ghost" : ""), "data-block": name, "data-focus": "conv-" + name, tabindex: onpick ? "0" : null,
      role: onpick ? "application" : "img", "aria-label": label + (onpick ? "; arrows choose" : ""), style: {left: px(x), top: px(y), width: px(w), height: px(h)}});
    const fill = () => box.replaceChildren(...ghost ? [] : [paint(w, h, rows, cols, extent || 1, at)]);
    const text = (r, c) => { const v = at(r, c); return `row ${r}, column ${c}: ${v === null ? "0, not there" : v === undefined ? "" : fmt(v, 4)}`; };
    const under = event => {
      const area = box.getBoundingClientRect();
      return [clamp(Math.floor((event.clientY - area.top) / area.height * rows), 0, rows - 1), clamp(Math.floor((event.clientX - area.left) / area.width * cols), 0, cols - 1)];
    };
    fill();
    box.addEventListener("mousemove", event => { if (!ghost) box.title = text(...under(event)); });
    if (onpick) {
      box.addEventListener("click", event => onpick(...under(event)));
      box.addEventListener("keydown", event => {
        const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
        if (!move) return;
        event.preventDefault(); event.stopPropagation();
        const [r, c] = here(), to = [clamp(r + move[0], 0, rows - 1), clamp(c + move[1], 0, cols - 1)];
        if (!ghost) say(`${label}, ${text(...to)}`);
        onpick(...to, move);
      });
    }
    figure.append(el("div", {class: "conv-label", style: {left: px(labelX), top: px(y - LABEL)}}, label), box);
    const part = (r, c, height = 1, width = 1) => ({x: x + c * w / cols, y: y + r * h / rows, w: width * w / cols, h: height * h / rows});
    return {x, y, w, h, rows, cols, part, fill};
  }

  // Sides in pixels. They grow with the square roots of K, M and P, so that a long X does not make W invisible; labels
  // have the numbers. Factors are exact parts of W: their area is parameters.
  function sizes(m, width, height, rank) {
    const split = 1 + rank / m.M, room = height - (rank ? 3 * LABEL + 12 : 2 * LABEL + 6), [a, b] = [Math.sqrt(m.K), Math.sqrt(m.M)];
    let M = Math.max(b / (a + b * split) * room, Math.min(2 * m.M, 0.3 * room), m.M > 1 ? 90 : 0);
    M = Math.min(M, (room - 60) / split);
    const map = Math.min(room - Math.max(M * split, 110), 230), beside = m.small ? 2 * (LABEL + 8 + 19 * m.kh) : 150;
    const top = Math.max(room - M * split, map, Math.min(beside, room - 100)), K = Math.min(room - M * split, Math.max(40, 12 * m.K));
    const left = Math.max(map, K), most = width - left - GAP - 24 - (m.small ? Math.max(190, 52 * m.kw + 6) : 236);
    return {M: (room - top) / split, K, map, top, left, P: clamp(Math.max(Math.sqrt(m.n) * K / a, 4 * m.n, m.n > 1 ? 120 : 0), 24, Math.max(24, most))};
  }

  // ---- the view ----

  async function draw(root) {
    const mine = ++run, name = layerName(), g = R.views.convolution.layers[name], now = step(), isBack = now[0] === "b";
    const give = text => root.append(el("p", {class: "absent"}, `${name}: ${text}.`));
    const rank = now === "6" && !g.missing ? rankOf(g, name) : 0;
    root.append(controls(name, now, rank));
    if (g.missing) return give(g.missing);
    const m = await Product.model(name, State.image, placeOf() || [g.output[1] >> 1, g.output[2] >> 1]);
    if (m.missing) return give(m.missing);
    if (isBack && !m.dYall) return give(R.no_gradient || "no whole gradient was recorded here for this image");
    if (isBack) Product.backward(m);
    const low = rank ? await Product.factors(m, rank) : null;
    if (rank && !low) return give(m.g.group > 1 ? "the factors of a layer in groups are in view 4" : "no factors of this rank are carried");
    const chosen = choose(m), part = {m, chosen, low, rank, now, isBack, till: {rows: m.K, columns: m.n, sums: m.n}};
    if (low) part.Z = Product.product(low.right, m.X, rank, m.K, m.n);
    if (low) part.Y = Product.product(low.left, part.Z, m.M, rank, m.n);
    if (now === "3") part.repeats = repeats(m, chosen);
    const sentence = el("p", {class: "conv-sentence"}), sum = el("p", {class: "conv-sum num"});
    const figure = part.figure = el("div", {class: "conv-figure"});
    root.append(sentence, figure, sum);
    words(part, sentence, sum);
    part.width = Math.max(640, root.clientWidth);
    part.height = clamp(innerHeight - figure.getBoundingClientRect().top - sum.offsetHeight - 54, 330, 560);
    figure.style.height = px(part.height);
    const blocks = picture(part);
    if (playing && !still()) animate(part, blocks, mine);
  }

  // Where the chosen pixel of the input occurs in X: rows and shown columns.
  function repeats(m, {k, p, c}) {
    const at = m.place(k, p), found = [];
    for (let g = 0; at >= 0 && g < m.n; g++)
      for (let i = c * m.area; i < (c + 1) * m.area; i++) if (m.place(i, m.column(g)) === at) found.push([i, g]);
    return found;
  }

  const fullRank = g => Math.min(g.output[0], g.input[0] / g.group * g.kernel[0] * g.kernel[1]);
  // The layer's own rank; or the one chosen here or in view 4; at first a quarter.
  function rankOf(g, name) {
    if (g.left) return g.left.shape[1];
    const known = typeof Rank === "object" && Rank.V.layers && Rank.V.layers[name] ? Rank.rank(name) : null;
    return clamp(State.rank ?? known ?? Math.round(fullRank(g) / 4), 1, fullRank(g));
  }

  function controls(name, now, rank) {
    const steps = stepsOf(now), keys = Object.keys(steps), g = R.views.convolution.layers[name];
    const go = key => { playing = false; State.set({step: key}); };
    const buttons = keys.map((key, i) => el("button", {role: "radio", "aria-checked": String(key === now), class: "conv-step", tabindex: key === now ? "0" : "-1",
      "data-focus": "conv-step-" + key, onclick: () => go(key)}, `${i + 1} ${steps[key]}`));
    const onkeydown = event => {
      const move = {ArrowLeft: -1, ArrowRight: 1}[event.key], next = clamp(keys.indexOf(now) + move, 0, keys.length - 1);
      if (!move) return;
      event.preventDefault(); event.stopPropagation();
      buttons[next].focus();
      go(keys[next]);
    };
    return el("div", {class: "conv-bar"},
      el("div", {role: "radiogroup", "aria-label": "step", class: "conv-steps", onkeydown}, buttons),
      still() ? null : el("button", {"aria-pressed": String(playing), "data-focus": "conv-play", title: "Space", onclick: play}, playing ? "❚❚ pause" : "▶ play"),
      el("button", {"aria-pressed": String(now[0] === "b"), "data-focus": "conv-back", title: "b", onclick: turn}, "backward"),
      !rank ? null : g.left ? el("span", {class: "quiet"}, `its own rank: ${rank} of ${fullRank(g)}`) : el("label", {}, "rank ",
        el("input", {type: "range", min: 1, max: fullRank(g), value: rank, "data-focus": "conv-rank", oninput: event => State.set({rank: Number(event.target.value)})}),
        el("b", {class: "num"}, ` ${rank}`), ` of ${fullRank(g)}`));
  }
  function turn() { playing = false; State.set({step: step()[0] === "b" ? "5" : "b2"}); }
  function play() {
    if (still()) return;
    playing = !playing;
    const keys = Object.keys(stepsOf(step()));
    if (playing && step() === keys[keys.length - 1]) State.set({step: keys[0]}); else State.redraw();
  }

  // The blocks, the numbers beside X, and the frames over them. part.till: what an animation has filled so far.
  function picture(part) {
    const {m, chosen, rank, low, now, isBack, width, height, figure, till} = part, {f, s, y, x, k, c} = chosen, number = Number(now);
    const z = sizes(m, width, height, rank), isCut = m.K > ROWS && m.C > CHOSEN, c0 = isCut ? Math.min(m.C - CHOSEN, c - c % CHOSEN) : 0;
    const k0 = part.k0 = c0 * m.area, rows = isCut ? CHOSEN * m.area : m.K, isInside = k >= k0 && k < k0 + rows;
    const x0 = z.left + GAP, yX = LABEL + z.top - z.K, yZ = 2 * LABEL + z.top + 6, R1 = z.M * rank / m.M, yY = rank ? yZ + R1 + 6 + LABEL : yZ;
    const on = from => isBack || number >= from, X = isBack && now !== "b2" ? m.dX : m.X, W = now === "b2" ? m.dW : m.w;
    const [sh, sw] = m.g.stride, [dh, dw] = m.g.dilation, [ph, pw] = m.g.pad, isPadded = ph + pw > 0;
    // a filter of another group takes a row of its own group along
    const choseFilter = (r, column = s) => pick(m, chosen, {f: r, s: column, k: k % m.depth + Math.floor(r / m.filters) * m.depth});
    const places = m.n < m.P ? `, ${m.ch} × ${m.cw} places` : "", b = {}, put = options => block(figure, options);

    // the input with its padding, or its gradient; of a large one the part that the shown windows see
    const isGradient = isBack && now !== "b2", input = part.input = isGradient ? Product.col2im(m, now === "b4" ? m.n : 0) : m.x;
    const [i0, j0, ih, iw] = m.n < m.P && m.H + m.W > 128 ? [m.py * sh, m.px * sw, (m.ch - 1) * sh + (m.kh - 1) * dh + 1, (m.cw - 1) * sw + (m.kw - 1) * dw + 1] : [0, 0, m.H + 2 * ph, m.W + 2 * pw];
    const unit = Math.min(z.map / ih, z.map / iw, 40), what = m.g.folded ? `the ${whole(m.H * m.W)} inputs, folded` : `input map ${c} of ${m.C}`;
    b.input = put({name: "input", label: isGradient ? `dX: gradient of ${what}` : `${what} (${R.stages[m.g.bottom].blob})` + (ih < m.H ? ", a part" : ""), x: 0, y: LABEL, w: iw * unit, h: ih * unit,
      rows: ih, cols: iw, extent: m.extent(input), ghost: isGradient && now !== "b4", here: () => [y * sh - i0, x * sw - j0], onpick: (r, q, move) => pickPixel(m, chosen, r + i0, q + j0, move),
      at: (r, q) => { r += i0 - ph; q += j0 - pw; return r < 0 || q < 0 || r >= m.H || q >= m.W ? null : part.input[(c * m.H + r) * m.W + q]; }});
    b.X = put({name: "X", label: `${isGradient ? "Wᵀ·dY" : "X"}  ${whole(m.K)} × ${whole(m.P)}${isCut ? `: input maps ${c0}–${c0 + CHOSEN - 1}` : ""}${places}`, x: x0, y: yX, w: z.P, h: z.K,
      rows, cols: m.n, extent: m.extent(X), ghost: !on(2) || now === "b1", here: () => [k - k0, s], onpick: (r, q) => pick(m, chosen, {s: q, k: k0 + r}),
      at: (r, q) => q >= till.columns || number === 2 && (q !== s || r + k0 >= till.rows) ? undefined : isPadded && m.place(k0 + r, m.column(q)) < 0 ? null : X[(k0 + r) * m.n + q]});
    let Y = isBack ? m.dY : m.WX;
    if (rank) {
      const wide = Math.max(4, z.K * rank / m.K), {Z} = part;
      b.B = put({name: "B", label: `B  ${rank} × ${whole(m.K)}`, x: z.left - z.K, y: yZ, w: z.K, h: R1, rows: rank, cols: rows, extent: m.extent(low.right), at: (r, q) => low.right[r * m.K + k0 + q]});
      b.Z = put({name: "Z", label: `Z = B·X  ${rank} × ${whole(m.P)}`, x: x0, y: yZ, w: z.P, h: R1, rows: rank, cols: m.n, extent: m.extent(Z), at: (r, q) => Z[r * m.n + q]});
      b.W = put({name: "A", label: `A  ${m.M} × ${rank}`, x: z.left - wide, labelX: z.left - Math.max(wide, 84), y: yY, w: wide, h: z.M, rows: m.M, cols: rank, extent: m.extent(low.left),
        at: (r, q) => low.left[r * rank + q], here: () => [f, 0], onpick: r => choseFilter(r)});
      Y = part.Y;
    } else
      b.W = put({name: "W", label: `${now === "b2" ? "dW" : "W"}  ${m.M} × ${whole(m.K)}${m.g.group > 1 ? `, ${m.g.group} groups` : ""}`, x: z.left - z.K, y: yY, w: z.K, h: z.M, rows: m.M, cols: rows,
        extent: m.extent(W), ghost: !on(4) || now === "b1", at: (r, q) => Product.weight(m, r, k0 + q, W), here: () => [f, k - k0], onpick: (r, q) => pick(m, chosen, {f: r, k: k0 + q})});
    const bias = r => m.b && number >= 5 ? m.b[r] : 0;
    b.Y = put({name: "Y", label: `${isBack ? "dY" : `Y = ${rank ? "A·Z" : "W·X"}${m.b && number >= 5 ? " + b" : ""}`}  ${m.M} × ${whole(m.P)}`, x: x0, y: yY, w: z.P, h: z.M, rows: m.M, cols: m.n,
      extent: m.extent(Y), ghost: !on(4), at: (r, q) => q < till.sums ? Y[r * m.n + q] + bias(r) : undefined, here: () => [f, s], onpick: (r, q) => choseFilter(r, q)});

    // row f of Y, folded; at rank r the exact one beside it
    const xR = x0 + Math.max(z.P + 24, 170), exactly = isBack ? m.dY : m.WX;
    const outs = m.P === 1 ? [] : [[isBack ? `gradient of output map ${f}` : `output map ${f}`, exactly], ...rank && !m.own ? [[`at rank ${rank}`, Y]] : []];
    const side = Math.min(clamp(height - yY, 60, outs.length > 1 ? 104 : 200) / Math.max(m.ch, m.cw), 40), row = exactly.slice(f * m.n, (f + 1) * m.n).map(v => v + bias(f));
    b.outputs = outs.map(([label, data], i) => put({name: i ? "low" : "output", label, x: xR + i * (m.cw * side + 20), y: yY, w: m.cw * side, h: m.ch * side, rows: m.ch, cols: m.cw,
      extent: m.extent(row), ghost: !on(5), at: (r, q) => data[f * m.n + r * m.cw + q] + bias(f), here: () => [y - m.py, x - m.px], onpick: (r, q) => pick(m, chosen, {s: r * m.cw + q})}));
    tables(part, xR);

    // frames: pink what is chosen, dark a single number; dashed lines lead from one to the next
    const svg = b.overlay = el("svg", {class: "conv-overlay", width, height, "aria-hidden": "true"});
    const mark = (at, kind = "") => svg.append(el("rect", {class: "conv-mark " + kind, x: at.x - 1, y: at.y - 1, width: Math.max(3, at.w + 2), height: Math.max(3, at.h + 2)}));
    const line = (x1, y1, x2, y2, kind = "conv-link") => svg.append(el("line", {class: kind, x1, y1, x2, y2}));
    const dot = (at, r, kind) => svg.append(el("circle", {class: kind, cx: at.x + at.w / 2, cy: at.y + at.h / 2, r}));
    const pixel = (yy, xx, i, j) => b.input.part(yy * sh + i * dh - i0, xx * sw + j * dw - j0);
    for (let map = 1; map * m.area < rows && on(2) && z.K * m.area / rows >= 5; map++) { // part the input maps
      const [v, h] = [b.X.part(map * m.area, 0).y, z.left - z.K + map * m.area * z.K / rows];
      line(x0, v, x0 + b.X.w, v, "conv-part");
      if (on(4)) line(h, b.B ? yZ : yY, h, b.B ? yZ + R1 : yY + z.M, "conv-part");
    }
    for (let g = 0; number === 3 && sh * sw > 1 && g < m.n; g++) // a stride leaves gaps between the windows
      dot(pixel(Math.floor(m.column(g) / m.ow), m.column(g) % m.ow, 0, 0), 1.2, "conv-dot");
    for (const [i, g] of part.repeats || []) if (i >= k0 && i < k0 + rows) dot(b.X.part(i - k0, g), 2.5, "conv-repeat");
    const column = b.X.part(0, s, rows), cell = b.Y.part(f, s), window = {...pixel(y, x, 0, 0), w: ((m.kw - 1) * dw + 1) * b.input.w / iw, h: ((m.kh - 1) * dh + 1) * b.input.h / ih};
    if (now !== "b1" && now !== "b2") {
      for (let i = 0; dh * dw > 1 && i < m.area; i++) mark(pixel(y, x, Math.floor(i / m.kw), i % m.kw), "thin");
      mark(window);
      if (on(2)) { line(window.x + window.w, window.y, column.x, column.y); line(window.x + window.w, window.y + window.h, column.x, column.y + column.h); mark(column); }
    }
    if (on(2) && now !== "b1") {
      mark(pixel(y, x, Math.floor(k % m.area / m.kw), k % m.kw), "pixel");
      if (isInside) mark(now === "b2" ? b.X.part(k - k0, 0, 1, m.n) : b.X.part(k - k0, s), "pixel");
    }
    if (now === "b2") { mark(b.Y.part(f, 0, 1, m.n)); if (isInside) mark(b.W.part(f, k - k0), "pixel"); }
    else if (now === "b3" || now === "b4") { mark(b.Y.part(0, s, m.M)); if (isInside) mark(b.W.part(0, k - k0, m.M)); }
    else if (!isBack && number >= 4) {
      const filter = b.W.part(f, 0, 1, b.W.cols);
      mark(filter); line(filter.x + filter.w, filter.y + filter.h / 2, cell.x, cell.y + cell.h / 2); line(column.x + column.w / 2, column.y + column.h, cell.x + cell.w / 2, cell.y);
    }
    if (rank) mark(b.Z.part(0, s, rank));
    if (on(4)) mark(cell, "pixel");
    if (on(5) && now !== "b3") for (const [i, out] of b.outputs.entries()) {
      const at = out.part(y - m.py, x - m.px);
      mark(at);
      if (!i) line(b.Y.x + b.Y.w, cell.y + cell.h / 2, at.x, at.y + at.h / 2);
    }
    figure.append(svg);
    return b;
  }

  // The numbers of the window and of the filter's slice, beside X.
  function tables({m, chosen, now, isBack, figure}, left) {
    const {f, s, k, c, p} = chosen, box = el("div", {class: "conv-numbers", style: {left: px(left), top: "0px"}});
    const add = (label, value) => {
      const data = Array.from({length: m.area}, (_, i) => value(c * m.area + i)), extent = m.extent(data), digits = extent >= 100 ? 0 : extent >= 10 ? 1 : extent >= 0.1 ? 2 : 3;
      const cell = (v, i) => {
        const [r, g, b] = Maps.colour(v ?? 0, extent), tone = v === null ? {} : {backgroundColor: `rgb(${r},${g},${b})`, color: (r + 2 * g + b) / 4 > 128 ? "#000" : "#fff"};
        return el("td", {class: (c * m.area + i === k ? "chosen" : "") + (v === null ? " pad" : ""), title: v === null ? "padding" : exact(v), style: tone}, decimal(v ?? 0, digits));
      };
      box.append(el("div", {class: "conv-label"}, label), m.small
        ? el("table", {class: "cells conv-cells", "aria-label": label}, el("tbody", {}, Array.from({length: m.kh}, (_, i) => el("tr", {}, data.slice(i * m.kw, (i + 1) * m.kw).map((v, j) => cell(v, i * m.kw + j))))))
        : Maps.tile(data.map(v => v ?? 0), m.kh, m.kw, {lo: -extent, hi: extent, scale: clamp(Math.floor(110 / Math.max(m.kh, m.kw)), 1, 12), label}));
    };
    if (now === "b2") add(`dW of filter ${f}, its slice for map ${c}`, r => Product.weight(m, f, r, m.dW));
    else if (isBack && now !== "b1") add("this window's share of dX", r => m.dX[r * m.n + s]);
    else if (!isBack) add(`the window, numbers of map ${c}`, r => m.place(r, p) < 0 ? null : m.X[r * m.n + s]);
    if (Number(now) >= 4) add(`filter ${f}, its slice for map ${c}`, r => Product.weight(m, f, r));
    figure.append(box);
  }

  // ---- words ----

  const decimal = (v, digits) => v.toFixed(digits).replace("-", "−");
  // Numbers of one sum get the same decimals: four digits of the largest.
  const digitsOf = (...values) => { const most = Math.max(...values.map(Math.abs)); return most > 0 ? clamp(3 - Math.floor(Math.log10(most)), 0, 12) : 3; };
  const fixed = (v, digits, read) => el("b", {class: "num", title: exact(v), "data-read": read}, decimal(v, digits));

  function words(part, sentence, sum) {
    const {m, chosen, now, rank} = part, {f, s, p, y, x, k, c, partial} = chosen, place = `(${y}, ${x})`, at = m.place(k, p);
    const pixel = at < 0 ? "the padding" : `the pixel at (${Math.floor(at % (m.H * m.W) / m.W)}, ${at % m.W})`, some = m.n < m.P ? ` (over the ${whole(m.n)} places shown)` : "";
    sentence.append(...{
      1: [`The window at output place ${place}: ${m.kh} × ${m.kw} numbers of ${m.C > 1 ? `each of the ${m.C} input maps` : "the input"}${m.g.pad[0] + m.g.pad[1] ? "; hatched is padding, which counts as 0" : ""}.`],
      2: [`Written one under the other, map after map, they are column ${p} of X: ${whole(m.K)} numbers.`],
      3: [`All ${whole(m.P)} windows side by side are X. Here ${pixel} of map ${c} occurs ${part.repeats ? part.repeats.length : 0} times in it (dots).`],
      4: [`Row ${f} of W is filter ${f}${m.g.group > 1 ? `, for the ${m.maps} maps of its group` : ""}. Row ${f} times column ${p} is one number of Y, where they cross.`],
      5: [m.P === 1 ? `With the bias, row ${f} of Y is output ${f}.` : `With the bias, row ${f} of Y, folded to ${m.oh} × ${m.ow}, is output map ${f}. Column ${p} is its pixel ${place}.`],
      6: rank ? rankWords(part) : [],
      b1: [`dY: how the loss grows with each output number. Row ${f} is output map ${f}.`],
      b2: [`dW = dY·Xᵀ: row ${f} of dY times row ${k} of X, over all ${whole(m.P)} places, is the gradient of one weight.`],
      b3: [`Wᵀ·dY: column ${k} of W times column ${p} of dY is what the loss passes through this window to one of its pixels.`],
      b4: ["col2im: every column goes back to its window; where windows overlap, their numbers add up to dX."],
    }[now]);
    const net = el("span"), bias = m.b ? m.b[f] : 0, all = m.WX[f * m.n + s], own = partial(c), total = all + bias;
    if (now === "b2") {
      const v = Product.weight(m, f, k, m.dW);
      sum.append(`${whole(m.n)} products: `, fixed(v, digitsOf(v), "total"), ` = dL/dw of filter ${f}, map ${c}, place (${Math.floor(k % m.area / m.kw)}, ${k % m.kw})${some}`);
    } else if (now === "b3" || now === "b4") {
      const v = m.dX[k * m.n + s], back = at < 0 ? 0 : Product.col2im(m, m.n)[at], digits = digitsOf(v, back);
      sum.append(`this window gives ${pixel} `, fixed(v, digits, "own"));
      if (now === "b4" && at >= 0) { sum.append(" · all windows that see it ", fixed(back, digits, "total"), ` = dL/dx${some}`, net); if (!some) said(Values.diff(m.g.bottom), m.x.length, at, digits, net); }
    } else if (Number(now) >= 4) {
      const digits = digitsOf(own, all, bias, total), parts = m.C > 1 ? [`${m.area} products of map ${c}: `, fixed(own, digits, "own"), ` · all ${m.maps} maps: `] : [`${m.area} products: `];
      sum.append(...parts, fixed(all, digits, "all"), ...m.b ? [` ${bias < 0 ? "−" : "+"} bias `, fixed(Math.abs(bias), digits, "bias"), " = ", fixed(total, digits, "total")] : []);
      if (rank && !m.own) sum.append(` · at rank ${rank}: `, fixed(part.Y[f * m.n + s] + bias, digits, "low"));
      sum.append(net);
      said(Values.stage(m.g.top), m.M * m.P, f * m.P + p, digits, net);
    }
  }
  function rankWords({m, rank, Y}) {
    const norm = a => Math.sqrt(a.reduce((sum, v) => sum + v * v, 0)), params = rank * (m.M + m.K), dense = m.M * m.K;
    const bold = (text, read) => el("b", {class: "num", "data-read": read}, text), off = norm(Y.map((v, i) => v - m.WX[i])) / (norm(m.WX) || 1);
    return [m.own ? "W = A·B, so Y = A·(B·X): " : "W ≈ A·B (by SVD), so Y ≈ A·(B·X): ", bold(whole(params), "params"), ` numbers in place of ${whole(dense)} (${percent(params / dense)}), `, bold(count(params * m.P)), ` multiply-adds in place of ${count(dense * m.P)}. `,
      ...m.own ? ["This layer has no other weights."] : ["These answers are off by ", bold(percent(off), "error"), "."]];
  }
  // What the net itself has at this place: exact, or as recorded in 8 bits.
  async function said(asked, size, at, digits, target) {
    const {data, exact} = await asked;
    if (data && data.length === size) target.append(" · the net: ", exact ? "" : "≈ ", fixed(data[at], digits, "net"));
  }

  // ---- playing ----

  // A step takes a second, in which its block fills; then the next one begins.
  function animate(part, b, mine) {
    const {m, now, till} = part, keys = Object.keys(stepsOf(now)), next = keys[keys.indexOf(now) + 1], move = now === "2" ? fly(part, b) : null;
    let begin = null;
    const frame = time => {
      if (mine !== run || !playing) return;
      const t = Math.min(1, (time - (begin ??= time)) / 1000), filled = Math.ceil(t * m.n);
      if (move) { move(t / 0.6); till.rows = Math.ceil(m.K * (t - 0.6) / 0.4); b.X.fill(); }
      if (now === "3") { till.columns = filled; b.X.fill(); }
      if (now === "4") { till.sums = filled; b.Y.fill(); }
      if (now === "b4") { part.input = Product.col2im(m, filled); b.input.fill(); }
      if (t < 1) requestAnimationFrame(frame);
      else if (next) setTimeout(() => { if (mine === run && playing) State.set({step: next}); }, 600);
      else { playing = false; State.redraw(); }
    };
    requestAnimationFrame(frame);
  }
  // The window's cells fly to their places in the column; a function of the time from 0 to 1.
  function fly({m, chosen, k0}, b) {
    const {s, c, y, x} = chosen, extent = m.extent(m.X), cells = Array.from({length: m.area}, (_, i) => {
      const k = c * m.area + i, wide = b.input.w / b.input.cols, high = b.input.h / b.input.rows, at = m.g.stride.map((v, a) => [y, x][a] * v + [Math.floor(i / m.kw), i % m.kw][a] * m.g.dilation[a]);
      const rect = el("rect", {class: "conv-flying", fill: `rgb(${Maps.colour(m.X[k * m.n + s], extent)})`}), to = b.X.part(k - k0, s);
      b.overlay.append(rect);
      return [rect, [at[1] * wide + b.input.x, at[0] * high + b.input.y, wide, high], [to.x, to.y, Math.max(2, to.w), Math.max(1.5, to.h)]];
    });
    return t => cells.forEach(([rect, from, to], i) => {
      const u = clamp(t * 1.6 - 0.6 * i / m.area, 0, 1), e = u * u * (3 - 2 * u);
      ["x", "y", "width", "height"].forEach((name, a) => rect.setAttribute(name, from[a] + (to[a] - from[a]) * e));
      rect.style.display = t >= 1 ? "none" : "";
    });
  }

  return {draw, play, turn, title: () => `Convolution: ${layerName()}`};
})();

View("convolution", {
  title: Conv.title, draw: Conv.draw,
  say: "A window of the input, written as one column; all windows side by side are the matrix X. A row of W times a column of X is one output pixel. " +
    "So a convolution is one matrix product, and a computer is very good at those.",
  tries: "How often does the pixel at (5, 5) occur in X? Why less at the border?",
  keys: {" ": ["play the steps, pause", Conv.play], b: ["backward, forward", Conv.turn]},
});
