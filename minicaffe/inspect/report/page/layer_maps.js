// View 2, what a layer makes of the image: maps, rows of numbers, and how they are spread.
const LayerMaps = (() => {
  const MOST = 256; // maps that are drawn

  const part = (data, i, size) => data.subarray(i * size, (i + 1) * size);
  const card = (title, ...content) => el("section", {class: "layer-card"}, el("h3", {}, title), content);
  const shape = s => s.join(" × ") || "one number";
  const areMaps = v => v.data && v.shape.length === 3 && v.shape[1] > 1;
  const chosen = (values, n) =>
    values.maps ? Math.max(0, values.maps.indexOf(State.map)) : Math.min(State.map, n - 1);

  // The number of the map that is chosen, or of the first where that is not carried.
  const numberOf = values => {
    const i = chosen(values, values.shape[0]);
    return values.maps ? values.maps[i] : i;
  };
  const map = (values, i = chosen(values, values.shape[0])) =>
    part(values.data, i, values.shape[1] * values.shape[2]);
  const figure = (picture, ...caption) =>
    el("figure", {class: "patch"}, picture, el("figcaption", {}, caption));
  // Pictures with signs between them, and a line below.
  const scene = (title, parts, ...below) =>
    card(title, el("div", {class: "scene"}, parts), el("div", {class: "settings"}, below));
  const told = (name, data) => {
    const {lo, hi} = Maps.range(data);
    return `${name}: ${fmt(lo)}\u00a0…\u00a0${fmt(hi)}`;
  };
  const sign = text => el("span", {class: "sign"}, text);

  // A picture made about `side` pixels large, in whole steps where it grows much.
  function fit(canvas, side) {
    const {width, height} = canvas;
    const scale = side / Math.max(width, height);
    const by = scale > 2 ? Math.floor(scale) : scale;
    Object.assign(canvas.style, {
      width: width * by + "px",
      height: height * by + "px",
      imageRendering: scale < 1 ? "auto" : "",
    });
    return canvas;
  }
  // The image that is chosen; nothing of what is no picture.
  async function image(side) {
    const canvas = await Maps.image(State.image, null);
    return canvas && figure(fit(canvas, side), R.images[State.image]?.name ?? "your picture");
  }
  // Several maps in one picture: what a filter sees, or its slices.
  function mosaic(list, h, w, {lo, hi, side, label}) {
    const gap = h * w > 1 ? 1 : 0;
    const n = list.length;
    const root = Math.ceil(Math.sqrt(n));
    const across = n % root && n % (root + 1) === 0 ? root + 1 : root; // rows that are full, if there are
    const [dy, dx] = [h + gap, w + gap];
    const [high, wide] = [Math.ceil(n / across) * dy - gap, across * dx - gap];
    const all = new Float32Array(high * wide);
    list.forEach((data, i) => {
      const from = Math.floor(i / across) * dy * wide + (i % across) * dx;
      for (let y = 0; y < h; y++) all.set(data.subarray(y * w, (y + 1) * w), from + y * wide);
    });
    const canvas = fit(Maps.tile(all, high, wide, {lo, hi, label}), side);
    const context = canvas.getContext("2d");
    for (let x = w; gap && x < wide; x += dx) context.clearRect(x, 0, 1, high);
    for (let y = h; gap && y < high; y += dy) context.clearRect(0, y, wide, 1);
    if (n % across) context.clearRect((n % across) * dx, high - h, wide, h);
    canvas.classList.add("mosaic");
    canvas.setAttribute("aria-label", label);
    return canvas;
  }

  // All maps of a stage, each below its filter where there are filters.
  function maps(key, values, filters) {
    const [c, h, w] = values.shape;
    const n = Math.min(c, MOST);
    const range = Maps.range(values.data);
    const shared = State.scale === "blob" ? range : {};
    const list = Array.from({length: n}, (_, i) => {
      const number = values.maps ? values.maps[i] : i;
      const label = `${stageName(key)}, map ${number}`;
      const picture = Maps.tile(part(values.data, i, h * w), h, w, {...shared, label});
      const above = filters?.drawn(number, 60);
      return {number, picture: above ? el("span", {class: "above"}, above, picture) : picture};
    });
    const said = [
      values.note,
      c > n && `the first ${n} of ${many(c, "map")}`,
      values.exact ? "" : "≈ recorded in 8 bits",
      ...(filters ? filters.notes : []),
    ];
    return [
      Maps.legend(range.lo, range.hi),
      quiet(said.filter(Boolean).join(" · ")),
      Maps.grid(list, {selected: State.map, focus: `map-${key}`, onselect: map => State.set({map, at: null})}),
    ];
  }
  // The chosen map, whose pixels can be read.
  function large(key, values, caption = stageName(key), extra = {}) {
    const [, h, w] = values.shape;
    const data = map(values);
    const canvas = Maps.tile(data, h, w, {
      ...(State.scale === "blob" ? Maps.range(values.data) : Maps.range(data)),
      scale: Maps.scaleFor(h, w, 140, 180),
      label: `${stageName(key)}, map ${numberOf(values)}`,
    });
    const at = placeIn(values);
    const onpixel = (y, x) => State.set({at: [y, x]});
    const own = {at, name: stageName(key), exact: values.exact, focus: `pixels-${key}`, onpixel};
    return figure(Maps.pixels(canvas, data, h, w, {...own, ...extra}), told(caption, data));
  }
  const placeIn = ({shape: [, h, w]}) => (State.at && State.at[0] < h && State.at[1] < w ? State.at : null);
  // The numbers of several maps at the chosen pixel, the last one of which is made of the others.
  // The numbers at the chosen pixel; signs: what stands before each.
  function reading(list, signs = ["", "→"]) {
    const at = placeIn(list[list.length - 1]);
    if (!at || list.some(v => !placeIn(v))) return quiet("Choose a pixel to read its number.");
    const number = v => [v.exact ? "" : "≈ ", num(map(v)[at[0] * v.shape[2] + at[1]], 5)];
    return quiet(
      `row ${at[0]}, column ${at[1]}: `,
      list.map((v, i) => [signs[i] && ` ${signs[i]} `, number(v)]),
    );
  }
  function numbers(key, values) {
    const n = values.data.length;
    if (n === 1) return el("p", {}, num(values.data[0], values.data[0] % 1 ? 5 : 1));
    if (n <= 24) {
      const isClasses = isOfClasses(key);
      return Chart.bar({
        title: `What is in ${stageName(key)}?`,
        x: {label: "value"},
        rows: Array.from(values.data, (v, i) => ({
          name: isClasses ? className(i) : String(i),
          value: v,
          kind: v < 0 ? "minus" : "plus",
          key: i,
          chosen: i === State.map,
        })),
        onselect: ({key}) => State.set({map: key}),
        label: isClasses ? 110 : 40,
        row: 17,
      });
    }
    const i = chosen(values, n);
    const w = [50, 64, 48, 40, 32, 25, 20].find(k => n % k === 0) || 50;
    const h = Math.ceil(n / w);
    const padded = new Float32Array(h * w);
    const range = Maps.range(values.data);
    padded.set(values.data);
    return [
      Maps.legend(range.lo, range.hi, true),
      Maps.pixels(Maps.tile(padded, h, w, {...range, scale: 9, label: key}), padded, h, w, {
        at: [Math.floor(i / w), i % w],
        name: stageName(key),
        exact: values.exact,
        focus: `pixels-${key}`,
        onpixel: (y, x) => y * w + x < n && State.set({map: values.maps ? values.maps[y * w + x] : y * w + x}),
      }),
      quiet(
        `number ${numberOf(values)}: `,
        num(values.data[i], 5),
        ` · ${many(n, "number")} in rows of ${w}${values.note ? " · " + values.note : ""}`,
      ),
    ];
  }
  // A stage; where it is not carried but its blob is, as later layers have left it, that.
  async function stageOr(key) {
    const values = await Values.stage(key);
    if (values.data) return values;
    const later = Object.keys(R.stages).find(
      k => k !== key && R.stages[k].blob === R.stages[key].blob && R.stages[k].values,
    );
    const found = later && (await Values.stage(later));
    return found && found.data
      ? {
          ...found,
          key: later,
          note: [found.note, `${R.stages[key].layer}'s own are not in this file`]
            .filter(Boolean)
            .join(" · "),
        }
      : values;
  }
  async function shown(key, values, filters) {
    if (!values.data)
      return quiet(
        `${key} (${shape(R.stages[key].shape)}): too large to be carried for this image; only its ` +
          "statistics are here",
      );
    if (areMaps(values) && values.shape[0] > 1) return maps(key, values, filters);
    if (areMaps(values)) return [large(key, values, "numbers"), reading([values])];
    if (values.shape.length === 2 || (values.shape.length === 3 && values.shape[2] > 1))
      return grid2(key, values);
    return numbers(key, values);
  }
  function grid2(key, values) {
    // rows × columns, as time × numbers: time goes to the right
    const t = values.shape[0];
    const d = values.data.length / t;
    const turned = new Float32Array(t * d);
    values.data.forEach((v, i) => {
      turned[(i % d) * t + Math.floor(i / d)] = v;
    });
    const range = Maps.range(turned);
    return [
      Maps.legend(range.lo, range.hi, true),
      Maps.tile(turned, d, t, {...range, scale: Maps.scaleFor(d, t, 240, 480), label: key}),
      quiet(`${many(d, "number")} (downwards) of each of ${many(t, "step")} (to the right)`),
    ];
  }

  // -- statistics --
  function histogram(title, s, label) {
    if (!s.histogram) return null;
    if (s.zeros === s.count)
      return el("div", {class: "stats"}, el("figcaption", {}, title), quiet(`All ${whole(s.count)} are 0.`));
    return el(
      "div",
      {class: "stats"},
      Chart.histogram({
        title,
        x: {label},
        ...s.histogram,
        zeros: s.zeros,
        total: s.count,
        width: 290,
        height: 140,
      }),
      quiet(
        "mean ",
        num(s.mean),
        " · standard deviation ",
        num(s.std),
        " · ",
        num(s.min),
        " … ",
        num(s.max),
        ` · ${percent(s.not_positive / s.count)} ≤ 0`,
        s.not_finite ? el("b", {class: "warning"}, ` · ${whole(s.not_finite)} not finite`) : "",
      ),
    );
  }

  return {
    MOST,
    part,
    card,
    shape,
    areMaps,
    numberOf,
    map,
    placeIn,
    figure,
    scene,
    told,
    sign,
    image,
    mosaic,
    large,
    reading,
    stageOr,
    shown,
    histogram,
  };
})();
