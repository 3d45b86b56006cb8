// View 2, what a layer makes of the image: maps, rows of numbers, and how they are spread.
const LayerMaps = (() => {
  const MOST = 256; // maps that are drawn

  const part = (data, i, size) => data.subarray(i * size, (i + 1) * size);
  const card = (title, ...content) => el("section", {class: "layer-card"}, el("h3", {}, title), content);
  const shape = s => s.join(" × ") || "one number";
  const areMaps = v => v.data && v.shape.length === 3 && v.shape[1] > 1;
  const chosen = (values, n) =>
    values.maps ? Math.max(0, values.maps.indexOf(State.map)) : Math.min(State.map, n - 1);

  // All maps of a stage, and the chosen one larger, whose pixels can be read.
  function maps(key, values, onhover) {
    const [c, h, w] = values.shape;
    const n = Math.min(c, MOST);
    const range = Maps.range(values.data);
    const shared = State.scale === "blob" ? range : {};
    const list = Array.from({length: n}, (_, i) => ({
      values: part(values.data, i, h * w),
      h,
      w,
      number: values.maps ? values.maps[i] : i,
      label: `${key}, map ${values.maps ? values.maps[i] : i}`,
    }));
    const whole = [
      values.note,
      c > n && `the first ${n} of ${many(c, "map")}`,
      values.exact ? "" : "≈ recorded in 8 bits",
    ]
      .filter(Boolean)
      .join(" · ");
    return [
      Maps.legend(range.lo, range.hi),
      quiet(whole),
      Maps.grid(list, {
        ...shared,
        selected: State.map,
        focus: `map-${key}`,
        onhover,
        onselect: map => State.set({map, at: null}),
      }),
    ];
  }
  function large(key, values, extra = {}) {
    const [c, h, w] = values.shape;
    const i = chosen(values, c);
    const data = part(values.data, i, h * w);
    const range = State.scale === "blob" ? Maps.range(values.data) : Maps.range(data);
    const canvas = Maps.tile(data, h, w, {
      ...range,
      scale: Maps.scaleFor(h, w, 190, 224),
      label: `${key}, map ${values.maps ? values.maps[i] : i}`,
    });
    const at = State.at && State.at[0] < h && State.at[1] < w ? State.at : null;
    const read = at
      ? [`row ${at[0]}, column ${at[1]}: `, values.exact ? "" : "≈ ", num(data[at[0] * w + at[1]], 5)]
      : "choose a pixel";
    return el(
      "div",
      {},
      Maps.pixels(canvas, data, h, w, {
        at,
        name: key,
        exact: values.exact,
        focus: `pixels-${key}`,
        onpixel: (y, x) => State.set({at: [y, x]}),
        ...extra,
      }),
      quiet(read),
    );
  }
  function numbers(key, values) {
    const n = values.data.length;
    if (n === 1) return el("p", {}, num(values.data[0], 5));
    if (n <= 24) {
      const isClasses = source(key) === R.answer;
      return Chart.bar({
        title: `What is in ${stageName(key)}?`,
        x: {label: "value"},
        rows: Array.from(values.data, (v, i) => ({
          name: isClasses && R.classes.length ? className(i) : String(i),
          value: v,
          kind: v < 0 ? "minus" : "plus",
        })),
        label: isClasses && R.classes.length ? 110 : 40,
        row: 17,
      });
    }
    const w = [50, 64, 48, 40, 32, 25, 20].find(k => n % k === 0) || 50;
    const h = Math.ceil(n / w);
    const padded = new Float32Array(h * w);
    const range = Maps.range(values.data);
    padded.set(values.data);
    return [
      Maps.legend(range.lo, range.hi, true),
      Maps.pixels(Maps.tile(padded, h, w, {...range, scale: 9, label: key}), padded, h, w, {
        at: State.at,
        name: key,
        exact: values.exact,
        focus: `pixels-${key}`,
        onpixel: (y, x) => State.set({at: [y, x]}),
      }),
      quiet(`${many(n, "number")} in rows of ${w}${values.note ? " · " + values.note : ""}`),
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
      ? {...found, note: [`as it is after ${R.stages[later].layer}`, found.note].filter(Boolean).join(" · ")}
      : values;
  }
  async function shown(key, onhover) {
    const values = await stageOr(key);
    if (!values.data)
      return quiet(
        `${key} (${shape(R.stages[key].shape)}): too large to be carried for this image; only its ` +
          "statistics are here",
      );
    if (areMaps(values)) return values.shape[0] > 1 ? maps(key, values, onhover) : large(key, values);
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

  return {MOST, part, card, shape, areMaps, chosen, large, stageOr, shown, histogram};
})();
