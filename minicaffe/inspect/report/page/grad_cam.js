// View 5, Grad-CAM: where a convolution's maps lie that lower the loss.
const GradCam = (() => {
  const D = R.views.answer || {};

  // Grad-CAM is of the last convolution, which sees most of the image, until another one is chosen: in its card, or
  // in the drawing of the net while this view is open.
  const convolutions = Object.keys(D.cam || {});
  const chosen = () => (convolutions.includes(State.cam) ? State.cam : convolutions[convolutions.length - 1]);
  const choice = cam =>
    convolutions.length > 1 &&
    el(
      "label",
      {class: "quiet"},
      "of ",
      el(
        "select",
        {"data-focus": "cam", onchange: e => State.set({cam: e.target.value})},
        convolutions.map((name, k) =>
          el(
            "option",
            {value: name, selected: name === cam},
            name + (k === convolutions.length - 1 ? ", the last" : ""),
          ),
        ),
      ),
    );

  // The parts of the card for image i and class c; the picture is drawn at `scale`.
  async function card(i, scale, c) {
    const cam = chosen();
    const title = `Grad-CAM of ${cam}`;
    if (i >= R.images.length) return [title, noGradients("Grad-CAM")];
    const recorded = D.cam_classes[i];
    const k = recorded.indexOf(c);
    if (k < 0)
      return [
        title,
        quiet(`Not recorded for ${className(c)}; it is there for:`),
        recorded.map(other =>
          el("button", {onclick: () => State.set({class: `${i}:${other}`})}, className(other)),
        ),
      ];
    const ref = D.cam[cam];
    const [, h, w] = ref.shape;
    const all = await Pack.bytes(ref);
    const first = D.cam_classes.slice(0, i).reduce((sum, classes) => sum + classes.length, k);
    const value = OverPicture.between([h, w], (y, x) => all[(first * h + y) * w + x]);
    const [, height, width] = R.stages[layerOf(cam).tops[0]].shape;
    const isBlue = all.subarray(first * h * w, (first + 1) * h * w).some(v => v > 0);
    return [
      title,
      await OverPicture.tinted(i, scale, value, 255, `${title} for ${className(c)}`),
      quiet(
        isBlue
          ? `Blue: there the maps of ${cam} raise the score, most where it is strongest. `
          : `Nowhere do the maps of ${cam} raise the score. `,
        `They have ${height} × ${width} places`,
        height > h ? `, of which ${Math.floor(height / h)} × ${Math.floor(width / w)} are averaged here.` : ".",
      ),
      choice(cam),
    ];
  }

  return {
    chosen,
    card,
    follow: layer => (convolutions.includes(layer) ? {cam: layer} : {}),
  };
})();
