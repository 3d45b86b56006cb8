// Building the page: elements, and what is spoken. Text is data, so it is only ever set as textContent.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(
  "svg g path rect line circle text tspan polyline polygon title defs pattern clipPath".split(" "),
);
SVG_TAGS.delete("title");

// el("button", {class: "x", onclick: f, "aria-label": "…"}, "text", child, [more]): an element.
function el(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(node.style, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

// How wide a view is at least: with its margins, and a scroll bar that may come.
const roomOf = () => document.getElementById("main").offsetWidth - 46;

// Speak a line to those who listen to the page.
function say(text) {
  document.getElementById("spoken").textContent = text;
}

// A quiet line; nothing where there is nothing to say.
const quiet = (...content) => (content.flat(3).some(Boolean) ? el("p", {class: "quiet"}, ...content) : "");

// In place of what needs gradients, where an image of the user's own is chosen.
const noGradients = what =>
  el(
    "p",
    {class: "quiet"},
    `${what} needs gradients. This page runs the net forward only, so of a picture of yours there are none; they ` +
      "were recorded for the images of the report. ",
    el("button", {onclick: () => State.set({image: 0})}, `look at ${R.images[0].name}`),
  );

// Words that lead to another place of the page, as State.set does.
const link = (text, patch) =>
  el("button", {class: "link", "data-focus": `link-${text}`, onclick: () => State.set(patch)}, text);

// The head of a table: a title for each column.
const headOf = titles =>
  el(
    "thead",
    {},
    el(
      "tr",
      {},
      titles.map(title => el("th", {scope: "col"}, title)),
    ),
  );
