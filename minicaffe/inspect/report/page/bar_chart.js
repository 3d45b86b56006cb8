// Horizontal bars, one for each name; dots on an axis in logarithms, which has no 0 for a bar to begin at.
Chart.bar = (() => {
  const {scale, axisText, tickText, text, figure, frame} = Chart;

  // Horizontal bars: rows [{name, value, text?, kind?, chosen?, mark?, key?}]; reference: {value, label};
  // onselect(row). The values of dots are a column at the right.
  function bar({
    title,
    x: axis,
    rows,
    reference,
    onselect,
    width = 520,
    row = 20,
    label = Math.min(130, 10 + 7 * Math.max(3, ...rows.map(r => r.name.length))),
    top = reference ? 24 : 8,
  }) {
    const height = top + rows.length * row + 40;
    const box = {left: label, right: width - 74, top, bottom: height - 40};
    const svg = frame(width, height, `${title} ${rows.map(r => `${r.name} ${fmt(r.value)}`).join(", ")}`);
    const x = scale(
      axis.log ? axis : {lo: Math.min(0, ...rows.map(r => r.value)), ...axis},
      [...rows.map(r => r.value), ...(reference ? [reference.value] : [])],
      box.left,
      box.right,
    );
    const base = axis.log ? box.left : x(Math.max(0, x.lo));
    for (const t of axis.log && !rows.some(r => r.value > 0) ? [] : x.ticks)
      svg.append(
        el("line", {x1: x(t), x2: x(t), y1: box.top, y2: box.bottom, class: "tick"}),
        text(x(t), box.bottom + 16, tickText(t), {"text-anchor": "middle"}),
      );
    svg.append(
      text((box.left + box.right) / 2, box.bottom + 32, axisText(axis), {
        "text-anchor": "middle",
        class: "label",
      }),
    );
    const values = [];
    rows.forEach((r, i) => {
      const y = box.top + i * row;
      const end = Number.isFinite(r.value) && (!axis.log || r.value > 0) ? x(r.value) : base;
      const name = r.name.length > 20 ? r.name.slice(0, 4) + "…" + r.name.slice(-14) : r.name;
      svg.append(
        el(
          "g",
          {class: `bar${r.chosen ? " chosen" : ""}`, onclick: () => onselect && onselect(r)},
          el("rect", {x: 0, y, width, height: row, class: "back"}),
          text(box.left - 6, y + row * 0.7, name, {"text-anchor": "end"}),
          axis.log
            ? r.value > 0 && el("circle", {cx: end, cy: y + row / 2, r: 5, class: `dot ${r.kind || "conv"}`})
            : el("rect", {
                x: Math.min(base, end),
                y: y + 3,
                width: Math.max(1, Math.abs(end - base)),
                height: row - 6,
                class: `fill ${r.kind || "conv"}`,
              }),
        ),
      );
      values.push(
        text(
          axis.log ? box.right + 10 : Math.max(base, end) + 5,
          y + row * 0.7,
          (r.text ?? fmt(r.value)) + (r.mark ? " " + r.mark : ""),
          {
            class: "value",
          },
        ),
      );
    });
    const anchor = reference && x(reference.value) > (box.left + box.right) / 2 ? "end" : "start";
    if (reference && (!axis.log || reference.value > 0))
      svg.append(
        el("line", {x1: x(reference.value), x2: x(reference.value), y1: box.top, y2: box.bottom, class: "cut"}),
        text(x(reference.value), box.top - 8, reference.label, {"text-anchor": anchor, class: "cut-label"}),
      );
    svg.append(...values); // over the line
    return figure("bar", title, svg, ["", axis.label, ""], () =>
      rows.map(r => [r.name, r.value, r.mark ?? ""]),
    );
  }

  return bar;
})();
