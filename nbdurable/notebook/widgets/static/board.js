// Draws all runs from the trait `board` (notebook/board.py), and below them the one that is opened.
// What is shown of the list is chosen here. One message opens a run, { type: "show", run }, one
// closes it, { type: "hide" }; those of its journal are in shown.py.
// The last part of the module that begins with rows.js.

const CHOICES = {
  "all runs": () => true,
  "waiting for you": (row) => row.asks,
  unfinished: (row) => !row.is_done,
  waiting: (row) => !row.is_done && row.tone === "waits",
  "need help": (row) => row.tone === "bad" && !row.is_done,
  failed: (row) => row.is_done && row.tone === "bad",
  succeeded: (row) => row.tone === "ok",
};
const ALL_SERVICES = "all services";
const TITLES = ["", "target", "status", "began", "wakes by", "next"];

class Line {
  constructor(show) {
    this.line = element("tr", "nbd-row");
    this.fold = element("button", "nbd-fold", element("td", "", this.line));
    this.fold.type = "button";
    this.fold.addEventListener("click", () => show(this.row));
    this.target = element("td", "nbd-name", this.line);
    this.chip = element("span", "nbd-chip", element("td", "", this.line));
    this.glyph = element("span", "", this.chip);
    this.glyph.setAttribute("aria-hidden", "true");
    this.status = element("span", "", this.chip);
    this.began = element("td", "nbd-when", this.line);
    this.wakes = element("td", "nbd-when nbd-wakes", this.line);
    this.todo = element("code", "", element("td", "nbd-value", this.line));
  }

  update(row, openRun, wantedRun) {
    const isOpen = row.id === openRun;
    const isOpening = row.id === wantedRun && !isOpen;
    this.fold.setAttribute("aria-expanded", String(isOpen));
    this.fold.setAttribute("aria-busy", String(isOpening));
    this.fold.setAttribute("aria-label", `Journal of ${row.target}`);
    setText(this.fold, isOpening ? "…" : isOpen ? "▾" : "▸");
    if (isSame(this.row, row)) return;
    this.row = row;
    this.line.dataset.tone = row.tone;
    this.chip.dataset.tone = row.tone;
    this.target.textContent = row.target;
    this.target.title = row.id;
    this.glyph.textContent = GLYPHS[row.tone];
    this.status.textContent = row.status;
    this.began.textContent = row.began;
    this.wakes.textContent = row.wakes;
    this.todo.textContent = row.todo;
  }
}

function choiceOf(names, label, parent, changed) {
  const made = element("select", "nbd-input", parent);
  made.setAttribute("aria-label", label);
  for (const name of names) element("option", "", made).textContent = name;
  made.addEventListener("change", changed);
  return made;
}

// Services come and go; what was chosen stays.
function updateServices(choice, rows) {
  const names = [ALL_SERVICES, ...[...new Set(rows.map((row) => row.service))].sort()];
  if (names.join() === [...choice.options].map((one) => one.textContent).join()) return;
  const chosen = choice.value;
  choice.replaceChildren();
  for (const name of names) element("option", "", choice).textContent = name;
  choice.value = names.includes(chosen) ? chosen : ALL_SERVICES;
}

function render({ model, el }) {
  const root = element("section", "nbdurable nbd-board", el);
  root.setAttribute("aria-label", "Durable runs");
  hidePicture(model, root);
  const bar = element("div", "nbd-filters", root);
  const text = element("input", "nbd-input", bar);
  text.type = "search";
  text.placeholder = "key or id";
  text.setAttribute("aria-label", "Runs whose name or id has this in it");
  text.addEventListener("keydown", (event) => event.stopPropagation());
  const choice = choiceOf(Object.keys(CHOICES), "Which runs", bar, () => draw());
  const service = choiceOf([ALL_SERVICES], "Of which service", bar, () => draw());
  const counted = element("span", "nbd-facts", bar);
  counted.setAttribute("role", "status");
  const table = element("table", "nbd-rows", root);
  table.setAttribute("aria-label", "Runs, those that wait for somebody first");
  table.tabIndex = 0;
  const head = element("tr", "", element("thead", "", table));
  for (const title of TITLES) element("th", "", head).textContent = title;
  const body = element("tbody", "", table);
  const detail = element("div", "nbd-detail", root);
  const said = element("div", "nbd-failure", root);
  const lines = new Map();
  let journal;
  let frame;
  // What the kernel was asked to open, "" for nothing; undefined once it has answered.
  let wanted;
  let slow;
  let unheard = "";
  let saidBefore = model.get("board").said;

  const openRun = () => model.get("picture").id ?? "";

  // Until the kernel has answered nothing can be clicked in the journal that is about to go.
  function show(row) {
    wanted = (wanted ?? openRun()) === row.id ? "" : row.id;
    detail.inert = true;
    clearTimeout(slow);
    slow = setTimeout(() => settle(NOBODY), SLOW_MS);
    try {
      model.send(wanted ? { type: "show", run: wanted } : { type: "hide" });
    } catch {
      // Its kernel is gone, and the page knows.
    }
    draw();
  }

  function settle(why) {
    clearTimeout(slow);
    wanted = undefined;
    unheard = why;
    detail.inert = false;
    later();
  }

  function draw() {
    frame = undefined;
    const board = model.get("board");
    updateServices(service, board.rows);
    const isChosen = CHOICES[choice.value];
    const part = text.value.trim().toLowerCase();
    const shown = board.rows.filter(
      (row) =>
        isChosen(row) &&
        (service.value === ALL_SERVICES || row.service === service.value) &&
        `${row.target} ${row.id}`.toLowerCase().includes(part),
    );
    const kept = new Set(shown.map((row) => row.id));
    for (const [id, line] of lines) {
      if (kept.has(id)) continue;
      line.line.remove();
      lines.delete(id);
    }
    let before = null;
    for (const row of shown) {
      if (!lines.has(row.id)) lines.set(row.id, new Line(show));
      const line = lines.get(row.id);
      line.update(row, openRun(), wanted);
      // Moved only where it is not yet: moving what is there would lose the focus and the selection.
      const place = before === null ? body.firstChild : before.line.nextSibling;
      if (place !== line.line) body.insertBefore(line.line, place);
      before = line;
    }
    const of = board.found_count > shown.length ? ` of ${board.found_count}` : "";
    const asking = board.rows.filter((row) => row.asks).length;
    const waits = asking ? ` · ${asking} waiting for you` : "";
    setText(counted, `${shown.length}${of} runs${waits} · ${board.disk} on disk`);
    setText(said, board.said || unheard);
  }

  function drawDetail() {
    const run = model.get("picture").id;
    if (journal?.run !== run) {
      journal?.remove();
      journal = run ? new Journal(model, detail) : undefined;
    }
    // What goes on in the journal that is still shown is no answer.
    if (wanted === undefined ? unheard : wanted === openRun()) settle("");
    later();
  }

  function change() {
    const now = model.get("board").said;
    // Why it was not opened.
    if (wanted !== undefined && now && now !== saidBefore) settle("");
    saidBefore = now;
    later();
  }

  function later() {
    frame ??= requestAnimationFrame(draw);
  }

  text.addEventListener("input", draw);
  model.on("change:board", change);
  model.on("change:picture", drawDetail);
  draw();
  drawDetail();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(slow);
    journal?.remove();
    model.off("change:board", change);
    model.off("change:picture", drawDetail);
  };
}

export default { render };
