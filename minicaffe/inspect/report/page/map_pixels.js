// A map whose pixels can be read and chosen.
Maps.pixels = (() => {
  // Let a pixel of a map be chosen, with the mouse or with arrows; at = [y, x] is outlined. onpixel(y, x).
  function pixels(
    canvas,
    values,
    h,
    w,
    {at, onpixel, name = "map", exact = true, focus = "pixels"} = {},
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
      if (found) canvas.title = text(...found);
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

  return pixels;
})();
