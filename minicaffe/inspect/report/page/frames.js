// View 3, what lies over its blocks: frames around what is chosen, lines from one block to the next.
const Frames = (() => {
  // Frames: pink what is chosen, dark a single number; dashed lines lead from one to the next.
  function frames(scene, b) {
    const {m, chosen, now, number, isBack, rank, rows, seen} = scene;
    const {f, s, y, x, k} = chosen;
    const {stride, dilation} = m.g;
    const over = Figure.overlay(scene.figure, scene.width, scene.height);
    const {mark, line, dot} = over;
    const pixel = (top, left, i, j) =>
      b.input.part(top * stride[0] + i * dilation[0] - seen.y, left * stride[1] + j * dilation[1] - seen.x);
    const tap = i => pixel(y, x, Math.floor(i / m.kw), i % m.kw);
    const row = k - rows.first;
    const isShown = row >= 0 && row < rows.count;
    parts(scene, b, over);
    for (let g = 0; number === 3 && stride[0] * stride[1] > 1 && g < m.n; g++)
      // a stride leaves gaps between the windows
      dot(pixel(Math.floor(m.column(g) / m.ow), m.column(g) % m.ow, 0, 0), 1.2, "conv-dot");
    for (const [i, g] of scene.repeats || [])
      if (i >= rows.first && i < rows.first + rows.count) dot(b.X.part(i - rows.first, g), 2.5, "conv-repeat");

    const column = b.X.part(0, s, rows.count);
    const cell = b.Y.part(f, s);
    const first = tap(0);
    const last = tap(m.area - 1);
    const window = {x: first.x, y: first.y, w: last.x + last.w - first.x, h: last.y + last.h - first.y};
    if (now !== "b1" && now !== "b2") {
      for (let i = 0; dilation[0] * dilation[1] > 1 && i < m.area; i++) mark(tap(i), "thin");
      mark(window);
    }
    if (number >= 2 && now !== "b1" && now !== "b2") {
      line(window.x + window.w, window.y, column.x, column.y);
      line(window.x + window.w, window.y + window.h, column.x, column.y + column.h);
      mark(column);
    }
    if (number >= 2 && now !== "b1") {
      mark(tap(k % m.area), "pixel");
      if (isShown) mark(now === "b2" ? b.X.part(row, 0, 1, m.n) : b.X.part(row, s), "pixel");
    }
    if (now === "b2") mark(b.Y.part(f, 0, 1, m.n));
    if (now === "b2" && isShown) mark(b.W.part(f, row), "pixel");
    if (now === "b3" || now === "b4") mark(b.Y.part(0, s, m.M));
    if ((now === "b3" || now === "b4") && isShown) mark(b.W.part(0, row, m.M));
    if (!isBack && number >= 4) {
      const filter = b.W.part(f, 0, 1, b.W.cols);
      mark(filter);
      line(filter.x + filter.w, filter.y + filter.h / 2, cell.x, cell.y + cell.h / 2);
      line(column.x + column.w / 2, column.y + column.h, cell.x + cell.w / 2, cell.y);
    }
    if (rank) mark(b.Z.part(0, s, rank));
    if (number >= 4) mark(cell, "pixel");
    for (const [i, out] of number >= 5 && now !== "b3" ? b.outputs.entries() : []) {
      const at = out.part(y - m.py, x - m.px);
      mark(at);
      if (!i) line(b.Y.x + b.Y.w, cell.y + cell.h / 2, at.x, at.y + at.h / 2);
    }
    return over;
  }
  // Thin lines part the input maps in X and in W (or B), where there is room.
  function parts({m, number, rows, at}, b, {line}) {
    const wide = b.B || b.W;
    for (
      let map = m.area;
      map < rows.count && number >= 2 && (at.X.h * m.area) / rows.count >= 5;
      map += m.area
    ) {
      const y = b.X.part(map, 0).y;
      const x = wide.part(0, map).x;
      line(b.X.x, y, b.X.x + b.X.w, y, "conv-part");
      if (number >= 4) line(x, wide.y, x, wide.y + wide.h, "conv-part");
    }
  }

  return {frames};
})();
