// View 6, the chain rule: from the loss down to the image one number x of each layer, and the terms of its
// gradient.
const Walk = (() => {
  const FEW = 14; // lines, whose links fit above the first of them
  const decoder = new TextDecoder();
  const signed = v => (v < 0 ? `(${fmt(v)})` : fmt(v));
  const place = at =>
    at.length === 3 ? `map ${at[0]} at (${at[1]}, ${at[2]})` : at.length ? at.join(", ") : "the number";
  const name = key => stageName(source(key));

  const product = ([name, factors, isBefore]) =>
    el(
      "span",
      {class: isBefore ? "before" : "term", title: `${name}${isBefore ? " (the line above)" : ""}`},
      factors.map((f, k) => [k ? " · " : "", factors.length > 1 ? signed(f) : fmt(f)]),
    );
  function sum(line) {
    const others = line.count - line.terms.length;
    const result = [];
    line.terms.forEach((term, k) => result.push(k ? " + " : "", product(term)));
    if (others) result.push(` + ${many(others, "other")}, `, el("span", {class: "term"}, signed(line.rest)));
    return result;
  }
  function step(line, n) {
    const layer = layerOf(line.layer);
    const [key, index] = line.below;
    const letter = (line.formula.match(/dL\/d(\w)/) || [0, "x"])[1];
    const isRight = Math.abs(line.total - line.said) <= 1e-4 * Math.abs(line.said) + 1e-9;
    const item = el(
      "li",
      {id: `walk-line-${n}`, class: line.layer === State.layer ? "chosen" : null, "data-line": line.layer},
      el(
        "p",
        {},
        el(
          "button",
          {class: "link", "data-focus": `walk-${n}`, onclick: () => State.set({layer: line.layer})},
          el("b", {}, line.layer),
        ),
        el("span", {class: `kind ${layer.kind}`}, ` ${layer.type}`),
        " · ",
        el("code", {}, line.formula || R.formulas[layer.formula].split("\n").pop().trim()),
        ` · ${letter} is `,
        el("b", {}, `${name(key)}, ${place(index)}`),
      ),
    );
    if (line.table)
      item.append(
        el(
          "table",
          {class: "cells", "aria-label": "gradient of the loss"},
          headOf(line.head),
          el(
            "tbody",
            {},
            line.table.map(row =>
              el(
                "tr",
                {class: row[0] === line.row ? "chosen" : null},
                row.map((v, k) =>
                  el(
                    k ? "td" : "th",
                    k ? {title: exact(v)} : {scope: "row"},
                    k ? fmt(v) : line.head[0] === "class" ? className(v) : String(v),
                  ),
                ),
              ),
            ),
          ),
        ),
      );
    item.append(
      el(
        "p",
        {class: "sum"},
        `dL/d${letter} = `,
        line.terms ? [sum(line), " = "] : "",
        "total" in line
          ? [
              el("b", {"data-total": line.total}, num(line.total)),
              el("span", {class: "quiet"}, " · minicaffe: "),
            ]
          : "",
        el("span", {"data-said": line.said}, num(line.said)),
        "total" in line
          ? el("span", {class: isRight ? "true" : "warning"}, isRight ? " ✓" : " ✗")
          : el("span", {class: "quiet"}, ": this layer type has no line of its own here"),
      ),
    );
    if (line.note) item.append(quiet(line.note));
    if (line.terms && line.terms[0][0])
      item.append(
        el(
          "details",
          {class: "as-table"},
          el("summary", {"aria-label": `terms of ${line.layer}`}, "terms"),
          el(
            "table",
            {},
            el(
              "tbody",
              {},
              line.terms.map(t =>
                el(
                  "tr",
                  {},
                  el("th", {scope: "row"}, t[0], t[2] ? " ← the line above" : ""),
                  t[1].map(f => el("td", {}, exact(f))),
                  el("td", {}, "= " + exact(t[1].reduce((a, b) => a * b, 1))),
                ),
              ),
            ),
          ),
        ),
      );
    return item;
  }
  // The chain in one row: the gradients that were computed, each a link to its line.
  function chain(lines) {
    const links = el(
      "p",
      {class: "chain", "aria-label": "the chain"},
      lines.map((line, n) => [
        n ? " → " : "",
        el(
          "a",
          {
            href: "#",
            title: line.layer,
            onclick: e => {
              e.preventDefault();
              const item = document.getElementById(`walk-line-${n}`);
              item.scrollIntoView({block: "nearest"});
              item.querySelector("button").focus();
            },
          },
          `${name(line.below[0])} ${fmt(line.said)}`,
        ),
      ]),
    );
    if (lines.length <= FEW) return links;
    return el("details", {}, el("summary", {}, "the chain in one row"), links);
  }
  const firstOnly = n => [
    el("p", {}, `Recorded for ${n === 1 ? "the first image alone" : `the first ${n} images`}.`),
    el("button", {onclick: () => State.set({image: 0})}, `look at ${R.images[0].name}`),
  ];
  async function draw(root, i) {
    const walks = R.views.backward.walks;
    const ref = walks && walks[i];
    if (!ref) {
      root.append(...firstOnly(walks ? walks.length : 0));
      return;
    }
    const lines = JSON.parse(decoder.decode(await Pack.bytes(ref)));
    root.append(
      quiet(
        "From the loss down, one number x in each blob: the one with the largest gradient among those below " +
          "the line before. ",
        el("span", {class: "before"}, "Pink"),
        " is what the line above has computed; the others come from x's other users.",
      ),
      chain(lines),
      el("ol", {class: "walk"}, lines.map(step)),
    );
  }
  return {draw, firstOnly};
})();
