// View 5, numbers as colours over the picture of an image.
const OverPicture = (() => {
  const [, H, W] = R.input.shape;
  const PLUS = [88, 166, 255];
  const MINUS = [255, 123, 114]; // over pictures, in both themes

  // A number as blue or red over a grey: not at all below a third of the largest, so that the picture is seen.
  function over(grey, v, extent) {
    const a = extent > 0 ? 1.2 * Math.max(0, Math.min(1, Math.abs(v) / extent) - 1 / 3) : 0;
    return (v < 0 ? MINUS : PLUS).map(c => (1 - a) * grey + a * c);
  }

  // The picture in grey, and value(y, x) of each pixel in blue or red; extent is the largest magnitude.
  async function tinted(i, scale, value, extent, label) {
    const canvas = await Maps.image(i, scale);
    const context = canvas.getContext("2d");
    const image = context.getImageData(0, 0, W, H);
    const d = image.data;
    for (let k = 0; k < H * W; k++) {
      const grey = 0.3 * d[4 * k] + 0.59 * d[4 * k + 1] + 0.11 * d[4 * k + 2];
      d.set(over(grey, value(Math.floor(k / W), k % W), extent), 4 * k);
    }
    context.putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", label);
    return canvas;
  }

  // The legend of these colours from lo to hi, which are written at its ends.
  function legend(lo, hi, ...ends) {
    const wide = 96;
    const value = i => lo + ((hi - lo) * i) / (wide - 1);
    const codes = Array.from({length: wide}, (_, i) => over(128, value(i), Math.max(-lo, hi))).flat();
    const bar = Maps.rgb(codes, 1, wide, {scale: 1, label: "legend of colours"});
    bar.style.height = "10px";
    return el("div", {class: "legend"}, el("span", {}, ends[0]), bar, el("span", {}, ends[1]));
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

  return {tinted, legend, between};
})();
