// The net that runs in the page: a list of simple steps over one image, made by report/program.py. This is the
// text of a worker. A blob is a Float32Array in Caffe's order without the batch, C·H·W; sums are double. Caffe's
// rules throughout: they are explained in the layers' own files.
const LOWEST = -3.4028234663852886e38; // the maximum of a window that sees nothing of the image, as in Caffe
const steps = {};
let program = [];
let params = {}; // Float64Arrays, so that products need no conversion

// ---- products: y = w·X + b ---------------------------------------------------------------------------------

// y[m·stride + at + p] = b[m] + Σ_k w[m, k] · columns[p, k] for rows m of w, in tiles of 4 rows by 2 columns.
// At the edges a row or column of the tile is computed again; that is cheaper than code of its own.
const product = (w, b, first, rows, K, columns, n, y, at, stride) => {
  const last = first + rows - 1;
  for (let m = first; m <= last; m += 4) {
    const m1 = Math.min(m + 1, last), m2 = Math.min(m + 2, last), m3 = Math.min(m + 3, last);
    const w0 = m * K, w1 = m1 * K, w2 = m2 * K, w3 = m3 * K;
    for (let p = 0; p < n; p += 2) {
      const q = Math.min(p + 1, n - 1), xp = p * K, xq = q * K;
      let p0 = 0, p1 = 0, p2 = 0, p3 = 0, q0 = 0, q1 = 0, q2 = 0, q3 = 0;
      for (let k = 0; k < K; k++) {
        const u = columns[xp + k], v = columns[xq + k];
        const r = w[w0 + k], s = w[w1 + k], t = w[w2 + k], z = w[w3 + k];
        p0 += r * u; p1 += s * u; p2 += t * u; p3 += z * u;
        q0 += r * v; q1 += s * v; q2 += t * v; q3 += z * v;
      }
      write(y, m * stride + at, p, q, p0, q0, b, m);
      write(y, m1 * stride + at, p, q, p1, q1, b, m1);
      write(y, m2 * stride + at, p, q, p2, q2, b, m2);
      write(y, m3 * stride + at, p, q, p3, q3, b, m3);
    }
  }
};
const write = (y, row, p, q, atP, atQ, b, m) => {
  const bias = b ? b[m] : 0;
  y[row + p] = atP + bias;
  y[row + q] = atQ + bias;
};

// The windows of outputs p0 … p0 + n − 1, one after the other: n columns of the im2col matrix X of one group.
const windows = (x, s, group, p0, n, columns) => {
  const [C, H, W] = s.input, [kh, kw] = s.kernel, [sh, sw] = s.stride, [ph, pw] = s.pad, [dh, dw] = s.dilation;
  const channels = C / s.group, ow = s.output[2];
  let at = 0;
  for (let p = p0; p < p0 + n; p++) {
    const top = Math.floor(p / ow) * sh - ph, left = (p % ow) * sw - pw;
    for (let c = group * channels; c < (group + 1) * channels; c++)
      for (let i = 0; i < kh; i++) {
        const row = top + i * dh, base = (c * H + row) * W;
        const inside = row >= 0 && row < H;
        for (let j = 0; j < kw; j++) {
          const col = left + j * dw;
          columns[at++] = inside && col >= 0 && col < W ? x[base + col] : 0;
        }
      }
  }
};

steps.convolution = (s, [x], [w, b]) => {
  const [M, oh, ow] = s.output, P = oh * ow, rows = M / s.group;
  const K = (s.input[0] / s.group) * s.kernel[0] * s.kernel[1];
  const y = new Float32Array(M * P);
  const block = Math.min(P, Math.max(2, Math.floor(16384 / K))); // columns that stay in cache
  const columns = new Float64Array(block * K);
  for (let group = 0; group < s.group; group++)
    for (let p = 0; p < P; p += block) {
      const n = Math.min(block, P - p);
      windows(x, s, group, p, n, columns);
      product(w, b, group * rows, rows, K, columns, n, y, p, P);
    }
  return [y];
};

steps.inner_product = (s, [x], [w, b]) => {
  const [M, K] = s.matrix, y = new Float32Array(M);
  if (!s.transpose) product(w, b, 0, M, K, Float64Array.from(x), 1, y, 0, 1);
  else {
    const sums = new Float64Array(M); // w is (K, M)
    for (let k = 0; k < K; k++) for (let m = 0; m < M; m++) sums[m] += w[k * M + m] * x[k];
    for (let m = 0; m < M; m++) y[m] = sums[m] + (b ? b[m] : 0);
  }
  return [y];
};

// ---- pooling and normalisation -----------------------------------------------------------------------------

steps.pooling = (s, [x]) => {
  const [C, H, W] = s.input, [, oh, ow] = s.output, [kh, kw] = s.kernel, [sh, sw] = s.stride, [ph, pw] = s.pad;
  const y = new Float32Array(C * oh * ow);
  let at = 0;
  for (let c = 0; c < C; c++)
    for (let o = 0; o < oh; o++)
      for (let q = 0; q < ow; q++) {
        const top = o * sh - ph, left = q * sw - pw;
        const [tall, wide] = [Math.min(top + kh, H + ph) - top, Math.min(left + kw, W + pw) - left];
        const area = Math.max(1, tall) * Math.max(1, wide);
        let most = LOWEST, sum = 0, squares = 0;
        for (let i = Math.max(0, top); i < Math.min(H, top + kh); i++)
          for (let j = Math.max(0, left); j < Math.min(W, left + kw); j++) {
            const v = x[(c * H + i) * W + j];
            if (v > most) most = v;
            sum += v;
            squares += v * v;
          }
        y[at++] = s.pool === "MAX" ? most : s.pool === "AVE" ? sum / area : squares / (sum === 0 ? 1 : sum);
      }
  return [y];
};

// s_i = k + alpha · Σ x² over the window; alpha is divided by the window's size already.
steps.lrn = (s, [x]) => {
  const [C, H, W] = s.input, half = s.half, y = new Float32Array(x.length);
  const [hc, hw] = s.across ? [half, 0] : [0, half];
  let at = 0;
  for (let c = 0; c < C; c++)
    for (let i = 0; i < H; i++)
      for (let j = 0; j < W; j++) {
        let sum = 0;
        for (let d = Math.max(0, c - hc); d <= Math.min(C - 1, c + hc); d++)
          for (let r = Math.max(0, i - hw); r <= Math.min(H - 1, i + hw); r++)
            for (let q = Math.max(0, j - hw); q <= Math.min(W - 1, j + hw); q++) {
              const v = x[(d * H + r) * W + q];
              sum += v * v;
            }
        y[at] = x[at] / Math.pow(s.k + s.alpha * sum, s.beta);
        at++;
      }
  return [y];
};

// f(x, coefficient's index) element by element; the coefficients have n elements, each for `inner` in a row.
const spread = (x, n, inner, f) => {
  const y = new Float32Array(x.length);
  for (let i = 0, c = 0; i < x.length; c = c + 1 === n ? 0 : c + 1)
    for (const end = i + inner; i < end; i++) y[i] = f(x[i], c);
  return [y];
};

steps.batch_norm = (s, [x], [mean, variance, count]) => {
  const share = count[0] === 0 ? 0 : 1 / count[0];
  const scale = variance.map(v => 1 / Math.sqrt(v * share + s.eps));
  return spread(x, mean.length, s.inner, (v, c) => (v - mean[c] * share) * scale[c]);
};
steps.scale = (s, [x, given], learned) => {
  const a = given || learned[0], b = s.bias ? learned[learned.length - 1] : null;
  return spread(x, a.length, s.inner, (v, c) => v * a[c] + (b ? b[c] : 0));
};
steps.bias = (s, [x, given], [learned]) => {
  const b = given || learned;
  return spread(x, b.length, s.inner, (v, c) => v + b[c]);
};
steps.prelu = (s, [x], [a]) => spread(x, a.length, s.inner, (v, c) => (v > 0 ? v : a[c] * v));

// ---- one number from one number ----------------------------------------------------------------------------

steps.relu = (s, [x]) => [x.map(v => (v > 0 ? v : s.slope * v + 0))];
steps.elu = (s, [x]) => [x.map(v => (v > 0 ? v : s.alpha * Math.expm1(v)))];
steps.sigmoid = (s, [x]) => [x.map(v => 1 / (1 + Math.exp(-v)))];
steps.tanh = (s, [x]) => [x.map(Math.tanh)];
steps.power = (s, [x]) => [x.map(v => Math.pow(s.shift + s.scale * v, s.power))];

// ---- several blobs, and new shapes -------------------------------------------------------------------------

steps.eltwise = (s, bottoms) => {
  const y = bottoms[0].map(v => (s.operation === "SUM" ? s.coeff[0] * v : v));
  bottoms.slice(1).forEach((x, k) => {
    const c = s.coeff[k + 1];
    if (s.operation === "SUM") for (let i = 0; i < y.length; i++) y[i] += c * x[i];
    else if (s.operation === "PROD") for (let i = 0; i < y.length; i++) y[i] *= x[i];
    else for (let i = 0; i < y.length; i++) if (x[i] > y[i]) y[i] = x[i];
  });
  return [y];
};

// `lengths` are the numbers of elements of each part that lie in a row; the rows alternate.
steps.concat = (s, bottoms) => {
  const row = s.lengths.reduce((a, b) => a + b, 0), rows = bottoms[0].length / s.lengths[0];
  const y = new Float32Array(rows * row);
  bottoms.reduce((at, x, k) => {
    for (let r = 0; r < rows; r++) y.set(x.subarray(r * s.lengths[k], (r + 1) * s.lengths[k]), r * row + at);
    return at + s.lengths[k];
  }, 0);
  return [y];
};
steps.slice = (s, [x]) => {
  const row = s.lengths.reduce((a, b) => a + b, 0), rows = x.length / row;
  let at = 0;
  return s.lengths.map(length => {
    const y = new Float32Array(rows * length);
    for (let r = 0; r < rows; r++) y.set(x.subarray(r * row + at, r * row + at + length), r * length);
    at += length;
    return y;
  });
};

steps.copy = (s, [x]) => s.tops.map(() => x); // another shape or name; no step ever writes into its bottom
steps.multiply = (s, [x]) => [x.map(v => v * s.by)];

steps.softmax = (s, [x]) => {
  const { classes, inner } = s, y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += classes * inner)
    for (let i = start; i < start + inner; i++) {
      let most = -Infinity, sum = 0;
      for (let c = 0; c < classes; c++) most = Math.max(most, x[i + c * inner]);
      for (let c = 0; c < classes; c++) sum += y[i + c * inner] = Math.exp(x[i + c * inner] - most);
      for (let c = 0; c < classes; c++) y[i + c * inner] /= sum;
    }
  return [y];
};

// ---- the worker's side -------------------------------------------------------------------------------------

const wide = arrays => Object.fromEntries(Object.entries(arrays).map(([key, a]) => [key, Float64Array.from(a)]));

/** Every blob of the net by its key, for one image. `replaced`: parameters by key that stand in for the net's. */
const forward = (input, replaced) => {
  const blobs = { [program.input]: input }, own = replaced ? { ...params, ...wide(replaced) } : params;
  for (const step of program.steps) {
    const tops = steps[step.op](step, step.bottoms.map(key => blobs[key]), step.params.map(key => own[key]));
    step.tops.forEach((key, i) => { blobs[key] = tops[i]; });
  }
  return blobs;
};

/** Take a program ({input: key, steps}) and its parameters, Float32Arrays by key. */
const load = (given, arrays) => {
  program = given;
  params = wide(arrays);
};

onmessage = ({ data }) => {
  const begin = performance.now();
  try {
    if (data.program) load(data.program, data.params);
    const blobs = data.input ? forward(data.input, data.replaced) : {};
    const buffers = new Set(Object.values(blobs).map(blob => blob.buffer)); // a copy shares its bottom's
    postMessage({ id: data.id, blobs, ms: performance.now() - begin }, [...buffers]);
  } catch (error) {
    postMessage({ id: data.id, error: String(error) });
  }
};
