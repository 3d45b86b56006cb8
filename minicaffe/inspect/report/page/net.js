// View 1: the table of layers, and where parameters, work, memory and time are.
View("net", () => {
  let sorted = null; // [column, 1 or −1]
  // title, value, how it is shown, in which format, question and unit of its bar
  const COLUMNS = [
    ["layer", l => l.name],
    ["type", l => l.type],
    ["parameters", l => l.parameters, "share", whole, "Where are the parameters?", "parameters"],
    ["multiply-adds", l => l.multiply_adds, "share", whole, "Where is the work?", "multiply-adds"],
    ["memory", l => l.activation_bytes, "share", bytes, "Which blobs are large?", "bytes"],
    ["ms", l => l.ms ?? 0, "share", fmt, "Where does the time go?", "ms"],
    ["rank", l => (l.rank ? l.rank.r / l.rank.full : 0), "rank"],
    ["output", l => l.tops.map(k => R.stages[k].shape.join(" × ") || "1").join(", "), "output"],
  ].filter(
    ([name]) =>
      (name !== "rank" || R.layers.some(l => l.rank)) && (name !== "ms" || R.totals.ms !== null),
  );
  const totals = {
    parameters: R.totals.parameters,
    "multiply-adds": R.totals.multiply_adds,
    memory: R.totals.activation_bytes,
    ms: R.totals.ms,
  };
  // A layer's part of a column: of parameters that layers share, all is the first one's, as in summary.
  const part = (l, [name, f]) =>
    name === "parameters" ? l.parameters_share : totals[name] ? f(l) / totals[name] : 0;

  function sentence() {
    const isInBlocks = State.layers.some(l => l.block !== l.name);
    const shares = new Map(); // of work and of parameters
    for (const {block, multiply_adds_share, parameters_share} of State.layers) {
      const [work, size] = shares.get(block) || [0, 0];
      shares.set(block, [work + multiply_adds_share, size + parameters_share]);
    }
    const [name, [work, size]] = [...shares].reduce((a, b) => (b[1][0] > a[1][0] ? b : a));
    return [
      `Each row is one layer${isInBlocks ? ", each part of a bar a block of layers" : ""}.`,
      "Parameters are the numbers that were learned, multiply-adds the work for one image.",
      work > 2 * size ? "They are often in different places: here" : "Here",
      `${name} does ${percent(work)} of the work with ${percent(size)} of the parameters.`,
    ].slice(0, work ? 4 : 2).join(" ");
  }

  function bars(root) {
    const light = name =>
      root.querySelectorAll("[data-part]").forEach(n => n.classList.toggle("lit", n.dataset.part === name));
    const choose = name => State.set({layer: name});
    return el(
      "div",
      {class: "bars"},
      COLUMNS.filter(c => c[4]).map(c =>
        Chart.share({
          title: c[4],
          unit: c[5],
          chosen: State.layer,
          onselect: choose,
          onhover: light,
          layers: State.layers.map(l => ({...l, value: part(l, c) * totals[c[0]]})),
        }),
      ),
    );
  }

  function cell(l, c) {
    const [name, f, how, format] = c;
    const v = f(l);
    if (how === "rank") return el("td", {class: "number"}, l.rank ? `${l.rank.r} of ${l.rank.full}` : "");
    if (how !== "share") return el("td", {class: name === "type" ? `kind ${l.kind}` : name}, v);
    const share = part(l, c);
    const shown = format === whole && totals[name] >= 1e8 ? count : format;
    return [
      el("td", {class: "number", title: v ? whole(v) : null}, v ? shown(v) : ""),
      el(
        "td",
        {class: `part ${name}`},
        v ? [el("span", {class: `stick ${l.kind}`, style: {width: 40 * share + "px"}}), percent(share)] : "",
      ),
    ];
  }

  function head(c) {
    const [name, , how] = c;
    const first = how && how !== "output" ? -1 : 1;
    const way = sorted && sorted[0] === c ? sorted[1] : 0;
    return [
      el(
        "th",
        {
          scope: "col",
          class: first < 0 ? "number" : name,
          "aria-sort": way ? (way > 0 ? "ascending" : "descending") : null,
        },
        el(
          "button",
          {
            "data-focus": `sort-${name}`,
            onclick: () => {
              sorted = way === -first ? null : [c, way ? -first : first];
              State.redraw();
            },
          },
          name,
          way ? (way > 0 ? " ▲" : " ▼") : "",
        ),
      ),
      how === "share" && el("th", {scope: "col", class: `part ${name}`}, "share"),
    ];
  }

  function draw(root) {
    const rows = [...State.layers];
    if (sorted)
      rows.sort((a, b) => {
        const [[, f], way] = sorted;
        const [x, y] = [f(a), f(b)];
        return (x < y ? -1 : x > y ? 1 : 0) * way;
      });
    const open = l => State.set({layer: l.name, view: "layer"});
    const body = rows.map(l =>
      el(
        "tr",
        {class: l.name === State.layer ? "chosen" : null, "data-layer-row": l.name, onclick: () => open(l)},
        COLUMNS.map((c, i) =>
          i === 0
            ? el(
                "th",
                {scope: "row", title: l.name},
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
            : cell(l, c),
        ),
      ),
    );
    const thin = R.layers.filter(l => l.rank && l.parameters !== l.parameters_dense);
    const sum = (layers, key) => layers.reduce((total, l) => total + l[key], 0);
    root.append(
      R.zeros ? el("p", {class: "warning", role: "note"}, R.zeros) : "",
      bars(root),
      el(
        "div",
        {class: "sideways"},
        el(
          "table",
          {class: "net", "aria-label": "layers"},
          el("thead", {}, el("tr", {}, COLUMNS.map(head))),
          el("tbody", {}, body),
        ),
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
