// View 5, a square that covers a part of the picture: moved by hand, or put everywhere in turn.
const Cover = (() => {
  const O = (R.views.answer || {}).occlusion || {};
  const [C, H, W] = R.input.shape;
  const measured = new WeakMap(); // an image of the user's own -> what mapOf gives
  const own = i => Live.images[i - R.images.length];

  // A picture on which the square is moved, with mouse or arrows: move(at) on the way, end(at) where it stays.
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

  // The input with the square at (top, left).
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

  // {classes, falls: an array of rows × columns for each class} of an image, or null.
  async function mapOf(i) {
    if (i >= R.images.length) return measured.get(own(i)) || null;
    const found = O.images && O.images[i];
    if (!found) return null;
    const all = await Pack.array(found.falls);
    const n = O.tops.length * O.lefts.length;
    return {classes: found.classes, falls: found.classes.map((_, k) => all.subarray(k * n, (k + 1) * n))};
  }
  const nearest = (starts, v) =>
    starts.reduce((a, s, k) => (Math.abs(s - v) < Math.abs(starts[a] - v) ? k : a), 0);
  async function measure(i, isShare, status) {
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

  return {O, coverable, covered, says, mapOf, nearest, measure};
})();
