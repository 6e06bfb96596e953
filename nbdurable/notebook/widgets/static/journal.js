// Draws one run from the trait `picture` (widgets/picture.py) and sends one typed message per click:
//   { type: "answer", promise: string, approved: boolean }
// Elements are kept and patched, never replaced: focus, selection and scrolling survive an update.

const GLYPHS = { ok: "✓", bad: "✗", busy: "●", waits: "◌", quiet: "·" };
// A click that the kernel has not heard of by then is waiting behind other code.
const SLOW_MS = 2000;
const TICK_MS = 1000;
// Who has scrolled up to read is left there; who is at the end stays at the end.
const FOLLOW_PX = 8;

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
    const value = element("td", "nbd-value", this.line);
    this.value = element("code", "", value);
    this.failure = element("span", "nbd-failure", value);
    this.below = element("tr", "nbd-row", parent);
    element("td", "", this.below);
    const printed = element("td", "nbd-printed", this.below);
    printed.colSpan = 4;
    this.output = element("pre", "", printed);
  }

  remove() {
    this.line.remove();
    this.below.remove();
  }

  update(row, now) {
    this.line.dataset.tone = row.tone;
    this.line.title = `entry ${row.index}`;
    this.glyph.textContent = GLYPHS[row.tone];
    this.kind.textContent = row.kind;
    this.name.textContent = row.name;
    this.tick(row, now);
    setText(this.failure, row.failure);
    setText(this.value, row.failure ? "" : row.value);
    this.below.hidden = !row.output;
    setText(this.output, row.output);
  }

  tick(row, now) {
    const text = when(row, now);
    if (this.when.textContent !== text) this.when.textContent = text;
  }
}

class Question {
  constructor(promise, target, answer, parent) {
    this.box = element("div", "nbd-question", parent);
    this.text = element("span", "nbd-asked", this.box);
    this.text.append("Waiting for ", element("strong", ""), " – ");
    this.text.querySelector("strong").textContent = promise;
    this.buttons = [true, false].map((approved) => {
      const verb = approved ? "Approve" : "Reject";
      const button = element("button", approved ? "nbd-approve" : "nbd-reject", this.box);
      button.type = "button";
      button.textContent = verb;
      button.setAttribute("aria-label", `${verb} ${promise} of ${target}`);
      button.addEventListener("click", () => {
        this.sent(approved);
        answer(promise, approved);
      });
      return button;
    });
    this.state = element("span", "nbd-sent", this.box);
  }

  sent(approved) {
    for (const button of this.buttons) button.disabled = true;
    this.state.textContent = approved ? "approving…" : "rejecting…";
    this.slow = setTimeout(() => {
      this.state.textContent =
        "no answer from the kernel yet: if it is busy, yours waits for it; " +
        "if it was restarted, run this cell again or use %durable approve";
    }, SLOW_MS);
  }

  answered() {
    clearTimeout(this.slow);
    this.state.textContent = "";
    for (const button of this.buttons) button.disabled = false;
  }

  remove() {
    clearTimeout(this.slow);
    this.box.remove();
  }
}

function render({ model, el }) {
  const root = element("section", "nbdurable", el);
  root.setAttribute("aria-label", "Journal of a durable run");
  const head = element("header", "nbd-head", root);
  const target = element("strong", "nbd-target", head);
  const chip = element("span", "nbd-chip", head);
  const chipGlyph = element("span", "", chip);
  chipGlyph.setAttribute("aria-hidden", "true");
  const chipText = element("span", "", chip);
  const facts = element("div", "nbd-facts", root);
  const id = element("code", "", facts);
  const about = element("span", "", facts);
  const notice = element("div", "nbd-notice", root);
  const failure = element("div", "nbd-failure nbd-block", root);
  const retry = element("div", "nbd-facts", root);
  const earlier = element("div", "nbd-facts", root);
  const table = element("table", "nbd-rows", root);
  table.setAttribute("aria-label", "Journal entries");
  // It scrolls, so it must be reachable by keyboard.
  table.tabIndex = 0;
  const body = element("tbody", "", table);
  // One live region for what a person has to do; the rows would never stop talking.
  const live = element("div", "nbd-questions", root);
  live.setAttribute("aria-live", "polite");
  const todo = element("div", "nbd-facts", root);
  const said = element("div", "nbd-said", root);
  said.setAttribute("role", "status");

  const rows = new Map();
  const questions = new Map();
  let skew = 0;
  const now = () => Date.now() + skew;
  const answer = (promise, approved) => model.send({ type: "answer", promise, approved });

  function drawRows(picture) {
    const kept = new Set();
    for (const row of picture.rows) {
      kept.add(row.index);
      if (!rows.has(row.index)) rows.set(row.index, new Row(body));
      rows.get(row.index).update(row, now());
    }
    for (const [index, row] of rows) {
      if (kept.has(index)) continue;
      row.remove();
      rows.delete(index);
    }
  }

  function drawQuestions(picture) {
    for (const [promise, question] of questions) {
      if (picture.waits.includes(promise)) {
        if (picture.said) question.answered();
        continue;
      }
      question.remove();
      questions.delete(promise);
    }
    for (const promise of picture.waits) {
      if (questions.has(promise)) continue;
      questions.set(promise, new Question(promise, picture.target, answer, live));
    }
  }

  function draw() {
    const picture = model.get("picture");
    // The browser's clock may be another machine's; countdowns are the kernel's.
    skew = picture.now_ms - Date.now();
    root.dataset.tone = picture.tone;
    target.textContent = picture.target;
    chip.dataset.tone = picture.tone;
    chipGlyph.textContent = GLYPHS[picture.tone];
    setText(chipText, picture.status);
    id.textContent = picture.short_id;
    id.title = picture.id;
    about.textContent = picture.facts;
    setText(notice, picture.notice);
    setText(failure, picture.failure);
    setText(earlier, picture.earlier ? `… ${picture.earlier} earlier entries` : "");
    // Buttons say it better.
    setText(todo, picture.waits.length ? "" : picture.todo);
    setText(said, picture.said);
    const follows = table.scrollTop + table.clientHeight >= table.scrollHeight - FOLLOW_PX;
    drawRows(picture);
    if (follows) table.scrollTop = table.scrollHeight;
    drawQuestions(picture);
    tick();
  }

  function tick() {
    const picture = model.get("picture");
    for (const row of picture.rows) {
      if (row.due_at_ms !== null || row.status === "running") rows.get(row.index)?.tick(row, now());
    }
    const left = picture.due_at_ms === null ? null : picture.due_at_ms - now();
    setText(retry, left === null ? "" : `next attempt ${countdown(left)}`);
  }

  model.on("change:picture", draw);
  draw();
  // Before the element is in the page it has no height to scroll.
  requestAnimationFrame(() => {
    table.scrollTop = table.scrollHeight;
  });
  const ticking = setInterval(tick, TICK_MS);
  return () => {
    clearInterval(ticking);
    for (const question of questions.values()) question.remove();
    model.off("change:picture", draw);
  };
}

export default { render };
