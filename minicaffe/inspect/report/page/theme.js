// Light or dark: as the system wishes, until the reader chooses.
const Theme = (() => {
  const wish = matchMedia("(prefers-color-scheme: dark)");
  let chosen = "";

  function show() {
    document.documentElement.dataset.theme = chosen || (wish.matches ? "dark" : "light");
    Colours.forget();
    State.redraw();
  }
  function change() {
    chosen = Colours.css("--dark") === "1" ? "light" : "dark";
    show();
  }
  wish.addEventListener("change", show);
  show();
  return {change};
})();
