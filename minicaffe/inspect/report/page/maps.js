// Maps: numbers as pixels; the legend of their colours; numbers as cells of a table, coloured alike.
const Maps = (() => {
  const {code, colour, ink, css} = Colours;

  function range(values) {
    let lo = Infinity;
    let hi = -Infinity;
    for (const v of values) {
      if (v < lo) lo = v;
      if (v > hi) hi = v;
    }
    return lo <= hi ? {lo, hi} : {lo: 0, hi: 0};
  }
  const extentOf = ({lo, hi}) => Math.max(Math.abs(lo), Math.abs(hi));
  const meanOf = values => {
    let sum = 0;
    for (const v of values) sum += v;
    return sum / values.length;
  };

  // Whole-number scale that makes a map at least `least` pixels wide, and at most `most`.
  function scaleFor(h, w, least = 56, most = 224) {
    return Math.max(1, Math.min(Math.ceil(least / Math.max(h, w)), Math.floor(most / Math.max(h, w))));
  }

  // A canvas of h × w numbers. {lo, hi}: the range of colours (default: the values'); scale: pixels for a number.
  function tile(values, h, w, {lo, hi, scale, label = "map"} = {}) {
    const own = range(values);
    const extent = extentOf({lo: lo ?? own.lo, hi: hi ?? own.hi});
    const canvas = el("canvas", {
      width: w,
      height: h,
      role: "img",
      class: "map",
      "aria-label": `${label}, ${h} × ${w}, min ${fmt(own.lo)}, mean ${fmt(meanOf(values))}, max ${fmt(own.hi)}`,
    });
    const context = canvas.getContext("2d");
    const image = context.createImageData(w, h);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < h * w; i++) pixels[i] = code(values[i], extent);
    context.putImageData(image, 0, 0);
    size(canvas, h, w, scale ?? scaleFor(h, w));
    return canvas;
  }
  function size(canvas, h, w, scale) {
    canvas.style.width = w * scale + "px";
    canvas.style.height = h * scale + "px";
  }

  // A picture: three planes, or bytes (h, w, 3), in its own colours.
  function rgb(data, h, w, {scale, label = "image"} = {}) {
    const canvas = el("canvas", {
      width: w,
      height: h,
      role: "img",
      class: "map picture",
      "aria-label": `${label}, ${h} × ${w} pixels`,
    });
    const context = canvas.getContext("2d");
    const image = context.createImageData(w, h);
    for (let i = 0; i < h * w; i++) image.data.set([data[3 * i], data[3 * i + 1], data[3 * i + 2], 255], 4 * i);
    context.putImageData(image, 0, 0);
    size(canvas, h, w, scale ?? scaleFor(h, w));
    return canvas;
  }

  // Image i as a person sees it; null for what is no picture.
  async function image(i, scale) {
    const shown = i < R.images.length ? R.images[i] : Live.images[i - R.images.length];
    if (!shown.thumbnail) return null;
    const isRef = !ArrayBuffer.isView(shown.thumbnail.data);
    const [h, w] = isRef ? shown.thumbnail.shape : [shown.thumbnail.h, shown.thumbnail.w];
    const data = isRef ? await Pack.bytes(shown.thumbnail) : shown.thumbnail.data;
    return rgb(data, h, w, {scale, label: shown.name});
  }

  // Numbers as cells of a table, coloured like pixels.
  function table(values, h, w, {lo, hi, digits = 3, label = "numbers", at} = {}) {
    const extent = extentOf({...range(values), ...(lo === undefined ? {} : {lo, hi})});
    const rows = Array.from({length: h}, (_, y) =>
      el(
        "tr",
        {},
        Array.from({length: w}, (_, x) => {
          const v = values[y * w + x];
          const [r, g, b] = colour(v, extent);
          return el(
            "td",
            {
              class: at && at[0] === y && at[1] === x ? "chosen" : null,
              title: exact(v),
              style: {backgroundColor: `rgb(${r},${g},${b})`, color: ink([r, g, b])},
            },
            fmt(v, digits),
          );
        }),
      ),
    );
    return el("table", {class: "cells", "aria-label": label}, el("tbody", {}, rows));
  }

  // The legend of the colours: least, 0, largest. Where `isFixed` is false it is that of several maps, which have
  // one scale, or each its own, of which no numbers are said.
  function legend(lo, hi, isFixed = false, of = "") {
    const isOwn = !isFixed && State.scale === "map";
    const extent = extentOf({lo, hi});
    const end = sign => (isOwn ? `${sign} its largest` : num(sign ? -extent : extent));
    const wide = 96;
    const bar = tile(
      Float32Array.from({length: wide}, (_, i) =>
        lo < 0 ? ((2 * i) / (wide - 1) - 1) * extent : (i / (wide - 1)) * hi,
      ),
      1,
      wide,
      {lo: -extent, hi: extent, scale: 1, label: "legend of colours"},
    );
    bar.style.height = "10px";
    return el(
      "div",
      {class: "legend"},
      of,
      el("span", {}, lo < 0 ? end("−") : "0"),
      bar,
      lo < 0 ? el("span", {}, "· 0 in the middle ·") : null,
      el("span", {}, end("")),
      isFixed ? null : scaleChoice(isOwn),
    );
  }
  const scaleChoice = isOwn =>
    el(
      "span",
      {class: "quiet"},
      isOwn ? "each map has its own scale; " : "all maps have one scale; ",
      el(
        "button",
        {class: "link", "data-focus": "scale", onclick: () => State.set({scale: isOwn ? "blob" : "map"})},
        isOwn ? "one for all" : "give each its own",
      ),
      " ",
      el("kbd", {}, "n"),
    );

  return {tile, rgb, image, table, legend, range, scaleFor, colour, ink, css, meanOf};
})();
