// View 3, where its blocks stand, and which part of long matrices is drawn.
const Layout = (() => {
  const ROWS = 1000;
  const CHOSEN = 8; // of more rows of X, those of this many input maps are drawn
  const GAP = 16; // pixels
  const {LABEL, clamp} = Figure;

  // Where the blocks stand. Sides grow with the square roots of K, M and P, so that a long X does not make W
  // invisible;
  // labels have the numbers. Factors are exact parts of W: their area is parameters.
  function layout(m, rank, width, height) {
    const split = 1 + rank / m.M;
    const room = height - (rank ? 3 * LABEL + 12 : 2 * LABEL + 6);
    const roots = [m.K, m.M].map(Math.sqrt);
    const tables = m.small ? 2 * (LABEL + 8 + 17 * m.kh) : 150;
    // at rank r two output maps stand there
    const right = Math.max(rank && !m.own ? 240 : 190, m.small ? 52 * m.kw + 6 : 236);
    let M = Math.max(
      (roots[1] / (roots[0] + roots[1] * split)) * room,
      Math.min(2 * m.M, 0.3 * room),
      m.M > 1 ? 90 : 0,
    );
    M = Math.min(M, (room - 60) / split);
    const map = Math.min(room - Math.max(M * split, 110), Math.max(230, width / 5));
    const K = Math.min(room - M * split, Math.max(40, 12 * m.K));
    const top = Math.max(room - M * split, map, Math.min(tables, room - 100));
    const left = Math.max(map, K, 200);
    const widest = Math.max(24, width - left - GAP - 24 - right);
    const P = clamp(Math.max((Math.sqrt(m.n) * K) / roots[0], 12 * m.n, m.n > 1 ? 120 : 0), 24, widest);
    M = (room - top) / split;
    const x = left + GAP;
    const yZ = 2 * LABEL + top + 6;
    const Z = (M * rank) / m.M;
    const yY = rank ? yZ + Z + 6 + LABEL : yZ;
    const thin = Math.max(4, (K * rank) / m.K);
    return {
      map,
      right: x + Math.max(P + 24, 170),
      bottom: yY,
      height,
      X: {x, y: LABEL + top - K, w: P, h: K},
      Y: {x, y: yY, w: P, h: M},
      W: {x: left - K, y: yY, w: K, h: M},
      Z: {x, y: yZ, w: P, h: Z},
      B: {x: left - K, y: yZ, w: K, h: Z},
      A: {x: left - thin, y: yY, w: thin, h: M},
    };
  }

  // The rows of X that are drawn, from `first` on.
  function rowsOf(m, c) {
    const isCut = m.K > ROWS && m.C > CHOSEN;
    const map = isCut ? Math.min(m.C - CHOSEN, c - (c % CHOSEN)) : 0;
    return {
      first: map * m.area,
      count: isCut ? CHOSEN * m.area : m.K,
      note: isCut ? `: input maps ${map}–${map + CHOSEN - 1}` : "",
    };
  }
  // The part of the padded input that is drawn: of a large one, what the shown windows see.
  function partOf(m) {
    const {stride, dilation, pad, kernel} = m.g;
    const reach = i => (kernel[i] - 1) * dilation[i] + 1;
    if (m.n === m.P || m.H + m.W <= 128)
      return {y: 0, x: 0, h: m.H + 2 * pad[0], w: m.W + 2 * pad[1], note: ""};
    return {
      y: m.py * stride[0],
      x: m.px * stride[1],
      h: (m.ch - 1) * stride[0] + reach(0),
      w: (m.cw - 1) * stride[1] + reach(1),
      note: ", a part",
    };
  }

  return {GAP, layout, rowsOf, partOf};
})();
