// The live page: reads <prefix>.live.js again and again; each of its lines calls mc(event). View 7 draws.
const mc = event => Watch.take(event);
const Watch = (() => {
  const EVERY = 2000;
  const POINTS = 1000;
  const view = views.get("training");
  let incoming = [];
  let mark = "";
  let reads = 0;
  let idle = 0;
  let isPaused = false;
  let isOver = false;
  let problem = "";
  let changed = performance.now();
  let now = null;

  // -- events become a run, as in minicaffe/inspect/logs.py --
  const curve = () => ({x: [], s: [], y: []});
  function build(events) {
    let run = null;
    let trained = 0;
    let zero = null;
    const seconds = t => {
      if (zero === null) zero = t - trained;
      return t - zero;
    };
    const add = (c, e, y) => {
      c.x.push(e.iteration);
      c.s.push(seconds(e.time));
      c.y.push(y);
    };
    const curves = () => [...Object.values(run.loss), ...run.scores, run.rate, ...run.ratios];
    function resume(e) {
      trained = 0;
      for (const c of curves()) {
        const keep = c.x.map((x, i) => i).filter(i => c.x[i] < e.iteration);
        for (const key of ["x", "s", "y"]) c[key] = keep.map(i => c[key][i]);
        trained = Math.max(trained, c.s[c.s.length - 1] ?? 0);
      }
      run.snapshots = run.snapshots.filter(([n]) => n <= e.iteration);
      trained = Math.max(trained, ...run.snapshots.map(([, s]) => s));
      run.resumes = [...run.resumes.filter(n => n < e.iteration), e.iteration];
      zero = null;
      seconds(e.time);
    }
    const named = (list, name) =>
      list.find(c => c.name === name) || (list.push({name, ...curve()}), list[list.length - 1]);
    for (const e of events) {
      if (e.event === "start") {
        isOver = false;
        if (run && run.id === e.run) {
          resume(e);
          continue;
        }
        run = {
          id: e.run,
          name: e.net || "net",
          net: e.net,
          seed: e.seed,
          solver: "",
          note: "",
          resumes: [],
          loss: {},
          losses: e.losses || {},
          scores: [],
          rate: curve(),
          snapshots: [],
          ratios: [],
          filters: null,
        };
        trained = 0;
        zero = null;
        seconds(e.time);
      } else if (!run) continue;
      else if (e.event === "resume") {
        if (run.resumes[run.resumes.length - 1] !== e.iteration) resume(e);
      } else if (e.event === "train") {
        add((run.loss.train ||= curve()), e, e.loss);
        add(run.rate, e, e.lr);
      } else if (e.event === "test") {
        const phase = e.net ? `test ${e.net}` : "test";
        let total = null;
        for (const [name, value] of Object.entries(e.outputs)) {
          const v = [value].flat(9);
          if (v.length !== 1) continue;
          if (Object.hasOwn(run.losses, name)) total = (total ?? 0) + run.losses[name] * (v[0] ?? NaN);
          else add(named(run.scores, e.net ? `${name} (${phase})` : name), e, v[0]);
        }
        if (total !== null) add((run.loss[phase] ||= curve()), e, Number.isFinite(total) ? total : null);
      } else if (e.event === "norms")
        for (const [key, ratio] of Object.entries(e.ratios)) add(named(run.ratios, key), e, ratio);
      else if (e.event === "snapshot") run.snapshots.push([e.iteration, seconds(e.time)]);
      else if (e.event === "filters") run.filters = e;
      else if (e.event === "end") {
        isOver = true;
        const {x} = (run.loss.train ||= curve());
        if (e.loss !== undefined && !(x[x.length - 1] >= e.iteration)) {
          add(run.loss.train, e, e.loss);
          if (e.lr !== undefined) add(run.rate, e, e.lr);
        }
      }
    }
    if (run) {
      const bad = Object.values(run.loss).flatMap(c => c.x.filter((_, i) => c.y[i] === null));
      run.diverged = bad.length ? Math.min(...bad) : null;
      for (const c of curves()) {
        const step = Math.ceil(c.x.length / POINTS) || 1;
        for (const key of ["x", "s", "y"])
          c[key] = c[key].filter((_, i) => (c.x.length - 1 - i) % step === 0 || step === 1);
      }
    }
    return run;
  }

  // -- the page --
  function status() {
    const train = now && now.loss.train;
    const n = train ? train.x[train.x.length - 1] : null;
    const ago = Math.round((performance.now() - changed) / 1000);
    const of = R.last ? ` of ${whole(R.last)}` : "";
    const last = c => num(c.y[c.y.length - 1] ?? NaN);
    document
      .getElementById("status")
      .replaceChildren(
        ...[
          n === null ? "" : el("b", {}, `iteration ${whole(n)}${of}`),
          n === null ? "" : el("span", {}, "loss ", last(train)),
          ...(now ? now.scores.map(c => el("span", {}, `${c.name} `, last(c))) : []),
          el(
            "span",
            {class: problem ? "warning" : "quiet"},
            problem ||
              (isOver
                ? "the training has ended"
                : isPaused
                  ? "paused"
                  : ago < 5
                    ? "live"
                    : `last news ${ago} s ago`),
          ),
        ],
      );
  }
  async function draw() {
    const main = document.getElementById("main");
    const root = el("div", {class: "view"});
    if (!now || !Object.keys(now.loss).length) return;
    const focused = document.activeElement?.dataset?.focus;
    const opened = [...main.querySelectorAll("details[open] > summary")].map(s => s.getAttribute("aria-label"));
    await view.draw(root);
    const {filters} = now;
    if (filters) {
      const step = (filters.hi - filters.lo) / 255;
      const values = Float32Array.from(atob(filters.codes), c => filters.lo + step * c.charCodeAt(0));
      root
        .querySelector(".charts")
        .append(el("div", {style: {maxWidth: "270px"}}, view.filters(filters, values, filters.shape)));
    }
    main.replaceChildren(root);
    root.querySelectorAll("details > summary").forEach(s => {
      if (opened.includes(s.getAttribute("aria-label"))) s.parentElement.open = true;
    });
    if (focused)
      [...root.querySelectorAll("[data-focus]")]
        .find(n => n.dataset.focus === focused)
        ?.focus({preventScroll: true});
  }

  // -- reading --
  function read() {
    incoming = [];
    problem = "";
    const script = el("script", {
      src: `${R.source}?${reads++}`,
      onload: () => {
        script.remove();
        got();
      },
      onerror: () => {
        script.remove();
        problem = `${decodeURIComponent(R.source)} is not beside this page`;
        status();
      },
    });
    document.head.append(script);
  }
  function tick() {
    if (isPaused || (isOver && ++idle % 5))
      status(); // one that has ended may be resumed
    else read();
  }
  async function got() {
    const last = incoming[incoming.length - 1];
    const mine = `${incoming.length} ${last && last.time} ${last && last.event}`;
    if (incoming.length && mine !== mark) {
      mark = mine;
      changed = performance.now();
      now = build(incoming);
      const {loss} = now || {loss: {}};
      const n = loss.train ? loss.train.x.length : 0;
      R.views.training = {runs: now ? [now] : [], smooth: 2 * Math.floor(n / 40) + 1, snapshots: []};
      await draw();
    }
    status();
    document.body.dataset.read = reads;
  }
  function start() {
    const pause = el(
      "button",
      {
        "aria-pressed": "false",
        onclick: () => {
          isPaused = !isPaused;
          pause.setAttribute("aria-pressed", String(isPaused));
          if (!isPaused) read();
        },
      },
      "pause",
    );
    const theme = el("button", {"aria-label": "light or dark", onclick: Theme.change}, "◐");
    document
      .getElementById("top")
      .append(
        el("h1", {}, R.title),
        el("span", {id: "status", class: "facts"}),
        el("span", {class: "tools"}, pause, theme),
      );
    State.load();
    State.on(draw);
    read();
    setInterval(tick, EVERY);
  }
  return {take: event => incoming.push(event), start, build};
})();
Watch.start();
