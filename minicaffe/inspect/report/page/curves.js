// Charts, five kinds: line, bar, histogram, share (100 %), matrix. Each is a figure with its numbers "as table".
const Chart = (() => {
  const KINDS = ["conv", "loss", "data", "pool"];
  const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
  let ids = 0;

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
  function logTicks(lo, hi, wanted) {
    const a = Math.ceil(Math.log10(lo) - 1e-9);
    const b = Math.floor(Math.log10(hi) + 1e-9);
    if (b - a < 1) return ticks(lo, hi, wanted);
    const step = Math.max(1, Math.ceil((b - a + 1) / wanted));
    const found = [];
    for (let e = a; e <= b; e += step) found.push(10 ** e);
    return found;
  }
  // {log, lo, hi}, from a to b in pixels.
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
    const f = axis.log ? Math.log10 : v => v;
    const [l, h] = [f(lo), f(hi)];
    const at = v => a + ((f(v) - l) / (h - l)) * (b - a);
    at.lo = lo;
    at.hi = hi;
    at.back = p => {
      const v = l + ((p - a) / (b - a)) * (h - l);
      return axis.log ? 10 ** v : v;
    };
    at.ticks = (axis.log ? logTicks : ticks)(lo, hi, Math.max(2, Math.round(Math.abs(b - a) / 60)));
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
            el(
              "thead",
              {},
              el(
                "tr",
                {},
                head.map(h => el("th", {scope: "col"}, h)),
              ),
            ),
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
      text(box.left - 40, box.top - 8, axisText(yAxis), {class: "label"}),
    );
  }

  // series: [{name, x: [], y: [], kind?, dash?, thin?, dots?}]; bands: [{lo, hi, label}] of y; marks: [{x,
  // label}], as ticks;
  // cut: {x, label, onmove(x), dots}: a line that can be dragged, with dots on the series; figure.move(x) moves it.
  // onpick(x).
  function line({
    title,
    x: xAxis,
    y: yAxis,
    series,
    bands = [],
    marks = [],
    cut,
    width = 520,
    height = 240,
    onpick,
  }) {
    const box = {left: 58, right: width - 96, top: 24, bottom: height - 40};
    const clip = `clip${ids++}`;
    const holder = el("div", {class: "holder"});
    const read = el("div", {class: "read", "aria-hidden": "true"});
    let zoom = null;
    let at = null;
    const all = key => series.flatMap(s => Array.from(s[key]));
    const xs = [...new Set(all("x"))].sort((a, b) => a - b);

    function nearest(v) {
      return xs.length
        ? xs.reduce((best, c) => (Math.abs(c - v) < Math.abs(best - v) ? c : best), xs[0])
        : null;
    }
    function readings(v) {
      const found = series.map(s => {
        const i = s.x.indexOf ? s.x.indexOf(v) : -1;
        return i < 0 ? null : `${s.name} ${fmt(s.y[i], 4)}`;
      });
      return (
        `${xAxis.label} ${fmt(v, 6)}: ` +
        [...found, ...marks.filter(m => m.x === v).map(m => m.label)].filter(Boolean).join(" · ")
      );
    }
    function draw() {
      const svg = frame(width, height, `${title} ${series.map(s => s.name).join(", ")} against ${xAxis.label}`);
      const x = scale(zoom ? {...xAxis, lo: zoom[0], hi: zoom[1]} : xAxis, all("x"), box.left, box.right);
      const y = scale(yAxis, all("y"), box.bottom, box.top);
      svg.append(
        el(
          "defs",
          {},
          el(
            "clipPath",
            {id: clip},
            el("rect", {
              x: box.left,
              y: box.top - 3,
              width: box.right - box.left,
              height: box.bottom - box.top + 6,
            }),
          ),
        ),
      );
      for (const band of bands) {
        const [top, bottom] = [y(Math.min(band.hi, y.hi)), y(Math.max(band.lo, y.lo))];
        if (bottom > top)
          svg.append(
            el("rect", {x: box.left, width: box.right - box.left, y: top, height: bottom - top, class: "band"}),
            text(box.left + 4, top + 13, band.label, {class: "quiet"}),
          );
      }
      axes(svg, x, y, xAxis, yAxis, box);
      for (const m of marks)
        if (m.x >= x.lo && m.x <= x.hi)
          svg.append(
            el("line", {
              x1: x(m.x),
              x2: x(m.x),
              y1: box.bottom - 6,
              y2: box.bottom + 3,
              class: "axis",
              "data-mark": m.label,
            }),
          );
      const ends = [];
      series.forEach((s, i) => {
        const kind = s.kind || KINDS[i % 4];
        const points = [];
        for (let j = 0; j < s.x.length; j++)
          if (Number.isFinite(s.y[j]) && (!yAxis.log || s.y[j] > 0))
            points.push([x(s.x[j]), y(s.y[j]), s.x[j]]);
        if (!points.length) return;
        if (!s.dots || s.dots === "both")
          svg.append(
            el("polyline", {
              points: points.map(p => p[0].toFixed(1) + "," + p[1].toFixed(1)).join(" "),
              class: `series ${kind}${s.thin ? " thin" : ""}`,
              "stroke-dasharray": s.dash ?? DASHES[Math.floor(i % 4)],
              "clip-path": `url(#${clip})`,
            }),
          );
        if (s.dots)
          for (const p of points)
            svg.append(
              el("circle", {cx: p[0], cy: p[1], r: 3, class: `dot ${kind}`, "clip-path": `url(#${clip})`}),
            );
        const last = points.filter(p => p[0] <= box.right + 1).pop();
        if (last && !s.thin) ends.push([last[1], s.name, kind]);
      });
      ends.sort((a, b) => a[0] - b[0]);
      ends.forEach((e, i) => {
        if (i) e[0] = Math.max(e[0], ends[i - 1][0] + 13);
      });
      for (let i = ends.length - 1, most = box.bottom - 4; i >= 0; i--, most -= 13)
        ends[i][0] = Math.min(ends[i][0], most);
      for (const [y, name, kind] of ends) svg.append(text(box.right + 4, y + 4, name, {class: `end ${kind}`}));
      const cutting = el("g", {});
      const moveCut = v =>
        cutting.replaceChildren(
          el("line", {x1: x(v), x2: x(v), y1: box.top, y2: box.bottom, class: "cut"}),
          text(x(v) + 4, box.top + 8, cut.label ?? "", {class: "cut-label"}),
          ...(cut.dots ? series : []).flatMap((s, i) => {
            const at = s.y[Array.from(s.x).indexOf(v)];
            return at > y.lo
              ? [el("circle", {cx: x(v), cy: y(at), r: 4, class: `dot ${s.kind || KINDS[i % 4]}`})]
              : [];
          }),
        );
      if (cut) {
        moveCut(cut.x);
        svg.append(cutting);
        holder.move = v => {
          cut.x = v;
          moveCut(v);
        };
      }
      const cursor = el("line", {x1: 0, x2: 0, y1: box.top, y2: box.bottom, class: "cursor"});
      cursor.style.display = "none";
      svg.append(cursor);
      const show = v => {
        if (v === null) {
          cursor.style.display = "none";
          read.textContent = "";
          return;
        }
        at = v;
        cursor.style.display = "";
        cursor.setAttribute("x1", x(v));
        cursor.setAttribute("x2", x(v));
        read.textContent = readings(v);
      };
      const toX = event => {
        const r = svg.getBoundingClientRect();
        return x.back(((event.clientX - r.left) * width) / r.width);
      };
      let from = null;
      svg.addEventListener("pointermove", event => {
        show(nearest(toX(event)));
        if (from !== null && cut && cut.onmove) cut.onmove(nearest(toX(event)));
      });
      svg.addEventListener("pointerleave", () => {
        show(null);
        from = null;
      });
      svg.addEventListener("pointerdown", event => {
        from = toX(event);
        if (cut && cut.onmove) cut.onmove(nearest(from));
      });
      svg.addEventListener("pointerup", event => {
        const to = toX(event);
        if (from === null) return;
        if (!(cut && cut.onmove) && Math.abs(x(to) - x(from)) > 12) {
          zoom = [Math.min(from, to), Math.max(from, to)];
          draw();
        } else if (onpick) onpick(nearest(to));
        from = null;
      });
      svg.addEventListener("dblclick", () => {
        zoom = null;
        draw();
      });
      holder.replaceChildren(svg);
      holder.show = show;
    }
    draw();
    holder.tabIndex = 0;
    holder.setAttribute("role", "group");
    holder.setAttribute("data-focus", `chart-${title}`);
    holder.setAttribute("aria-label", `${title}; left and right arrows read the values`);
    holder.addEventListener("keydown", event => {
      if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key) || !xs.length) return;
      event.preventDefault();
      event.stopPropagation();
      const here = at !== null ? xs.indexOf(at) : cut ? xs.indexOf(cut.x) : -1;
      const step = event.key === "ArrowLeft" ? -1 : 1;
      const next =
        xs[
          event.key === "Home"
            ? 0
            : event.key === "End"
              ? xs.length - 1
              : Math.max(0, Math.min(xs.length - 1, here + step))
        ];
      holder.show(next);
      say(readings(next));
      if (cut && cut.onmove) cut.onmove(next);
    });
    const rows = () =>
      xs.map(v => [
        v,
        ...series.map(s => {
          const i = Array.from(s.x).indexOf(v);
          return i < 0 ? "" : s.y[i];
        }),
      ]);
    const made = figure(
      "line",
      title,
      el("div", {}, holder, read),
      [xAxis.label, ...series.map(s => s.name)],
      rows,
    );
    made.move = v => holder.move(v);
    return made;
  }

  // Horizontal bars: rows [{name, value, text?, kind?, chosen?, mark?, key?}]; reference: {value, label};
  // onselect(row).
  function bar({title, x: axis, rows, reference, onselect, width = 520, row = 20, label = 130}) {
    const top = reference ? 24 : 8;
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
          el("rect", {
            x: Math.min(base, end),
            y: y + 3,
            width: Math.max(1, Math.abs(end - base)),
            height: row - 6,
            class: `fill ${r.kind || "conv"}`,
          }),
        ),
      );
      values.push(
        text(Math.max(base, end) + 5, y + row * 0.7, (r.text ?? fmt(r.value)) + (r.mark ? " " + r.mark : ""), {
          class: "value",
        }),
      );
    });
    if (reference && (!axis.log || reference.value > 0))
      svg.append(
        el("line", {x1: x(reference.value), x2: x(reference.value), y1: box.top, y2: box.bottom, class: "cut"}),
        text(x(reference.value), box.top - 8, reference.label, {"text-anchor": "middle", class: "cut-label"}),
      );
    svg.append(...values); // over the line
    return figure("bar", title, svg, ["", axis.label, ""], () =>
      rows.map(r => [r.name, r.value, r.mark ?? ""]),
    );
  }

  // Counts in equal bins from lo to hi; zeros are counted apart and written.
  function histogram({title, x: axis, counts, lo, hi, zeros, total, log = false, width = 300, height = 150}) {
    if (!(hi > lo)) {
      lo -= 0.5;
      hi += 0.5;
    }
    const box = {left: 58, right: width - 16, top: 24, bottom: height - 40};
    const yAxis = {label: "how many", lo: log ? 0.5 : 0, hi: Math.max(1, ...counts), log};
    const svg = frame(width, height, `${title} histogram from ${fmt(lo)} to ${fmt(hi)}`);
    const x = scale({...axis, lo, hi}, [lo, hi], box.left, box.right);
    const y = scale(yAxis, counts, box.bottom, box.top);
    axes(svg, x, y, axis, yAxis, box);
    const step = (hi - lo) / counts.length;
    counts.forEach((n, i) => {
      if (!n) return;
      const from = x(lo + i * step);
      const middle = lo + (i + 0.5) * step;
      svg.append(
        el("rect", {
          x: from,
          width: Math.max(0.8, x(lo + (i + 1) * step) - from - 0.4),
          y: y(n),
          height: box.bottom - y(n),
          class: `fill ${middle < 0 ? "minus" : "plus"}`,
        }),
      );
    });
    if (lo < 0 && hi > 0)
      svg.append(el("line", {x1: x(0), x2: x(0), y1: box.top, y2: box.bottom, class: "axis"}));
    const rows = () => counts.map((n, i) => [`${fmt(lo + i * step, 4)} … ${fmt(lo + (i + 1) * step, 4)}`, n]);
    const extra = zeros
      ? el("p", {class: "quiet"}, `${whole(zeros)} zeros (${percent(zeros / total)}) not drawn`)
      : null;
    return figure("histogram", title, svg, [axis.label, "how many"], rows, extra);
  }

  // One bar of 100 %: parts [{name, value, kind}]; chosen: a name; onselect(name), onhover(name | null).
  function share({title, unit, parts, total, chosen, onselect, onhover}) {
    const sum = total ?? parts.reduce((a, p) => a + p.value, 0);
    const all = parts.filter(p => p.value > 0);
    // what is too thin to be seen is left out
    const shown = all.filter(p => all.length < 60 || p.value >= 0.002 * sum || p.name === chosen);
    const box = el("div", {
      class: all.length < 60 ? "share" : "share many",
      role: "group",
      "aria-label": title,
    });
    for (const p of shown) {
      const part = p.value / sum;
      const label = `${p.name}: ${percent(part)}, ${whole(p.value)} ${unit}`;
      box.append(
        el(
          "button",
          {
            class: `part ${p.kind}${p.name === chosen ? " chosen" : ""}`,
            style: {flexGrow: part * 1000, flexBasis: 0},
            title: label,
            "aria-label": label,
            "data-part": p.name,
            tabindex: p.name === chosen ? "0" : "-1",
            "data-focus": `${title}-${p.name}`,
            onclick: () => onselect && onselect(p.name),
            onmouseenter: () => onhover && onhover(p.name),
            onmouseleave: () => onhover && onhover(null),
            onfocus: () => onhover && onhover(p.name),
          },
          part > 0.08 ? `${p.name} ${percent(part)}` : "",
        ),
      );
    }
    const buttons = [...box.children];
    if (buttons.length && !buttons.some(b => b.tabIndex === 0)) buttons[0].tabIndex = 0;
    box.addEventListener("keydown", event => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      const here = buttons.indexOf(document.activeElement);
      if (!step || here < 0) return;
      event.preventDefault();
      event.stopPropagation();
      const next = buttons[Math.max(0, Math.min(buttons.length - 1, here + step))];
      buttons[here].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      say(next.getAttribute("aria-label"));
    });
    return figure("shares", title, box, ["layer", unit, "share"], () =>
      all.map(p => [p.name, p.value, percent(p.value / sum)]),
    );
  }

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

  return {line, bar, histogram, share, matrix, ticks};
})();
