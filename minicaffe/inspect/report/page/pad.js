// Pictures of the user's own, where the net runs in the page: a pad to draw on, and files.
const Pad = (() => {
  const UNIT = 8;
  const [C, H, W] = R.input.shape; // UNIT of the pad's pixels are one of the net's
  let pad = null;
  let pen = null;
  let drawn = null;
  let isBright = false; // whether the report's images are dark on light

  // How bright the edges of a picture (h, w, 3) are on the average, 0 … 255.
  function edge(rgb, h, w) {
    const seen = [];
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++) if (!y || !x || y === h - 1 || x === w - 1) seen.push(rgb[3 * (y * w + x)]);
    return Maps.meanOf(seen);
  }

  async function make() {
    const refs = R.images.map(image => image.thumbnail).filter(Boolean);
    const edges = await Promise.all(refs.map(async ref => edge(await Pack.bytes(ref), ...ref.shape)));
    isBright = Maps.meanOf(edges) > 127;
    pad = el("canvas", {
      width: W * UNIT,
      height: H * UNIT,
      class: "pad",
      tabindex: "0",
      role: "application",
      "data-focus": "pad",
      "aria-label": "drawing pad: draw with the mouse; or arrows move the pen, and draw while Shift is held",
    });
    const context = pad.getContext("2d", {willReadFrequently: true});
    Object.assign(context, {
      lineWidth: (2.4 * UNIT * Math.min(H, W)) / 28,
      lineCap: "round",
      lineJoin: "round",
      strokeStyle: "#fff",
    });
    pen = [pad.width / 2, pad.height / 4];
    const stroke = to => {
      context.beginPath();
      context.moveTo(...pen);
      context.lineTo(...to);
      context.stroke();
      pen = to;
    };
    const under = e => {
      const r = pad.getBoundingClientRect();
      return [((e.clientX - r.left) * pad.width) / r.width, ((e.clientY - r.top) * pad.height) / r.height];
    };
    pad.onpointerdown = e => {
      pad.setPointerCapture(e.pointerId);
      pen = under(e);
      stroke(pen);
    };
    pad.onpointermove = e => {
      if (e.buttons) stroke(under(e));
    };
    pad.onpointerup = show;
    pad.onkeydown = e => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
      if (!step) return;
      e.preventDefault();
      e.stopPropagation();
      const to = pen.map((v, k) => Math.max(0, Math.min(UNIT * [W, H][k], v + 2 * UNIT * step[k])));
      if (e.shiftKey) {
        stroke(to);
        show();
      } else {
        pen = to;
        say(`pen at row ${Math.round(pen[1] / UNIT)}, column ${Math.round(pen[0] / UNIT)}`);
      }
    };
  }

  // The drawing as MNIST's digits are: its larger side is 20 of 28 pixels, and its centre of mass is in the middle.
  function centred() {
    const w = pad.width;
    const h = pad.height;
    const a = pad.getContext("2d").getImageData(0, 0, w, h).data;
    const out = new Uint8ClampedArray(4 * H * W);
    const ink = (x, y) => (x < 0 || y < 0 || x >= w || y >= h ? 0 : a[4 * (y * w + x) + 3]);
    let [mass, mx, my, l, r, t, b] = [0, 0, 0, w, 0, h, 0];
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++) {
        const v = ink(x, y);
        if (v) {
          mass += v;
          mx += v * x;
          my += v * y;
          l = Math.min(l, x);
          r = Math.max(r, x);
          t = Math.min(t, y);
          b = Math.max(b, y);
        }
      }
    if (!mass) return null;
    const s = Math.max(r - l, b - t, UNIT) / ((Math.min(H, W) * 20) / 28);
    const n = Math.max(1, Math.round(s));
    for (let i = 0; i < H * W; i++) {
      const x0 = Math.round(mx / mass + ((i % W) - W / 2) * s);
      const y0 = Math.round(my / mass + (Math.floor(i / W) - H / 2) * s);
      let sum = 0;
      for (let k = 0; k < n * n; k++) sum += ink(x0 + (k % n), y0 + Math.floor(k / n));
      const v = isBright ? 255 - sum / (n * n) : sum / (n * n);
      out.set([v, v, v, 255], 4 * i);
    }
    return out;
  }

  function choose(image) {
    State.set({image, cover: null, class: null});
    State.redraw();
    say(`the net says ${className(Live.images[image - R.images.length].top)}`);
  }
  let work = Promise.resolve(); // one drawing after another: each takes the place of the one before
  const show = () => {
    work = work.then(add);
  };
  async function add() {
    const rgba = centred();
    if (!rgba) return;
    const before = Live.images.indexOf(drawn);
    const name = before < 0 ? `drawing ${Live.images.length + 1}` : drawn.name;
    drawn = Live.images[(await Live.add(name, rgba)) - R.images.length];
    if (before >= 0) Live.remove(R.images.length + before);
    choose(R.images.length + Live.images.indexOf(drawn));
  }
  function clear() {
    pad.getContext("2d").clearRect(0, 0, pad.width, pad.height);
    drawn = null;
    say("the pad is empty");
  }

  // A picture from a file: resized to `dims` (height, width) and cropped in the middle, as classify does.
  async function open(file, [h, w], status) {
    try {
      const bitmap = await createImageBitmap(file);
      const context = el("canvas", {width: W, height: H}).getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, (W - w) / 2, (H - h) / 2, w, h);
      choose(await Live.add(file.name, context.getImageData(0, 0, W, H).data));
    } catch {
      status.textContent = `${file.name} is no picture that this browser reads.`;
      say(status.textContent);
    }
  }

  // Of a net of one channel, for a picture from a file: a button that makes black of white and white of black, and
  // what to know where the net's images are the other way round.
  function inversion(i) {
    const shown = Live.images[i - R.images.length];
    if (!shown || shown === drawn) return [];
    const {data, h, w} = shown.thumbnail;
    const way = bright => (bright ? "dark on light" : "light on dark");
    const isOther = edge(data, h, w) > 127 !== isBright;
    const invert = async () => {
      const pixels = Uint8Array.from(
        {length: 4 * h * w},
        (_, k) => 255 - data[3 * (k >> 2) + Math.min(2, k % 4)],
      );
      const image = await Live.add(shown.name, pixels);
      Live.remove(i);
      choose(image - 1);
    };
    return [
      el("button", {"data-focus": "invert", onclick: invert}, "invert it"),
      isOther &&
        el(
          "p",
          {id: "other-way"},
          el("b", {}, `This picture is ${way(!isBright)}`),
          `; what the net knows is ${way(isBright)}. Invert it.`,
        ),
    ];
  }

  // The cards for an image `i`; a file may also be dropped on `root`.
  async function cards(root, i, dims) {
    const found = [];
    const status = el("p", {role: "status"});
    if (!Values.isLive() || !W || (C !== 1 && C !== 3)) return found;
    const file = el("input", {
      type: "file",
      accept: "image/*",
      hidden: true,
      "aria-label": "a picture of yours",
      onchange: e => e.target.files[0] && open(e.target.files[0], dims, status),
    });
    const opener = [
      el("button", {"data-focus": "open", onclick: () => file.click()}, "open a file …"),
      file,
      status,
    ];
    const hint = el(
      "p",
      {class: "quiet controls"},
      "A picture may be dropped here, too.",
      R.input.preparation ? ` It is ${R.input.preparation.text}.` : "",
    );
    if (C === 1) {
      if (!pad) await make();
      const [invert, warning] = inversion(i);
      const seen = i >= R.images.length && (await Maps.image(i, 84 / Math.max(H, W)));
      found.push(
        el(
          "section",
          {class: "controls drawing"},
          el("h3", {}, "Draw one yourself"),
          el(
            "div",
            {class: "pad-row"},
            el("span", {class: "pad-place"}),
            el(
              "div",
              {},
              el("button", {"data-focus": "clear", onclick: clear}, "new drawing"),
              opener,
              invert,
              seen ? [seen, quiet("as the net sees it")] : quiet("It joins the images above."),
            ),
          ),
          warning,
        ),
        warning ? null : hint,
      );
    } else found.push(el("section", {class: "controls"}, el("h3", {}, "A picture of yours"), opener, hint));
    root.ondragover = e => e.preventDefault();
    root.ondrop = e => {
      e.preventDefault();
      if (e.dataTransfer.files[0]) open(e.dataTransfer.files[0], dims, status);
    };
    return found;
  }
  // The one pad moves into a view that is shown now: of several that were drawn at once only one is.
  function place(view) {
    if (!pad) return;
    const isUsed = document.activeElement === pad;
    view.querySelector(".pad-place")?.append(pad);
    if (isUsed) requestAnimationFrame(() => pad.focus({preventScroll: true}));
  }
  return {cards, place};
})();
