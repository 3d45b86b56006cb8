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

  // What is drawn of image i; picture size: `scale`; label: the class whose loss it is of.
  async function card(i, scale, label) {
    const cam = chosen();
    const ref = D.cam[cam];
    const [n, h, w] = ref.shape;
    const all = await Pack.bytes(ref);
    const value = OverPicture.between([h, w], (y, x) => all[(i * h + y) * w + x]);
    return [
      `Grad-CAM of ${cam}`,
      i < n ? await OverPicture.tinted(i, scale, value, 255, `Grad-CAM of ${cam}`) : "",
      i < n
        ? quiet(
            `Where maps lie that lower the loss of ${label}. Only ${h} × ${w} places, one colour for all: `,
            "not outlines, not how much.",
          )
        : quiet("Not for this image: it needs gradients, which were recorded for the first ones."),
      choice(cam),
    ];
  }

  return {
    chosen,
    card,
    follow: layer => (convolutions.includes(layer) ? {cam: layer} : {}),
  };
})();
