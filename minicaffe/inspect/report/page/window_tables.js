// View 3, the numbers of the window and of the filter's slice, as tables or as pictures.
const WindowTables = (() => {
  const {clamp, px} = Figure;

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
    const slice = `filter ${f}, map ${c}`;
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

  return {tables};
})();
