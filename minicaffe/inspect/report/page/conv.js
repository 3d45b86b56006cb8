// View 3: window → column → product → output, step by step, and the way back. Its numbers are in product.js, what
// is chosen in choice.js, its picture in staggered.js, its words in sums.js.

View("convolution", () => {
  const STEPS = {1: "window", 2: "column", 3: "all columns", 4: "W · X", 5: "output", 6: "rank r"};
  const BACK = {b1: "dY", b2: "dW = dY · Xᵀ", b3: "Wᵀ · dY", b4: "col2im"};
  const {clamp, px} = Figure;
  const layers = R.views.convolution.layers || {};
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  let playing = false;
  let run = 0; // run: the number of the last drawing; the animation of another one ends

  // The chosen step; else what a layer is about: its output, or the two products of one of low rank.
  const step = () =>
    STEPS[State.step] || BACK[State.step] ? State.step : layerOf(layerName()).rank ? "6" : "5";
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
    const give = (...text) => root.append(el("p", {class: "absent"}, `${name}: `, text, "."));
    const rank = now === "6" && !g.missing ? rankOf(g, name) : 0;
    root.append(controls(g, now, rank));
    if (g.missing) return give(g.missing);
    const m = await Product.model(name, State.image, Choice.place() || [g.output[1] >> 1, g.output[2] >> 1]);
    if (m.missing) return give(m.missing);
    if (isBack && !m.dYall) return give(R.no_gradient || "no whole gradient was recorded here for this image");
    if (isBack && !m.dYall.some(Boolean)) return give("no gradient arrives here, dY is 0 everywhere");
    if (isBack) Product.backward(m);
    const low = rank ? await Product.factors(m, rank) : null;
    if (rank && !low)
      return give(
        ...(m.g.group > 1
          ? ["each group has its own factors; they are in ", link("view 4", {view: "low_rank"})]
          : ["no factors of this rank are carried"]),
      );

    const till = {rows: m.K, columns: m.n, sums: m.n};
    const scene = {m, name, chosen: Choice.of(m), low, rank, now, isBack, till};
    if (low) scene.Z = Product.product(low.right, m.X, rank, m.K, m.n);
    if (low) scene.Y = Product.product(low.left, scene.Z, m.M, rank, m.n);
    if (now === "3") scene.repeats = Product.repeats(m, scene.chosen);
    const figure = el("div", {class: "conv-figure"});
    const sum = el("p", {class: "conv-sum num"}, Sums.sum(scene));
    root.append(el("p", {class: "conv-sentence"}, Sums.sentence(scene)), figure, sum);
    const below = sum.offsetHeight + 40;
    const height = clamp(innerHeight - figure.getBoundingClientRect().top - below, 310, 860);
    figure.style.height = px(height);
    const blocks = Staggered.draw(
      Object.assign(scene, {figure, height, width: Math.max(640, root.clientWidth)}),
    );
    const goesOn = () => mine === run && playing;
    if (playing && !still()) Play.step(scene, blocks, goesOn, () => after(now, goesOn));
  }

  // ---- controls ----

  const fullRank = g => Math.min(g.output[0], g.input[0] * g.kernel[0] * g.kernel[1]) / g.group;
  // The layer's own rank; or the one chosen here or in view 4; or a quarter.
  function rankOf(g, name) {
    if (g.left) return g.left.shape[1];
    return clamp(State.rank ?? Rank.plan()[name] ?? Math.floor(fullRank(g) / 4), 1, fullRank(g));
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
      {class: "conv-bar controls"},
      el("div", {role: "radiogroup", "aria-label": "step", class: "conv-steps", onkeydown}, buttons),
      still() ? null : player,
      el(
        "button",
        {"aria-pressed": String(now[0] === "b"), "data-focus": "conv-back", title: "b", onclick: turn},
        "backward",
      ),
      rank && g.group === 1 ? slider(g, rank) : null,
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
    State.set({step: step()[0] === "b" ? null : "b2"});
  }
  function play() {
    if (still()) return;
    playing = !playing;
    const keys = Object.keys(stepsOf(step()));
    if (playing && step() === keys[keys.length - 1]) State.set({step: keys[0]});
    else State.redraw();
  }

  // After a step comes the next one; after the last the picture stands.
  function after(now, goesOn) {
    const keys = Object.keys(stepsOf(now));
    const next = keys[keys.indexOf(now) + 1];
    if (!next) {
      playing = false;
      State.redraw();
      return;
    }
    setTimeout(() => {
      if (goesOn()) State.set({step: next});
    }, 600);
  }

  return {
    title: () => `Convolution: ${layerName()}`,
    draw,
    say:
      "A window of the input is written as one column; all of them side by side are the matrix X. A row of W " +
      "times a column of X is one output pixel: a convolution is one matrix product.",
    tries: "Click any pixel. How often does the one at (5, 5) occur in X? Why less at the border?",
    keys: {" ": ["play the steps, pause", play], b: ["backward, forward", turn]},
  };
});
