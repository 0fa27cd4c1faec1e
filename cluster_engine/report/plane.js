// The map: one disc a concept, on a canvas that can be moved and enlarged.

const MAX_SCALE = 60;

const plane = {
  canvas: byId("map-canvas"),
  scale: 1,
  left: 0, // of the view, in the unit square of the map
  top: 0,
  under: -1, // concept under the pointer
  drag: null,

  /** Pixels on the canvas of a place on the map. */
  pixels(row) {
    const side = this.side();
    return [
      (concepts.x[row] - this.left) * side * this.scale + this.margin()[0],
      (concepts.y[row] - this.top) * side * this.scale + this.margin()[1],
    ];
  },

  side() {
    return Math.min(this.canvas.clientWidth, this.canvas.clientHeight) - 32;
  },

  margin() {
    return [(this.canvas.clientWidth - this.side()) / 2, (this.canvas.clientHeight - this.side()) / 2];
  },

  radius(row) {
    const share = Math.sqrt(concepts.n_episodes[row] / Math.max(1, concepts.n_episodes[0]));
    return (1.6 + 10 * share) * Math.sqrt(Math.min(this.scale, 6)) * Math.min(1, Math.sqrt(1500 / nConcepts) + 0.35);
  },

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const colours = [-1, ...Array(N_COLOURS).keys()].map((colour) => colourOf(colourName(colour)));
    for (let row = nConcepts - 1; row >= 0; row--) {
      const [x, y] = this.pixels(row);
      const radius = this.radius(row);
      if (x < -radius || y < -radius || x > canvas.clientWidth + radius || y > canvas.clientHeight + radius) continue;
      pen.globalAlpha = concepts.state[row] === 2 ? 0.3 : 0.75;
      pen.fillStyle = colours[conceptColour(row) + 1];
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
    for (const [row, width] of [[this.under, 1.5], [selection.row, 3]]) {
      if (row < 0) continue;
      const [x, y] = this.pixels(row);
      pen.strokeStyle = colourOf("--ink");
      pen.lineWidth = width;
      pen.beginPath();
      pen.arc(x, y, this.radius(row) + 2, 0, 2 * Math.PI);
      pen.stroke();
    }
    this.drawNames(pen);
  },

  /** Writes the terms of the largest concepts in view, where they do not overlap. */
  drawNames(pen) {
    const taken = [];
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    pen.textAlign = "center";
    pen.lineJoin = "round";
    for (let row = 0, left = 400; row < nConcepts && left > 0 && taken.length < 28; row++) {
      const [x, y] = this.pixels(row);
      if (x < 40 || y < 10 || x > this.canvas.clientWidth - 40 || y > this.canvas.clientHeight - 10) continue;
      left--;
      const words = titleOf(row).split(" ").slice(0, 2).join(" ").slice(0, 28);
      const half = pen.measureText(words).width / 2 + 6;
      const at = y - this.radius(row) - 5;
      if (taken.some(([tx, ty, th]) => Math.abs(tx - x) < half + th && Math.abs(ty - at) < 16)) continue;
      taken.push([x, at, half]);
      pen.strokeStyle = colourOf("--panel");
      pen.lineWidth = 3;
      pen.strokeText(words, x, at);
      pen.fillStyle = colourOf("--ink");
      pen.fillText(words, x, at);
    }
  },

  /** Returns what each colour stands for. */
  legend() {
    const entries = [];
    for (let branch = 0; branch < nBranches; branch = branchEnd[branch]) {
      if (branchColour[branch] >= 0) entries.push([branchColour[branch], branchTitle(branch), tree.n_concepts[branch]]);
    }
    const rest = nConcepts - entries.reduce((sum, [, , n]) => sum + n, 0);
    if (rest > 0) entries.push([-1, entries.length ? "smaller branches" : "concepts", rest]);
    return entries.map(([colour, words, n]) => {
      const dot = element("span", { class: "dot" });
      dot.style.background = `var(${colourName(colour)})`;
      return element("li", {}, dot, element("span", {}, words, element("small", {}, count(n, "concept"))));
    });
  },

  /** Returns the concept at a place of the canvas, the nearest within reach, or -1. */
  at(x, y) {
    let [found, reach] = [-1, 12];
    for (let row = 0; row < nConcepts; row++) {
      const [px, py] = this.pixels(row);
      const far = Math.hypot(px - x, py - y) - this.radius(row);
      if (far < reach) [found, reach] = [row, far];
    }
    return found;
  },

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const before = this.scale;
    this.scale = Math.min(MAX_SCALE, Math.max(1, this.scale * factor));
    const unit = this.side();
    this.left += (x - this.margin()[0]) / unit * (1 / before - 1 / this.scale);
    this.top += (y - this.margin()[1]) / unit * (1 / before - 1 / this.scale);
    if (this.scale === 1) this.left = this.top = 0;
    this.draw();
  },

  start() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.tabIndex = 0;
    canvas.addEventListener("pointerdown", (event) => {
      this.drag = { x: event.clientX, y: event.clientY, left: this.left, top: this.top, isMove: false };
    });
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    canvas.addEventListener("pointerup", (event) => {
      if (this.drag && !this.drag.isMove) selection.choose(this.at(event.offsetX, event.offsetY));
      this.drag = null;
    });
    canvas.addEventListener("pointerleave", () => {
      this.drag = null;
      this.under = -1;
      this.draw();
    });
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    byId("map-in").addEventListener("click", () => this.zoom(1.6));
    byId("map-out").addEventListener("click", () => this.zoom(1 / 1.6));
    byId("map-reset").addEventListener("click", () => this.zoom(1 / MAX_SCALE));
    canvas.setAttribute("aria-label", `Map of ${count(nConcepts, "concept")}; plus, minus and the arrow keys move it`);
    keepDrawn(canvas, () => this.draw());
    byId("map-legend").append(...this.legend());
    selection.listeners.push(() => this.draw());
  },

  onMove(event) {
    if (this.drag) {
      const unit = this.side() * this.scale;
      const [dx, dy] = [event.clientX - this.drag.x, event.clientY - this.drag.y];
      this.drag.isMove ||= Math.hypot(dx, dy) > 4;
      if (this.drag.isMove) [this.left, this.top] = [this.drag.left - dx / unit, this.drag.top - dy / unit];
    }
    const under = this.at(event.offsetX, event.offsetY);
    if (under === this.under && !this.drag) return;
    this.under = under;
    byId("map-under").textContent =
      under < 0 ? "" : `${titleOf(under)} (${count(concepts.n_episodes[under], "episode")})`;
    this.draw();
  },

  onKey(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "+" || event.key === "=") this.zoom(1.6);
    else if (event.key === "-") this.zoom(1 / 1.6);
    else if (event.key in steps && this.scale > 1) {
      this.left += (steps[event.key][0] * 0.1) / this.scale;
      this.top += (steps[event.key][1] * 0.1) / this.scale;
      this.draw();
    } else return;
    event.preventDefault();
  },
};
