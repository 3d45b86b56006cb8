// Blocks: pictures of matrices that stand in one figure, with labels, and frames and lines over them. View 3 is
// made of them.
const Figure = (() => {
  const LABEL = 18; // pixels above a block
  const clamp = (v, least, most) => Math.max(least, Math.min(most, v));
  const px = v => Math.round(v) + "px";

  // w × h pixels that show rows × cols numbers: value(r, c) is null where padding or another group makes a zero
  // (hatched), undefined where nothing is yet.
  function paint(w, h, rows, cols, extent, value) {
    const canvas = el("canvas", {width: w, height: h});
    const context = canvas.getContext("2d");
    const image = context.createImageData(w, h);
    const pixels = new Uint32Array(image.data.buffer);
    const code = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    const shades = Uint32Array.from({length: 257}, (_, i) => code(Maps.colour((i - 128) / 128, 1)));
    const hatch = code(Maps.colour(0, 1).map(v => (v > 128 ? v - 62 : v + 66)));
    const column = Uint32Array.from({length: w}, (_, x) => Math.floor((x * cols) / w));
    for (let y = 0, o = 0; y < h; y++)
      for (let x = 0, r = Math.floor((y * rows) / h); x < w; x++, o++) {
        const v = value(r, column[x]);
        if (v === null) pixels[o] = (x + y) % 6 ? shades[128] : hatch;
        else if (v !== undefined) pixels[o] = shades[Math.round(128 + 128 * clamp(v / extent, -1, 1))];
      }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // A picture of rows × cols numbers at {x, y, w, h} in a figure, with a label above it. A ghost has a frame only.
  // onpick(r, c, move): it was clicked there, or moved there by an arrow from here(). others: {name, turn}:
  // buttons for
  // the one before and after it. widest: of the label, in pixels.
  function block(
    figure,
    name,
    place,
    {label, labelX = place.x, widest, rows, cols, extent, value, onpick, here, ghost, others},
  ) {
    const {x, y} = place;
    const w = Math.max(3, Math.round(place.w));
    const h = Math.max(3, Math.round(place.h));
    const box = el("div", {
      class: "conv-block" + (ghost ? " ghost" : ""),
      "data-block": name,
      "data-focus": "conv-" + name,
      tabindex: onpick ? "0" : null,
      role: onpick ? "application" : "img",
      "aria-label": label + (onpick ? "; arrows choose" : ""),
      style: {left: px(x), top: px(y), width: px(w), height: px(h)},
    });
    const fill = () => box.replaceChildren(...(ghost ? [] : [paint(w, h, rows, cols, extent || 1, value)]));
    fill();
    box.addEventListener("mousemove", event => {
      if (!ghost) box.title = text(...under(event));
    });
    if (onpick) {
      box.addEventListener("click", event => onpick(...under(event)));
      box.addEventListener("keydown", walk);
    }
    const button = (by, sign) =>
      el(
        "button",
        {
          class: "conv-turn",
          "data-focus": `conv-${name}${by}`,
          "aria-label": `${others.name} ${by < 0 ? "before" : "after"}`,
          onclick: () => others.turn(by),
        },
        sign,
      );
    figure.append(
      el(
        "div",
        {
          class: "conv-label",
          style: {left: px(labelX), top: px(y - LABEL), maxWidth: widest ? px(widest) : ""},
        },
        el("span", {}, label),
        others && [button(-1, "◂"), button(1, "▸")],
      ),
      box,
    );

    function text(r, c) {
      const v = value(r, c);
      return `row ${r}, column ${c}: ${v === null ? "0, not there" : v === undefined ? "" : fmt(v, 4)}`;
    }
    function under(event) {
      const area = box.getBoundingClientRect();
      return [
        clamp(Math.floor(((event.clientY - area.top) / area.height) * rows), 0, rows - 1),
        clamp(Math.floor(((event.clientX - area.left) / area.width) * cols), 0, cols - 1),
      ];
    }
    function walk(event) {
      const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      const [r, c] = here();
      const to = [clamp(r + move[0], 0, rows - 1), clamp(c + move[1], 0, cols - 1)];
      if (!ghost) say(`${label}, ${text(...to)}`);
      onpick(...to, move);
    }
    // Where a part of it lies in the figure: `height` rows from r on, `width` columns from c on.
    const part = (r, c, height = 1, width = 1) => ({
      x: x + (c * w) / cols,
      y: y + (r * h) / rows,
      w: (width * w) / cols,
      h: (height * h) / rows,
    });
    return {x, y, w, h, rows, cols, part, fill};
  }

  // What lies over the blocks: frames around parts, dashed lines from one to the next, dots.
  function overlay(figure, width, height) {
    const svg = el("svg", {class: "conv-overlay", width, height, "aria-hidden": "true"});
    figure.append(svg);
    return {
      svg,
      mark: ({x, y, w, h}, kind = "") =>
        svg.append(
          el("rect", {
            class: "conv-mark " + kind,
            x: x - 1,
            y: y - 1,
            width: Math.max(3, w + 2),
            height: Math.max(3, h + 2),
          }),
        ),
      line: (x1, y1, x2, y2, kind = "conv-link") => svg.append(el("line", {class: kind, x1, y1, x2, y2})),
      dot: ({x, y, w, h}, r, kind) => svg.append(el("circle", {class: kind, cx: x + w / 2, cy: y + h / 2, r})),
    };
  }

  return {LABEL, clamp, px, block, overlay};
})();
