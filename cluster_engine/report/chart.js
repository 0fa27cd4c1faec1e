// Charts: counts in bins, and what is left of the strength of bindings.

const CHART_PIXELS = 170;
const AXIS_PIXELS = 40;

/** Returns round numbers between two, about so many. */
function ticks(low, high, n) {
  if (!(high > low)) return [low];
  const raw = (high - low) / Math.max(1, n);
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Number(at.toPrecision(6)));
  return found;
}

/** Returns a table that can be opened below a drawing: its numbers, for those who do not see it. */
function numbers(heads, rows) {
  return element("details", {}, element("summary", {}, "Numbers"), plainTable(heads, rows));
}

/** Draws counts as bars: bins with a name, a count, and what is said of each. */
function drawBars(figure, { title, summary, heads, bins }) {
  keepDrawn(figure, (width) => {
    const top = Math.max(1, ...bins.map((bin) => bin.count));
    const room = (width - AXIS_PIXELS) / Math.max(1, bins.length);
    const y = (value) => 6 + (1 - value / top) * CHART_PIXELS;
    const parts = ticks(0, top, 4).filter(Number.isInteger).flatMap((tick) => [
      shape("line", { class: "grid", x1: AXIS_PIXELS, x2: width, y1: y(tick), y2: y(tick) }),
      shape("text", { class: "soft", x: AXIS_PIXELS - 6, y: y(tick) + 4, "text-anchor": "end" }, whole.format(tick)),
    ]);
    const every = Math.ceil(bins.length / Math.max(1, (width - AXIS_PIXELS) / 46));
    bins.forEach((bin, place) => {
      const x = AXIS_PIXELS + place * room;
      const bar = { class: "bar", x: x + 1, y: y(bin.count), width: Math.max(1, room - 2), height: y(0) - y(bin.count) };
      parts.push(shape("rect", bar, shape("title", {}, `${bin.words}: ${count(bin.count, "concept")}`)));
      if (place % every === 0) parts.push(shape("text", { class: "soft", x, y: y(0) + 15, "text-anchor": "middle" }, bin.edge));
    });
    refill(
      figure,
      element("figcaption", {}, title, element("small", {}, summary)),
      shape("svg", { height: y(0) + 20, role: "img", "aria-label": `${title}. ${summary}` }, ...parts),
      numbers(heads, bins.map((bin) => [bin.words, whole.format(bin.count)])),
    );
  });
}

function startShape() {
  const { sizes, coherences } = content;
  const [low, middle, high] = sizes.quartiles;
  drawBars(byId("sizes"), {
    title: "Episodes of a concept",
    summary: nConcepts ? `Half have ${fixed(low, 0)} to ${fixed(high, 0)}; median ${fixed(middle, 0)}. Bins double.` : "There are no concepts.",
    heads: ["episodes", "concepts"],
    bins: sizes.counts.map((n, at) => {
      const [first, last] = [sizes.edges[at], (sizes.edges[at + 1] ?? sizes.edges[at] + 1) - 1];
      return { edge: whole.format(first), count: n, words: last > first ? `${whole.format(first)} to ${whole.format(last)}` : whole.format(first) };
    }),
  });
  const quartiles = coherences.quartiles;
  drawBars(byId("coherences"), {
    title: "Coherence of a concept",
    summary: quartiles.length ? `Mean cosine of two members. Half are ${fixed(quartiles[0])} to ${fixed(quartiles[2])}; median ${fixed(quartiles[1])}.` : "There are no concepts.",
    heads: ["coherence", "concepts"],
    bins: coherences.counts.map((n, at) => ({
      edge: fixed(coherences.edges[at]),
      count: n,
      words: `${fixed(coherences.edges[at])} to ${fixed(coherences.edges[at + 1])}`,
    })),
  });
}

function startDecay() {
  const { decay } = content;
  const figure = byId("decay-figure");
  const nBindings = decay.n.reduce((sum, n) => sum + n, 0);
  const span = (at) => (decay.width_days === 1 ? `${decay.age_days[at]}` : `${decay.age_days[at]} to ${decay.age_days[at] + decay.width_days - 1}`);
  keepDrawn(figure, (width) => {
    const caption = element("figcaption", {}, "Strength that is left", element("small", {}, `${count(nBindings, "binding")}, by days since they were touched`));
    if (decay.n.length < 2) {
      figure.replaceChildren(caption, element("p", { class: "empty" }, nBindings ? "All bindings are of one age: there is no curve yet." : "There are no bindings."));
      return;
    }
    const oldest = decay.age_days[decay.age_days.length - 1];
    const x = (age) => AXIS_PIXELS + (age / oldest) * (width - AXIS_PIXELS - 12);
    const top = Math.max(1, ...decay.left.map((left) => left[2]));
    const y = (share) => 8 + (1 - share / top) * CHART_PIXELS * 1.2;
    const most = Math.max(...decay.n);
    const at = (place, which) => `${x(decay.age_days[place])},${y(decay.left[place][which])}`;
    const parts = ticks(0, top, 4).flatMap((tick) => [
      shape("line", { class: "grid", x1: AXIS_PIXELS, x2: width, y1: y(tick), y2: y(tick) }),
      shape("text", { class: "soft", x: AXIS_PIXELS - 6, y: y(tick) + 4, "text-anchor": "end" }, `${Math.round(100 * tick)} %`),
    ]);
    for (const tick of ticks(0, oldest, width / 90)) {
      parts.push(shape("text", { class: "soft", x: x(tick), y: y(0) + 16, "text-anchor": "middle" }, `${whole.format(tick)} d`));
    }
    for (let place = 1; place < decay.n.length; place++) {
      const isGap = decay.age_days[place] - decay.age_days[place - 1] > decay.width_days; // no binding is of an age between
      parts.push(
        shape("path", { class: "band", d: `M${at(place - 1, 0)}L${at(place, 0)}L${at(place, 2)}L${at(place - 1, 2)}Z` }),
        shape("path", { class: isGap ? "line gap" : "line", d: `M${at(place - 1, 1)}L${at(place, 1)}` }),
      );
    }
    decay.n.forEach((n, place) => {
      const [age, share] = [decay.age_days[place], decay.left[place][1]];
      const words = `${span(place)} days: ${Math.round(100 * share)} % of the strength left (median), ${count(n, "binding")}`;
      const disc = shape("circle", { class: "bar", cx: x(age), cy: y(share), r: 2.5 + 4 * Math.sqrt(n / most) }, shape("title", {}, words));
      parts.push(disc);
    });
    const last = decay.left[decay.left.length - 1][1];
    const label = `Of bindings untouched for ${whole.format(oldest)} days, ${Math.round(100 * last)} % of the strength is left (median)`;
    refill(
      figure,
      caption,
      shape("svg", { height: y(0) + 22, role: "img", "aria-label": label }, ...parts),
      numbers(
        ["days", "bindings", "a tenth has less than", "median", "a tenth has more than"],
        decay.n.map((n, at) => [span(at), whole.format(n), ...decay.left[at].map((share) => `${(100 * share).toFixed(1)} %`)]),
      ),
    );
  });
}
