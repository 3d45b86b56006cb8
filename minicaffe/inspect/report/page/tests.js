// View 8: which classes the net takes for which, over the test images; and the images behind each cell.
View("test_set", () => {
  const D = R.views.test_set || {};
  const FEW = 40;
  const LOWEST = 20;
  const cellOf = text => (/^\d+,\d+$/.test(text || "") ? text.split(",").map(Number) : null);
  const countOf = ([t, s]) =>
    D.counts ? D.counts[t][s] : (D.pairs.find(p => p[0] === t && p[1] === s) || [0, 0, 0])[2];
  const name = c => R.classes[c] ?? String(c); // where there is little room
  const choose = (t, s) => State.set({cell: `${t},${s}`});

  // The cell that is looked at: of the address, or else the most frequent mistake.
  function chosen() {
    const cell = cellOf(State.cell);
    if (cell && cell.every(c => c < D.classes)) return cell;
    return D.pairs.length ? D.pairs[0].slice(0, 2) : [0, 0];
  }

  function sentence([t, s], n) {
    const all = D.in_class[t];
    const was = n === 1 ? "was" : "were";
    const part = all ? ` (${percent(n / all)} of them)` : "";
    return t === s
      ? `${whole(n)} of ${many(all, "image")} of ${className(t)} ${was} said to be ${className(s)}${part}.`
      : `${whole(n)} of ${many(all, "image")} of ${className(t)} ${was} taken for ${className(s)}${part}.`;
  }

  // Whether a picture can be shown to the net in this page: it must be as large as the net's input.
  const isOpen = () =>
    Values.isLive() &&
    D.pictures &&
    D.pictures.shape[1] === R.input.shape[1] &&
    D.pictures.shape[2] === R.input.shape[2];

  // Let a test image join those of the report, and show the net's answer.
  async function open(k, rgb) {
    const [number, label] = D.examples[k];
    const title = `test image ${number}`;
    let at = [...R.images, ...Live.images].findIndex(image => image.name === title);
    if (at < 0) {
      const rgba = new Uint8Array((rgb.length / 3) * 4).fill(255);
      for (let i = 0; i < rgb.length; i++) rgba[4 * Math.floor(i / 3) + (i % 3)] = rgb[i];
      at = await Live.add(title, rgba);
      Live.images[at - R.images.length].label = label;
    }
    State.set({view: "answer", image: at});
    State.redraw();
  }

  // Images, as a grid: each with what was said of it, how surely, and the probability of its own class.
  async function images(places, text, focus) {
    const ref = D.pictures;
    const data = ref && (await Pack.bytes(ref));
    const h = ref ? ref.shape[1] : 0;
    const w = ref ? ref.shape[2] : 0;
    const grid = Maps.grid(
      places.map(k => {
        const [number, t, s, p, own] = D.examples[k];
        const label =
          `test image ${number} of ${className(t)}: the net says ${className(s)} with ${percent(p)}` +
          (t === s ? "" : `, and ${className(t)} with ${percent(own)}`);
        const picture = ref
          ? Maps.rgb(data.subarray(k * h * w * 3, (k + 1) * h * w * 3), h, w, {label})
          : el("span", {}, `image ${number}`);
        picture.title = label;
        const lines = [text(t, s, p)].flat().map(line => el("span", {style: {display: "block"}}, line));
        return {picture, text: lines, number: k};
      }),
      {
        focus,
        onselect: k => {
          say(label(k));
          isOpen()
            ? open(k, data.subarray(k * h * w * 3, (k + 1) * h * w * 3))
            : choose(D.examples[k][1], D.examples[k][2]);
        },
      },
    );
    grid
      .querySelectorAll(".number")
      .forEach(n => Object.assign(n.style, {maxWidth: "88px", textAlign: "center"}));
    return grid;
  }
  const label = k =>
    `test image ${D.examples[k][0]}: ${className(D.examples[k][2])}, ${percent(D.examples[k][3])}`;

  function mistakes() {
    const rows = D.pairs.map(([t, s, n]) =>
      el(
        "tr",
        {},
        el("td", {}, className(t)),
        el("td", {class: "quiet"}, "→"),
        el("td", {}, className(s)),
        el("td", {class: "number"}, whole(n)),
        el("td", {class: "number"}, percent(n / D.in_class[t])),
        el(
          "td",
          {},
          el(
            "button",
            {
              "data-focus": `pair-${t}-${s}`,
              "data-pair": `${t},${s}`,
              "aria-label": `look at ${className(t)} taken for ${className(s)}`,
              onclick: () => choose(t, s),
            },
            "look",
          ),
        ),
      ),
    );
    rows.forEach(row =>
      row.querySelectorAll("td").forEach(cell => {
        Object.assign(cell.style, {paddingRight: "14px", whiteSpace: "nowrap"});
      }),
    );
    if (!rows.length) return el("p", {}, "No mistakes among these images.");
    const least = D.pairs[D.pairs.length - 1][2];
    return [
      el(
        "table",
        {"aria-label": "most frequent mistakes"},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["true", "", "said", "images", "share of its class", ""].map(h =>
              el("th", {scope: "col", style: {paddingRight: "14px"}}, h),
            ),
          ),
        ),
        el("tbody", {}, rows),
      ),
      D.as_frequent
        ? quiet(`and ${whole(D.as_frequent)} more with ${many(least, "image")} each`)
        : null,
    ];
  }

  // The matrix; long names stand upright above their columns.
  function matrix(names, cell) {
    const figure = Chart.matrix({
      title: "What was said of each class?",
      x: {label: "said"},
      y: {label: "true"},
      rows: names,
      columns: names,
      values: D.counts,
      chosen: cell,
      onselect: choose,
    });
    const isLong = names.some(name => name.length > 3);
    figure.querySelectorAll(".matrix th").forEach(th => {
      Object.assign(th.style, {whiteSpace: "nowrap", padding: "0 6px 0 0"});
    });
    figure.querySelector(".matrix th").style.whiteSpace = "normal"; // the corner: as wide as the names
    figure
      .querySelectorAll(".matrix thead th + th")
      .forEach(th => Object.assign(th.style, {padding: "0", textAlign: "center"}));
    if (isLong)
      figure.querySelectorAll(".matrix thead th + th").forEach(th =>
        Object.assign(th.style, {
          textAlign: "left",
          lineHeight: "30px",
          padding: "4px 0",
          writingMode: "vertical-rl",
          transform: "rotate(180deg)",
          verticalAlign: "bottom",
        }),
      );
    figure.querySelectorAll(".matrix td button").forEach(b => {
      b.style.minWidth = "30px";
      b.style.minHeight = "26px";
    });
    // room for outlines
    Object.assign(figure.querySelector(".scroll").style, {maxHeight: "none", padding: "1px 2px 2px 0"});
    return figure;
  }

  async function draw(root) {
    const cell = chosen();
    const places = D.cells[cell.join(",")] || [];
    const n = countOf(cell);
    const names = Array.from({length: D.classes}, (_, c) => name(c));
    const known = D.recall
      .map((r, c) => [r, c])
      .filter(([r]) => r !== null)
      .sort((a, b) => (D.classes > FEW ? a[0] - b[0] : 0))
      .slice(0, D.classes > FEW ? LOWEST : FEW);
    const bars = Chart.bar({
      title:
        D.classes > FEW
          ? `Which ${LOWEST} classes does it know least?`
          : "How many images of each class did it know?",
      x: {label: "recall: share of the class's images", unit: "%", lo: 0, hi: 100},
      width: 480,
      rows: known.map(([r, c]) => ({
        name: className(c),
        value: 100 * r,
        text: percent(r),
        kind: "conv",
        chosen: c === cell[0],
        key: c,
      })),
      onselect: r => choose(r.key, r.key),
    });
    const left = el(
      "div",
      {},
      el(
        "p",
        {class: "read-out"},
        "Accuracy ",
        el("b", {}, (100 * D.accuracy).toFixed(1) + " %"),
        ` of ${whole(D.count)} test images; of all such images ${between(D.interval)}`,
      ),
      D.counts ? matrix(names, cell) : null,
      el("h3", {}, D.pairs.length > 1 ? `The ${D.pairs.length} most frequent mistakes` : "Mistakes"),
      mistakes(),
      bars,
    );
    const more = places.length < n ? `The ${places.length} that the net was surest of. ` : "";
    const right = el(
      "div",
      {},
      el("h3", {}, sentence(cell, n)),
      places.length
        ? await images(places, (t, s, p) => percent(p), "cell")
        : quiet(n ? "Their pictures are not in this file." : "No images here; click another cell."),
      places.length
        ? quiet(`${more}Under each: the probability that the net gave to ${className(cell[1])}.`)
        : null,
      places.length && isOpen() ? quiet("Click one to see what the net makes of it.") : null,
      D.mistakes.length
        ? [
            el("h3", {}, "Where was it surest, and wrong?"),
            await images(D.mistakes, (t, s, p) => [`${name(t)} → ${name(s)}`, percent(p)], "mistake"),
          ]
        : null,
    );
    root.append(
      el(
        "div",
        {
          style: {
            display: "grid",
            gridTemplateColumns: "minmax(0, max-content) minmax(260px, 1fr)",
            gap: "10px 26px",
            alignItems: "start",
          },
        },
        left,
        right,
      ),
    );
  }

  return {
    title: "Which classes it takes for which",
    draw,
    tries: "Which two classes are confused most, and in which direction?",
    say: () =>
      D.counts
        ? "Rows: true class; columns: what the net said. Off the diagonal are mistakes; click one and look. " +
          "Many are mistakes you would make."
        : "Each row: images of one class that the net took for another, the most frequent first. Look at " +
          "some. Many are mistakes you would make.",
  };
});
