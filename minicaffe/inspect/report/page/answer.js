// View 5: what the net says of an image, and on which parts of the image that depends.
View("answer", () => {
  const D = R.views.answer || {};
  const {O, coverable, covered, says, mapOf, nearest, measure} = Cover;
  const [C, H, W] = R.input.shape;
  const isShare = R.softmax || (R.answer && stageLayer(R.answer).type === "Softmax");
  const what = isShare ? "log p" : "the score";
  const own = i => Live.images[i - R.images.length];
  const meta = i => (i < R.images.length ? R.images[i] : own(i));
  const best = (p, n) =>
    Array.from(p.keys())
      .sort((a, b) => p[b] - p[a])
      .slice(0, n);
  const number = text => (text !== undefined && /^\d+$/.test(text) ? Number(text) : null);

  // -- bars --
  function bars(p, thin, i, chosen) {
    const {label} = meta(i);
    const most = isShare ? 1 : Math.max(1e-9, ...p.map(Math.abs));
    const shown = [
      ...new Set([...best(p, 5), ...[label, chosen].filter(c => Number.isInteger(c) && c < p.length)]),
    ];
    const width = v => 100 * Math.max(0, Math.min(1, v / most)) + "%";
    return shown.map(c =>
      el(
        "button",
        {
          class: "says",
          "data-class": c,
          "aria-pressed": String(c === chosen),
          "data-focus": `class-${c}`,
          "aria-label": `${className(c)}: ${fmt(p[c])}${c === label ? ", the true class" : ""}`,
          onclick: () => State.set({class: `${i}:${c}`}),
        },
        el("span", {class: "name"}, className(c), c === label ? el("b", {class: "true"}, " ✓ true") : ""),
        el(
          "span",
          {class: "track"},
          el("span", {class: "fill", style: {width: width(p[c])}}),
          thin ? el("span", {class: "thin", style: {left: width(thin[c])}}) : null,
        ),
        num(p[c]),
      ),
    );
  }

  // -- cards --
  const card = (title, ...content) => el("section", {class: "card"}, el("h3", {}, title), ...content);

  function byHand(live, picture) {
    const made = card(
      "Cover it by hand",
      picture,
      quiet(
        live
          ? "Drag the square, or move it with arrows; the bars follow."
          : "Put the square anywhere: it goes to the nearest place that was recorded.",
      ),
      el("button", {"data-focus": "uncover", onclick: () => State.set({cover: null})}, "uncover"),
    );
    if (!State.cover) made.classList.add("controls"); // there is nothing to print
    return made;
  }

  // The occlusion map of a class: by how much its score falls (rows · columns) with the square at each place.
  async function depends(i, scale, chosen, falls, fallAt, box) {
    const [lo, hi] = [Math.min(0, ...falls), Math.max(0, ...falls)];
    const extent = Math.max(-lo, hi);
    const canvas = await OverPicture.tinted(
      i,
      scale,
      (y, x) => fallAt(y - O.side / 2 + 0.5, x - O.side / 2 + 0.5),
      extent,
      `occlusion map of ${className(chosen)}: ${what} falls by ${fmt(Math.min(...falls))} to ` +
        `${fmt(Math.max(...falls))}`,
    );
    return card(
      "Occlusion map",
      box(canvas, "occlusion"),
      !extent
        ? quiet("Covering changes nothing.")
        : [
            OverPicture.legend(lo, hi, lo ? num(lo) : "0", hi ? num(hi) : "0"),
            quiet(
              `By how much ${what} falls with the square there`,
              lo < -extent / 3 && [" (", el("b", {class: "minus"}, "red"), ": it rises)"],
              ". Not a reason: the square is itself something the net has never seen.",
            ),
          ],
      el(
        "details",
        {class: "as-table"},
        el("summary", {}, "as table"),
        Maps.table(falls, O.tops.length, O.lefts.length, {label: `falls of ${what}`}),
      ),
    );
  }

  // What stands there in place of the map: of an image of the user's own it can be measured now.
  function notMeasured(i, chosen, falls) {
    const status = el("p", {class: "quiet", role: "status"});
    const start = event => {
      event.target.disabled = true;
      measure(i, isShare, status);
    };
    const passes = () => many(O.tops.length * O.lefts.length, "pass", "passes");
    return card(
      "Occlusion map",
      i >= R.images.length && !falls
        ? el("button", {onclick: start}, `cover it everywhere: ${passes()}`)
        : quiet(
            O.why
              ? `Not measured: ${O.why}.`
              : "Recorded for the best five classes, and for the first images only.",
          ),
      status,
    );
  }

  async function draw(root) {
    const i = State.image;
    const live = Values.isLive();
    const p = await Values.answer(i);
    const {thumbnail} = meta(i);
    if (!p) {
      root.append(el("p", {}, "The scores of this image were not recorded."));
      return;
    }
    const [of, picked] = String(State.class || "")
      .split(":")
      .map(Number);
    const chosen = of === i && picked < p.length ? picked : best(p, 1)[0];
    const falls = await mapOf(i);
    const at =
      State.cover && O.side && /^\d+,\d+$/.test(State.cover) ? State.cover.split(",").map(Number) : null;
    const other = number(State.with);
    const isCompared = other !== null && other < State.imageCount() && other !== i;
    const input = live ? await Values.input(i) : null;
    const list = el("div", {class: "answers", role: "group", "aria-label": "what the net says"});
    const line = el("p", {class: "read-out"});
    const reference = isCompared ? await Values.answer(other) : null;
    let waiting = null;
    let isBusy = false;
    const k = falls ? falls.classes.indexOf(chosen) : -1;
    const wide = O.lefts ? O.lefts.length : 0;
    const fallAt = (y, x) => falls.falls[k][nearest(O.tops, y) * wide + nearest(O.lefts, x)];

    async function update(to) {
      if (isBusy) {
        waiting = to;
        return;
      }
      isBusy = true;
      const now = to && live ? await says(covered(input, to)) : p;
      list.replaceChildren(...bars(now, reference || (to && live ? p : null), i, chosen));
      const before = isShare ? p[chosen] : null;
      const drop = to && !live && k >= 0 ? fallAt(...to) : null;
      const after = to && live ? now[chosen] : drop !== null && isShare ? p[chosen] * Math.exp(-drop) : null;
      line.replaceChildren(
        ...(!to
          ? [live || k >= 0 ? "Nothing is covered." : ""]
          : after === null
            ? [drop === null ? "" : `Covered here, the score falls by ${fmt(drop)}.`]
            : [
                `Covered here, ${isShare ? "p" : "the score"} of ${className(chosen)} goes from `,
                num(before ?? p[chosen]),
                " to ",
                num(after),
                ".",
              ]),
      );
      isBusy = false;
      if (waiting) {
        const next = waiting;
        waiting = null;
        await update(next);
      }
    }
    await update(at);
    const room = (roomOf() < 1000 ? 160 : 196) / Math.max(H, W);
    const scale = room < 1 ? room : Math.floor(room);
    const boxes = [];
    const snap = ([y, x]) => (live ? [y, x] : [O.tops[nearest(O.tops, y)], O.lefts[nearest(O.lefts, x)]]);
    const move = to => {
      const place = snap(to);
      boxes.forEach(b => b.place(place));
      update(place);
    };
    const end = to => {
      if (to) {
        const cover = snap(to).join(",");
        if (cover === State.cover) update(snap(to));
        else State.set({cover});
        say(line.textContent);
      }
    };
    const box = (canvas, name) => {
      const made = coverable(canvas, at, name, move, end);
      boxes.push(made);
      return made;
    };
    const picture = thumbnail && O.side ? await Maps.image(i, scale) : null;
    const numbers = Array.from({length: State.imageCount()}, (_, n) => n);

    const cards = [];
    const first = el(
      "section",
      {},
      el("h3", {}, "What the net says"),
      list,
      line,
      isShare ? null : quiet("Scores, not probabilities: they need not add up to 1."),
      el(
        "label",
        {class: "quiet"},
        "thin lines: ",
        el(
          "select",
          {"data-focus": "with", onchange: e => State.set({with: e.target.value || null})},
          el("option", {value: ""}, "the image uncovered"),
          numbers
            .filter(n => n !== i)
            .map(n =>
              el("option", {value: n, selected: isCompared && n === other}, `compare with ${meta(n).name}`),
            ),
        ),
      ),
    );
    if (picture && (live || k >= 0)) cards.push(byHand(live, box(picture, "by-hand")));
    if (picture && k >= 0) cards.push(await depends(i, scale, chosen, falls.falls[k], fallAt, box));
    else if (picture) cards.push(notMeasured(i, chosen, falls));
    if (picture && GradCam.has) cards.push(card(...(await GradCam.card(i, scale, chosen, what))));
    root.append(
      el(
        "div",
        {class: "two"},
        el("div", {class: "answer-left"}, first, await Pad.cards(root, i, D.dims || [H, W])),
        el(
          "div",
          {class: "answer-cards"},
          cards.length ? el("h3", {}, `What ${className(chosen)} depends on`) : null,
          cards,
        ),
      ),
    );
  }

  return {
    title: "What the net says, and what that depends on",
    follow: GradCam.follow,
    draw,
    shown: Pad.place,
    tries: () =>
      C === 1 && W && Values.isLive()
        ? "Draw a 4 that it takes for a 9."
        : Values.isLive() || O.images
          ? "Cover as little as you can so that it says something else."
          : "Compare it with another image, whose bars are the thin lines.",
    say:
      "Bars: the net's probabilities. They always add up to 1, also for a picture of nothing it knows. " +
      "The map shows how far the score falls when a patch is covered: what it depends on, not a reason.",
  };
});
