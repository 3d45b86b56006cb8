// One bar of 100 %, whose parts can be chosen.
Chart.share = (() => {
  const {figure} = Chart;

  // One bar of 100 %: parts [{name, value, kind}]; chosen: a name; onselect(name), onhover(name | null).
  function share({title, unit, parts, total, chosen, onselect, onhover}) {
    const sum = total ?? parts.reduce((a, p) => a + p.value, 0);
    const all = parts.filter(p => p.value > 0);
    // what is too thin to be seen is left out
    const shown = all.filter(p => all.length < 60 || p.value >= 0.002 * sum || p.name === chosen);
    const box = el("div", {
      class: all.length < 60 ? "share" : "share many",
      role: "group",
      "aria-label": title,
    });
    for (const p of shown) {
      const part = p.value / sum;
      const label = `${p.name}: ${percent(part)}, ${whole(p.value)} ${unit}`;
      box.append(
        el(
          "button",
          {
            class: `part ${p.kind}${p.name === chosen ? " chosen" : ""}`,
            style: {flexGrow: part * 1000, flexBasis: 0},
            title: label,
            "aria-label": label,
            "data-part": p.name,
            tabindex: p.name === chosen ? "0" : "-1",
            "data-focus": `${title}-${p.name}`,
            onclick: () => onselect && onselect(p.name),
            onmouseenter: () => onhover && onhover(p.name),
            onmouseleave: () => onhover && onhover(null),
            onfocus: () => onhover && onhover(p.name),
          },
          part > 0.08 ? `${p.name} ${percent(part)}` : "",
        ),
      );
    }
    const buttons = [...box.children];
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
    return figure("shares", title, box, ["layer", unit, "share"], () =>
      all.map(p => [p.name, p.value, percent(p.value / sum)]),
    );
  }

  return share;
})();
