// The picture of view 3. The product is staggered: X stands above Y and W left of it, so row f of W, column p
// of X and cell (f, p) of Y line up. The input stands in the free corner, the output map right of Y.
const Staggered = (() => {
  const {LABEL, clamp, block} = Figure;
  const {GAP, layout, rowsOf, partOf} = Layout;
  const size = (name, a, b) => `${name} ${whole(a)} × ${whole(b)}`;

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
    figure.append(WindowTables.tables(scene));
    return {...blocks, over: Frames.frames(scene, blocks)};
  }

  function input(scene) {
    const {m, chosen, now, at, seen, isGradient} = scene;
    const {y, x, c} = chosen;
    const {pad, stride} = m.g;
    const unit = Math.min(at.map / seen.h, at.map / seen.w, 40);
    const what = m.g.folded ? `the ${whole(m.H * m.W)} inputs, folded` : `map ${c} of ${R.stages[m.g.bottom].blob}`;
    scene.input = isGradient ? Product.col2im(m, now === "b4" ? m.n : 0) : m.x;
    return block(
      scene.figure,
      "input",
      {x: 0, y: LABEL, w: seen.w * unit, h: seen.h * unit},
      {
        label: (isGradient ? "dX, " : "") + what + (seen.note || (m.C > 1 ? ` (0 … ${m.C - 1})` : "")),
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
      widest: scene.at.right - scene.at.X.x - 8,
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
    const maps = [[isBack ? `dY, output map ${f}` : `output map ${f}`, isBack ? m.dY : m.WX]];
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

  return {draw};
})();
