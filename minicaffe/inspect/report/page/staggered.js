// The picture of view 3. The product is staggered: X stands above Y and W left of it, so row f of W, column p
// of X and cell (f, p) of Y line up. The input stands in the free corner, the output map right of Y.
const Staggered = (() => {
  const ROWS = 1000;
  const CHOSEN = 8; // of more rows of X, those of this many input maps are drawn
  const GAP = 16;
  const {LABEL, clamp, px, block} = Figure; // pixels
  const size = (name, a, b) => `${name} ${whole(a)} × ${whole(b)}`;

  // Where the blocks stand. Sides grow with the square roots of K, M and P, so that a long X does not make W
  // invisible;
  // labels have the numbers. Factors are exact parts of W: their area is parameters.
  function layout(m, rank, width, height) {
    const split = 1 + rank / m.M;
    const room = height - (rank ? 3 * LABEL + 12 : 2 * LABEL + 6);
    const roots = [m.K, m.M].map(Math.sqrt);
    const tables = m.small ? 2 * (LABEL + 8 + 17 * m.kh) : 150;
    const right = m.small ? Math.max(190, 52 * m.kw + 6) : 236;
    let M = Math.max(
      (roots[1] / (roots[0] + roots[1] * split)) * room,
      Math.min(2 * m.M, 0.3 * room),
      m.M > 1 ? 90 : 0,
    );
    M = Math.min(M, (room - 60) / split);
    const map = Math.min(room - Math.max(M * split, 110), 230);
    const K = Math.min(room - M * split, Math.max(40, 12 * m.K));
    const top = Math.max(room - M * split, map, Math.min(tables, room - 100));
    const left = Math.max(map, K, 200);
    const widest = Math.max(24, width - left - GAP - 24 - right);
    const P = clamp(Math.max((Math.sqrt(m.n) * K) / roots[0], 4 * m.n, m.n > 1 ? 120 : 0), 24, widest);
    M = (room - top) / split;
    const x = left + GAP;
    const yZ = 2 * LABEL + top + 6;
    const Z = (M * rank) / m.M;
    const yY = rank ? yZ + Z + 6 + LABEL : yZ;
    const thin = Math.max(4, (K * rank) / m.K);
    return {
      map,
      right: x + Math.max(P + 24, 170),
      bottom: yY,
      height,
      X: {x, y: LABEL + top - K, w: P, h: K},
      Y: {x, y: yY, w: P, h: M},
      W: {x: left - K, y: yY, w: K, h: M},
      Z: {x, y: yZ, w: P, h: Z},
      B: {x: left - K, y: yZ, w: K, h: Z},
      A: {x: left - thin, y: yY, w: thin, h: M},
    };
  }

  // The rows of X that are drawn, from `first` on.
  function rowsOf(m, c) {
    const isCut = m.K > ROWS && m.C > CHOSEN;
    const map = isCut ? Math.min(m.C - CHOSEN, c - (c % CHOSEN)) : 0;
    return {
      first: map * m.area,
      count: isCut ? CHOSEN * m.area : m.K,
      note: isCut ? `: input maps ${map}–${map + CHOSEN - 1}` : "",
    };
  }
  // The part of the padded input that is drawn: of a large one, what the shown windows see.
  function partOf(m) {
    const {stride, dilation, pad, kernel} = m.g;
    const reach = i => (kernel[i] - 1) * dilation[i] + 1;
    if (m.n === m.P || m.H + m.W <= 128)
      return {y: 0, x: 0, h: m.H + 2 * pad[0], w: m.W + 2 * pad[1], note: ""};
    return {
      y: m.py * stride[0],
      x: m.px * stride[1],
      h: (m.ch - 1) * stride[0] + reach(0),
      w: (m.cw - 1) * stride[1] + reach(1),
      note: ", a part",
    };
  }

  // All blocks of a scene: {m, chosen, now, isBack, rank, low, Z, Y, repeats, figure, width, height, till}. till is
  // what an animation has filled so far.
  function draw(scene) {
    const {m, now, isBack, figure, chosen} = scene;
    const number = isBack ? 9 : Number(now);
    Object.assign(scene, {
      number,
      at: layout(m, scene.rank, scene.width, scene.height),
      rows: rowsOf(m, chosen.c),
      seen: partOf(m),
      isGradient: isBack && now !== "b2",
    });
    const blocks = {
      input: input(scene),
      X: data(scene),
      ...(scene.rank ? factors(scene) : {W: weights(scene)}),
    };
    Object.assign(blocks, {Y: answers(scene), outputs: outputs(scene)});
    figure.append(tables(scene));
    return {...blocks, over: frames(scene, blocks)};
  }

  function input(scene) {
    const {m, chosen, now, at, seen, isGradient} = scene;
    const {y, x, c} = chosen;
    const {pad, stride} = m.g;
    const unit = Math.min(at.map / seen.h, at.map / seen.w, 40);
    const what = m.g.folded ? `the ${whole(m.H * m.W)} inputs, folded` : `input map ${c} of ${m.C}`;
    scene.input = isGradient ? Product.col2im(m, now === "b4" ? m.n : 0) : m.x;
    return block(
      scene.figure,
      "input",
      {x: 0, y: LABEL, w: seen.w * unit, h: seen.h * unit},
      {
        label: isGradient ? `dX of ${what}` : `${what} (${R.stages[m.g.bottom].blob})${seen.note}`,
        rows: seen.h,
        cols: seen.w,
        extent: m.extent(scene.input),
        ghost: isGradient && now !== "b4",
        widest: at.X.x - 8,
        here: () => [y * stride[0] - seen.y, x * stride[1] - seen.x],
        onpick: (r, q, move) => Choice.pixel(m, chosen, r + seen.y, q + seen.x, move),
        others: m.maps > 1 && {name: "input map", turn: by => Choice.map(m, chosen, by)},
        value: (r, q) => {
          const i = r + seen.y - pad[0];
          const j = q + seen.x - pad[1];
          return i < 0 || j < 0 || i >= m.H || j >= m.W ? null : scene.input[(c * m.H + i) * m.W + j];
        },
      },
    );
  }

  function data(scene) {
    const {m, chosen, now, number, rows, isGradient, till} = scene;
    const X = isGradient ? m.dX : m.X;
    const isPadded = m.g.pad[0] + m.g.pad[1] > 0;
    const places = m.n < m.P ? `, ${m.ch} × ${m.cw} places` : "";
    return block(scene.figure, "X", scene.at.X, {
      label: size(isGradient ? "Wᵀ·dY" : "X", m.K, m.P) + rows.note + places,
      rows: rows.count,
      cols: m.n,
      extent: m.extent(X),
      ghost: number < 2 || now === "b1",
      here: () => [chosen.k - rows.first, chosen.s],
      onpick: (r, q) => Choice.cell(m, chosen, {s: q, k: rows.first + r}),
      value: (r, q) => {
        const k = rows.first + r;
        if (q >= till.columns || (number === 2 && (q !== chosen.s || k >= till.rows))) return undefined;
        return isPadded && m.place(k, m.column(q)) < 0 ? null : X[k * m.n + q];
      },
    });
  }

  function weights(scene) {
    const {m, chosen, now, number, rows} = scene;
    const W = now === "b2" ? m.dW : m.w;
    return block(scene.figure, "W", scene.at.W, {
      label: size(now === "b2" ? "dW" : "W", m.M, m.K) + (m.g.group > 1 ? `, ${m.g.group} groups` : ""),
      rows: m.M,
      cols: rows.count,
      extent: m.extent(W),
      ghost: number < 4 || now === "b1",
      value: (r, q) => Product.weight(m, r, rows.first + q, W),
      here: () => [chosen.f, chosen.k - rows.first],
      onpick: (r, q) => Choice.cell(m, chosen, {f: r, k: rows.first + q}),
    });
  }

  // W as B above A, with Z = B·X between X and Y.
  function factors(scene) {
    const {m, chosen, rank, low, Z, rows, at, figure} = scene;
    return {
      B: block(figure, "B", at.B, {
        label: size("B", rank, m.K),
        rows: rank,
        cols: rows.count,
        extent: m.extent(low.right),
        value: (r, q) => low.right[r * m.K + rows.first + q],
      }),
      Z: block(figure, "Z", at.Z, {
        label: size("Z = B·X", rank, m.P),
        rows: rank,
        cols: m.n,
        extent: m.extent(Z),
        value: (r, q) => Z[r * m.n + q],
      }),
      W: block(figure, "A", at.A, {
        label: size("A", m.M, rank),
        labelX: at.Y.x - GAP - Math.max(at.A.w, 84),
        rows: m.M,
        cols: rank,
        extent: m.extent(low.left),
        value: (r, q) => low.left[r * rank + q],
        here: () => [chosen.f, 0],
        onpick: r => Choice.filter(m, chosen, r),
      }),
    };
  }

  const biasOf =
    ({m, number, isBack}) =>
    f =>
      m.b && number >= 5 && !isBack ? m.b[f] : 0;

  function answers(scene) {
    const {m, chosen, rank, number, isBack, till} = scene;
    const bias = biasOf(scene);
    const Y = isBack ? m.dY : rank ? scene.Y : m.WX;
    const name = isBack ? "dY" : `Y = ${rank ? "A·Z" : "W·X"}${m.b && number >= 5 ? " + b" : ""}`;
    return block(scene.figure, "Y", scene.at.Y, {
      label: size(name, m.M, m.P),
      rows: m.M,
      cols: m.n,
      extent: m.extent(Y),
      ghost: number < 4,
      value: (r, q) => (q < till.sums ? Y[r * m.n + q] + bias(r) : undefined),
      here: () => [chosen.f, chosen.s],
      onpick: (r, q) => Choice.filter(m, chosen, r, q),
    });
  }

  // Row f of Y, folded to an output map; at rank r the exact one beside it.
  function outputs(scene) {
    const {m, chosen, rank, number, isBack, at} = scene;
    const {f, y, x} = chosen;
    const bias = biasOf(scene)(f);
    if (m.P === 1) return [];
    const maps = [[isBack ? `gradient of output map ${f}` : `output map ${f}`, isBack ? m.dY : m.WX]];
    if (rank && !m.own) maps.push([`at rank ${rank}`, scene.Y]);
    const most = clamp(at.height - at.bottom, 60, maps.length > 1 ? 104 : 200);
    const side = Math.min(most / Math.max(m.ch, m.cw), 40);
    const extent = m.extent(maps[0][1].slice(f * m.n, (f + 1) * m.n).map(v => v + bias));
    return maps.map(([label, values], i) =>
      block(
        scene.figure,
        i ? "low" : "output",
        {x: at.right + i * Math.max(m.cw * side + 20, 130), y: at.bottom, w: m.cw * side, h: m.ch * side},
        {
          label,
          rows: m.ch,
          cols: m.cw,
          extent,
          ghost: number < 5,
          value: (r, q) => values[f * m.n + r * m.cw + q] + bias,
          here: () => [y - m.py, x - m.px],
          onpick: (r, q) => Choice.cell(m, chosen, {s: r * m.cw + q}),
          others: !i && {name: "output map", turn: by => Choice.filter(m, chosen, (f + by + m.M) % m.M)},
        },
      ),
    );
  }

  // Frames: pink what is chosen, dark a single number; dashed lines lead from one to the next.
  function frames(scene, b) {
    const {m, chosen, now, number, isBack, rank, rows, seen} = scene;
    const {f, s, y, x, k} = chosen;
    const {stride, dilation} = m.g;
    const over = Figure.overlay(scene.figure, scene.width, scene.height);
    const {mark, line, dot} = over;
    const pixel = (top, left, i, j) =>
      b.input.part(top * stride[0] + i * dilation[0] - seen.y, left * stride[1] + j * dilation[1] - seen.x);
    const tap = i => pixel(y, x, Math.floor(i / m.kw), i % m.kw);
    const row = k - rows.first;
    const isShown = row >= 0 && row < rows.count;
    parts(scene, b, over);
    for (let g = 0; number === 3 && stride[0] * stride[1] > 1 && g < m.n; g++)
      // a stride leaves gaps between the windows
      dot(pixel(Math.floor(m.column(g) / m.ow), m.column(g) % m.ow, 0, 0), 1.2, "conv-dot");
    for (const [i, g] of scene.repeats || [])
      if (i >= rows.first && i < rows.first + rows.count) dot(b.X.part(i - rows.first, g), 2.5, "conv-repeat");

    const column = b.X.part(0, s, rows.count);
    const cell = b.Y.part(f, s);
    const first = tap(0);
    const last = tap(m.area - 1);
    const window = {x: first.x, y: first.y, w: last.x + last.w - first.x, h: last.y + last.h - first.y};
    if (now !== "b1" && now !== "b2") {
      for (let i = 0; dilation[0] * dilation[1] > 1 && i < m.area; i++) mark(tap(i), "thin");
      mark(window);
    }
    if (number >= 2 && now !== "b1" && now !== "b2") {
      line(window.x + window.w, window.y, column.x, column.y);
      line(window.x + window.w, window.y + window.h, column.x, column.y + column.h);
      mark(column);
    }
    if (number >= 2 && now !== "b1") {
      mark(tap(k % m.area), "pixel");
      if (isShown) mark(now === "b2" ? b.X.part(row, 0, 1, m.n) : b.X.part(row, s), "pixel");
    }
    if (now === "b2") mark(b.Y.part(f, 0, 1, m.n));
    if (now === "b2" && isShown) mark(b.W.part(f, row), "pixel");
    if (now === "b3" || now === "b4") mark(b.Y.part(0, s, m.M));
    if ((now === "b3" || now === "b4") && isShown) mark(b.W.part(0, row, m.M));
    if (!isBack && number >= 4) {
      const filter = b.W.part(f, 0, 1, b.W.cols);
      mark(filter);
      line(filter.x + filter.w, filter.y + filter.h / 2, cell.x, cell.y + cell.h / 2);
      line(column.x + column.w / 2, column.y + column.h, cell.x + cell.w / 2, cell.y);
    }
    if (rank) mark(b.Z.part(0, s, rank));
    if (number >= 4) mark(cell, "pixel");
    for (const [i, out] of number >= 5 && now !== "b3" ? b.outputs.entries() : []) {
      const at = out.part(y - m.py, x - m.px);
      mark(at);
      if (!i) line(b.Y.x + b.Y.w, cell.y + cell.h / 2, at.x, at.y + at.h / 2);
    }
    return over;
  }
  // Thin lines part the input maps in X and in W (or B), where there is room.
  function parts({m, number, rows, at}, b, {line}) {
    const wide = b.B || b.W;
    for (
      let map = m.area;
      map < rows.count && number >= 2 && (at.X.h * m.area) / rows.count >= 5;
      map += m.area
    ) {
      const y = b.X.part(map, 0).y;
      const x = wide.part(0, map).x;
      line(b.X.x, y, b.X.x + b.X.w, y, "conv-part");
      if (number >= 4) line(x, wide.y, x, wide.y + wide.h, "conv-part");
    }
  }

  // The numbers of the window and of the filter's slice, beside X.
  function tables({m, chosen, now, number, isBack, at}) {
    const {f, s, k, c, p} = chosen;
    const box = el("div", {
      class: "conv-numbers" + (m.small ? "" : " beside"),
      style: {left: px(at.right), top: "0px"},
    });
    const add = (label, value) => {
      const values = Array.from({length: m.area}, (_, i) => value(c * m.area + i));
      box.append(m.small ? cells(label, values, m, k - c * m.area) : coloured(label, values, m));
    };
    const slice = m.small ? `filter ${f}, its slice for map ${c}` : `filter ${f}, map ${c}`;
    if (now === "b2") add(`dW of ${slice}`, i => Product.weight(m, f, i, m.dW));
    else if (isBack && now !== "b1") add("this window's share of dX", i => m.dX[i * m.n + s]);
    else if (!isBack)
      add(m.small ? `the window, numbers of map ${c}` : `window, map ${c}`, i =>
        m.place(i, p) < 0 ? null : m.X[i * m.n + s],
      );
    if (!isBack && number >= 4) add(slice, i => Product.weight(m, f, i));
    return box;
  }
  const titled = (label, picture) => el("div", {}, el("div", {class: "conv-label"}, label), picture);
  function coloured(label, values, m) {
    const extent = m.extent(values);
    const scale = clamp(Math.floor(100 / Math.max(m.kh, m.kw)), 1, 12);
    return titled(
      label,
      Maps.tile(
        values.map(v => v ?? 0),
        m.kh,
        m.kw,
        {lo: -extent, hi: extent, scale, label},
      ),
    );
  }
  function cells(label, values, m, chosen) {
    const extent = m.extent(values);
    const power = extent > 0 && extent < 0.01 ? Math.floor(Math.log10(extent)) : 0;
    const digits = power ? 2 : extent >= 100 ? 0 : extent >= 10 ? 1 : extent >= 0.1 ? 2 : 3;
    const cell = (v, i) => {
      const [r, g, b] = Maps.colour(v ?? 0, extent);
      const ink = (r + 2 * g + b) / 4 > 128 ? "#000" : "#fff";
      return el(
        "td",
        {
          class: (i === chosen ? "chosen" : "") + (v === null ? " pad" : ""),
          title: v === null ? "padding" : exact(v),
          style: v === null ? {} : {backgroundColor: `rgb(${r},${g},${b})`, color: ink},
        },
        Sums.decimal((v ?? 0) / 10 ** power, digits),
      );
    };
    const row = i =>
      el(
        "tr",
        {},
        values.slice(i * m.kw, (i + 1) * m.kw).map((v, j) => cell(v, i * m.kw + j)),
      );
    return titled(
      label + (power ? `, times 1e${power}`.replace("-", "−") : ""),
      el(
        "table",
        {class: "cells conv-cells", "aria-label": label},
        el(
          "tbody",
          {},
          Array.from({length: m.kh}, (_, i) => row(i)),
        ),
      ),
    );
  }

  return {draw};
})();
