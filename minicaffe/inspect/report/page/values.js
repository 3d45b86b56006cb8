// The numbers of stages, gradients and parameters: computed in the page where the net runs in it, else as recorded.
const Values = (() => {
  const passes = new Map();
  const isLive = () => typeof Live === "object" && Live.on;

  function one(all, ref, image) {
    const size = Pack.count(ref) / ref.shape[0];
    return all.subarray(image * size, (image + 1) * size);
  }

  // The input of an image, exact in live mode.
  async function input(image) {
    if (image >= R.images.length) return Live.images[image - R.images.length].input;
    const ref = R.stages[R.input.stage].values;
    return one(await Pack.array(ref), ref, image);
  }

  // All stages of an image, as the page's net computes them; the last few images are kept.
  async function pass(image) {
    if (!passes.has(image)) {
      if (passes.size > 12) passes.delete(passes.keys().next().value);
      passes.set(
        image,
        input(image).then(x => Live.forward(x, {})),
      );
    }
    return passes.get(image);
  }

  function described(key, data, isExact) {
    const stage = R.stages[key];
    const step = stage.step || 1;
    const shape =
      isExact || data === null
        ? stage.shape
        : stage.shape.length === 3
          ? [
              stage.maps ? stage.maps.length : stage.shape[0],
              Math.ceil(stage.shape[1] / step),
              Math.ceil(stage.shape[2] / step),
            ]
          : stage.maps
            ? [stage.maps.length, ...stage.shape.slice(1)]
            : stage.shape;
    return {
      data,
      shape,
      exact: isExact,
      maps: isExact ? null : stage.maps,
      step: isExact ? 1 : step,
      note: isExact ? null : stage.note,
    };
  }

  // {data, shape, exact, maps, step, note} of a stage for one image; data is null where nothing was recorded.
  // maps are the numbers of the maps that are there (null: all), step: each pixel is a mean of step × step.
  async function stage(key, image = State.image) {
    if (isLive()) {
      const found = (await pass(image))[key];
      if (found) return described(key, found, true);
    }
    const ref = R.stages[key] && R.stages[key].values;
    if (!ref || image >= ref.shape[0]) return described(key, null, false);
    const isExact = ref.dtype === "f32" && !R.stages[key].maps && (R.stages[key].step || 1) === 1;
    return described(key, one(await Pack.array(ref), ref, image), isExact);
  }

  // The gradient of the loss at a stage, as recorded; data is null where there is none for this image.
  async function diff(key, image = State.image) {
    const ref = R.stages[key] && R.stages[key].diff;
    if (!ref || image >= ref.shape[0]) return described(key, null, false);
    const isExact = ref.dtype === "f32";
    return {...described(key, one(await Pack.array(ref), ref, image), false), exact: isExact};
  }

  // {data, shape, exact, note} of a layer's parameter; shape is of what is there, R.layers has the whole one.
  async function param(layer, index) {
    const found = layerOf(layer).params[index];
    if (!found || !found.values) return {data: null, shape: found ? found.shape : [], exact: false, note: null};
    return {
      data: await Pack.array(found.values),
      shape: found.values.shape,
      note: found.note,
      exact: found.values.dtype === "f32" && !found.note,
    };
  }

  function softmax(scores) {
    const top = Math.max(...scores);
    const powers = Array.from(scores, s => Math.exp(s - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    return Float32Array.from(powers, p => p / sum);
  }

  // The net's probabilities (or scores) of the classes for an image; null for a net without classes.
  async function answer(image = State.image) {
    if (!R.answer) return null;
    const {data} = await stage(R.answer, image);
    return data && (R.softmax ? softmax(data) : data);
  }

  return {stage, diff, param, answer, input, softmax, isLive, forget: () => passes.clear()};
})();
