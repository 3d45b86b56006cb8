// Lines against one axis, as of a loss over iterations; a cursor reads them, a range can be zoomed, a cut dragged.
Chart.line = (() => {
  const {scale, axes, text, figure, frame} = Chart;
  const KINDS = ["conv", "loss", "data", "pool"];
  const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
  let ids = 0;

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
    const holder = el("div", {
      class: "holder",
      tabindex: 0,
      role: "group",
      "data-focus": `chart-${title}`,
      "aria-label": `${title}; left and right arrows read the values`,
    });
    const read = el("div", {class: "read", "aria-hidden": "true"});
    let zoom = null;
    let at = null;
    const all = key => series.flatMap(s => Array.from(s[key]));
    const xs = [...new Set(all("x"))].sort((a, b) => a - b);

    const yAt = (s, v) => s.y[Array.from(s.x).indexOf(v)];
    function nearest(v) {
      return xs.length
        ? xs.reduce((best, c) => (Math.abs(c - v) < Math.abs(best - v) ? c : best), xs[0])
        : null;
    }
    function readings(v) {
      const found = series.map(s => [s.name, yAt(s, v)]).filter(([, y]) => y !== undefined);
      return (
        `${xAxis.label} ${fmt(v, 6)}: ` +
        [
          ...found.map(([name, y]) => `${name} ${fmt(y, 4)}`),
          ...marks.filter(m => m.x === v).map(m => m.label),
        ].join(" · ")
      );
    }
    const isAtSide = end => end.x > box.right - 30;
    // Names at the ends of lines, pushed apart; from one that had to move, a thin line leads to its end.
    function name(svg, ends) {
      const least = Math.min(15, (box.bottom - box.top) / ends.length);
      const isMoved = e => Math.abs(e.at - e.y) > 4;
      ends.sort((a, b) => a.y - b.y);
      ends.forEach((e, i) => (e.at = i ? Math.max(e.y, ends[i - 1].at + least) : e.y));
      for (let i = ends.length - 1, most = box.bottom - 3; i >= 0; i--, most = ends[i + 1].at - least)
        ends[i].at = Math.min(ends[i].at, most);
      for (const e of ends) {
        const x = (isAtSide(e) ? box.right : e.x) + (ends.some(isMoved) ? 18 : 4);
        if (isMoved(e)) svg.append(el("line", {x1: e.x + 3, y1: e.y, x2: x - 2, y2: e.at, class: "axis"}));
        svg.append(text(x, e.at + 4, e.name, {class: `end ${e.kind}`}));
      }
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
        // dots are whole, or not there
        const isInside = p =>
          p[0] > box.left - 1 && p[0] < box.right + 1 && p[1] > box.top - 1 && p[1] < box.bottom + 1;
        if (s.dots)
          for (const p of points.filter(isInside))
            svg.append(el("circle", {cx: p[0], cy: p[1], r: 3, class: `dot ${kind}`}));
        const last = points.filter(p => p[0] <= box.right + 1).pop();
        if (last && s.name && (!s.thin || s.named)) ends.push({x: last[0], y: last[1], name: s.name, kind});
      });
      const cutting = el("g", {});
      const moveCut = v =>
        cutting.replaceChildren(
          el("line", {x1: x(v), x2: x(v), y1: box.top, y2: box.bottom, class: "cut"}),
          text(x(v) + 4, box.top + 8, cut.label ?? "", {class: "cut-label"}),
          ...(cut.dots ? series : []).flatMap((s, i) => {
            const at = yAt(s, v);
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
      for (const at of [true, false]) name(svg, ends.filter(e => isAtSide(e) === at));
      const cursor = el("g", {});
      svg.append(cursor);
      const show = v => {
        at = v ?? at;
        read.textContent = v === null ? "" : readings(v);
        cursor.replaceChildren(
          ...(v === null
            ? []
            : [el("line", {x1: x(v), x2: x(v), y1: box.top, y2: box.bottom, class: "cursor"})]),
        );
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
    holder.addEventListener("keydown", event => {
      const here = xs.indexOf(at ?? cut?.x);
      const end = xs.length - 1;
      const next =
        xs[
          {ArrowLeft: Math.max(0, here - 1), ArrowRight: Math.min(end, here + 1), Home: 0, End: end}[event.key]
        ];
      if (next === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      holder.show(next);
      say(readings(next));
      if (cut && cut.onmove) cut.onmove(next);
    });
    const rows = () => xs.map(v => [v, ...series.map(s => yAt(s, v))]);
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

  return line;
})();
