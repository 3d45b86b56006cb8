// A table of counts in colours, whose cells can be chosen.
Chart.matrix = (() => {
  const {figure} = Chart;

  // A table of counts: values[row][column]; the colour is the share of the row; the diagonal is outlined.
  function matrix({title, x: xAxis, y: yAxis, rows, columns, values, chosen, onselect, square = true}) {
    const extent = values.map(row => row.reduce((a, b) => a + b, 0));
    const body = values.map((row, i) =>
      el(
        "tr",
        {},
        el("th", {scope: "row"}, rows[i]),
        row.map((v, j) => {
          const [r, g, b] = Maps.colour(extent[i] ? v / extent[i] : 0, 1);
          const isChosen = chosen && chosen[0] === i && chosen[1] === j;
          return el(
            "td",
            {
              class: (square && i === j ? "diagonal" : "") + (isChosen ? " chosen" : ""),
              style: {backgroundColor: `rgb(${r},${g},${b})`, color: Maps.ink([r, g, b])},
            },
            el(
              "button",
              {
                tabindex: "-1",
                "data-focus": `${title}-${i}-${j}`,
                "data-cell": `${i},${j}`,
                onclick: () => onselect && onselect(i, j),
                "aria-label": `${yAxis.label} ${rows[i]}, ${xAxis.label} ${columns[j]}: ${whole(v)}`,
              },
              v ? whole(v) : "·",
            ),
          );
        }),
      ),
    );
    const table = el(
      "table",
      {class: "matrix"},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", {}, `${yAxis.label}\u00a0↓ ${xAxis.label}\u00a0→`),
          columns.map(c => el("th", {scope: "col"}, c)),
        ),
      ),
      el("tbody", {}, body),
    );
    const buttons = [...table.querySelectorAll("button")];
    const wide = columns.length;
    const active = chosen ? chosen[0] * wide + chosen[1] : 0;
    if (buttons[active]) buttons[active].tabIndex = 0;
    table.addEventListener("keydown", event => {
      const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide}[event.key];
      const here = buttons.indexOf(document.activeElement);
      if (!step || here < 0) return;
      event.preventDefault();
      event.stopPropagation();
      const next = buttons[here + step];
      if (next) {
        buttons[here].tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      }
    });
    return figure("matrix", title, el("div", {class: "scroll"}, table), [yAxis.label, ...columns], () =>
      values.map((row, i) => [rows[i], ...row]),
    );
  }

  return matrix;
})();
