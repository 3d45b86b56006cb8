// View 5, Grad-CAM: where a convolution's maps lie that lower the loss.
const GradCam = (() => {
  const D = R.views.answer || {};

  const convolutions = Object.keys(D.cam || {});
  const last = convolutions[convolutions.length - 1];
  // The map number n of a convolution, as parts of 255.
  async function map(cam, n) {
    const size = Pack.count(D.cam[cam]) / D.cam[cam].shape[0];
    return (await Pack.bytes(D.cam[cam])).subarray(n * size, (n + 1) * size);
  }
  // Grad-CAM is of the last convolution, which sees most of the image, until another one is chosen: in its card, or
  // in the drawing of the net while this view is open. Where the last one shows nothing it is one before that does.
  async function chosen(n) {
    if (convolutions.includes(State.cam)) return State.cam;
    for (const cam of [...convolutions].reverse()) if ((await map(cam, n)).some(Boolean)) return cam;
    return last;
  }
  const choice = cam =>
    convolutions.length > 1 &&
    el(
      "label",
      {class: "quiet"},
      "of ",
      el(
        "select",
        {"data-focus": "cam", onchange: e => State.set({cam: e.target.value})},
        convolutions.map(name =>
          el("option", {value: name, selected: name === cam}, name + (name === last ? ", the last" : "")),
        ),
      ),
    );

  // The parts of the card for image i and class c, whose score is called `what`; the picture is drawn at `scale`.
  async function card(i, scale, c, what) {
    const title = "Grad-CAM";
    if (i >= R.images.length) return [title, noGradients(title)];
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
    const n = D.cam_classes.slice(0, i).reduce((sum, classes) => sum + classes.length, k);
    const cam = await chosen(n);
    const [, h, w] = D.cam[cam].shape;
    const codes = await map(cam, n);
    const value = OverPicture.between([h, w], (y, x) => codes[y * w + x]);
    const [, height, width] = R.stages[layerOf(cam).tops[0]].shape;
    const isBlue = codes.some(Boolean);
    return [
      title,
      await OverPicture.tinted(i, scale, value, 255, `${title} of ${cam} for ${className(c)}`),
      isBlue && OverPicture.legend(0, 1, "0", "the most"),
      choice(cam),
      quiet(
        isBlue ? `By how much the maps of ${cam} raise ${what}. ` : `Nowhere do the maps of ${cam} raise ${what}. `,
        isBlue && cam !== last && State.cam !== cam && `Those of ${last}, the last, do not. `,
        `They have ${height} × ${width} places`,
        height > h ? `, of which ${Math.floor(height / h)} × ${Math.floor(width / w)} are averaged here.` : ".",
      ),
    ];
  }

  return {
    has: convolutions.length > 0,
    card,
    follow: layer => (convolutions.includes(layer) ? {cam: layer} : {}),
  };
})();
