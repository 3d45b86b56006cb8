// View 3, its animation: a step takes a second, in which its block fills.
const Play = (() => {
  const {clamp} = Figure;

  // goesOn() says whether it is still wanted; end() is called after it.
  function step(scene, b, goesOn, end) {
    const {m, now, till} = scene;
    const move = now === "2" ? fly(scene, b) : null;
    let begin = null;
    const frame = time => {
      if (!goesOn()) return;
      const t = Math.min(1, (time - (begin ??= time)) / 1000);
      const filled = Math.ceil(t * m.n);
      if (move) {
        move(t / 0.6);
        till.rows = Math.ceil((m.K * (t - 0.6)) / 0.4);
        b.X.fill();
      }
      if (now === "3") {
        till.columns = filled;
        b.X.fill();
      }
      if (now === "4") {
        till.sums = filled;
        b.Y.fill();
      }
      if (now === "b4") {
        scene.input = Product.col2im(m, filled);
        b.input.fill();
      }
      if (t < 1) requestAnimationFrame(frame);
      else end();
    };
    requestAnimationFrame(frame);
  }
  // The window's cells fly to their places in the column: a function of the time from 0 to 1.
  function fly({m, chosen, rows, seen}, b) {
    const {s, c, y, x} = chosen;
    const {stride, dilation} = m.g;
    const extent = m.extent(m.X);
    const cells = Array.from({length: m.area}, (_, i) => {
      const k = c * m.area + i;
      const to = b.X.part(k - rows.first, s);
      const [r, q] = [Math.floor(i / m.kw), i % m.kw];
      const from = b.input.part(
        y * stride[0] + r * dilation[0] - seen.y,
        x * stride[1] + q * dilation[1] - seen.x,
      );
      const rect = el("rect", {class: "conv-flying", fill: `rgb(${Maps.colour(m.X[k * m.n + s], extent)})`});
      b.over.svg.append(rect);
      return [rect, [from.x, from.y, from.w, from.h], [to.x, to.y, Math.max(2, to.w), Math.max(1.5, to.h)]];
    });
    return t =>
      cells.forEach(([rect, from, to], i) => {
        const u = clamp(t * 1.6 - (0.6 * i) / m.area, 0, 1);
        const e = u * u * (3 - 2 * u);
        ["x", "y", "width", "height"].forEach((name, a) =>
          rect.setAttribute(name, from[a] + (to[a] - from[a]) * e),
        );
        rect.style.display = t >= 1 ? "none" : "";
      });
  }

  return {step};
})();
