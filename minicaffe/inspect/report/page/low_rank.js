// View 4: what a layer loses at rank r, in three ways.
View("low_rank", () => {
  const {V, WAYS, first} = Rank;
  const {row} = Mix;
  const wayName = w => `${WAYS[w].letter} ${WAYS[w].name}`;

  // -- what is said of rank r --
  function sentence(layer, r) {
    const {m, k, group, dense, full, break_even: even} = layer;
    const g = group > 1 ? group + " · " : "";
    const all = group * m * k;
    const held = group * r * (m + k);
    const now = Rank.cost(layer, r);
    return el(
      "p",
      {id: "rank-cost"},
      el("b", {}, `rank ${r} of ${full}: `),
      `${g}${r}·(${m} + ${whole(k)}) = `,
      el("b", {class: "num", "data-read": "parameters"}, whole(held)),
      ` of ${whole(all)} numbers (${percent(held / all)}), `,
      el("b", {class: "num", "data-read": "multiply-adds"}, whole(now)),
      ` of ${whole(dense)} multiply-adds (${percent(now / dense)}). `,
      el(
        "span",
        {class: r > even ? "warning" : "quiet", "data-read": "break-even"},
        r > even
          ? `Beyond rank ${even} = ⌊${m}·${whole(k)} / (${m} + ${whole(k)})⌋ two thin products cost more ` +
              "than one: dense is cheaper, and that is what runs."
          : `Break-even at rank ${even}.`,
      ),
    );
  }
  function readings(name, numbers, r) {
    const rows = [
      ["answers off by", "response", true],
      ["W off by", "weight", true],
      ["energy kept", "energy", false],
    ];
    const chosen = Rank.way(name);
    return el(
      "table",
      {class: "net", id: "rank-readings", "aria-label": `errors at rank ${r}`},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("td", {}, `rank ${r}`),
          V.ways.map(w =>
            el(
              "th",
              {scope: "col", class: w === chosen ? "chosen" : null},
              wayName(w),
            ),
          ),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map(([text, key, isError]) => {
          const values = V.ways.map(w => numbers[w][key][r]);
          const least = Math.min(...values);
          return el(
            "tr",
            {},
            el("th", {scope: "row"}, text),
            V.ways.map((w, i) =>
              el(
                "td",
                {class: "number", title: exact(values[i]), "data-read": `${key}-${w}`},
                el(
                  isError && values[i] === least ? "b" : "span",
                  {},
                  Math.abs(values[i]) < 1e-6 ? "0" : fmt(values[i]),
                ),
              ),
            ),
          );
        }),
      ),
    );
  }

  // Whether this image keeps its class with the layer at rank r, and the others as they are planned.
  async function verdict(name, r) {
    if (!Values.isLive()) return "";
    const ranks = {...Rank.plan(), [name]: r};
    const {dense, low, left} = await Rank.scores(ranks);
    const [a, b] = [first(dense), first(low)];
    if (left.includes(name)) return "";
    return el(
      "p",
      {id: "rank-verdict"},
      `This image: ${className(a)} (${Rank.unit} ${fmt(dense[a])}) → `,
      el("b", {class: a === b ? "" : "warning"}, `${className(b)} (${fmt(low[b])})`),
      Object.keys(ranks).length > 1 ? " at these ranks" : ` at rank ${r}`,
    );
  }

  // -- charts of all ranks; `cut` is the line at rank r --
  function curves(numbers, n, size, cut) {
    // smaller ones are rounding
    const parts = v =>
      Array.from(numbers[v].spectrum, s => s / (numbers[v].spectrum[0] || 1)).filter(s => s > 1e-4);
    const lo = 10 ** Math.floor(Math.log10(Math.min(0.1, ...V.ways.flatMap(parts))));
    const line = (title, label, y, name, values) =>
      Chart.line({
        title,
        x: {label, lo: 1, hi: n},
        y,
        ...size,
        cut: {...cut},
        series: V.ways.map(v => ({name: name(v), x: values(v).map((_, i) => i + 1), y: values(v)})),
      });
    return [
      line(
        "How fast do the directions fade?",
        "direction",
        {label: "size, as part of the first", log: true, lo, hi: 1},
        v => WAYS[v].symbol,
        parts,
      ),
      line("How far are the answers off?", "rank", {label: "‖Y − Ŷ‖ / ‖Y‖", lo: 0, even: true}, wayName, v =>
        Array.from(numbers[v].response).slice(1),
      ),
    ];
  }

  // How often the net is right with this layer alone at a rank: of the measured ranks the nearest.
  function nearest(name, r) {
    const points = V.accuracy && V.accuracy.points[name] && V.accuracy.points[name][Rank.way(name)];
    if (!points || !points.length) return "";
    const [rank, right] = points.reduce((a, b) => (Math.abs(b[0] - r) < Math.abs(a[0] - r) ? b : a));
    return el(
      "p",
      {id: "rank-right"},
      el("b", {class: "num", "data-read": "accuracy"}, `${(100 * right).toFixed(1)} %`),
      ` of ${many(V.accuracy.count, "test image")} right, measured with this layer alone at rank ${rank}; ` +
        `${(100 * V.accuracy.dense).toFixed(1)} % as it is.`,
    );
  }

  function accuracy(name, width, r, n) {
    const series = [
      ...Object.entries((V.accuracy && V.accuracy.points[name]) || {}).map(([w, points]) => [
        wayName(w),
        points,
      ]),
      ...Object.entries(V.sweep[name] || {}).map(([scheme, points]) => [`sweep, ${scheme}`, points]),
    ];
    if (!series.length)
      return el(
        "div",
        {class: "chart wide"},
        el("b", {}, "Accuracy against rank: not known. "),
        quiet(
          !V.accuracy
            ? "Make the report from the net with its data and --test 1000, or "
            : V.layers[name].way
              ? "The layer is of low rank already. To compare ranks, "
              : `For each rank everything after ${name} would run again on all test images, which takes long. ` +
                "A sweep does it: ",
          "give ",
          el("span", {style: {whiteSpace: "nowrap"}}, "--sweep JOURNAL"),
          ", which minicaffe lowrank sweep writes.",
        ),
      );
    return Chart.line({
      title: "How often is the net right, with this layer alone at rank r?",
      x: {label: "rank", lo: 1, hi: n, log: n > 64},
      y: {label: `accuracy${V.accuracy ? `, ${many(V.accuracy.count, "test image")}` : ""}`, hi: 1, even: true},
      width,
      height: 210,
      series: series.map(([text, points]) => ({
        name: text,
        x: points.map(p => p[0]),
        y: points.map(p => p[1]),
        dots: "both",
      })),
      cut: {x: r},
    });
  }

  async function draw(root) {
    const name = Rank.layerName();
    const layer = V.layers[name];
    const numbers = await Rank.numbers(name);
    const w = Rank.way(name);
    const count = layer.group * layer.m;
    const reason = (V.out.find(([other]) => other === State.layer) || [])[1];
    const n = layer.full;
    const f = Math.min(State.map, count - 1);
    if (name !== State.layer)
      root.append(
        quiet(
          reason ? `${State.layer}: ${reason}. ` : `${State.layer} has no weights to factor. `,
          "Shown is ",
          el("b", {}, name),
          ".",
        ),
      );
    const room = Math.max(300, document.getElementById("main").clientWidth - 32);
    const width = room >= 600 ? Math.floor((room - 20) / 2) : room;
    const isWide = room >= 960; // the errors have room beside the pictures
    if (!numbers.weights.spectrum[0]) {
      root.append(
        el(
          "p",
          {class: "absent"},
          `All weights of ${name} are 0: there is nothing to factor. Give the net its --weights.`,
        ),
      );
      return;
    }
    let r = Rank.rank(name);
    let o = null;
    let waiting = false;
    let held = false;
    let moved = false;
    let asking = false;
    const slider = el("input", {
      type: "range",
      id: "rank-slider",
      min: 1,
      max: n,
      value: r,
      "aria-label": `rank of ${name}`,
      "data-focus": "rank-slider",
      oninput: e => soon(Number(e.target.value)),
      onchange: () => Rank.setRank(name, r),
    });
    const ways = el(
      "div",
      {role: "group", "aria-label": "how the factors are found"},
      V.ways.map(v =>
        el(
          "button",
          {
            "aria-pressed": String(v === w),
            "data-focus": `way-${v}`,
            "data-way": v,
            onclick: () => State.set({way: v}),
          },
          el("b", {}, WAYS[v].letter),
          ` ${WAYS[v].name}: ${WAYS[v].long}`,
        ),
      ),
    );
    const turn = (by, label, sign) =>
      el(
        "button",
        {"aria-label": label, "data-focus": label, onclick: () => State.set({map: (f + by + count) % count})},
        sign,
      );
    const filter = [
      "Filter ",
      turn(-1, "filter before", "‹"),
      ` ${f} `,
      turn(1, "next filter", "›"),
      el("span", {title: "counted from 0"}, ` of ${count}`),
    ];
    const cost = el("div");
    const table = el("div");
    const right = el("div");
    const said = el("div", {}, Values.isLive() && "…");
    const pictures = el("div", {class: "row", id: "rank-pictures"});
    const mixing = el("div", {class: "wide"});
    const both = row();
    const cut = {x: r, dots: true, onmove: slide};
    let charts = [];

    // While it is dragged only what depends on r is drawn again; the state follows when it is let go.
    root.addEventListener(
      "pointerdown",
      () => {
        held = true;
        addEventListener(
          "pointerup",
          () => {
            held = false;
            if (moved) Rank.setRank(name, r);
          },
          {once: true},
        );
      },
      true,
    );
    function slide(v) {
      if (!held) {
        Rank.setRank(name, Math.round(v));
        return;
      } // an arrow key
      moved = true;
      soon(Math.round(v));
    }
    function soon(v) {
      r = Math.max(1, Math.min(n, v));
      if (!waiting)
        requestAnimationFrame(() => {
          waiting = false;
          paint(r);
        });
      waiting = true;
    }
    async function paint(next) {
      const mine = (r = Math.max(1, Math.min(n, next)));
      slider.value = r;
      cost.replaceChildren(sentence(layer, r));
      right.replaceChildren(nearest(name, r));
      table.replaceChildren(readings(name, numbers, r));
      for (const chart of charts) if (chart.move) chart.move(r);
      const isCarried = o && (r <= o.c || r === n);
      const parts = isCarried
        ? [Mix.filter(name, o, r, f, filter), await Mix.maps(name, o, r, f)]
        : [
            quiet(
              o
                ? `Filters and maps are in this page up to rank ${o.c}.`
                : "No filters and maps at rank r: the page has no room for this layer's bases. --layers " +
                    `${name}, or a larger --max-size, makes some.`,
            ),
          ];
      if (mine !== r) return;
      pictures.replaceChildren(...parts, isWide ? table : "");
      mixing.replaceChildren(
        ...(isCarried && r <= o.c ? [Mix.draw(name, o, r, f, room >= 740 ? width : room)] : []),
      );
      if (Rank.isQuick) await ask();
      else ask();
    }
    // One pass of the net at a time: the latest rank is asked for when the one before is answered.
    async function ask() {
      if (asking) return;
      asking = true;
      try {
        for (let at = null; at !== r;) {
          at = r;
          said.replaceChildren(await verdict(name, at));
        }
      } finally {
        asking = false;
      }
    }
    o = layer.bases ? await Rank.model(name, w) : null;
    await paint(r);
    root.append(
      el("div", {class: "rank-bar controls"}, el("label", {}, "rank", slider, "keys ", el("kbd", {}, "[ ]")), ways),
      cost,
      row(right, said),
      ...layer.notes.map(note => quiet(note)),
      pictures,
      both,
      isWide ? "" : table,
      quiet(
        `Answers are off by ‖Y − Ŷ‖ / ‖Y‖ over ${V.seen.text}, ${many(layer.columns, "column")} of X`,
        ...(R.views.convolution.layers?.[name]?.missing === undefined && layer.group === 1
          ? [
              "; for this image alone, by a: ",
              link("view 3, step 6", {view: "convolution", step: "6", layer: name, rank: r}),
            ]
          : []),
        ".",
        layer.columns < 2 * layer.k || V.seen.count < 16
          ? " On other images b and c lose more: they are fitted to these alone."
          : "",
        layer.rank ? ` In this net the layer has rank ${layer.rank}.` : "",
      ),
    );
    // Both charts, with their axes, end where the first screen does.
    const top = both.getBoundingClientRect().top - root.parentElement.getBoundingClientRect().top;
    const height = Math.max(140, Math.min(220, document.getElementById("main").clientHeight - top - 32));
    charts = curves(numbers, n, {width, height}, cut);
    both.append(...charts);
    charts.push(accuracy(name, width, r, n));
    root.append(row(charts[2], mixing), await Plan.draw());
  }

  const step = by => () => {
    const name = Rank.layerName();
    Rank.setRank(name, Rank.rank(name) + by);
  };
  const next = () => State.set({way: V.ways[(V.ways.indexOf(Rank.way(Rank.layerName())) + 1) % V.ways.length]});
  return {
    title: () => `Low rank: ${Rank.layerName()}`,
    draw,
    say:
      "If the rows of W are nearly mixtures of r rows, W ≈ A·B: r·(M + K) numbers in place of M·K. What " +
      "must be kept is not W but the answers W·X, so it pays to look at the data.",
    choices: {way: V.ways},
    tries: "Lowest rank at which this image keeps its class? And all images?",
    keys: {
      "[": ["rank smaller", step(-1)],
      "]": ["rank larger", step(1)],
      "{": ["smaller by 10", step(-10)],
      "}": ["larger by 10", step(10)],
      r: ["all layers as in the net", () => State.set({ranks: "none", rank: null})],
      w: ["next way", next],
    },
  };
});
