// How numbers are spread: counts in equal bins.
Chart.histogram = (() => {
  const {scale, axes, figure, frame} = Chart;

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
    const extra = zeros ? quiet(`${many(zeros, "zero")} (${percent(zeros / total)}) not drawn`) : null;
    return figure("histogram", title, svg, [axis.label, "how many"], rows, extra);
  }

  return histogram;
})();
