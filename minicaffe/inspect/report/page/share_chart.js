// One bar of 100 %, whose parts can be chosen.
Chart.share = (() => {
  // The longest text that fits into each part: a name is whole or not there.
  const label = new ResizeObserver(entries => {
    for (const {target} of entries)
      for (const button of target.children)
        button.texts.some(text => {
          button.textContent = text;
          return button.scrollWidth <= button.clientWidth;
        });
  });

  // layers [{name, block, value, kind}]; those of a block are one part, of the colour of the largest. chosen: a
  // layer's name; onselect(name of the largest), onhover(block | null).
  function share({title, unit, layers, chosen, onselect, onhover}) {
    const all = layers.filter(l => l.value > 0);
    const sum = all.reduce((a, l) => a + l.value, 0);
    const blocks = new Map();
    for (const l of all) blocks.set(l.block, [...(blocks.get(l.block) || []), l]);
    const here = layers.find(l => l.name === chosen)?.block;
    const buttons = [];
    const box = el("div", {class: "share", role: "group", "aria-label": title});
    for (const [block, members] of blocks) {
      const value = members.reduce((a, l) => a + l.value, 0);
      const most = members.reduce((a, b) => (b.value > a.value ? b : a));
      const text =
        `${block}: ${members.length > 1 ? `${members.length} layers, ` : ""}` +
        `${percent(value / sum)}, ${whole(value)} ${unit}`;
      const button = el("button", {
          class: `part ${most.kind}${block === here ? " chosen" : ""}`,
          style: {flexGrow: (1000 * value) / sum, flexBasis: 0},
          title: text,
          "aria-label": text,
          "data-part": block,
          tabindex: block === here ? "0" : "-1",
          "data-focus": `${title}-${block}`,
          onclick: () => onselect(most.name),
          onmouseenter: () => onhover(block),
          onmouseleave: () => onhover(null),
          onfocus: () => onhover(block),
        });
      const short = block.replace(/^\D+[/_.-](?=\d+[a-z])/, ""); // inception_4a -> 4a
      const part = percent(value / sum);
      button.texts = [`${block} ${part}\u2009`, `${short} ${part}\u2009`, short, ""];
      buttons.push(button);
    }
    box.append(...buttons);
    label.observe(box);
    if (buttons.length && !buttons.some(b => b.tabIndex === 0)) buttons[0].tabIndex = 0;
    box.addEventListener("keydown", event => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      const here = buttons.indexOf(document.activeElement);
      if (!step || here < 0) return;
      event.preventDefault();
      event.stopPropagation();
      const next = buttons[Math.max(0, Math.min(buttons.length - 1, here + step))];
      buttons[here].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      say(next.getAttribute("aria-label"));
    });
    return Chart.figure("shares", title, box, ["layer", unit, "share"], () =>
      all.map(l => [l.name, l.value, percent(l.value / sum)]),
    );
  }

  return share;
})();
