// View 3: window → column → product → output, step by step, and the way back. Its numbers are in product.js,
// its picture in staggered.js, its words in sums.js.

// What is chosen: filter f, output place (y, x) with its column (p; s among those shown) and row k of X, of
// input map c. The address has f as map, and (y, x, k) as at.
const Choice = (() => {
  const {clamp} = Figure;
  const place = () => (State.at && State.at.length > 1 ? State.at : null);

  function strongest(n, value) {
    let best = 0;
    let most = -1;
    for (let i = 0; i < n; i++) {
      const v = Math.abs(value(i));
      if (v > most) {
        most = v;
        best = i;
      }
    }
    return best;
  }
  // From the address; what is not there is chosen where the answer is strongest.
  function of(m) {
    const f = Math.min(State.map, m.M - 1);
    const from = Math.floor(f / m.filters) * m.depth;
    const at = place();
    const s = at
      ? (clamp(at[0], 0, m.oh - 1) - m.py) * m.cw + clamp(at[1], 0, m.ow - 1) - m.px
      : strongest(m.n, i => m.WX[f * m.n + i] + (m.b ? m.b[f] : 0));
    const p = m.column(s);
    const term = k => Product.weight(m, f, k) * m.X[k * m.n + s];
    const partial = c => {
      let sum = 0;
      for (let i = 0; i < m.area; i++) sum += term(c * m.area + i);
      return sum;
    };
    let k = at ? (at[2] ?? -1) : -1;
    if (k < from || k >= from + m.depth) {
      const c = from / m.area + strongest(m.maps, i => partial(from / m.area + i));
      k = c * m.area + strongest(m.area, i => term(c * m.area + i));
    }
    return {f, s, p, y: Math.floor(p / m.ow), x: p % m.ow, k, c: Math.floor(k / m.area), from, partial};
  }

  // Choose f, s or k; a row of another group takes the first filter of its group along.
  function cell(m, chosen, {f = chosen.f, s = chosen.s, k = chosen.k}) {
    const p = m.column(s);
    const group = Math.floor(k / m.depth);
    State.set({
      at: [Math.floor(p / m.ow), p % m.ow, k],
      map: Math.floor(f / m.filters) === group ? f : group * m.filters,
    });
  }
  // A filter; one of another group takes a row of its own group along.
  function filter(m, chosen, f, s = chosen.s) {
    cell(m, chosen, {f, s, k: (chosen.k % m.depth) + Math.floor(f / m.filters) * m.depth});
  }
  // The input map `by` further on, within the group.
  function map(m, chosen, by) {
    cell(m, chosen, {k: chosen.from + ((chosen.k - chosen.from + by * m.area + m.depth) % m.depth)});
  }
  // A pixel (r, q) of the padded input: the window whose middle is nearest, and the pixel's place in it; or, if an
  // arrow moved there, the next window.
  function pixel(m, {k, y, x}, r, q, move) {
    const {kernel, stride, dilation} = m.g;
    const now = [y, x];
    const sizes = [m.oh, m.ow];
    const nearest = (v, i) => Math.round((v - ((kernel[i] - 1) * dilation[i]) / 2) / stride[i]);
    const at = [r, q].map((v, i) => clamp(move ? now[i] + move[i] : nearest(v, i), 0, sizes[i] - 1));
    const [i, j] = at.map((v, a) => ([r, q][a] - v * stride[a]) / dilation[a]);
    const isSeen = !move && [i, j].every(Number.isInteger) && i >= 0 && j >= 0 && i < m.kh && j < m.kw;
    State.set({at: [...at, isSeen ? Math.floor(k / m.area) * m.area + i * m.kw + j : k]});
  }
  return {of, cell, filter, map, pixel, place};
})();

View("convolution", () => {
  const STEPS = {1: "window", 2: "column", 3: "all columns", 4: "W · X", 5: "output", 6: "rank r"};
  const BACK = {b1: "dY", b2: "dW = dY · Xᵀ", b3: "Wᵀ · dY", b4: "col2im"};
  const {clamp, px} = Figure;
  const layers = R.views.convolution.layers || {};
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  let playing = false;
  let run = 0; // run: the number of the last drawing; the animation of another one ends

  const step = () => (STEPS[State.step] || BACK[State.step] ? State.step : "5");
  const stepsOf = now => (now[0] === "b" ? BACK : STEPS);
  // The chosen layer, or the last product before it, or the first.
  function layerName() {
    const names = R.layers.map(l => l.name);
    const here = names.indexOf(State.layer);
    return (
      names
        .slice(0, here + 1)
        .filter(name => layers[name])
        .pop() || names.find(name => layers[name])
    );
  }

  async function draw(root) {
    const mine = ++run;
    const name = layerName();
    const g = layers[name];
    const now = step();
    const isBack = now[0] === "b";
    const give = text => root.append(el("p", {class: "absent"}, `${name}: ${text}.`));
    const rank = now === "6" && !g.missing ? rankOf(g, name) : 0;
    root.append(controls(g, now, rank));
    if (g.missing) return give(g.missing);
    const m = await Product.model(name, State.image, Choice.place() || [g.output[1] >> 1, g.output[2] >> 1]);
    if (m.missing) return give(m.missing);
    if (isBack && !m.dYall) return give(R.no_gradient || "no whole gradient was recorded here for this image");
    if (isBack) Product.backward(m);
    const low = rank ? await Product.factors(m, rank) : null;
    if (rank && !low)
      return give(
        m.g.group > 1
          ? "the factors of a layer in groups are in view 4"
          : "no factors of this rank are carried",
      );

    const scene = {m, chosen: Choice.of(m), low, rank, now, isBack, till: {rows: m.K, columns: m.n, sums: m.n}};
    if (low) scene.Z = Product.product(low.right, m.X, rank, m.K, m.n);
    if (low) scene.Y = Product.product(low.left, scene.Z, m.M, rank, m.n);
    if (now === "3") scene.repeats = Product.repeats(m, scene.chosen);
    const figure = el("div", {class: "conv-figure"});
    const sum = el("p", {class: "conv-sum num"}, Sums.sum(scene));
    root.append(el("p", {class: "conv-sentence"}, Sums.sentence(scene)), figure, sum);
    const below = sum.offsetHeight + 36;
    const height = clamp(innerHeight - figure.getBoundingClientRect().top - below, 330, 560);
    figure.style.height = px(height);
    const blocks = Staggered.draw(
      Object.assign(scene, {figure, height, width: Math.max(640, root.clientWidth)}),
    );
    if (playing && !still()) animate(scene, blocks, mine);
  }

  // ---- controls ----

  const fullRank = g => Math.min(g.output[0], (g.input[0] / g.group) * g.kernel[0] * g.kernel[1]);
  // The layer's own rank; or the one chosen here or in view 4; at first a quarter.
  function rankOf(g, name) {
    if (g.left) return g.left.shape[1];
    const known = typeof Rank === "object" && Rank.V.layers && Rank.V.layers[name] ? Rank.rank(name) : null;
    return clamp(State.rank ?? known ?? Math.round(fullRank(g) / 4), 1, fullRank(g));
  }

  function controls(g, now, rank) {
    const steps = stepsOf(now);
    const keys = Object.keys(steps);
    const go = key => {
      playing = false;
      State.set({step: key});
    };
    const buttons = keys.map((key, i) =>
      el(
        "button",
        {
          role: "radio",
          "aria-checked": String(key === now),
          class: "conv-step",
          tabindex: key === now ? "0" : "-1",
          "data-focus": "conv-step-" + key,
          onclick: () => go(key),
        },
        `${i + 1} ${steps[key]}`,
      ),
    );
    const onkeydown = event => {
      const move = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      const next = clamp(keys.indexOf(now) + move, 0, keys.length - 1);
      buttons[next].focus();
      go(keys[next]);
    };
    const player = el(
      "button",
      {"aria-pressed": String(playing), "data-focus": "conv-play", title: "Space", onclick: play},
      playing ? "❚❚ pause" : "▶ play",
    );
    return el(
      "div",
      {class: "conv-bar"},
      el("div", {role: "radiogroup", "aria-label": "step", class: "conv-steps", onkeydown}, buttons),
      still() ? null : player,
      el(
        "button",
        {"aria-pressed": String(now[0] === "b"), "data-focus": "conv-back", title: "b", onclick: turn},
        "backward",
      ),
      rank ? slider(g, rank) : null,
    );
  }
  function slider(g, value) {
    const max = fullRank(g);
    if (g.left) return el("span", {class: "quiet"}, `its own rank: ${value} of ${max}`);
    return el(
      "label",
      {},
      "rank ",
      el("input", {
        type: "range",
        min: 1,
        max,
        value,
        "data-focus": "conv-rank",
        oninput: event => State.set({rank: Number(event.target.value)}),
      }),
      el("b", {class: "num"}, ` ${value}`),
      ` of ${max}`,
    );
  }
  function turn() {
    playing = false;
    State.set({step: step()[0] === "b" ? "5" : "b2"});
  }
  function play() {
    if (still()) return;
    playing = !playing;
    const keys = Object.keys(stepsOf(step()));
    if (playing && step() === keys[keys.length - 1]) State.set({step: keys[0]});
    else State.redraw();
  }

  // ---- playing ----

  // A step takes a second, in which its block fills; then the next one begins.
  function animate(scene, b, mine) {
    const {m, now, till} = scene;
    const keys = Object.keys(stepsOf(now));
    const next = keys[keys.indexOf(now) + 1];
    const move = now === "2" ? fly(scene, b) : null;
    let begin = null;
    const frame = time => {
      if (mine !== run || !playing) return;
      const t = Math.min(1, (time - (begin ??= time)) / 1000);
      const filled = Math.ceil(t * m.n);
      if (move) {
        move(t / 0.6);
        till.rows = Math.ceil((m.K * (t - 0.6)) / 0.4);
        b.X.fill();
      }
      if (now === "3") {
        till.columns = filled;
        b.X.fill();
      }
      if (now === "4") {
        till.sums = filled;
        b.Y.fill();
      }
      if (now === "b4") {
        scene.input = Product.col2im(m, filled);
        b.input.fill();
      }
      if (t < 1) requestAnimationFrame(frame);
      else if (next)
        setTimeout(() => {
          if (mine === run && playing) State.set({step: next});
        }, 600);
      else {
        playing = false;
        State.redraw();
      }
    };
    requestAnimationFrame(frame);
  }
  // The window's cells fly to their places in the column: a function of the time from 0 to 1.
  function fly({m, chosen, rows, seen}, b) {
    const {s, c, y, x} = chosen;
    const {stride, dilation} = m.g;
    const extent = m.extent(m.X);
    const cells = Array.from({length: m.area}, (_, i) => {
      const k = c * m.area + i;
      const to = b.X.part(k - rows.first, s);
      const [r, q] = [Math.floor(i / m.kw), i % m.kw];
      const from = b.input.part(
        y * stride[0] + r * dilation[0] - seen.y,
        x * stride[1] + q * dilation[1] - seen.x,
      );
      const rect = el("rect", {class: "conv-flying", fill: `rgb(${Maps.colour(m.X[k * m.n + s], extent)})`});
      b.over.svg.append(rect);
      return [rect, [from.x, from.y, from.w, from.h], [to.x, to.y, Math.max(2, to.w), Math.max(1.5, to.h)]];
    });
    return t =>
      cells.forEach(([rect, from, to], i) => {
        const u = clamp(t * 1.6 - (0.6 * i) / m.area, 0, 1);
        const e = u * u * (3 - 2 * u);
        ["x", "y", "width", "height"].forEach((name, a) =>
          rect.setAttribute(name, from[a] + (to[a] - from[a]) * e),
        );
        rect.style.display = t >= 1 ? "none" : "";
      });
  }

  return {
    title: () => `Convolution: ${layerName()}`,
    draw,
    say:
      "A window of the input, written as one column; all windows side by side are the matrix X. A row of W " +
      "times a column of X is one output pixel. " +
      "So a convolution is one matrix product, and a computer is very good at those.",
    tries: "Click any pixel. How often does the one at (5, 5) occur in X? Why less at the border?",
    keys: {" ": ["play the steps, pause", play], b: ["backward, forward", turn]},
  };
});
