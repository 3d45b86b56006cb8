// The header: what net this is, its images, and buttons.
const Header = (() => {
  async function draw() {
    const top = document.getElementById("top");
    const t = R.totals;
    const facts = [
      [count(t.parameters), "parameters", whole(t.parameters)],
      [count(t.multiply_adds), "multiply-adds", whole(t.multiply_adds) + " for one image"],
      [bytes(t.activation_bytes), "memory", whole(t.activation_bytes) + " bytes: all blobs of one image"],
    ];
    if (t.ms !== null) facts.push([fmt(t.ms), "ms"]);
    const strip = el("div", {class: "images", role: "group", "aria-label": "images"});
    top.replaceChildren(
      el("h1", {title: R.title}, R.title),
      el(
        "span",
        {class: "quiet"},
        el("span", {class: "phase"}, `phase ${R.phase} · `),
        R.untrained
          ? el("b", {class: "warning"}, R.zeros ? "untrained: weights are 0" : "untrained")
          : `weights ${R.weights}`,
      ),
      el(
        "span",
        {class: "facts"},
        facts.map(([value, name, title]) =>
          el("span", {title: title || null}, el("b", {class: "num"}, value), " " + name),
        ),
      ),
      strip,
      el("span", {class: "mode"}),
      el(
        "span",
        {class: "tools"},
        el(
          "button",
          {"aria-label": "hide or show the net", title: "the net and the introductions (g)", onclick: Keys.rail},
          "▤",
        ),
        el("button", {"aria-label": "light or dark", title: "light or dark (t)", onclick: Theme.change}, "◐"),
        el("button", {"aria-label": "keys and help", title: "help (?)", onclick: Keys.help}, "?"),
      ),
    );
    mode();
    await thumbnails(strip);
  }

  // Whether the numbers are computed in the page: only once it has checked itself.
  function mode() {
    const [text, title] = Live.on
      ? ["live", "The net runs in this page."]
      : R.live.on && !Live.failed
        ? ["checking …", "The net is run in this page, and its scores compared with those that were recorded."]
        : ["recorded", R.live.on ? Live.why : `As it was recorded: ${R.live.why}.`];
    const node = document.querySelector("#top .mode");
    node.textContent = text;
    node.title = title;
  }

  async function thumbnails(strip) {
    const names = Array.from({length: State.imageCount()}, (_, i) => i);
    const cells = await Promise.all(
      names.map(async i => {
        const shown = i < R.images.length ? R.images[i] : Live.images[i - R.images.length];
        const picture = await Maps.image(i, null);
        if (picture) {
          picture.style.height = "36px";
          picture.style.width = "";
        }
        const isWrong =
          Number.isInteger(shown.label) && Number.isInteger(shown.top) && shown.label !== shown.top;
        const says = Number.isInteger(shown.top) ? className(shown.top) : "";
        const label =
          shown.name +
          (says && `: the net says ${says}`) +
          (isWrong ? `, wrong: it is ${className(shown.label)}` : "");
        return el(
          "button",
          {
            class: "image" + (isWrong ? " wrong" : ""),
            "data-image": i,
            "aria-pressed": String(i === State.image),
            title: label,
            "aria-label": label,
            tabindex: i === State.image ? "0" : "-1",
            "data-focus": `image-${i}`,
            onclick: () => State.set({image: i}),
          },
          picture || el("span", {class: "blank"}, String(i)),
          el(
            "span",
            {class: "number"},
            isWrong ? "✗" : "",
            !R.classes.length
              ? String(shown.top ?? i)
              : says || String(i),
          ),
        );
      }),
    );
    const what = R.classes.length ? "" : Number.isInteger(R.images[0].top) ? "class" : "image"; // the numbers
    strip.replaceChildren(quiet(what), ...cells);
    cells[State.image]?.scrollIntoView({block: "nearest", inline: "nearest"});
    strip.onkeydown = event => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      Keys.move("image", step);
      cells[State.image].focus();
    };
  }

  return {draw, mode, thumbnails};
})();
