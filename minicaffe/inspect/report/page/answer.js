// View 5: what the net says of an image, and on which parts of the image that depends.
View("answer", () => {
  const D = R.views.answer || {};
  const O = D.occlusion || {};
  const [C, H, W] = R.input.shape;
  const PLUS = [88, 166, 255];
  const MINUS = [255, 123, 114]; // over pictures, in both themes
  const isShare = R.softmax || (R.answer && stageLayer(R.answer).type === "Softmax");
  const measured = new WeakMap();
  const what = isShare ? "log p" : "the score";
  const own = i => Live.images[i - R.images.length];
  const meta = i => (i < R.images.length ? R.images[i] : own(i));
  const best = (p, n) =>
    Array.from(p.keys())
      .sort((a, b) => p[b] - p[a])
      .slice(0, n);
  const number = text => (text !== undefined && /^\d+$/.test(text) ? Number(text) : null);

  // -- bars --
  function bars(p, thin, i, chosen) {
    const {label} = meta(i);
    const most = isShare ? 1 : Math.max(1e-9, ...p.map(Math.abs));
    const shown = [
      ...new Set([...best(p, 5), ...[label, chosen].filter(c => Number.isInteger(c) && c < p.length)]),
    ];
    const width = v => 100 * Math.max(0, Math.min(1, v / most)) + "%";
    return shown.map(c =>
      el(
        "button",
        {
          class: "says",
          "data-class": c,
          "aria-pressed": String(c === chosen),
          "data-focus": `class-${c}`,
          "aria-label": `${className(c)}: ${fmt(p[c])}${c === label ? ", the true class" : ""}`,
          onclick: () => State.set({class: `${i}:${c}`}),
        },
        el("span", {class: "name"}, className(c), c === label ? el("b", {class: "true"}, " ✓ true") : ""),
        el(
          "span",
          {class: "track"},
          el("span", {class: "fill", style: {width: width(p[c])}}),
          thin ? el("span", {class: "thin", style: {left: width(thin[c])}}) : null,
        ),
        num(p[c]),
      ),
    );
  }

  // -- a picture on which the square moves --
  function coverable(canvas, at, name, move, end) {
    const square = el("div", {class: "square", hidden: !at, style: {background: O.shown || "#808080"}});
    const box = el(
      "div",
      {
        class: "pixels",
        tabindex: "0",
        role: "application",
        "data-focus": name,
        "aria-label": `${canvas.getAttribute("aria-label")}; arrows move the square`,
      },
      canvas,
      square,
    );
    const place = ([y, x]) => {
      square.hidden = false;
      Object.assign(square.style, {
        top: (100 * y) / H + "%",
        left: (100 * x) / W + "%",
        width: (100 * O.side) / W + "%",
        height: (100 * O.side) / H + "%",
      });
    };
    const fit = ([y, x]) => [
      Math.max(0, Math.min(H - O.side, Math.round(y))),
      Math.max(0, Math.min(W - O.side, Math.round(x))),
    ];
    if (at) place(at);
    box.place = place;
    const under = event => {
      const r = canvas.getBoundingClientRect();
      return fit([
        ((event.clientY - r.top) / r.height) * H - O.side / 2,
        ((event.clientX - r.left) / r.width) * W - O.side / 2,
      ]);
    };
    box.onpointerdown = event => {
      box.setPointerCapture(event.pointerId);
      at = under(event);
      move(at);
    };
    box.onpointermove = event => {
      if (event.buttons) {
        at = under(event);
        move(at);
      }
    };
    box.onpointerup = () => end(at);
    box.onkeydown = event => {
      const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const by = Math.max(1, O.side >> 1);
      end(at ? fit([at[0] + by * step[0], at[1] + by * step[1]]) : [0, 0]);
    };
    return box;
  }
  function covered(x, [top, left]) {
    const out = Float32Array.from(x);
    for (let c = 0; c < C; c++)
      for (let y = top; y < top + O.side; y++)
        out.fill(O.colour[c], (c * H + y) * W + left, (c * H + y) * W + left + O.side);
    return out;
  }
  async function says(input) {
    const scores = (await Live.forward(input))[R.answer];
    return R.softmax ? Values.softmax(scores) : scores;
  }

  // -- maps over the picture --
  async function tinted(i, scale, value, extent, label) {
    const canvas = await Maps.image(i, scale);
    const context = canvas.getContext("2d");
    const image = context.getImageData(0, 0, W, H);
    const d = image.data;
    for (let k = 0; k < H * W; k++) {
      const v = value(Math.floor(k / W), k % W);
      const a = extent > 0 ? 0.75 * Math.min(1, Math.abs(v) / extent) ** 0.7 : 0;
      const to = v < 0 ? MINUS : PLUS;
      const grey = 0.3 * d[4 * k] + 0.59 * d[4 * k + 1] + 0.11 * d[4 * k + 2];
      for (let c = 0; c < 3; c++) d[4 * k + c] = (1 - a) * grey + a * to[c];
    }
    context.putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", label);
    return canvas;
  }
  // {classes, falls: an array of rows × columns for each class} of an image, or null.
  async function map(i) {
    if (i >= R.images.length) return measured.get(own(i)) || null;
    const found = O.images && O.images[i];
    if (!found) return null;
    const all = await Pack.array(found.falls);
    const n = O.tops.length * O.lefts.length;
    return {classes: found.classes, falls: found.classes.map((_, k) => all.subarray(k * n, (k + 1) * n))};
  }
  const nearest = (starts, v) =>
    starts.reduce((a, s, k) => (Math.abs(s - v) < Math.abs(starts[a] - v) ? k : a), 0);
  async function measure(i, status) {
    const x = await Values.input(i);
    const before = await says(x);
    const falls = Array.from(before, () => new Float32Array(O.tops.length * O.lefts.length));
    let k = 0;
    for (const y of O.tops)
      for (const l of O.lefts) {
        const after = await says(covered(x, [y, l]));
        falls.forEach((f, c) => {
          f[k] = isShare
            ? Math.log(Math.max(before[c], 1e-38) / Math.max(after[c], 1e-38))
            : before[c] - after[c];
        });
        if (++k % 13 === 0) status.textContent = `${k} of ${O.tops.length * O.lefts.length} places`;
      }
    measured.set(own(i), {classes: [...falls.keys()], falls});
    State.redraw();
  }

  async function draw(root) {
    const i = State.image;
    const live = Values.isLive();
    const p = await Values.answer(i);
    const {label, thumbnail} = meta(i);
    const status = el("p", {class: "quiet", role: "status"});
    if (!p) {
      root.append(el("p", {}, "The scores of this image were not recorded."));
      return;
    }
    const [of, picked] = String(State.class || "")
      .split(":")
      .map(Number);
    const chosen = of === i && picked < p.length ? picked : best(p, 1)[0];
    const falls = await map(i);
    const at =
      State.cover && O.side && /^\d+,\d+$/.test(State.cover) ? State.cover.split(",").map(Number) : null;
    const other = number(State.with);
    const isCompared = other !== null && other < State.imageCount() && other !== i;
    const input = live ? await Values.input(i) : null;
    const list = el("div", {class: "answers", role: "group", "aria-label": "what the net says"});
    const line = el("p", {class: "read-out"});
    const reference = isCompared ? await Values.answer(other) : null;
    let waiting = null;
    let isBusy = false;
    const k = falls ? falls.classes.indexOf(chosen) : -1;
    const wide = O.lefts ? O.lefts.length : 0;
    const fallAt = (y, x) => falls.falls[k][nearest(O.tops, y) * wide + nearest(O.lefts, x)];

    async function update(to) {
      if (isBusy) {
        waiting = to;
        return;
      }
      isBusy = true;
      const now = to && live ? await says(covered(input, to)) : p;
      list.replaceChildren(...bars(now, reference || (to && live ? p : null), i, chosen));
      const before = isShare ? p[chosen] : null;
      const drop = to && !live && k >= 0 ? fallAt(...to) : null;
      const after = to && live ? now[chosen] : drop !== null && isShare ? p[chosen] * Math.exp(-drop) : null;
      line.replaceChildren(
        ...(!to
          ? [live || k >= 0 ? "Nothing is covered." : ""]
          : after === null
            ? [drop === null ? "" : `Covered here, the score falls by ${fmt(drop)}.`]
            : [
                `Covered here, ${isShare ? "p" : "the score"} of ${className(chosen)} goes from `,
                num(before ?? p[chosen]),
                " to ",
                num(after),
                ".",
              ]),
      );
      isBusy = false;
      if (waiting) {
        const next = waiting;
        waiting = null;
        await update(next);
      }
    }
    await update(at);
    const scale =
      Math.max(1, Math.floor(196 / Math.max(H, W))) * (Math.max(H, W) > 196 ? 196 / Math.max(H, W) : 1);
    const boxes = [];
    const snap = ([y, x]) => (live ? [y, x] : [O.tops[nearest(O.tops, y)], O.lefts[nearest(O.lefts, x)]]);
    const move = to => {
      const place = snap(to);
      boxes.forEach(b => b.place(place));
      update(place);
    };
    const end = to => {
      if (to) {
        const cover = snap(to).join(",");
        if (cover === State.cover) update(snap(to));
        else State.set({cover});
        say(line.textContent);
      }
    };
    const box = (canvas, name) => {
      const made = coverable(canvas, at, name, move, end);
      boxes.push(made);
      return made;
    };
    const card = (title, ...content) => el("section", {class: "card"}, el("h3", {}, title), ...content);
    const picture = thumbnail && O.side ? await Maps.image(i, scale) : null;
    const numbers = Array.from({length: State.imageCount()}, (_, n) => n);

    const cards = [];
    const first = el(
      "section",
      {},
      el("h3", {}, "What the net says"),
      list,
      line,
      isShare ? null : quiet("Scores, not probabilities: they need not add up to 1."),
      el(
        "label",
        {class: "quiet"},
        "thin lines: ",
        el(
          "select",
          {"data-focus": "with", onchange: e => State.set({with: e.target.value || null})},
          el("option", {value: ""}, "the image uncovered"),
          numbers
            .filter(n => n !== i)
            .map(n =>
              el("option", {value: n, selected: isCompared && n === other}, `compare with ${meta(n).name}`),
            ),
        ),
      ),
    );
    if (picture && (live || k >= 0))
      cards.push(
        card(
          "Cover it by hand",
          box(picture, "by-hand"),
          quiet(
            live
              ? "Drag the square, or move it with arrows; the bars follow."
              : "Put the square anywhere: it goes to the nearest place that was recorded.",
          ),
          el("button", {"data-focus": "uncover", onclick: () => State.set({cover: null})}, "uncover"),
        ),
      );
    if (picture && k >= 0) {
      const extent = Math.max(...falls.falls[k].map(Math.abs));
      const canvas = await tinted(
        i,
        scale,
        (y, x) => fallAt(y - O.side / 2 + 0.5, x - O.side / 2 + 0.5),
        extent,
        `occlusion map of ${className(chosen)}: ${what} falls by ${fmt(Math.min(...falls.falls[k]))} to ` +
          `${fmt(Math.max(...falls.falls[k]))}`,
      );
      cards.push(
        card(
          `What ${className(chosen)} depends on`,
          box(canvas, "occlusion"),
          !extent
            ? quiet("Covering changes nothing.")
            : quiet(
                el("b", {class: "plus"}, "blue"),
                `: covered there, ${what} falls, by `,
                num(extent),
                " at most; ",
                el("b", {class: "minus"}, "red"),
                ": it rises. Not a reason: the square is itself something the net has never seen.",
              ),
          el(
            "details",
            {class: "as-table"},
            el("summary", {}, "as table"),
            Maps.table(falls.falls[k], O.tops.length, wide, {label: `falls of ${what}`}),
          ),
        ),
      );
    } else if (picture)
      cards.push(
        card(
          `What ${className(chosen)} depends on`,
          i >= R.images.length && !falls
            ? el(
                "button",
                {
                  onclick: e => {
                    e.target.disabled = true;
                    measure(i, status);
                  },
                },
                `cover it everywhere: ${O.tops.length * wide} passes`,
              )
            : quiet(
                O.why
                  ? `Not measured: ${O.why}.`
                  : "Recorded for the best five classes, and for the first images only.",
              ),
          status,
        ),
      );
    const last = D.cam && Object.keys(D.cam).pop();
    const cam = last && (D.cam[State.layer] ? State.layer : last);
    if (picture && cam) {
      const ref = D.cam[cam];
      const [n, h, w] = ref.shape;
      const all = await Pack.bytes(ref);
      cards.push(
        card(
          `Grad-CAM of ${cam}`,
          ...(i < n
            ? [
                await tinted(
                  i,
                  scale,
                  (y, x) => {
                    const [fy, fx] = [
                      Math.max(0, Math.min(h - 1, ((y + 0.5) * h) / H - 0.5)),
                      Math.max(0, Math.min(w - 1, ((x + 0.5) * w) / W - 0.5)),
                    ];
                    const [y0, x0] = [Math.floor(fy), Math.floor(fx)];
                    const v = (a, b) => all[(i * h + Math.min(h - 1, a)) * w + Math.min(w - 1, b)];
                    const [u, t] = [fy - y0, fx - x0];
                    return (
                      (1 - u) * ((1 - t) * v(y0, x0) + t * v(y0, x0 + 1)) +
                      u * ((1 - t) * v(y0 + 1, x0) + t * v(y0 + 1, x0 + 1))
                    );
                  },
                  255,
                  `Grad-CAM of ${cam}`,
                ),
                quiet(
                  "Where maps lie that lower the loss",
                  ` of ${className(Number.isInteger(label) ? label : meta(i).top)}. Only ${h} × ${w} ` +
                    "places, one colour for all: not outlines, not how much.",
                ),
              ]
            : [quiet("Not for this image: it needs gradients, which were recorded for the first ones.")]),
          cam === last
            ? null
            : el(
                "p",
                {},
                el(
                  "button",
                  {class: "link", onclick: () => State.set({layer: last})},
                  `of the last convolution, ${last}`,
                ),
              ),
        ),
      );
    }
    root.append(
      el(
        "div",
        {class: "two"},
        el("div", {class: "answer-left"}, first, await Pad.cards(root, i, D.dims || [H, W])),
        el("div", {class: "answer-cards"}, cards),
      ),
    );
  }

  return {
    title: "What the net says, and what that depends on",
    draw,
    tries: () =>
      C === 1 && W && Values.isLive()
        ? "Draw a 4 that it takes for a 9."
        : "Cover as little as you can so that it says something else.",
    say:
      "Bars: the net's probabilities. They always add up to 1, also for a picture of nothing it knows. " +
      "The map shows by how much the score falls when a patch is covered: what the score depends on, not a reason.",
  };
});
