// The timeline: a lane for each kind of change, a column for each cycle, or for some where there are many.

const MAX_COLUMNS = 120;
const MAX_COLUMN_PIXELS = 56;
const LANE_PIXELS = 30;
const LANE_LABEL_PIXELS = 150;
const DATE_PIXELS = 80;
const MAX_LISTED = 300;

const LANES = {
  born: "born",
  split: "split off",
  revived: "revived",
  promoted: "promoted",
  grew: "grew",
  shrank: "shrank",
  merged: "took another in",
  absorbed: "absorbed",
  retired: "retired",
  dissolved: "dissolved",
};

const timeline = {
  figure: byId("timeline"),
  perColumn: Math.max(1, Math.ceil(cycles.cycle.length / MAX_COLUMNS)),
  chosen: 0, // column
  slider: null,

  nColumns() {
    return Math.ceil(cycles.cycle.length / this.perColumn);
  },

  /** Returns the cycles of a column: the first, and the one after the last, by their place. */
  span(column) {
    return [column * this.perColumn, Math.min(cycles.cycle.length, (column + 1) * this.perColumn)];
  },

  words(column) {
    const [first, end] = this.span(column);
    const last = end - 1;
    const slot = cycles.slot[last] && first === last ? `, slot ${cycles.slot[last]}` : "";
    return first === last
      ? `cycle ${cycles.cycle[first]}, ${day(cycles.as_of[first])}${slot}`
      : `cycles ${cycles.cycle[first]} to ${cycles.cycle[last]}, ${day(cycles.as_of[first])} to ${day(cycles.as_of[last])}`;
  },

  counts(kind, column) {
    const [first, end] = this.span(column);
    return cycles.counts[kind].slice(first, end).reduce((sum, n) => sum + n, 0);
  },

  draw(width) {
    const kinds = [...cycles.kinds.keys()].filter((kind) => cycles.counts[kind].some(Boolean));
    const room = Math.min(MAX_COLUMN_PIXELS, (width - LANE_LABEL_PIXELS) / this.nColumns());
    const right = LANE_LABEL_PIXELS + room * this.nColumns();
    const x = (column) => LANE_LABEL_PIXELS + column * room;
    const height = kinds.length * LANE_PIXELS;
    const parts = [shape("rect", { class: "column", x: x(this.chosen), y: 0, width: Math.max(2, room), height: height + 4 })];
    kinds.forEach((kind, lane) => {
      const base = (lane + 1) * LANE_PIXELS;
      const columns = [...Array(this.nColumns()).keys()].map((column) => this.counts(kind, column));
      const [most, sum] = [Math.max(...columns), columns.reduce((total, n) => total + n, 0)];
      parts.push(
        shape("text", { x: 0, y: base - 6 }, LANES[cycles.kinds[kind]]),
        shape("text", { class: "soft", x: LANE_LABEL_PIXELS - 8, y: base - 6, "text-anchor": "end" }, whole.format(sum)),
        shape("line", { class: "grid", x1: LANE_LABEL_PIXELS, x2: right, y1: base, y2: base }),
      );
      columns.forEach((n, column) => {
        const bar = Math.max(2, (n / most) * (LANE_PIXELS - 7));
        if (n) parts.push(shape("rect", { class: "bar", x: x(column) + 0.5, y: base - bar, width: Math.max(1, room - 1), height: bar }));
      });
    });
    for (let column = 0; column < this.nColumns(); column++) {
      const pick = { class: "pick", x: x(column), y: 0, width: room, height, click: () => this.choose(column) };
      parts.push(shape("rect", pick, shape("title", {}, this.words(column))));
    }
    const middle = right - LANE_LABEL_PIXELS > 3 * DATE_PIXELS ? [Math.floor(this.nColumns() / 2)] : [];
    const ends = right - LANE_LABEL_PIXELS > 2 * DATE_PIXELS ? [0, this.nColumns() - 1] : [0];
    for (const column of new Set([...ends, ...middle])) {
      const anchor = column === 0 ? "start" : column === this.nColumns() - 1 ? "end" : "middle";
      const at = anchor === "end" ? x(column) + room : x(column);
      parts.push(shape("text", { class: "soft", x: at, y: height + 18, "text-anchor": anchor }, day(cycles.as_of[this.span(column)[0]])));
    }
    const total = cycles.counts.flat().reduce((sum, n) => sum + n, 0);
    const label = `${count(total, "change")} in ${count(cycles.cycle.length, "cycle")}`;
    const scale = this.perColumn > 1 ? `a column is ${this.perColumn} cycles` : "a column is a cycle";
    refill(
      this.figure,
      element("figcaption", {}, label, element("small", {}, `${scale}; each lane has its own scale, and its sum beside its name`)),
      shape("svg", { height: height + 24, role: "img", "aria-label": label }, ...parts),
      numbers(
        ["cycle", "as of", ...kinds.map((kind) => LANES[cycles.kinds[kind]])],
        cycles.cycle.slice(-MAX_LISTED).map((number, at, shown) => {
          const place = cycles.cycle.length - shown.length + at;
          return [number, day(cycles.as_of[place]), ...kinds.map((kind) => whole.format(cycles.counts[kind][place]))];
        }),
      ),
    );
  },

  choose(column) {
    this.chosen = column;
    this.slider.value = column;
    this.slider.setAttribute("aria-valuetext", this.words(column));
    byId("timeline-words").textContent = this.words(column);
    this.draw(this.figure.clientWidth - 2 * parseFloat(getComputedStyle(this.figure).paddingLeft));
    this.list();
  },

  list() {
    const [first, end] = this.span(this.chosen);
    const [low, high] = [cycles.cycle[first], cycles.cycle[end - 1]];
    const found = [];
    for (let at = 0; at < events.id.length; at++) if (events.cycle[at] >= low && events.cycle[at] <= high) found.push(at);
    const left = found.length - MAX_LISTED;
    const rows = found.slice(0, MAX_LISTED).map((at) => [events.cycle[at], element("span", {}, ...eventSentence(at, false))]);
    const notes = [];
    if (left > 0) notes.push(`${whole.format(left)} more are in the journal.`);
    if (events.n_left_out && events.cycle[0] >= low) notes.push("The page holds the newest changes only; older ones are in the journal.");
    byId("events").replaceChildren(
      found.length ? plainTable(["cycle", "what happened, and why"], rows) : element("p", { class: "empty figure" }, "No concept came, went or turned into another."),
      ...notes.map((note) => element("p", { class: "empty figure" }, note)),
    );
  },

  start() {
    if (!cycles.cycle.length) {
      this.figure.replaceChildren(element("p", { class: "empty" }, "The journal is empty."));
      byId("timeline-tools").remove();
      byId("events").remove();
      return;
    }
    this.slider = element("input", {
      type: "range",
      min: 0,
      max: this.nColumns() - 1,
      "aria-label": "Cycle",
      input: (event) => this.choose(Number(event.target.value)),
    });
    byId("timeline-tools").append(this.slider, element("output", { id: "timeline-words" }));
    this.chosen = this.nColumns() - 1;
    keepDrawn(this.figure, (width) => this.draw(width));
    this.choose(this.chosen);
  },
};
