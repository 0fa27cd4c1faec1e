// The chosen concept: what it is about, its numbers, and what happened to it.

const KIND_WORDS = {
  born: "was born",
  split: "was split off",
  revived: "was revived",
  promoted: "was promoted",
  grew: "grew",
  shrank: "shrank",
  merged: "took in",
  absorbed: "was absorbed by",
  retired: "was retired",
  dissolved: "was dissolved",
};

const eventsOf = new Map(); // by id of a concept: its own, and those of concepts that came out of it
for (let at = 0; at < events.id.length; at++) {
  const isOffspring = ["born", "split"].includes(cycles.kinds[events.kind[at]]);
  for (const id of [events.id[at], ...(isOffspring ? events.others[at] : [])]) {
    if (!eventsOf.has(id)) eventsOf.set(id, []);
    eventsOf.get(id).push(at);
  }
}
const rowOf = new Map(concepts.id.map((id, row) => [id, row]));

/** Returns a concept by name: a link where it still exists. */
function conceptLink(id) {
  const row = rowOf.get(id);
  if (row === undefined) return element("span", {}, `concept ${id}`);
  return element("button", { type: "button", class: "link", click: () => selection.choose(row) }, titleOf(row));
}

/** Returns an event as a sentence. */
function eventSentence(at, isOwn) {
  const kind = cycles.kinds[events.kind[at]];
  const others = events.others[at].flatMap((id, place) => [place ? ", " : " ", conceptLink(id)]);
  const preposition = kind === "split" || (kind === "born" && others.length) ? " from" : "";
  const subject = isOwn ? [] : [conceptLink(events.id[at]), " "];
  const size = events.n[at] ? ` (${events.n[at] > 0 ? "+" : "−"}${whole.format(Math.abs(events.n[at]))})` : "";
  return [...subject, KIND_WORDS[kind], preposition, ...others, size, events.reason[at] ? ": " : "", events.reason[at]];
}

function factList(facts) {
  return facts
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value))));
}

function showDetail(row) {
  const title = element("h2", {}, titleOf(row), " ", stateBadge(row));
  const facts = factList([
    ["Episodes", whole.format(concepts.n_episodes[row])],
    ["Coherence", fixed(concepts.coherence[row], 3)],
    ["Strength", fixed(concepts.strength_ppm[row] / 1e6, 3)],
    ["Replays", whole.format(concepts.n_replays[row])],
    ["Idle", count(concepts.idle_cycles[row], "cycle")],
    ["Born in cycle", whole.format(concepts.born_cycle[row])],
    ["Joined at distance", fixed(concepts.distance[row], 3)],
    ["From", day(concepts.first[row])],
    ["To", day(concepts.last[row])],
    ["Id", concepts.id[row]],
  ]);
  const log = (eventsOf.get(concepts.id[row]) ?? []).map((at) =>
    element("li", {}, `Cycle ${events.cycle[at]}: `, ...eventSentence(at, events.id[at] === concepts.id[row])),
  );
  byId("detail").replaceChildren(
    title,
    element("dl", { class: "facts" }, ...facts),
    element("h3", {}, "Exemplars"),
    ...concepts.exemplars[row].map((text) => element("blockquote", {}, text)),
    element("h3", {}, "What happened to it"),
    log.length
      ? element("ul", { class: "log" }, ...log)
      : element("p", { class: "empty" }, "Nothing but growth in the cycles that this page knows."),
  );
  byId("detail").scrollTop = 0;
}
