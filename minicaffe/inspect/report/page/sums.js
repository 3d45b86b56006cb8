// The words of view 3: a sentence for each step, and the chosen sum spelled out in numbers.
const Sums = (() => {
  const decimal = (v, digits) => v.toFixed(digits).replace("-", "−");
  const fixed = (v, digits, read) =>
    el("b", {class: "num", title: exact(v), "data-read": read}, digits > 6 ? fmt(v, 4) : decimal(v, digits));
  // Numbers of one sum get the same decimals: four digits of the largest.
  function digitsOf(...values) {
    const most = Math.max(...values.map(Math.abs));
    return most > 0 ? Figure.clamp(3 - Math.floor(Math.log10(most)), 0, 12) : 3;
  }

  function pixelOf(m, {k, p}) {
    const at = m.place(k, p);
    return at < 0 ? "the padding" : `the pixel at (${Math.floor((at % (m.H * m.W)) / m.W)}, ${at % m.W})`;
  }

  function sentence(scene) {
    const {m, chosen, now, rank} = scene;
    const {f, p, y, x, k, c} = chosen;
    const group = m.g.group > 1 ? `, for the ${m.maps} maps of its group` : "";
    const maps = m.C > 1 ? `each of the ${m.C} input maps` : "the input";
    const biased = m.b ? "With the bias, row" : "Row";
    const hatched = m.g.pad[0] + m.g.pad[1] ? "; hatched is padding, which counts as 0" : "";
    switch (now) {
      case "1":
        return [`The window at output place (${y}, ${x}): ${m.kh} × ${m.kw} numbers of ${maps}${hatched}.`];
      case "2":
        return [
          `Written one under the other, map after map, they are column ${p} of X: ${whole(m.K)} numbers.`,
        ];
      case "3":
        return [
          `All ${whole(m.P)} windows side by side are X. Here ${pixelOf(m, chosen)} of map ${c} occurs ` +
            `${scene.repeats.length} times in it (dots).`,
        ];
      case "4":
        return [
          `Row ${f} of W is filter ${f}${group}. Row ${f} times column ${p} is one number of Y, where they cross.`,
        ];
      case "5":
        return [
          m.P === 1
            ? `${biased} ${f} of Y is output ${f}.`
            : `${biased} ${f} of Y, folded to ${m.oh} × ${m.ow}, is output map ${f}. Column ${p} is its ` +
              `pixel (${y}, ${x}).`,
        ];
      case "6":
        return rank ? ofRank(scene) : [];
      case "b1":
        return [`dY: how the loss grows with each output number. Row ${f} is output map ${f}.`];
      case "b2":
        return [
          `dW = dY·Xᵀ: row ${f} of dY times row ${k} of X, over all ${whole(m.P)} places, is the gradient ` +
            "of one weight.",
        ];
      case "b3":
        return [
          `Wᵀ·dY: column ${k} of W times column ${p} of dY is what the loss passes through this window to ` +
            "one of its pixels.",
        ];
      default:
        return [
          "col2im: every column goes back to its window; where windows overlap, their numbers add up to dX.",
        ];
    }
  }

  function ofRank({m, name, rank, Y}) {
    const norm = a => Math.sqrt(a.reduce((sum, v) => sum + v * v, 0));
    const params = rank * (m.M + m.K);
    const dense = m.M * m.K;
    const bold = (text, read) => el("b", {class: "num", "data-read": read}, text);
    const cost = [
      bold(whole(params), "params"),
      ` numbers in place of ${whole(dense)} (${percent(params / dense)}), `,
      bold(count(params * m.P)),
      ` multiply-adds in place of ${count(dense * m.P)}. `,
    ];
    if (m.own) return ["W = A·B, so Y = A·(B·X): ", ...cost, "This layer has no other weights."];
    const off = norm(Y.map((v, i) => v - m.WX[i])) / (norm(m.WX) || 1);
    return [
      "W ≈ A·B (by SVD), so Y ≈ A·(B·X): ",
      ...cost,
      "Its answers to this image are off by ",
      bold(percent(off).replace(" ", "\u00a0"), "error"),
      " (‖Y − Ŷ‖ / ‖Y‖)",
      ...(Rank.V.layers && Rank.V.layers[name]
        ? ["; over many images, and with better factors: ", link("view 4", {view: "low_rank", rank})]
        : []),
      ".",
    ];
  }

  // The nodes of the sum under the picture. What the net itself has there is added when it is known.
  function sum(scene) {
    const {m, now, isBack} = scene;
    if (now === "b2") return ofWeight(scene);
    if (now === "b3" || now === "b4") return ofPixel(scene);
    return !isBack && Number(now) >= 4 && m ? ofAnswer(scene) : [];
  }
  function ofWeight({m, chosen}) {
    const {f, k, c} = chosen;
    const v = Product.weight(m, f, k, m.dW);
    const place = `place (${Math.floor((k % m.area) / m.kw)}, ${k % m.kw})`;
    return [
      `${whole(m.n)} products: `,
      fixed(v, digitsOf(v), "total"),
      ` = dL/dw of filter ${f}, map ${c}, ${place}${shownOf(m)}`,
    ];
  }
  function ofPixel({m, chosen, now}) {
    const {k, s, p} = chosen;
    const at = m.place(k, p);
    const own = m.dX[k * m.n + s];
    const all = at < 0 ? 0 : Product.col2im(m, m.n)[at];
    const digits = digitsOf(own, all);
    const nodes = [`this window gives ${pixelOf(m, chosen)} `, fixed(own, digits, "own")];
    if (now === "b3" || at < 0) return nodes;
    nodes.push(" · all windows that see it ", fixed(all, digits, "total"), ` = dL/dx${shownOf(m)}`);
    return m.n < m.P ? nodes : [...nodes, said("diff", m.g.bottom, m.x.length, at, digits)];
  }
  function ofAnswer({m, chosen, rank, Y}) {
    const {f, s, p, c} = chosen;
    const bias = m.b ? m.b[f] : 0;
    const all = m.WX[f * m.n + s];
    const own = chosen.partial(c);
    const total = all + bias;
    const digits = digitsOf(own, all, bias, total);
    const nodes = [`${m.area} products${m.C > 1 ? ` of map ${c}` : ""}: `];
    if (m.C > 1) nodes.push(fixed(own, digits, "own"), m.maps > 1 ? ` · all ${m.maps} maps: ` : " · ");
    nodes.push(fixed(all, digits, "all"));
    if (m.b) nodes.push(" + bias ", fixed(bias, digits, "bias"), " = ", fixed(total, digits, "total"));
    if (rank && !m.own)
      nodes.push(` · at\u00a0rank\u00a0${rank}:\u00a0`, fixed(Y[f * m.n + s] + bias, digits, "low"));
    return [...nodes, said("stage", m.g.top, m.M * m.P, f * m.P + p, digits)];
  }
  const shownOf = m => (m.n < m.P ? ` (over the ${many(m.n, "place")} shown)` : "");

  // What the net itself has: exact, or as recorded in 8 bits.
  const NET = " · the\u00a0net:\u00a0"; // a number stays on the line of its name
  function said(kind, key, size, at, digits) {
    const node = el("span", {style: {visibility: "hidden"}}, NET, decimal(0.1, digits)); // its room
    const {dtype, lo, hi} = R.stages[key][kind === "diff" ? kind : "values"] || {};
    Values[kind](key).then(({data, exact}) => {
      const isKnown = data && data.length === size;
      // of 8 bits no digit that half a step may change
      if (!exact && dtype === "u8")
        digits = Math.min(digits, Math.max(0, Math.floor(-Math.log10((hi - lo) / 510))));
      node.replaceChildren(...(isKnown ? [NET, exact ? "" : "≈ ", fixed(data[at], digits, "net")] : []));
      node.style.visibility = "";
    });
    return node;
  }

  return {sentence, sum, decimal};
})();
