// Draws all runs from the trait `board` (notebook/board.py). What is shown of them is chosen here:
// no message is sent. Elements are kept and patched, as in journal.js.

const GLYPHS = { ok: "✓", bad: "✗", busy: "●", waits: "◌", quiet: "·" };
const CHOICES = {
  "all runs": () => true,
  unfinished: (row) => !row.is_done,
  waiting: (row) => !row.is_done && row.tone === "waits",
  "need help": (row) => row.tone === "bad" && !row.is_done,
  failed: (row) => row.is_done && row.tone === "bad",
  succeeded: (row) => row.tone === "ok",
};

function element(tag, className, parent) {
  const made = document.createElement(tag);
  made.className = className;
  parent?.append(made);
  return made;
}

class Line {
  constructor() {
    this.line = element("tr", "nbd-row");
    this.id = element("code", "", element("td", "", this.line));
    this.target = element("td", "nbd-name", this.line);
    this.chip = element("span", "nbd-chip", element("td", "", this.line));
    this.glyph = element("span", "", this.chip);
    this.glyph.setAttribute("aria-hidden", "true");
    this.status = element("span", "", this.chip);
    this.began = element("td", "nbd-when", this.line);
    this.todo = element("code", "", element("td", "nbd-value", this.line));
  }

  update(row) {
    this.line.dataset.tone = row.tone;
    this.chip.dataset.tone = row.tone;
    this.id.textContent = row.short_id;
    this.id.title = row.id;
    this.target.textContent = row.target;
    this.glyph.textContent = GLYPHS[row.tone];
    this.status.textContent = row.status;
    this.began.textContent = row.began;
    this.todo.textContent = row.todo;
  }
}

function render({ model, el }) {
  const root = element("section", "nbdurable nbd-board", el);
  root.setAttribute("aria-label", "Durable runs");
  const bar = element("div", "nbd-filters", root);
  const text = element("input", "nbd-input", bar);
  text.type = "search";
  text.placeholder = "service, key or id";
  text.setAttribute("aria-label", "Runs whose name or id has this in it");
  text.addEventListener("keydown", (event) => event.stopPropagation());
  const choice = element("select", "nbd-input", bar);
  choice.setAttribute("aria-label", "Which runs");
  for (const name of Object.keys(CHOICES)) element("option", "", choice).textContent = name;
  const counted = element("span", "nbd-facts", bar);
  counted.setAttribute("role", "status");
  const table = element("table", "nbd-rows", root);
  table.setAttribute("aria-label", "Runs, newest first");
  table.tabIndex = 0;
  const head = element("tr", "", element("thead", "", table));
  for (const title of ["id", "target", "status", "began", "next"]) {
    element("th", "", head).textContent = title;
  }
  const body = element("tbody", "", table);
  const lines = new Map();

  function draw() {
    const board = model.get("board");
    const wanted = CHOICES[choice.value];
    const part = text.value.trim().toLowerCase();
    const shown = board.rows.filter(
      (row) => wanted(row) && `${row.target} ${row.id}`.toLowerCase().includes(part),
    );
    const kept = new Set(shown.map((row) => row.id));
    for (const [id, line] of lines) {
      if (kept.has(id)) continue;
      line.line.remove();
      lines.delete(id);
    }
    let before = null;
    for (const row of shown) {
      if (!lines.has(row.id)) lines.set(row.id, new Line());
      const line = lines.get(row.id);
      line.update(row);
      // Moved only where it is not yet: moving what is there would lose the focus and the selection.
      const place = before === null ? body.firstChild : before.line.nextSibling;
      if (place !== line.line) body.insertBefore(line.line, place);
      before = line;
    }
    const of = board.found_count > shown.length ? ` of ${board.found_count}` : "";
    counted.textContent = `${shown.length}${of} runs · ${board.disk} on disk`;
  }

  text.addEventListener("input", draw);
  choice.addEventListener("change", draw);
  model.on("change:board", draw);
  draw();
  return () => model.off("change:board", draw);
}

export default { render };
