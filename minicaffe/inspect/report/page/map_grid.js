// Many maps, of which one can be chosen.
Maps.grid = (() => {
  const {tile} = Maps;

  // Many maps, as buttons: maps is a list of {values, h, w, label, number}. One is in the order of tabs; arrows
  // move. {lo, hi}: one range for all; else each has its own. onselect(number), selected: a number.
  function grid(maps, {lo, hi, scale, selected, onselect, focus = "grid"} = {}) {
    const box = el("div", {
      class: "grid",
      role: "group",
    });
    const buttons = maps.map((map, i) => {
      const number = map.number ?? i;
      const isChosen = number === selected;
      const picture = map.picture || tile(map.values, map.h, map.w, {lo, hi, scale, label: map.label});
      return el(
        "button",
        {
          class: "cell",
          "aria-pressed": onselect ? String(isChosen) : null,
          "data-map": number,
          "data-focus": `${focus}-${number}`,
          tabindex: "-1",
          onclick: () => onselect && onselect(number),
        },
        picture,
        el("span", {class: "number"}, map.text ?? String(number)),
      );
    });
    const active = Math.max(
      0,
      buttons.findIndex(b => b.getAttribute("aria-pressed") === "true"),
    );
    if (buttons.length) buttons[active].tabIndex = 0;
    box.addEventListener("keydown", event => {
      const here = buttons.indexOf(document.activeElement);
      if (here < 0) return;
      const top = buttons[here].offsetTop;
      const wide = Math.max(1, buttons.filter(b => b.offsetTop === buttons[0].offsetTop).length);
      const step = {
        ArrowLeft: -1,
        ArrowRight: 1,
        ArrowUp: -wide,
        ArrowDown: wide,
        Home: -here,
        End: buttons.length,
      }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      const next = Math.max(0, Math.min(buttons.length - 1, here + step));
      buttons[here].tabIndex = -1;
      buttons[next].tabIndex = 0;
      buttons[next].focus();
      if (buttons[next].offsetTop !== top) buttons[next].scrollIntoView({block: "nearest"});
    });
    box.append(...buttons);
    return box;
  }

  return grid;
})();
