// Live mode: the net runs in a worker (engine.js). Before it is trusted it runs image 0, and its scores must be
// those that minicaffe recorded; otherwise the page goes on with what was recorded, and says so.
const Live = (() => {
  const TOLERANCE = 1e-3;
  const waiting = new Map();
  const own = {
    on: false,
    failed: false,
    why: R.live.why,
    images: [],
    ready: null,
    start,
    forward,
    picture,
    add,
    remove,
  };
  let worker = null;
  let count = 0;

  function ask(message) {
    return new Promise((resolve, reject) => {
      waiting.set(++count, {resolve, reject});
      worker.postMessage({...message, id: count});
    });
  }

  function work() {
    const text = document.getElementById("engine").textContent;
    worker = new Worker(URL.createObjectURL(new Blob([text], {type: "text/javascript"})));
    worker.onmessage = ({data}) => {
      const {resolve, reject} = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error) reject(new Error(data.error));
      else resolve(data.blobs);
    };
    worker.onerror = event => {
      for (const {reject} of waiting.values()) reject(new Error(event.message));
    };
  }

  async function load() {
    const refs = {...R.live.params};
    for (const layer of R.layers) for (const param of layer.params) refs[param.key] = param.values;
    const keys = [...new Set(R.live.steps.flatMap(step => step.params))];
    const arrays = await Promise.all(keys.map(key => Pack.array(refs[key])));
    await ask({
      program: {input: R.live.input, steps: R.live.steps},
      params: Object.fromEntries(keys.map((key, i) => [key, arrays[i]])),
    });
  }

  // The largest difference between recorded scores and those of the page, for image 0; of probabilities if there
  // are.
  async function difference() {
    const ref = R.stages[R.answer].values;
    const size = Pack.count(ref) / ref.shape[0];
    const recorded = (await Pack.array(ref)).slice(0, size);
    const found = (await forward(await Values.input(0)))[R.answer];
    const [a, b] = R.softmax ? [recorded, found].map(Values.softmax) : [recorded, found];
    const unit = Math.max(1, ...a.map(Math.abs));
    return a.length === b.length ? Math.max(...a.map((v, i) => Math.abs(v - b[i]) / unit)) : NaN;
  }

  // All blobs for an input (Float32Array C·H·W) by their stages' keys. params: arrays by key ("conv2/0") that
  // stand in
  // for the net's own.
  function forward(input, {params} = {}) {
    return ask({input, replaced: params});
  }

  // -- images of the user's own --

  // Where it is not known how images are prepared: from black to white as the numbers of the recorded ones go.
  function stretched() {
    const {min, max} = R.stages[R.input.stage];
    return {raw_scale: max - min, input_scale: 1, mean: [-min]};
  }

  const greyOf = (rgba, i) => 0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2];

  // What the net takes for a picture: RGBA bytes as canvases have them, of the input's height and width.
  async function picture(rgba) {
    const [C, H, W] = R.input.shape;
    const how = R.input.preparation || stretched();
    const x = new Float32Array(C * H * W);
    const mean = Array.isArray(how.mean) ? how.mean : how.mean && (await Pack.array(how.mean));
    for (let c = 0; c < C; c++)
      for (let i = 0; i < H * W; i++) {
        const byte = C === 1 ? greyOf(rgba, i) : rgba[4 * i + (how.channels ? how.channels[c] : c)];
        const shift = !mean
          ? 0
          : mean.length === x.length
            ? mean[c * H * W + i]
            : mean[mean.length > 1 ? c : 0];
        x[c * H * W + i] = ((byte / 255) * how.raw_scale - shift) * how.input_scale;
      }
    return x;
  }

  // Add a picture (RGBA bytes of the input's size) to the images; returns its number.
  async function add(name, rgba) {
    const [C, H, W] = R.input.shape;
    const data = new Uint8Array(3 * H * W);
    const input = await picture(rgba);
    for (let i = 0; i < H * W; i++)
      for (let c = 0; c < 3; c++) data[3 * i + c] = C === 1 ? Math.round(greyOf(rgba, i)) : rgba[4 * i + c];
    const entry = {name, label: null, top: null, input, thumbnail: {data, h: H, w: W}};
    const blobs = await forward(input);
    const scores = blobs[R.answer];
    entry.top = scores.indexOf(Math.max(...scores));
    own.images.push(entry);
    return R.images.length + own.images.length - 1;
  }

  // Take a picture of the user's own away again.
  function remove(number) {
    own.images.splice(number - R.images.length, 1);
    Values.forget();
  }

  async function check() {
    try {
      work();
      await load();
      const off = await difference();
      if (!(off <= TOLERANCE)) throw new Error(`its scores of image 0 differ by ${fmt(off)} from minicaffe's`);
      own.on = true;
    } catch (error) {
      own.failed = true;
      own.why = `The net in this page is not trusted: ${error.message}. Numbers are as they were recorded.`;
      if (worker) worker.terminate();
      document
        .getElementById("top")
        .after(el("p", {class: "error", role: "alert", id: "live-problem"}, own.why));
    }
    Header.mode();
    State.redraw();
  }

  // Called once the page stands; ready: when the net is trusted, or not.
  function start() {
    if (R.live.on) own.ready = check();
  }
  return own;
})();
