// One entry of a journal as a row of its table. Part of the module that ends in journal.js.

const GLYPHS = { ok: "✓", bad: "✗", busy: "●", waits: "◌", quiet: "·" };

function element(tag, className, parent) {
  const made = document.createElement(tag);
  made.className = className;
  parent?.append(made);
  return made;
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
  target.hidden = text === "";
}

function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
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
  if (row.status === "done") return row.ms > 0 ? duration(row.ms) : "";
  return row.status;
}

class Row {
  constructor(parent) {
    this.line = element("tr", "nbd-row", parent);
    this.glyph = element("td", "nbd-glyph", this.line);
    this.glyph.setAttribute("aria-hidden", "true");
    this.kind = element("td", "nbd-kind", this.line);
    this.name = element("td", "nbd-name", this.line);
    this.when = element("td", "nbd-when", this.line);
    // What the column before it says, as a picture.
    const time = element("td", "nbd-time", this.line);
    time.setAttribute("aria-hidden", "true");
    this.bar = element("div", "nbd-bar", time);
    const value = element("td", "nbd-value", this.line);
    this.value = element("code", "", value);
    this.failure = element("span", "nbd-failure", value);
    this.below = element("tr", "nbd-row", parent);
    element("td", "", this.below);
    const printed = element("td", "nbd-printed", this.below);
    printed.colSpan = 5;
    this.output = element("pre", "", printed);
  }

  remove() {
    this.line.remove();
    this.below.remove();
  }

  update(row, now, picture) {
    this.text = `${row.kind} ${row.name} ${row.status} ${row.value} ${row.failure}`.toLowerCase();
    this.line.dataset.tone = row.tone;
    this.line.title = `entry ${row.index}`;
    this.glyph.textContent = GLYPHS[row.tone];
    this.kind.textContent = row.kind;
    this.name.textContent = row.name;
    this.tick(row, now, picture);
    setText(this.failure, row.failure);
    setText(this.value, row.failure ? "" : row.value);
    this.hasOutput = Boolean(row.output);
    setText(this.output, row.output);
  }

  show(words) {
    const isShown = words.every((word) => this.text.includes(word));
    this.line.hidden = !isShown;
    this.below.hidden = !(isShown && this.hasOutput);
  }

  tick(row, now, picture) {
    const text = when(row, now);
    if (this.when.textContent !== text) this.when.textContent = text;
    const end = picture.ended_ms ?? now;
    const whole = Math.max(end - picture.began_ms, 1);
    const share = (ms) => Math.min(Math.max(ms / whole, 0), 1);
    const left = share(row.since_ms - picture.began_ms);
    const took = row.ms ?? end - row.since_ms;
    this.bar.style.marginLeft = `${(left * 100).toFixed(1)}%`;
    this.bar.style.width = `${(Math.min(share(took), 1 - left) * 100).toFixed(1)}%`;
  }
}
