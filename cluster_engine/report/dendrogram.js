// The top of the hierarchy, or of a branch of it: brackets at the distances of the joins, one row a branch.

const MAX_TIPS = 36;
const TIP_PIXELS = 21;
const LABEL_SHARE = 0.52; // of the width

const nJoins = hierarchy.left.length;
const sidesOf = (node) => [hierarchy.left[node - nConcepts], hierarchy.right[node - nConcepts]];
const isJoin = (node) => node >= nConcepts;
const heightOf = (node) => (isJoin(node) ? hierarchy.distance[node - nConcepts] : concepts.distance[node]);

// By node: concepts and episodes in it, its largest concept, and the colour that all of it has.
const joined = {
  nConcepts: new Int32Array(nConcepts + nJoins).fill(1),
  nEpisodes: new Float64Array(nConcepts + nJoins),
  leader: new Int32Array(nConcepts + nJoins),
  colour: new Int8Array(nConcepts + nJoins),
  isRoot: new Uint8Array(nConcepts + nJoins).fill(1),
};
for (let node = 0; node < nConcepts + nJoins; node++) {
  if (!isJoin(node)) {
    joined.nEpisodes[node] = concepts.n_episodes[node];
    joined.leader[node] = node;
    joined.colour[node] = conceptColour(node);
    continue;
  }
  const [left, right] = sidesOf(node);
  joined.nConcepts[node] = joined.nConcepts[left] + joined.nConcepts[right];
  joined.nEpisodes[node] = joined.nEpisodes[left] + joined.nEpisodes[right];
  joined.leader[node] = Math.min(joined.leader[left], joined.leader[right]); // concepts are in order of their size
  joined.colour[node] = joined.colour[left] === joined.colour[right] ? joined.colour[left] : -1;
  joined.isRoot[left] = joined.isRoot[right] = 0;
}

const dendrogram = {
  box: byId("dendrogram-figure"),
  path: [], // nodes that were opened, the highest first

  roots() {
    if (this.path.length) return [this.path[this.path.length - 1]];
    const roots = [];
    for (let node = 0; node < nConcepts + nJoins; node++) {
      const isRetired = !isJoin(node) && STATES[concepts.state[node]] === "retired"; // these join no more
      if (joined.isRoot[node] && !(isRetired && nJoins)) roots.push(node);
    }
    return roots.sort((a, b) => joined.nEpisodes[b] - joined.nEpisodes[a] || a - b).slice(0, MAX_TIPS);
  },

  /** Returns the nodes that are opened: those with the most concepts, until there are rows enough. */
  opened(roots) {
    const opened = new Set();
    const waiting = roots.filter(isJoin);
    for (let nTips = roots.length; waiting.length && nTips < MAX_TIPS; nTips++) {
      waiting.sort((a, b) => joined.nConcepts[a] - joined.nConcepts[b] || b - a);
      const node = waiting.pop();
      opened.add(node);
      waiting.push(...sidesOf(node).filter(isJoin));
    }
    return opened;
  },

  draw(width) {
    const roots = this.roots();
    const opened = this.opened(roots);
    const places = new Map(); // of nodes, in rows from the top
    const tips = [];
    const place = (node) => {
      if (!opened.has(node)) {
        places.set(node, tips.length);
        tips.push(node);
        return;
      }
      const sides = sidesOf(node).sort((a, b) => joined.nEpisodes[b] - joined.nEpisodes[a]);
      sides.forEach(place);
      places.set(node, (places.get(sides[0]) + places.get(sides[1])) / 2);
    };
    roots.forEach(place);
    this.box.replaceChildren(
      tips.length ? this.drawing(width, roots, opened, places, tips) : element("p", { class: "empty" }, "There are no concepts."),
    );
    this.drawPath();
  },

  drawing(width, roots, opened, places, tips) {
    const right = width * (1 - LABEL_SHARE);
    const heights = [...tips, ...opened].map(heightOf);
    const [low, top] = [Math.min(...heights), Math.max(...heights)];
    const x = (height) => 8 + ((top - height) / (top - low || 1)) * (right - 20);
    const y = (node) => 12 + places.get(node) * TIP_PIXELS;
    const bottom = 12 + tips.length * TIP_PIXELS;
    const parts = [];
    for (const tick of ticks(low, top, Math.max(2, Math.floor(right / 90)))) {
      parts.push(
        shape("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 0, y2: bottom - 4 }),
        shape("text", { class: "soft", x: x(tick), y: bottom + 10, "text-anchor": "middle" }, String(tick)),
      );
    }
    parts.push(shape("text", { class: "soft", x: right + 8, y: bottom + 10 }, "distance at which branches join"));
    for (const node of opened) {
      for (const side of sidesOf(node)) {
        const line = shape("path", { class: "link", d: `M${x(heightOf(node))},${y(node)}V${y(side)}H${x(heightOf(side))}` });
        line.style.stroke = `var(${colourName(joined.colour[side])})`;
        parts.push(line);
      }
    }
    const largest = Math.max(...tips.map((node) => joined.nEpisodes[node]));
    parts.push(...tips.map((node) => this.tip(node, x(heightOf(node)), y(node), right, width, largest)));
    return shape("svg", { height: bottom + 18, role: "group", "aria-label": `Dendrogram of ${count(tips.length, "branch", "branches")}` }, ...parts);
  },

  tip(node, x, y, right, width, largest) {
    const isBranch = isJoin(node);
    const others = joined.nConcepts[node] - 1;
    const words = titleOf(joined.leader[node]);
    const name = isBranch ? `${words} and ${count(others, "other")}` : words;
    const disc = shape(isBranch ? "rect" : "circle", {
      ...(isBranch ? { x: x - 4.5, y: y - 4.5, width: 9, height: 9 } : { cx: x, cy: y, r: 2 + 4 * Math.sqrt(joined.nEpisodes[node] / largest) }),
    });
    disc.style.fill = `var(${colourName(joined.colour[node])})`;
    const act = () => (isBranch ? this.open(node) : selection.choose(node));
    const room = Math.floor((width - right - 62) / 6.6);
    return shape(
      "g",
      {
        class: "tip",
        tabindex: 0,
        role: "button",
        "aria-label": `${isBranch ? "Open" : "Show"} ${name}, ${count(joined.nEpisodes[node], "episode")}`,
        click: act,
        keydown: (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          act();
        },
      },
      shape("title", {}, name),
      shape("rect", { class: "pick", x: right, y: y - TIP_PIXELS / 2, width: width - right, height: TIP_PIXELS }),
      disc,
      shape("text", { class: "number", x: right + 48, y: y + 4 }, whole.format(joined.nEpisodes[node])),
      shape("text", { x: right + 58, y: y + 4 }, name.length > room ? `${name.slice(0, Math.max(1, room - 1))}…` : name),
    );
  },

  drawPath() {
    const crumbs = [-1, ...this.path].map((node, place) => {
      const words = node < 0 ? "All concepts" : `${titleOf(joined.leader[node])} and ${count(joined.nConcepts[node] - 1, "other")}`;
      const isHere = place === this.path.length;
      if (isHere) return element("strong", { "aria-current": "true" }, words);
      return element("button", { type: "button", class: "link", click: () => this.show(this.path.slice(0, place)) }, words);
    });
    byId("dendrogram-path").replaceChildren(...crumbs.flatMap((crumb, place) => (place ? ["›", crumb] : [crumb])));
  },

  open(node) {
    this.show([...this.path, node]);
  },

  show(path) {
    this.path = path;
    this.draw(this.box.clientWidth - 2 * parseFloat(getComputedStyle(this.box).paddingLeft));
    const first = this.box.querySelector(".tip");
    if (first && this.box.contains(document.activeElement)) first.focus();
  },

  start() {
    keepDrawn(this.box, (width) => this.draw(width));
  },
};
