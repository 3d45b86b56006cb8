// Charts: each is a figure whose title is a question, with its numbers "as table". Here is what all kinds share:
// scales, ticks, axes. Each kind has a file of its own.
const Chart = (() => {
  // -- scales and ticks --
  function ticks(lo, hi, wanted) {
    if (!(hi > lo)) return [lo];
    const raw = (hi - lo) / wanted;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(s => s * power).find(s => s >= raw * 0.999);
    const found = [];
    for (let t = Math.ceil(lo / step - 1e-9) * step; t <= hi + step * 1e-9; t += step)
      found.push(Math.abs(t) < step * 1e-9 ? 0 : t);
    return found;
  }
  // 1, 2, 5, 10 …; where there is no room for these 1, 10 …, or each second power, and so on, or the ends of these.
  function logTicks(lo, hi, wanted) {
    let before = [];
    for (let step = 0; ; step++) {
      const found = [];
      const by = step || 1;
      for (let e = by * Math.floor(Math.log10(lo) / by); 10 ** e <= hi * 1.001; e += by)
        for (const head of step ? [1] : [1, 2, 5]) found.push(head * 10 ** e);
      const inside = found.filter(t => t >= lo * 0.999 && t <= hi * 1.001);
      if (inside.length < 2) return before.length ? [before[0], before[before.length - 1]] : ticks(lo, hi, wanted);
      if (inside.length <= wanted) return inside;
      before = inside;
    }
  }
  // {log, lo, hi, even}, from a to b in pixels; even: the ends are ticks.
  function scale(axis, values, a, b) {
    const usable = values.filter(v => Number.isFinite(v) && (!axis.log || v > 0));
    let lo = axis.lo ?? Math.min(...usable);
    let hi = axis.hi ?? Math.max(...usable);
    if (!usable.length && (axis.lo === undefined || axis.hi === undefined)) {
      lo = axis.log ? 0.1 : 0;
      hi = 1;
    }
    if (hi <= lo) {
      if (axis.log) {
        lo /= 2;
        hi *= 2;
      } else {
        const d = Math.abs(lo) || 1;
        lo -= d / 2;
        hi += d / 2;
      }
    }
    const wanted = Math.max(2, Math.round(b < a ? (a - b) / (axis.log ? 20 : 28) : (b - a) / 50)); // up, or across
    if (axis.even) {
      const [first, second] = ticks(lo, hi, wanted);
      const step = second - first;
      lo = Math.floor(lo / step + 1e-9) * step;
      hi = Math.ceil(hi / step - 1e-9) * step;
    }
    const f = axis.log ? Math.log10 : v => v;
    const [l, h] = [f(lo), f(hi)];
    const at = v => a + ((f(v) - l) / (h - l)) * (b - a);
    at.lo = lo;
    at.hi = hi;
    at.back = p => {
      const v = l + ((p - a) / (b - a)) * (h - l);
      return axis.log ? 10 ** v : v;
    };
    at.ticks = (axis.log ? logTicks : ticks)(lo, hi, wanted);
    return at;
  }
  const axisText = axis =>
    [axis.label, axis.unit && `[${axis.unit}]`, axis.log && "(log)"].filter(Boolean).join(" ");
  const tickText = t =>
    t && (Math.abs(t) >= 1e6 || Math.abs(t) < 1e-4)
      ? fmt(t)
      : t.toLocaleString("en-US", {maximumSignificantDigits: 4}).replace("-", "−");
  const text = (x, y, content, attributes = {}) => el("text", {x, y, ...attributes}, content);

  function figure(kind, title, chart, head, rows, extra) {
    return el(
      "figure",
      {class: `chart ${kind}`, "data-chart": title},
      el("figcaption", {}, title),
      chart,
      extra,
      asTable(title, head, rows),
    );
  }
  function asTable(title, head, rows) {
    const details = el(
      "details",
      {class: "as-table"},
      el("summary", {"aria-label": `${title}: as table`}, "as table"),
    );
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      details.append(
        el(
          "div",
          {class: "scroll", tabindex: "0", role: "region", "aria-label": title},
          el(
            "table",
            {},
            headOf(head),
            el(
              "tbody",
              {},
              rows().map(row =>
                el(
                  "tr",
                  {},
                  row.map((cell, i) =>
                    el(
                      i ? "td" : "th",
                      i ? {} : {scope: "row"},
                      typeof cell === "number" ? exact(cell) : (cell ?? ""),
                    ),
                  ),
                ),
              ),
            ),
          ),
        ),
      );
    });
    return details;
  }
  function frame(width, height, label) {
    return el("svg", {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": label,
      class: "plot",
    });
  }
  function axes(svg, x, y, xAxis, yAxis, box) {
    for (const t of y.ticks)
      svg.append(
        el("line", {x1: box.left, x2: box.right, y1: y(t), y2: y(t), class: "tick"}),
        text(box.left - 5, y(t) + 4, tickText(t), {"text-anchor": "end"}),
      );
    for (const t of x.ticks)
      svg.append(
        el("line", {x1: x(t), x2: x(t), y1: box.bottom, y2: box.bottom + 4, class: "axis"}),
        text(x(t), box.bottom + 16, tickText(t), {"text-anchor": "middle"}),
      );
    svg.append(
      el("line", {x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis"}),
      text((box.left + box.right) / 2, box.bottom + 32, axisText(xAxis), {
        "text-anchor": "middle",
        class: "label",
      }),
      text(box.left - 40, box.top - 11, axisText(yAxis), {class: "label"}),
    );
  }

  return {scale, ticks, axes, axisText, tickText, text, figure, frame};
})();
