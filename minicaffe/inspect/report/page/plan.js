// The net with a rank for each layer, in view 4: what that costs, what it says, lines for the spec, and the game.
const Plan = (() => {
  const {V, first} = Rank;
  const {row} = Mix;
  const unchanged = Object.values(V.layers || {}).some(layer => layer.way) ? "this net" : "dense";
  let measuring = null;
  let result = "";
  let best = null;

  async function draw() {
    const ranks = Rank.plan();
    const {work, held} = Rank.totals(ranks);
    const text = Rank.yaml(ranks);
    const foot = (label, now, all, key) =>
      el(
        "tr",
        {},
        el("th", {scope: "row", colspan: 3}, label),
        el("td", {class: "part", "data-read": key}, percent(now / all)),
        el("td", {class: "number"}, whole(now)),
      );
    const choose = (name, value) => {
      if (value >= 1) Rank.setRank(name, value);
      else State.set({ranks: Rank.planWith(name, null), ...(name === State.layer ? {rank: null} : {})});
    };
    const rows = Rank.names().map(name => {
      const layer = V.layers[name];
      const r = ranks[name] ?? layer.rank;
      const now = ranks[name] ? Rank.cost(layer, r) : layer.now.work;
      return el(
        "tr",
        {class: name === Rank.layerName() ? "chosen" : null},
        el(
          "th",
          {scope: "row"},
          el(
            "button",
            {class: "link", "data-focus": `plan-${name}`, onclick: () => State.set({layer: name})},
            name,
          ),
        ),
        el(
          "td",
          {},
          el("input", {
            type: "number",
            min: 1,
            max: layer.full,
            value: r ?? "",
            placeholder: "dense",
            "aria-label": `rank of ${name}`,
            "data-focus": `plan-rank-${name}`,
            onchange: e => choose(name, parseInt(e.target.value, 10)),
          }),
          ` of ${layer.full}`,
        ),
        el("td", {class: "number"}, whole(layer.break_even)),
        el(
          "td",
          {class: "part"},
          el("span", {class: "stick conv", style: {width: (60 * now) / layer.dense + "px"}}),
          percent(now / layer.dense),
        ),
        el("td", {class: "number"}, whole(now)),
      );
    });
    const field = el(
      "textarea",
      {
        readonly: true,
        rows: 2 * Object.keys(ranks).length,
        cols: 44,
        "aria-label": "lines for the spec",
        "data-focus": "rank-yaml",
      },
      text,
    );
    const copy = () => {
      field.focus();
      field.select();
      say(document.execCommand("copy") ? "copied" : "press Ctrl+C");
    };
    const known = el("div");
    const asked = scores(ranks).then(found => known.replaceChildren(found));
    if (Rank.isQuick) await asked;
    return el(
      "section",
      {"aria-label": "the whole net"},
      el(
        "h3",
        {},
        "The whole net" + (V.test && Values.isLive() ? ": keep 98 % of its right answers, spend least" : ""),
      ),
      row(
        el(
          "div",
          {},
          el(
            "table",
            {class: "net", id: "rank-plan"},
            headOf(["layer", "rank", "break-even", "of its work", "multiply-adds"]),
            el("tbody", {}, rows),
            el(
              "tfoot",
              {},
              foot("the whole net's work", work, R.totals.multiply_adds, "work"),
              foot("its parameters", held, R.totals.parameters, "held"),
            ),
          ),
        ),
        known,
        text &&
          el(
            "div",
            {},
            el(
              "p",
              {},
              "Lines for your spec ",
              el("button", {onclick: copy, "data-focus": "rank-copy"}, "copy"),
            ),
            field,
            text.includes("factored") &&
              quiet(
                "From training data, minicaffe lowrank apply fits these factors. Without data leave factored " +
                  "out: the net then makes them of its weights, and minicaffe export writes them as two layers.",
              ),
          ),
      ),
    );
  }
  async function scores(ranks) {
    if (!Values.isLive())
      return quiet(
        "Scores at these ranks: not known. " +
          `${(typeof Live === "object" && Live.why) || R.live.why || "The net does not run in this page yet."}`,
      );
    const {dense, low, left} = await Rank.scores(ranks);
    const top = Array.from(dense.keys())
      .sort((i, j) => Math.max(dense[j], low[j]) - Math.max(dense[i], low[i]))
      .slice(0, 5);
    const bar = (p, kind) => [
      el("td", {class: "number"}, fmt(p)),
      el(
        "td",
        {class: "part"},
        el("span", {class: `stick ${kind}`, style: {width: 90 * Math.max(0, Math.min(1, p)) + "px"}}),
      ),
    ];
    return el(
      "div",
      {},
      el(
        "table",
        {class: "net", id: "rank-scores"},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            [
              [`this image: ${Rank.unit}`, 1],
              [unchanged, 2],
              ["at these ranks", 2],
            ].map(([t, n]) => el("th", {scope: "col", colspan: n}, t)),
          ),
        ),
        el(
          "tbody",
          {},
          top.map(c =>
            el("tr", {}, el("th", {scope: "row"}, className(c)), bar(dense[c], "other"), bar(low[c], "conv")),
          ),
        ),
      ),
      el(
        "p",
        {id: "rank-class"},
        first(dense) === first(low)
          ? "It keeps its class."
          : el("b", {class: "warning"}, `Its class is now ${className(first(low))}.`),
        left.length ? ` Left as they are: ${left.join(", ")}; this page has no factors for that.` : "",
      ),
      V.test
        ? el(
            "button",
            {"data-focus": "rank-measure", onclick: measure},
            `measure on ${many(V.test.count, "test image")}`,
          )
        : quiet("To measure on test images, make the report from the net with its data."),
      el("p", {id: "rank-measured", "aria-live": "polite"}, result),
    );
  }
  // The share of test images that the net is right about, and of all such images; another measurement ends this
  // one.
  async function measure() {
    const ranks = Rank.plan();
    const {work} = Rank.totals(ranks); // of now: the button may have been drawn before a rank was typed
    const names =
      Object.entries(ranks)
        .map(([name, r]) => `${name} ${r}`)
        .join(", ") || unchanged;
    const mine = (measuring = {});
    const {planes, labels, count} = V.test;
    const data = await Promise.all(planes.map(Pack.array));
    const size = R.input.shape[1] * R.input.shape[2];
    const tell = text => {
      result = text;
      const node = document.getElementById("rank-measured");
      if (node) node.textContent = text;
    };
    const nets = [(await Rank.params(ranks)).params, ...(best ? [] : [{}])];
    const right = [0, 0];
    for (let i = 0; i < count; i++) {
      const x = new Float32Array(size * planes.length);
      data.forEach((plane, c) => x.set(plane.subarray(i * size, (i + 1) * size), c * size));
      const said = await Promise.all(
        nets.map(async params => {
          const s = (await Live.forward(x, {params}))[R.answer];
          return s.indexOf(Math.max(...s));
        }),
      );
      if (mine !== measuring) return;
      said.forEach((c, j) => {
        right[j] += c === labels[i];
      });
      if (i % 10 === 9) tell(`${i + 1} of ${count} …`);
    }
    best = best || {dense: right[1] / count, part: Infinity};
    const p = right[0] / count;
    const part = work / R.totals.multiply_adds;
    const keeps = p >= 0.98 * best.dense;
    if (keeps) best.part = Math.min(best.part, part);
    tell(
      `${names}: ${(100 * p).toFixed(1)} % of ${count} right (${unchanged} ` +
        `${(100 * best.dense).toFixed(1)} %), of all such images ${between(wilson(p, count))}, with ` +
        `${percent(part)} of the work. ` +
        (keeps ? "That keeps 98 % of them." : "That is less than 98 % of them.") +
        (best.part < Infinity ? ` Your best: ${percent(best.part)}.` : ""),
    );
  }

  return {draw};
})();
