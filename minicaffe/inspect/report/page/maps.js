// Maps: numbers as pixels. Signed ones go from red (−) over the background (0) to blue (+).
const Maps = (() => {
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

  // Many maps, as buttons: maps is a list of {values, h, w, label, number}. One is in the order of tabs; arrows
  // move. {lo, hi}: one range for all; else each has its own. onselect(number), selected: a number.
  function grid(maps, {lo, hi, scale, selected, onselect, onhover, focus = "grid", columns} = {}) {
    const box = el("div", {
      class: "grid",
      role: "group",
      style: columns ? {display: "grid", gridTemplateColumns: `repeat(${columns}, max-content)`} : {},
    });
    const buttons = maps.map((map, i) => {
      const number = map.number ?? i;
      const isChosen = number === selected;
      const picture = map.picture || tile(map.values, map.h, map.w, {lo, hi, scale, label: map.label});
      return el(
        "button",
        {
          class: "cell",
          "aria-pressed": onselect ? String(isChosen) : null,
          "data-map": number,
          "data-focus": `${focus}-${number}`,
          tabindex: "-1",
          onclick: () => onselect && onselect(number),
          onmouseenter: () => onhover && onhover(number),
          onfocus: () => onhover && onhover(number),
        },
        picture,
        el("span", {class: "number"}, map.text ?? String(number)),
      );
    });
    const active = Math.max(
      0,
      buttons.findIndex(b => b.getAttribute("aria-pressed") === "true"),
    );
    if (buttons.length) buttons[active].tabIndex = 0;
    box.addEventListener("keydown", event => {
      const here = buttons.indexOf(document.activeElement);
      if (here < 0) return;
      const top = buttons[here].offsetTop;
      const wide = columns || Math.max(1, buttons.filter(b => b.offsetTop === buttons[0].offsetTop).length);
      const step = {
        ArrowLeft: -1,
        ArrowRight: 1,
        ArrowUp: -wide,
        ArrowDown: wide,
        Home: -here,
        End: buttons.length,
      }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      const next = Math.max(0, Math.min(buttons.length - 1, here + step));
      buttons[here].tabIndex = -1;
      buttons[next].tabIndex = 0;
      buttons[next].focus();
      if (buttons[next].offsetTop !== top) buttons[next].scrollIntoView({block: "nearest"});
    });
    box.append(...buttons);
    return box;
  }

  // Let a pixel of a map be chosen, with the mouse or with arrows; at = [y, x] is outlined. onpixel(y, x).
  function pixels(
    canvas,
    values,
    h,
    w,
    {at, onpixel, onhover, name = "map", exact = true, focus = "pixels"} = {},
  ) {
    const frame = el("div", {
      class: "pixels",
      tabindex: "0",
      role: "application",
      "data-focus": focus,
      "aria-label": canvas.getAttribute("aria-label") + "; arrows choose a pixel",
    });
    const mark = el("div", {class: "mark", hidden: !at});
    frame.append(canvas, mark);
    const place = ([y, x]) =>
      Object.assign(mark.style, {
        left: (100 * x) / w + "%",
        top: (100 * y) / h + "%",
        width: 100 / w + "%",
        height: 100 / h + "%",
      });
    const text = (y, x) => `${name}, row ${y}, column ${x}: ${exact ? "" : "≈ "}${fmt(values[y * w + x], 4)}`;
    if (at && at[0] < h && at[1] < w) place(at);
    else mark.hidden = true;
    const under = event => {
      const box = canvas.getBoundingClientRect();
      const y = Math.floor(((event.clientY - box.top) / box.height) * h);
      const x = Math.floor(((event.clientX - box.left) / box.width) * w);
      return y >= 0 && x >= 0 && y < h && x < w ? [y, x] : null;
    };
    canvas.addEventListener("mousemove", event => {
      const found = under(event);
      if (!found) return;
      canvas.title = text(...found);
      if (onhover) onhover(...found);
    });
    canvas.addEventListener("click", event => {
      const found = under(event);
      if (found && onpixel) onpixel(...found);
    });
    frame.addEventListener("keydown", event => {
      const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (!step || event.shiftKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const from = at || [0, 0];
      const to = at
        ? [Math.max(0, Math.min(h - 1, from[0] + step[0])), Math.max(0, Math.min(w - 1, from[1] + step[1]))]
        : from;
      say(text(...to));
      if (onpixel) onpixel(...to);
    });
    return frame;
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
  function legend(lo, hi, isFixed = false) {
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

  return {tile, rgb, image, grid, pixels, table, legend, range, scaleFor, colour, ink, css, forget, meanOf};
})();
