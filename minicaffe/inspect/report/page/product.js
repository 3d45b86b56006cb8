// The numbers of view 3: a convolution as one matrix product, Y = W·X + b; its backward; and factors of W.
// Row k of X is place (i, j) of the window in input map c; column p is the window of one output pixel.
const Product = (() => {
  const COLUMNS = 1024;
  const SIDE = 32; // of more columns a square of this side is computed
  const models = new Map();

  // ---- forward ------------------------------------------------------------------------------------

  // y (rows, n) = w (rows, depth) · x (depth, n); of w, row r begins at r·depth, of x row k at k·n.
  function product(w, x, rows, depth, n) {
    const y = new Float64Array(rows * n);
    for (let r = 0; r < rows; r++)
      for (let k = 0; k < depth; k++) {
        const v = w[r * depth + k];
        if (v) for (let p = 0, at = r * n, from = k * n; p < n; p++) y[at + p] += v * x[from + p];
      }
    return y;
  }

  // All that a layer's product needs, for one image and the shown columns around output place `at`.
  async function model(name, image, at) {
    const g = R.views.convolution.layers[name];
    const [, oh, ow] = g.output;
    const [py, px] = [
      [oh, at[0]],
      [ow, at[1]],
    ].map(([size, v]) =>
      oh * ow <= COLUMNS
        ? 0
        : Math.max(0, Math.min(size - SIDE, (SIDE / 2) * Math.round((v - SIDE / 2) / (SIDE / 2)))),
    );
    const [ch, cw] = oh * ow <= COLUMNS ? [oh, ow] : [Math.min(oh, SIDE), Math.min(ow, SIDE)];
    const key = [name, image, py, px, Values.isLive()].join();
    if (!models.has(key)) {
      if (models.size > 5) models.delete(models.keys().next().value);
      models.set(key, build(name, image, g, py, px, ch, cw));
    }
    return models.get(key);
  }

  async function build(name, image, g, py, px, ch, cw) {
    const [C, H, W] = g.input;
    const [M, oh, ow] = g.output;
    const [kh, kw] = g.kernel;
    const area = kh * kw;
    const m = {
      name,
      g,
      small: kh <= 5 && kw <= 5,
      C,
      H,
      W,
      M,
      oh,
      ow,
      kh,
      kw,
      area,
      K: C * area,
      P: oh * ow,
      n: ch * cw,
      py,
      px,
      ch,
      cw,
      depth: (C / g.group) * area,
      filters: M / g.group,
      maps: C / g.group,
    };
    const bottom = g.x ? await carried(g.x, image) : (await Values.stage(g.bottom, image)).data;
    if (!bottom || bottom.length !== C * H * W)
      return {
        missing:
          g.x || Values.isLive()
            ? "the input of this layer is carried for the first images only"
            : "its input was not recorded in full",
      };
    m.x = bottom;
    const array = async ref => Pack.array(ref);
    if (g.left) {
      m.own = {rank: g.left.shape[1], left: await array(g.left), right: await array(g.right)};
      m.w = Float32Array.from(product(m.own.left, m.own.right, M, m.own.rank, m.K));
    } else m.w = g.w ? await array(g.w) : (await Values.param(name, 0)).data;
    m.b = g.b ? await array(g.b) : typeof g.bias === "number" ? (await Values.param(name, g.bias)).data : null;
    // the place in x of row k and column p; −1 in the padding
    m.place = (k, p) => {
      const c = Math.floor(k / area);
      const i = Math.floor((k % area) / kw);
      const j = k % kw;
      const y = Math.floor(p / ow) * g.stride[0] - g.pad[0] + i * g.dilation[0];
      const x = (p % ow) * g.stride[1] - g.pad[1] + j * g.dilation[1];
      return y < 0 || x < 0 || y >= H || x >= W ? -1 : (c * H + y) * W + x;
    };
    m.column = s => (py + Math.floor(s / cw)) * ow + px + (s % cw); // the number of a shown column
    m.X = new Float32Array(m.K * m.n);
    for (let k = 0; k < m.K; k++)
      for (let s = 0; s < m.n; s++) {
        const at = m.place(k, m.column(s));
        m.X[k * m.n + s] = at < 0 ? 0 : m.x[at];
      }
    m.times = w => grouped(m, w, m.X);
    m.WX = m.times(m.w);
    m.extent = array => array.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    const dy = g.dy ? await carried(g.dy, image) : (await Values.diff(g.top, image)).data;
    m.dYall = dy && dy.length === M * m.P ? dy : null;
    return m;
  }
  async function carried(ref, image) {
    const all = await Pack.array(ref);
    const size = all.length / ref.shape[0];
    return image < ref.shape[0] ? all.subarray(image * size, (image + 1) * size) : null;
  }
  // W·X of all groups: group by group, as W is block-diagonal.
  function grouped(m, w, X) {
    const y = new Float64Array(m.M * m.n);
    for (let q = 0; q < m.g.group; q++)
      y.set(
        product(w.subarray(q * m.filters * m.depth), X.subarray(q * m.depth * m.n), m.filters, m.depth, m.n),
        q * m.filters * m.n,
      );
    return y;
  }
  // W at row f and column k of all groups' columns; null outside the blocks. Or another array of W's shape.
  function weight(m, f, k, w = m.w) {
    const from = Math.floor(f / m.filters) * m.depth;
    return k < from || k >= from + m.depth ? null : w[f * m.depth + k - from];
  }

  // dY of the shown columns; dW = dY·Xᵀ over all columns is only whole if all are shown.
  function backward(m) {
    if (m.dW || !m.dYall) return;
    m.dY = Float64Array.from(
      {length: m.M * m.n},
      (_, i) => m.dYall[Math.floor(i / m.n) * m.P + m.column(i % m.n)],
    );
    m.dW = new Float64Array(m.M * m.depth);
    m.dX = new Float64Array(m.K * m.n);
    for (let f = 0; f < m.M; f++) {
      const from = Math.floor(f / m.filters) * m.depth;
      for (let k = 0; k < m.depth; k++) {
        let sum = 0;
        const w = m.w[f * m.depth + k];
        for (let s = 0, a = f * m.n, b = (from + k) * m.n; s < m.n; s++) {
          sum += m.dY[a + s] * m.X[b + s];
          m.dX[b + s] += w * m.dY[a + s];
        }
        m.dW[f * m.depth + k] = sum;
      }
    }
  }
  // The first `columns` windows of Wᵀ·dY, added up into an image like the input.
  function col2im(m, columns) {
    const dx = new Float64Array(m.x.length);
    for (let k = 0; k < m.K; k++)
      for (let s = 0; s < columns; s++) {
        const at = m.place(k, m.column(s));
        if (at >= 0) dx[at] += m.dX[k * m.n + s];
      }
    return dx;
  }

  // Where the chosen pixel of the input occurs in X: rows and shown columns.
  function repeats(m, {k, p, c}) {
    const at = m.place(k, p);
    const found = [];
    for (let s = 0; at >= 0 && s < m.n; s++)
      for (let i = c * m.area; i < (c + 1) * m.area; i++)
        if (m.place(i, m.column(s)) === at) found.push([i, s]);
    return found;
  }

  // Factors of rank r: the layer's own; from the bases of view 4; or, of a small matrix, from its eigenvectors.
  async function factors(m, r) {
    if (m.own) return m.own;
    if (m.g.group > 1) return null;
    const U = await bases(m);
    if (!U) return null;
    const size = U.length / m.M;
    if (r > size) return null;
    const left = Float64Array.from({length: m.M * r}, (_, i) => U[Math.floor(i / r) * size + (i % r)]);
    const up = Float64Array.from({length: r * m.M}, (_, i) => left[(i % m.M) * r + Math.floor(i / m.M)]);
    return {rank: r, left, right: product(up, m.w, r, m.M, m.K)};
  }
  async function bases(m) {
    if (m.U === undefined) {
      const found = typeof Rank === "object" && Rank.basis ? await Rank.basis(m.name) : null;
      m.U = found || (m.M <= 128 ? eigenvectors(m) : null);
    }
    return m.U;
  }
  // Columns: eigenvectors of W·Wᵀ, by Jacobi's rotations; those of large eigenvalues first.
  function eigenvectors({w, M, K}) {
    const turned = new Float32Array(M * K);
    for (let f = 0; f < M; f++) for (let k = 0; k < K; k++) turned[k * M + f] = w[f * K + k];
    const a = product(w, turned, M, K, M);
    const u = new Float64Array(M * M);
    for (let i = 0; i < M; i++) u[i * M + i] = 1;
    const turn = (array, i, j, c, s, [di, dj]) => {
      for (let t = 0; t < M; t++) {
        const p = array[t * di + i * dj];
        const q = array[t * di + j * dj];
        array[t * di + i * dj] = c * p - s * q;
        array[t * di + j * dj] = s * p + c * q;
      }
    };
    for (let sweep = 0, off = 1; sweep < 12 && off > 1e-18; sweep++) {
      off = 0;
      for (let i = 0; i < M; i++)
        for (let j = i + 1; j < M; j++) {
          const x = a[i * M + j];
          const scale = a[i * M + i] * a[j * M + j];
          if (x * x <= 1e-20 * Math.abs(scale)) continue;
          off = Math.max(off, (x * x) / Math.abs(scale || 1));
          const theta = (a[j * M + j] - a[i * M + i]) / (2 * x);
          const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
          const c = 1 / Math.hypot(t, 1);
          const s = t * c;
          turn(a, i, j, c, s, [M, 1]);
          turn(a, i, j, c, s, [1, M]);
          turn(u, i, j, c, s, [M, 1]);
        }
    }
    const order = Array.from({length: M}, (_, i) => i).sort((i, j) => a[j * M + j] - a[i * M + i]);
    return Float64Array.from({length: M * M}, (_, i) => u[i - (i % M) + order[i % M]]);
  }

  return {model, weight, backward, col2im, repeats, factors, eigenvectors, product};
})();
