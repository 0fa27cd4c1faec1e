// Tables: what was refused and why, and where the time of the run went.

/** Returns a table. Cells are texts or elements; a column of numbers is set to the right. */
function plainTable(heads, rows, caption = null) {
  const isNumber = heads.map((_, at) => rows.length > 0 && rows.every((row) => /^[−\d.,]+( %| s| MiB)?$/.test(String(row[at]))));
  const side = (at) => (isNumber[at] ? { class: "right" } : {});
  return element(
    "table",
    {},
    caption === null ? null : element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head, at) => element("th", { scope: "col", ...side(at) }, head)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, at) => tableCell(cell, side(at)))))),
  );
}

function tableCell(cell, attributes) {
  if (cell instanceof HTMLTableCellElement) return cell;
  return element("td", attributes, cell instanceof Node ? cell : cell === null || cell === undefined ? "–" : String(cell));
}

function shareCell(share) {
  const bar = element("i");
  bar.style.width = `${100 * share}%`;
  return element("td", { class: "share" }, bar);
}

function startQuarantine() {
  const { counts, rows } = content.quarantine;
  const box = byId("refused");
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  if (!total) {
    box.append(element("p", { class: "panel figure empty" }, "Every row became an episode."));
    return;
  }
  const words = (reason) => reason.replaceAll("_", " ");
  const reasons = Object.entries(counts).map(([reason, n]) => [words(reason), whole.format(n), shareCell(n / total)]);
  const shown = rows.map((row) => [words(row.reason), row.file, row.row_number, row.episode_id, row.detail]);
  const note = shown.length < total ? `${whole.format(shown.length)} of ${count(total, "row")}` : count(total, "row");
  box.append(
    element("div", { class: "panel" }, plainTable(["reason", "rows", "share"], reasons, "Reasons")),
    element("h3", {}, note),
    element("div", { class: "panel scroll" }, plainTable(["reason", "file", "row, from 0", "episode", "detail"], shown)),
  );
}

function startRun() {
  const { phases, facts } = content.run;
  const longest = Math.max(1e-9, ...phases.map((phase) => phase.seconds));
  const mebibytes = (bytes) => `${whole.format(Math.round(bytes / 2 ** 20))} MiB`;
  const hasMemory = phases.some((phase) => phase.bytes !== null);
  const rows = phases.map((phase) => [
    phase.name.replaceAll("_", " "),
    `${phase.seconds.toFixed(2)} s`,
    ...(hasMemory ? [phase.bytes === null ? null : mebibytes(phase.bytes)] : []),
    shareCell(phase.seconds / longest),
  ]);
  const heads = ["phase", "time", ...(hasMemory ? ["memory until its end"] : []), "share of the longest"];
  const total = phases.reduce((sum, phase) => sum + phase.seconds, 0);
  const told = Object.entries(facts).map(([name, value]) => {
    if (name.endsWith("_bytes")) return [name.slice(0, -6).replaceAll("_", " "), mebibytes(value)];
    return [name.replace(/^n_/, "").replaceAll("_", " "), typeof value === "number" && !Number.isInteger(value) ? fixed(value, 4) : typeof value === "number" ? whole.format(value) : value];
  });
  byId("run-tables").append(
    element("div", { class: "panel" }, plainTable(heads, rows, `Phases: ${total.toFixed(2)} s in all`)),
    element("div", { class: "panel" }, plainTable(["fact", "value"], told, "Where and with what")),
  );
}
