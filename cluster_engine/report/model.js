// The content, and what is derived from it once: where each branch ends, names, colours.

const STATES = ["active", "proto", "retired"];
const N_COLOURS = 7;

const content = JSON.parse(byId("content").textContent);
const { concepts, tree, hierarchy, events, cycles } = content;
const nConcepts = concepts.id.length;

const whole = new Intl.NumberFormat("en");
const count = (number, one, many = `${one}s`) => `${whole.format(number)} ${number === 1 ? one : many}`;
const fixed = (number, digits = 2) => (number === null ? "–" : number.toFixed(digits));
const day = (time) => (time === null ? "–" : time.slice(0, 10));

/** What a concept is about: its terms, or where it has none an exemplar. */
function titleOf(row) {
  return concepts.label[row] || concepts.exemplars[row][0] || `concept ${concepts.id[row]}`;
}

/** What a row of the tree is about. */
function branchTitle(branch) {
  const row = tree.concept[branch];
  return row >= 0 ? titleOf(row) : tree.label[branch] || count(tree.n_concepts[branch], "concept");
}

// Rows of the tree are in order, children after their parent: a branch ends where the next row is not deeper.
const nBranches = tree.depth.length;
const branchEnd = new Int32Array(nBranches);
const branchParent = new Int32Array(nBranches).fill(-1);
const branchOf = new Int32Array(nConcepts).fill(-1); // by concept
{
  const open = [];
  for (let branch = 0; branch <= nBranches; branch++) {
    const depth = branch < nBranches ? tree.depth[branch] : -1;
    while (open.length && tree.depth[open[open.length - 1]] >= depth) branchEnd[open.pop()] = branch;
    if (branch === nBranches) break;
    if (open.length) branchParent[branch] = open[open.length - 1];
    if (tree.concept[branch] >= 0) branchOf[tree.concept[branch]] = branch;
    open.push(branch);
  }
}
const isGroup = (branch) => branchEnd[branch] > branch + 1;

// The largest branches of the highest level have colours; the same ones in the tree, the dendrogram and the map.
const branchColour = new Int8Array(nBranches).fill(-1);
{
  let colour = 0;
  for (let branch = 0; branch < nBranches && colour < N_COLOURS; branch = branchEnd[branch]) {
    if (isGroup(branch)) branchColour.fill(colour++, branch, branchEnd[branch]);
  }
}
const colourName = (colour) => (colour >= 0 ? `--branch-${colour}` : "--branch-none");
const conceptColour = (row) => (branchOf[row] >= 0 ? branchColour[branchOf[row]] : -1);

/** Everything that can be searched, in lower case, by concept; made when it is first asked for. */
let haystacks = null;
function haystackOf(row) {
  haystacks ??= concepts.id.map((id, at) => [id, concepts.label[at], ...concepts.exemplars[at]].join("\n").toLowerCase());
  return haystacks[row];
}
