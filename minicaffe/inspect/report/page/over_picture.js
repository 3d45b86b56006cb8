// View 5, numbers as colours over the picture of an image.
const OverPicture = (() => {
  const [, H, W] = R.input.shape;
  const PLUS = [88, 166, 255];
  const MINUS = [255, 123, 114]; // over pictures, in both themes

  // The picture in grey, and value(y, x) of each pixel in blue or red; extent is the largest magnitude.
  async function tinted(i, scale, value, extent, label) {
    const canvas = await Maps.image(i, scale);
    const context = canvas.getContext("2d");
    const image = context.getImageData(0, 0, W, H);
    const d = image.data;
    for (let k = 0; k < H * W; k++) {
      const v = value(Math.floor(k / W), k % W);
      const a = extent > 0 ? 0.75 * Math.min(1, Math.abs(v) / extent) ** 0.7 : 0;
      const to = v < 0 ? MINUS : PLUS;
      const grey = 0.3 * d[4 * k] + 0.59 * d[4 * k + 1] + 0.11 * d[4 * k + 2];
      for (let c = 0; c < 3; c++) d[4 * k + c] = (1 - a) * grey + a * to[c];
    }
    context.putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", label);
    return canvas;
  }

  // value(y, x) of each pixel of the picture, between those of n × m places that cover it: get(row, column).
  function between([n, m], get) {
    const clamp = (v, most) => Math.max(0, Math.min(most, v));
    return (y, x) => {
      const fy = clamp(((y + 0.5) * n) / H - 0.5, n - 1);
      const fx = clamp(((x + 0.5) * m) / W - 0.5, m - 1);
      const [y0, x0] = [Math.floor(fy), Math.floor(fx)];
      const [y1, x1] = [Math.min(n - 1, y0 + 1), Math.min(m - 1, x0 + 1)];
      const [u, t] = [fy - y0, fx - x0];
      const above = (1 - t) * get(y0, x0) + t * get(y0, x1);
      const below = (1 - t) * get(y1, x0) + t * get(y1, x1);
      return (1 - u) * above + u * below;
    };
  }

  return {tinted, between};
})();
