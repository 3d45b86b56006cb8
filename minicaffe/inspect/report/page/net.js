// View 1: the table of layers, and where parameters, work, memory and time are.
View("net", () => {
  let sorted = null; // [column, direction]
  const COLUMNS = [
    ["layer", l => l.name],
    ["type", l => l.type],
    ["top", l => l.tops.map(k => R.stages[k].shape.join(" × ") || "1").join(", ")],
    ["parameters", l => l.parameters, "share"],
    ["multiply-adds", l => l.multiply_adds, "share"],
    ["memory", l => l.activation_bytes, "share", bytes],
    ["rank", l => (l.rank ? l.rank.r / l.rank.full : 0), "rank"],
    ["ms", l => l.ms ?? 0, "share", fmt],
  ];
  const known = [
    [3, () => true],
    [4, () => true],
    [5, () => true],
    [6, () => R.layers.some(l => l.rank)],
    [7, () => R.totals.ms !== null],
  ];
  const totals = {
    3: R.totals.parameters,
    4: R.totals.multiply_adds,
    5: R.totals.activation_bytes,
    7: R.totals.ms,
  };
  // A layer's part of a column: of parameters that layers share, all is the first one's, as in summary.
  const part = (l, c) => (c === 3 ? l.parameters_share : totals[c] ? COLUMNS[c][1](l) / totals[c] : 0);
  const largest = f => State.layers.reduce((a, b) => (f(b) > f(a) ? b : a));

  function sentence() {
    const worker = largest(l => l.multiply_adds);
    if (!R.totals.multiply_adds)
      return (
        "Each row is one layer. Parameters are the numbers that were learned, multiply-adds the work " +
        "for one image."
      );
    if (worker.multiply_adds_share < 0.1) {
      // many layers: what they are counts more than which
      const convs = State.layers.filter(l => l.kind === "conv");
      const sum = f => convs.reduce((a, l) => a + f(l), 0);
      return (
        "Each row is one layer. Parameters are the numbers that were learned, multiply-adds the work for " +
        "one image. Here " +
        `${many(convs.length, "convolution does", "convolutions do")} ` +
        `${percent(sum(l => l.multiply_adds_share))} of the work with ` +
        `${percent(sum(l => l.parameters_share))} ` +
        `of the parameters; none does more than ${percent(worker.multiply_adds_share)}.`
      );
    }
    return (
      "Each row is one layer. Parameters are the numbers that were learned, multiply-adds the work for one " +
      "image. They are often in different " +
      `places: here ${worker.name} does ${percent(worker.multiply_adds / R.totals.multiply_adds)} of ` +
      "the work with " +
      `${percent(worker.parameters_share)} of the parameters.`
    );
  }

  function bars(root) {
    const light = name =>
      root.querySelectorAll("[data-part]").forEach(n => n.classList.toggle("lit", n.dataset.part === name));
    const choose = name => State.set({layer: name});
    return el(
      "div",
      {class: "bars"},
      known
        .filter(([c, isKnown]) => c !== 6 && isKnown())
        .map(([c]) =>
          Chart.share({
            title: [
              "Where are the parameters?",
              "Where is the work?",
              "Which blobs are large?",
              "",
              "Where does the time go?",
            ][c - 3],
            unit: ["parameters", "multiply-adds", "bytes", "", "ms"][c - 3],
            chosen: State.layer,
            onselect: choose,
            onhover: light,
            parts: State.layers.map(l => ({name: l.name, value: part(l, c) * totals[c], kind: l.kind})),
          }),
        ),
    );
  }

  function cell(l, [, f, how, shown], c) {
    const v = f(l);
    if (how === "rank") return el("td", {class: "number"}, l.rank ? `${l.rank.r} of ${l.rank.full}` : "");
    if (how !== "share") return el("td", {class: c === 1 ? `kind ${l.kind}` : null}, v);
    const share = part(l, c);
    return [
      el("td", {class: "number", title: v ? whole(v) : null}, v ? (shown || whole)(v) : ""),
      el(
        "td",
        {class: "part"},
        v ? [el("span", {class: `stick ${l.kind}`, style: {width: 60 * share + "px"}}), percent(share)] : "",
      ),
    ];
  }

  function draw(root) {
    const columns = COLUMNS.map((c, i) => [c, i]).filter(([, i]) => i < 3 || known.find(k => k[0] === i)[1]());
    let rows = [...State.layers];
    if (sorted)
      rows.sort((a, b) => {
        const f = COLUMNS[sorted[0]][1];
        const [x, y] = [f(a), f(b)];
        return (x < y ? -1 : x > y ? 1 : 0) * sorted[1];
      });
    const head = columns.map(([[name, , how], i]) =>
      el(
        "th",
        {
          scope: "col",
          colspan: how === "share" ? 2 : 1,
          "aria-sort": sorted && sorted[0] === i ? (sorted[1] > 0 ? "ascending" : "descending") : null,
        },
        el(
          "button",
          {
            "data-focus": `sort-${name}`,
            onclick: () => {
              sorted =
                !sorted || sorted[0] !== i
                  ? [i, i < 3 ? 1 : -1]
                  : sorted[1] === (i < 3 ? 1 : -1)
                    ? [i, -sorted[1]]
                    : null;
              State.redraw();
            },
          },
          name,
          sorted && sorted[0] === i ? (sorted[1] > 0 ? " ▲" : " ▼") : "",
        ),
      ),
    );
    const open = l => State.set({layer: l.name, view: "layer"});
    const body = rows.map(l =>
      el(
        "tr",
        {class: l.name === State.layer ? "chosen" : null, "data-layer-row": l.name, onclick: () => open(l)},
        columns.map(([c, i]) =>
          i === 0
            ? el(
                "th",
                {scope: "row"},
                el(
                  "button",
                  {
                    class: "link",
                    "data-focus": `row-${l.name}`,
                    onclick: e => {
                      e.stopPropagation();
                      open(l);
                    },
                  },
                  l.name,
                ),
              )
            : cell(l, c, i),
        ),
      ),
    );
    const thin = R.layers.filter(l => l.rank && l.parameters !== l.parameters_dense);
    const sum = (layers, key) => layers.reduce((total, l) => total + l[key], 0);
    root.append(
      R.zeros ? el("p", {class: "warning", role: "note"}, R.zeros) : "",
      bars(root),
      el(
        "table",
        {class: "net", "aria-label": "layers"},
        el("thead", {}, el("tr", {}, head)),
        el("tbody", {}, body),
      ),
      thin.length
        ? el(
            "p",
            {class: "quiet"},
            "A layer with a rank has the numbers and the work of its two factors: " +
              `${whole(sum(thin, "parameters"))} parameters in place of ${whole(sum(thin, "parameters_dense"))}` +
              (thin.length > 1 ? ` in the ${thin.length} of them.` : "."),
          )
        : "",
    );
  }

  return {
    title: "Where the parameters and the work are",
    draw,
    say: sentence,
    tries: "Which layer would you make cheaper first?",
  };
});
