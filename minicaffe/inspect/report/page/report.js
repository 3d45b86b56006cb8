// What the page shows: the report's data R, its views, and its layers, stages and classes by their names.

const R = JSON.parse(document.getElementById("report").textContent);
const views = new Map(); // key -> view, as View registers them

// A view is what make() returns: draw(root, state) fills an empty root, and may be async; it is called again
// whenever the state changes. say and tries are texts (or functions that return one); keys: {"x": ["what it
// does", function]}; follow(layer): what else is chosen with a layer while the view is open; shown(element):
// what was drawn takes its place in the page.
function View(key, make) {
  views.set(key, make());
}

const layerOf = name => R.layers.find(layer => layer.name === name);
const stageLayer = key => R.layers.find(layer => layer.tops.includes(key));
const className = c => (c === null || c === undefined ? "?" : (R.classes[c] ?? "class " + c));
// The stage before Splits, which copy it.
function source(key) {
  const maker = stageLayer(key);
  return maker && maker.type === "Split" ? source(maker.bottoms[0]) : key;
}
// Are a stage's units classes that have names? So in the answer, and in the scores that a Softmax makes it of.
function isOfClasses(key) {
  const maker = stageLayer(R.answer);
  const scores = maker?.type === "Softmax" && source(maker.bottoms[0]);
  return R.classes.length > 0 && [R.answer, scores].includes(source(key));
}

// What a stage is called: its blob; and where several layers write into that, the layer that has written it, or, of
// what the first one makes, the layer that overwrites it.
const stageName = key => {
  const s = R.stages[key];
  if (key === s.blob) return key;
  const {bottoms} = layerOf(s.layer);
  const next = R.layers.find(l => l.bottoms.includes(key) && l.tops.some(top => R.stages[top].blob === s.blob));
  return next && !bottoms.some(b => R.stages[b].blob === s.blob)
    ? `${s.blob} before ${next.name}`
    : `${s.blob} after ${s.layer}`;
};
