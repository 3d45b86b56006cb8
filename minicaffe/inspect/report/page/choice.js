// View 3, what is chosen: filter f, output place (y, x) with its column (p; s among those shown) and row k of X,
// of input map c. The address has f as map, and (y, x, k) as at.
const Choice = (() => {
  const {clamp} = Figure;
  const place = () => (State.at && State.at.length > 1 ? State.at : null);

  function strongest(n, value) {
    let best = 0;
    let most = -1;
    for (let i = 0; i < n; i++) {
      const v = Math.abs(value(i));
      if (v > most) {
        most = v;
        best = i;
      }
    }
    return best;
  }
  // From the address; what is not there is chosen where the answer is strongest.
  function of(m) {
    const f = Math.min(State.map, m.M - 1);
    const from = Math.floor(f / m.filters) * m.depth;
    const at = place();
    const s = at
      ? (clamp(at[0], 0, m.oh - 1) - m.py) * m.cw + clamp(at[1], 0, m.ow - 1) - m.px
      : strongest(m.n, i => m.WX[f * m.n + i] + (m.b ? m.b[f] : 0));
    const p = m.column(s);
    const term = k => Product.weight(m, f, k) * m.X[k * m.n + s];
    const partial = c => {
      let sum = 0;
      for (let i = 0; i < m.area; i++) sum += term(c * m.area + i);
      return sum;
    };
    let k = at ? (at[2] ?? -1) : -1;
    if (k < from || k >= from + m.depth) {
      const c = from / m.area + strongest(m.maps, i => partial(from / m.area + i));
      k = c * m.area + strongest(m.area, i => term(c * m.area + i));
    }
    return {f, s, p, y: Math.floor(p / m.ow), x: p % m.ow, k, c: Math.floor(k / m.area), from, partial};
  }

  // Choose f, s or k; a row of another group takes the first filter of its group along.
  function cell(m, chosen, {f = chosen.f, s = chosen.s, k = chosen.k}) {
    const p = m.column(s);
    const group = Math.floor(k / m.depth);
    State.set({
      at: [Math.floor(p / m.ow), p % m.ow, k],
      map: Math.floor(f / m.filters) === group ? f : group * m.filters,
    });
  }
  // A filter; one of another group takes a row of its own group along.
  function filter(m, chosen, f, s = chosen.s) {
    cell(m, chosen, {f, s, k: (chosen.k % m.depth) + Math.floor(f / m.filters) * m.depth});
  }
  // The input map `by` further on, within the group.
  function map(m, chosen, by) {
    cell(m, chosen, {k: chosen.from + ((chosen.k - chosen.from + by * m.area + m.depth) % m.depth)});
  }
  // A pixel (r, q) of the padded input: the window whose middle is nearest, and the pixel's place in it; or, if an
  // arrow moved there, the next window.
  function pixel(m, {k, y, x}, r, q, move) {
    const {kernel, stride, dilation} = m.g;
    const now = [y, x];
    const sizes = [m.oh, m.ow];
    const nearest = (v, i) => Math.round((v - ((kernel[i] - 1) * dilation[i]) / 2) / stride[i]);
    const at = [r, q].map((v, i) => clamp(move ? now[i] + move[i] : nearest(v, i), 0, sizes[i] - 1));
    const [i, j] = at.map((v, a) => ([r, q][a] - v * stride[a]) / dilation[a]);
    const isSeen = !move && [i, j].every(Number.isInteger) && i >= 0 && j >= 0 && i < m.kh && j < m.kw;
    State.set({at: [...at, isSeen ? Math.floor(k / m.area) * m.area + i * m.kw + j : k]});
  }
  return {of, cell, filter, map, pixel, place};
})();
