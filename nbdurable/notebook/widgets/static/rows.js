// The entries of a journal as rows of a table; a row that called a run can open its rows below.
// Part of the module that ends in journal.js.

const GLYPHS = { ok: "✓", bad: "✗", busy: "●", waits: "◌", quiet: "·" };

function element(tag, className, parent) {
  const made = document.createElement(tag);
  made.className = className;
  parent?.append(made);
  return made;
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
  if (target.hidden !== (text === "")) target.hidden = text === "";
}

// The picture that is saved below a widget is hidden for as long as that is drawn.
function hidePicture(model, root) {
  const place = model.get("place");
  if (place) element("style", "", root).textContent = `.${place} { display: none; }`;
}

function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Most rows of a picture are as they were, and comparing is cheaper than drawing.
function isSame(before, row) {
  if (!before) return false;
  for (const name in row) if (before[name] !== row[name]) return false;
  return true;
}

function countdown(ms) {
  return ms < 1000 ? "now" : `in ${duration(Math.floor(ms / 1000) * 1000).replace(/\.0 s$/, " s")}`;
}

function when(row, now) {
  if (row.due_at_ms !== null) {
    const verb = row.tone === "bad" ? "next try" : "wakes";
    return `${row.status}, ${verb} ${countdown(row.due_at_ms - now)}`;
  }
  if (row.status === "running") return `running, ${duration(now - row.since_ms)}`;
  if (row.status === "done") {
    const took = row.ms > 0 ? duration(row.ms) : "";
    return row.tries > 1 ? `${took}, ${row.tries} tries` : took;
  }
  return row.status;
}

// A row is laid out by itself (journal.css), and so has to say what it is.
function cell(className, parent) {
  const made = element("td", className, parent);
  made.setAttribute("role", "cell");
  return made;
}

function line(className) {
  const made = element("tr", className);
  made.setAttribute("role", "row");
  return made;
}

function journalTable(className, label, parent) {
  const table = element("table", `nbd-rows nbd-journal ${className}`, parent);
  table.setAttribute("role", "table");
  table.setAttribute("aria-label", label);
  const body = element("tbody", "", table);
  body.setAttribute("role", "rowgroup");
  return { table, body };
}

class Row {
  // `tree` is what rows of one widget share: { run, ask, open, close, restart, now }.
  constructor(run, tree) {
    this.run = run;
    this.tree = tree;
    this.line = line("nbd-row");
    this.glyph = cell("nbd-glyph", this.line);
    this.glyph.setAttribute("aria-hidden", "true");
    this.kind = cell("nbd-kind", this.line);
    this.name = cell("nbd-name", this.line);
    this.when = cell("nbd-when", this.line);
    // What the column before it says, as a picture.
    const time = cell("nbd-time", this.line);
    time.setAttribute("aria-hidden", "true");
    this.bar = element("div", "nbd-bar", time);
    this.cell = cell("nbd-value", this.line);
    this.value = element("code", "", this.cell);
    this.failure = element("span", "nbd-failure", this.cell);
    this.by = element("div", "nbd-by", this.cell);
    this.by.hidden = true;
  }

  remove() {
    this.closeChild();
    this.below?.remove();
    this.line.remove();
  }

  update(row, picture) {
    const before = this.row;
    if (isSame(before, row)) return;
    this.row = row;
    this.text = `${row.kind} ${row.name} ${row.status} ${row.value} ${row.failure}`.toLowerCase();
    if (before?.tone !== row.tone) {
      this.line.dataset.tone = row.tone;
      this.glyph.textContent = GLYPHS[row.tone];
    }
    if (!before) {
      this.line.title = `entry ${row.index}`;
      this.kind.textContent = row.kind;
    }
    if (before?.name !== row.name) this.name.textContent = row.name;
    this.tick(picture);
    setText(this.failure, row.failure);
    setText(this.value, row.failure ? "" : row.value);
    setText(this.by, row.by);
    if (row.is_cut && !this.more) this.offerMore();
    if (row.child && !this.fold) this.offerChild();
    if (row.output) this.print(row.output);
  }

  // What does not fit in a line: the row below it, made when there is something to say.
  beneath() {
    if (this.below) return this.below;
    this.below = line("nbd-below");
    this.printed = cell("nbd-printed", this.below);
    this.line.after(this.below);
    return this.below;
  }

  print(text) {
    this.beneath();
    this.output ??= element("pre", "", this.printed);
    setText(this.output, text);
  }

  offerMore() {
    this.more = element("button", "nbd-more");
    this.more.type = "button";
    this.more.textContent = "more";
    this.more.setAttribute("aria-expanded", "false");
    this.more.setAttribute("aria-label", `All that entry ${this.row.index} holds`);
    this.cell.append(" ", this.more);
    this.more.addEventListener("click", () => {
      const isOpen = this.more.getAttribute("aria-expanded") === "true";
      this.more.setAttribute("aria-expanded", String(!isOpen));
      this.more.textContent = isOpen ? "more" : "less";
      if (isOpen) return this.whole.remove();
      this.beneath();
      this.whole = element("pre", "nbd-whole");
      this.whole.tabIndex = 0;
      this.whole.textContent = "…";
      this.printed.prepend(this.whole);
      const whole = this.whole;
      this.tree
        .ask({ type: "value", run: this.run, index: this.row.index })
        .then(({ text }) => (whole.textContent = text));
    });
  }

  // A finished run is started anew from here: with all that was recorded before.
  offerRestart() {
    if (this.again || this.row.index < 1 || this.run !== this.tree.run) return;
    this.again = element("button", "nbd-more nbd-again");
    this.again.type = "button";
    this.again.textContent = "restart from here";
    this.again.setAttribute("aria-label", `Restart from entry ${this.row.index}`);
    this.cell.append(" ", this.again);
    this.again.addEventListener("click", () => this.tree.restart(this.row.index));
  }

  offerChild() {
    this.fold = element("button", "nbd-fold");
    this.fold.type = "button";
    this.fold.textContent = "▸";
    this.fold.setAttribute("aria-expanded", "false");
    this.fold.setAttribute("aria-label", `Entries of ${this.row.name}`);
    this.kind.prepend(this.fold, " ");
    this.fold.addEventListener("click", () => {
      const opens = !this.branch;
      this.fold.setAttribute("aria-expanded", String(opens));
      this.fold.textContent = opens ? "▾" : "▸";
      if (opens) {
        this.beneath();
        this.branch = new Branch(this.row.child, this.printed, this.tree);
        this.tree.open(this.row.child, this.branch);
      } else {
        this.closeChild();
      }
    });
  }

  closeChild() {
    if (!this.branch) return;
    this.branch.remove();
    this.tree.close(this.row.child, this.branch);
    this.branch = undefined;
  }

  show(words) {
    const isShown = words.every((word) => this.text.includes(word));
    this.line.hidden = !isShown;
    if (this.below) this.below.hidden = !isShown;
  }

  tick(picture) {
    const row = this.row;
    const now = this.tree.now();
    const text = when(row, now);
    if (this.said !== text) this.when.textContent = this.said = text;
    const end = picture.ended_ms ?? now;
    const whole = Math.max(end - picture.began_ms, 1);
    const share = (ms) => Math.min(Math.max(ms / whole, 0), 1);
    const left = share(row.since_ms - picture.began_ms);
    const took = Math.max(Math.min(share(row.ms ?? end - row.since_ms), 1 - left), 0.015);
    // Moved and scaled, not laid out: all bars change whenever time goes on.
    const drawn = `translateX(${(left * 100).toFixed(1)}%) scaleX(${took.toFixed(3)})`;
    if (this.drawn !== drawn) this.bar.style.transform = this.drawn = drawn;
    this.branch?.tick();
  }
}

// Rows by their numbers, in order, in one body of a table.
class Rows {
  constructor(body, run, tree) {
    this.body = body;
    this.run = run;
    this.tree = tree;
    this.byIndex = new Map();
    this.order = [];
  }

  // The place of the first row that is not before this number.
  place(index) {
    let low = 0;
    let high = this.order.length;
    // Nearly always at the end.
    if (high === 0 || this.order[high - 1] < index) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.order[middle] < index) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  put(row, picture) {
    let known = this.byIndex.get(row.index);
    if (!known) {
      known = new Row(this.run, this.tree);
      const place = this.place(row.index);
      const next = this.byIndex.get(this.order[place]);
      this.body.insertBefore(known.line, next?.line ?? null);
      this.order.splice(place, 0, row.index);
      this.byIndex.set(row.index, known);
    }
    known.update(row, picture);
    return known;
  }

  drop(index) {
    const known = this.byIndex.get(index);
    if (!known) return;
    known.remove();
    this.byIndex.delete(index);
    this.order.splice(this.place(index), 1);
  }

  dropBefore(index) {
    while (this.order.length && this.order[0] < index) this.drop(this.order[0]);
  }

  dropPast(count) {
    while (this.order.length > count) this.drop(this.order[this.order.length - 1]);
  }

  tick(picture) {
    for (const row of this.byIndex.values()) row.tick(picture);
  }
}

// A run that another one called: its status, and its own rows.
class Branch {
  constructor(run, parent, tree) {
    this.tree = tree;
    this.box = element("div", "nbd-branch", parent);
    const head = element("div", "nbd-facts", this.box);
    this.chip = element("span", "nbd-chip", head);
    this.about = element("span", "", head);
    this.chip.textContent = "…";
    this.earlier = element("div", "nbd-facts", this.box);
    const { table, body } = journalTable("nbd-inner", "Journal entries", this.box);
    this.table = table;
    this.rows = new Rows(body, run, tree);
  }

  draw(picture) {
    if (picture.problem) return setText(this.chip, picture.problem);
    this.picture = picture;
    this.table.setAttribute("aria-label", `Journal entries of ${picture.target}`);
    this.chip.dataset.tone = picture.tone;
    setText(this.chip, `${GLYPHS[picture.tone]} ${picture.status}`);
    setText(this.about, ` ${picture.short_id} · ${picture.facts}`);
    setText(this.earlier, picture.earlier ? `… ${picture.earlier} earlier entries` : "");
    const kept = new Set(picture.rows.map((row) => row.index));
    for (const index of [...this.rows.order]) if (!kept.has(index)) this.rows.drop(index);
    for (const row of picture.rows) this.rows.put(row, picture);
  }

  tick() {
    if (this.picture) this.rows.tick(this.picture);
  }

  remove() {
    // Whoever is opened within it is closed with it.
    for (const index of [...this.rows.order]) this.rows.drop(index);
    this.box.remove();
  }
}
