// The page, from top to bottom.

function startHeader() {
  const { facts } = content;
  const states = Object.entries(facts.n_concepts).map(([state, n]) => `${whole.format(n)} ${state}`);
  byId("store").textContent = facts.store;
  byId("facts").append(
    ...factList([
      ["Version", whole.format(facts.version)],
      ["Slot", facts.slot],
      ["As of", facts.as_of && facts.as_of.replace("T", " ").replace("+00:00", " UTC")],
      ["Cycle", whole.format(facts.cycle)],
      ["Concepts", states.length > 1 ? `${whole.format(nConcepts)}: ${states.join(", ")}` : whole.format(nConcepts)],
      ["Episodes", whole.format(facts.n_episodes)],
      ["In a concept", whole.format(facts.n_bound)],
      ["Cut at distance", fixed(facts.cut_distance, 3)],
      ["Refused rows", whole.format(facts.n_quarantined)],
    ]),
  );
}

startHeader();
selection.listeners.push(showDetail);
treeView.start();
if (nConcepts) selection.choose(0);
else byId("detail").append(element("p", { class: "empty" }, "There are no concepts yet."));
treeView.box.scrollTop = 0;
dendrogram.start();
plane.start();
startShape();
timeline.start();
startDecay();
startQuarantine();
startRun();
document.documentElement.dataset.readyMs = performance.now().toFixed(0);
