// Colours of numbers: red (−) over the background (0) to blue (+), in both themes.
const Colours = (() => {
  let colours = null;

  const parse = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  function css(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // Colours of 2 · LEVELS + 1 numbers from −1 to 1, as 32 bits: a map has many pixels.
  const LEVELS = 1024;
  function palette() {
    if (!colours) {
      // print turns dark maps round
      document.documentElement.dataset.drawn = css("--dark") === "1" ? "dark" : "light";
      const [minus, zero, plus] = ["--minus", "--zero", "--plus"].map(name => parse(css(name)));
      colours = Uint32Array.from({length: 2 * LEVELS + 1}, (_, i) => {
        const t = Math.abs(i / LEVELS - 1) ** 0.7;
        const end = i < LEVELS ? minus : plus;
        return zero.reduce((code, z, j) => code | (Math.round(z + t * (end[j] - z)) << (8 * j)), 255 << 24);
      });
    }
    return colours;
  }
  function forget() {
    colours = null;
  }

  const PURPLE = 0xff800080; // of what is no number
  const code = (v, extent) =>
    v !== v
      ? PURPLE
      : palette()[extent > 0 ? Math.round(LEVELS * (1 + Math.max(-1, Math.min(1, v / extent)))) : LEVELS];
  // [red, green, blue] of a number; extent is the largest magnitude.
  function colour(v, extent) {
    const c = code(v, extent);
    return [c & 255, (c >> 8) & 255, (c >> 16) & 255];
  }

  // Black or white, whichever can be read better on a colour.
  function ink(rgb) {
    const [r, g, b] = rgb.map(c => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
  }

  return {code, colour, ink, css, forget};
})();
