// Which concept is chosen; whoever shows it listens.

const selection = {
  row: -1,
  listeners: [],
  choose(row) {
    if (row < 0 || row === this.row) return;
    this.row = row;
    for (const listener of this.listeners) listener(row);
  },
};
