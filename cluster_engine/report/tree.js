// The tree of concepts, or a flat list of them: rows of one height, of which only those in view exist.

const ROW_PIXELS = 46;
const SPARE_ROWS = 6; // above and below what is in view
const INDENT_PIXELS = 16;
const MAX_INDENTS = 12;

const ORDERS = {
  tree: ["as a tree", null],
  size: ["most episodes first", (row) => -concepts.n_episodes[row]],
  coherence: ["least coherent first", (row) => concepts.coherence[row] ?? 2],
  strength: ["strongest first", (row) => -concepts.strength_ppm[row]],
  idle: ["idle longest first", (row) => -concepts.idle_cycles[row]],
  born: ["youngest first", (row) => -concepts.born_cycle[row]],
};

const treeView = {
  box: byId("tree"),
  extent: element("div", { class: "extent", role: "presentation" }),
  open: new Set(), // branches
  shut: new Set(), // branches that were closed while a search is on, when all are open
  words: [],
  kept: null, // by branch, while some are left out: 1 where it is shown
  rows: [], // branches in view, were the box tall enough
  active: 0, // place in rows

  /** Finds out which rows there are, and shows those in view. */
  refresh(keep = this.rows[this.active]) {
    this.rows = byId("order").value === "tree" ? this.treeRows() : this.listRows();
    this.active = Math.max(0, keep === undefined ? 0 : this.rows.indexOf(keep));
    this.extent.style.height = `${this.rows.length * ROW_PIXELS}px`;
    this.draw();
  },

  treeRows() {
    const rows = [];
    for (let branch = 0; branch < nBranches; ) {
      if (this.kept && !this.kept[branch]) {
        branch = branchEnd[branch];
        continue;
      }
      rows.push(branch);
      branch = this.isOpen(branch) ? branch + 1 : branchEnd[branch];
    }
    return rows;
  },

  listRows() {
    const rank = ORDERS[byId("order").value][1];
    const rows = [];
    for (let row = 0; row < nConcepts; row++) if (!this.kept || this.kept[branchOf[row]]) rows.push(row);
    return rows.sort((a, b) => rank(a) - rank(b) || a - b).map((row) => branchOf[row]);
  },

  isOpen(branch) {
    return isGroup(branch) && (this.words.length ? !this.shut.has(branch) : this.open.has(branch));
  },

  /** Leaves out what the search and the state do not ask for; groups stay where something in them does. */
  filter() {
    this.words = byId("query").value.toLowerCase().split(/\s+/).filter(Boolean);
    this.shut.clear();
    const state = STATES.indexOf(byId("state").value);
    let nFound = nConcepts;
    if (!this.words.length && state < 0) {
      this.kept = null;
    } else {
      this.kept = new Uint8Array(nBranches);
      nFound = 0;
      for (let row = 0; row < nConcepts; row++) {
        if (state >= 0 && concepts.state[row] !== state) continue;
        if (!this.words.every((word) => haystackOf(row).includes(word))) continue;
        nFound++;
        for (let at = branchOf[row]; at >= 0 && !this.kept[at]; at = branchParent[at]) this.kept[at] = 1;
      }
    }
    byId("found").textContent =
      this.kept === null ? count(nConcepts, "concept") : `${whole.format(nFound)} of ${count(nConcepts, "concept")}`;
    this.box.scrollTop = 0;
    this.refresh();
  },

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_PIXELS) - SPARE_ROWS);
    const last = Math.min(this.rows.length, first + Math.ceil(this.box.clientHeight / ROW_PIXELS) + 2 * SPARE_ROWS);
    const made = [];
    for (let place = first; place < last; place++) made.push(this.row(place));
    if (!this.rows.length) made.push(element("p", { class: "empty" }, "No concept is like that."));
    this.extent.replaceChildren(...made);
    const active = this.rows[this.active];
    if (active !== undefined && this.active >= first && this.active < last) {
      this.box.setAttribute("aria-activedescendant", `branch-${active}`);
    } else {
      this.box.removeAttribute("aria-activedescendant");
    }
  },

  row(place) {
    const branch = this.rows[place];
    const row = tree.concept[branch];
    const isFlat = byId("order").value !== "tree";
    const isChosen = row >= 0 && row === selection.row;
    const depth = isFlat ? 0 : tree.depth[branch];
    const made = element(
      "div",
      {
        class: place === this.active ? "branch active" : "branch",
        role: "treeitem",
        id: `branch-${branch}`,
        "aria-level": depth + 1,
        "aria-expanded": isGroup(branch) ? String(this.isOpen(branch)) : null,
        "aria-selected": String(isChosen),
        "aria-setsize": isFlat ? this.rows.length : null,
        "aria-posinset": isFlat ? place + 1 : null,
        "data-place": place,
      },
      this.about(branch, row),
      row >= 0 ? gauge(concepts.coherence[row]) : element("span"),
      element("span", { class: "number" }, whole.format(tree.n_episodes[branch])),
    );
    made.style.transform = `translateY(${place * ROW_PIXELS}px)`;
    made.firstChild.style.paddingLeft = `${Math.min(depth, MAX_INDENTS) * INDENT_PIXELS}px`;
    return made;
  },

  about(branch, row) {
    const title = element("div", { class: "terms" }, ...this.marked(branchTitle(branch)));
    const text = row >= 0 ? concepts.exemplars[row].join(" · ") : count(tree.n_concepts[branch], "concept");
    if (row >= 0 && concepts.state[row]) title.append(" ", stateBadge(row));
    const dot = element("span", { class: "dot" });
    dot.style.background = `var(${colourName(branchColour[branch])})`;
    const fold = isGroup(branch) ? (this.isOpen(branch) ? "▾" : "▸") : "";
    return element(
      "div",
      { class: "about" },
      element("span", { class: "fold", "aria-hidden": "true" }, fold),
      dot,
      element("div", { class: "words" }, title, element("div", { class: "text" }, ...this.marked(text))),
    );
  },

  /** Returns a text in pieces, with the words of the search marked. */
  marked(text) {
    if (!this.words.length) return [text];
    const lower = text.toLowerCase();
    if (lower.length !== text.length) return [text]; // places would not be those of the text
    const pieces = [];
    let at = 0;
    while (at < text.length) {
      const found = this.words.map((word) => [lower.indexOf(word, at), word.length]).filter(([place]) => place >= 0);
      if (!found.length) break;
      const [place, length] = found.sort((a, b) => a[0] - b[0] || b[1] - a[1])[0];
      pieces.push(text.slice(at, place), element("mark", {}, text.slice(place, place + length)));
      at = place + length;
    }
    return [...pieces, text.slice(at)];
  },

  toggle(branch, isOpen = !this.isOpen(branch)) {
    const [set, isIn] = this.words.length ? [this.shut, !isOpen] : [this.open, isOpen];
    if (isIn) set.add(branch);
    else set.delete(branch);
    this.refresh(branch);
  },

  /** Moves to a row, and brings it into view. */
  moveTo(place) {
    this.active = Math.min(Math.max(place, 0), Math.max(0, this.rows.length - 1));
    const top = this.active * ROW_PIXELS;
    const bottom = top + ROW_PIXELS - this.box.clientHeight;
    if (this.box.scrollTop > top) this.box.scrollTop = top;
    if (this.box.scrollTop < bottom) this.box.scrollTop = bottom;
    this.draw();
  },

  /** Chooses the concept of the active row, or opens or closes its group. */
  enter() {
    const branch = this.rows[this.active];
    if (branch === undefined) return;
    if (isGroup(branch)) this.toggle(branch);
    else selection.choose(tree.concept[branch]);
  },

  /** Shows a concept that was chosen elsewhere. */
  reveal(row) {
    const branch = branchOf[row];
    if (branch < 0) return;
    if (this.kept && !this.kept[branch]) {
      byId("query").value = "";
      byId("state").value = "";
      this.filter();
    }
    for (let at = branchParent[branch]; at >= 0; at = branchParent[at]) {
      this.open.add(at);
      this.shut.delete(at);
    }
    this.refresh(branch);
    this.moveTo(this.active);
  },

  onKey(event) {
    const branch = this.rows[this.active];
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_PIXELS) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.rows.length, End: this.rows.length };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) {
      this.moveTo(this.active + moves[event.key]);
    } else if (event.key === "Enter" || event.key === " ") {
      this.enter();
    } else if (event.key === "ArrowRight" && branch !== undefined && isGroup(branch)) {
      if (this.isOpen(branch)) this.moveTo(this.active + 1);
      else this.toggle(branch, true);
    } else if (event.key === "ArrowLeft" && branch !== undefined) {
      const parent = this.rows.indexOf(branchParent[branch]);
      if (this.isOpen(branch)) this.toggle(branch, false);
      else if (parent >= 0) this.moveTo(parent);
    } else {
      return;
    }
    event.preventDefault();
  },

  start() {
    for (const [value, [words]] of Object.entries(ORDERS)) byId("order").append(element("option", { value }, words));
    byId("state").append(element("option", { value: "" }, "any"), ...STATES.map((value) => element("option", { value }, value)));
    this.box.append(this.extent);
    this.box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.box.addEventListener("click", (event) => {
      const made = event.target.closest(".branch");
      if (!made) return;
      this.active = Number(made.dataset.place);
      this.enter();
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
    byId("query").addEventListener("input", () => this.filter());
    byId("state").addEventListener("change", () => this.filter());
    byId("order").addEventListener("change", () => this.refresh());
    byId("open-all").addEventListener("click", () => {
      for (let branch = 0; branch < nBranches; branch++) if (isGroup(branch)) this.open.add(branch);
      this.shut.clear();
      this.refresh();
    });
    byId("close-all").addEventListener("click", () => {
      this.open.clear();
      for (let branch = 0; branch < nBranches; branch++) if (this.words.length && isGroup(branch)) this.shut.add(branch);
      this.refresh();
    });
    selection.listeners.push((row) => this.reveal(row));
    this.filter();
  },
};

function gauge(share) {
  const bar = element("b");
  bar.style.width = `${100 * Math.min(1, Math.max(0, share ?? 0))}%`;
  return element("span", { class: "gauge" }, fixed(share), element("i", {}, bar));
}

function stateBadge(row) {
  const state = STATES[concepts.state[row]];
  return element("span", { class: `state ${state}` }, state);
}
