// Draws one run from the trait `picture` (widgets/picture.py) and sends one typed message per click:
//   { type: "answer", id: string, value: any }, { type: "reject", id: string, message: string },
//   { type: "deed", name: "pause" | "resume" | "cancel" | "kill", at_ms: number }
// Elements are kept and patched, never replaced: focus, selection and scrolling survive an update.
// It follows rows.js, door.js and question.js in one module: see widgets/journal.py.

const TICK_MS = 1000;
// Who has scrolled up to read is left there; who is at the end stays at the end.
const FOLLOW_PX = 8;

// -- what can be done to a run --------------------------------------------------------------------

class Deeds {
  constructor(parent, door, now, tell) {
    this.box = element("span", "nbd-deeds", parent);
    this.door = door;
    this.now = now;
    this.tell = tell;
    this.buttons = new Map();
  }

  update(picture) {
    if (this.sent && !this.sent.isHeard()) return;
    this.remove();
    for (const [name, button] of this.buttons) {
      if (picture.deeds.includes(name)) continue;
      button.remove();
      this.buttons.delete(name);
    }
    picture.deeds.forEach((name, place) => {
      if (!this.buttons.has(name)) this.buttons.set(name, this.button(name, picture.target));
      const button = this.buttons.get(name);
      button.disabled = false;
      // In the order of the picture: what was resumed may be paused again. Moved only where it is
      // not yet: moving a button takes its focus, and with it the question whether really to kill.
      const there = this.box.children[place] ?? null;
      if (there !== button) this.box.insertBefore(button, there);
    });
  }

  button(name, target) {
    const button = element("button", "nbd-deed");
    button.type = "button";
    button.dataset.deed = name;
    const say = (text) => {
      button.textContent = text;
      button.setAttribute("aria-label", `${text} ${target}`);
    };
    const calm = () => say(name[0].toUpperCase() + name.slice(1));
    calm();
    button.addEventListener("blur", calm);
    button.addEventListener("click", () => {
      // Whoever is killed cannot clean up, so one click is not enough.
      if (name === "kill" && button.textContent === "Kill") return say("Really kill");
      calm();
      button.disabled = true;
      this.remove();
      this.sent = this.door.send({ type: "deed", name, at_ms: Math.round(this.now()) }, this.tell);
    });
    return button;
  }

  remove() {
    this.sent?.stop();
    this.sent = undefined;
  }
}

// A short journal is seen whole.
const FILTER_FROM_ROWS = 12;

function render({ model, el }) {
  const door = new Door(model);
  const root = element("section", "nbdurable", el);
  root.setAttribute("aria-label", "Journal of a durable run");
  const head = element("header", "nbd-head", root);
  const target = element("strong", "nbd-target", head);
  const chip = element("span", "nbd-chip", head);
  const chipGlyph = element("span", "", chip);
  chipGlyph.setAttribute("aria-hidden", "true");
  const chipText = element("span", "", chip);
  const deeds = new Deeds(head, door, () => now(), (text) => setText(said, text));
  const facts = element("div", "nbd-facts", root);
  const id = element("code", "", facts);
  const about = element("span", "", facts);
  const notice = element("div", "nbd-notice", root);
  const failure = element("div", "nbd-failure nbd-block", root);
  const retry = element("div", "nbd-facts", root);
  const earlier = element("div", "nbd-facts", root);
  const filter = element("input", "nbd-input nbd-filter", root);
  filter.type = "search";
  filter.placeholder = "filter, e.g. failed";
  filter.setAttribute("aria-label", "Filter journal entries");
  filter.hidden = true;
  filter.addEventListener("keydown", (event) => event.stopPropagation());
  filter.addEventListener("input", () => drawFiltered());
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

  function drawRows(picture) {
    const kept = new Set();
    for (const row of picture.rows) {
      kept.add(row.index);
      if (!rows.has(row.index)) rows.set(row.index, new Row(body));
      rows.get(row.index).update(row, now(), picture);
    }
    for (const [index, row] of rows) {
      if (kept.has(index)) continue;
      row.remove();
      rows.delete(index);
    }
    filter.hidden = rows.size < FILTER_FROM_ROWS && filter.value === "";
    drawFiltered();
  }

  function drawFiltered() {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of rows.values()) row.show(words);
  }

  function drawQuestions(picture) {
    const asked = new Set(picture.asks.map((ask) => ask.id));
    for (const [id, question] of questions) {
      if (asked.has(id)) {
        question.update();
        continue;
      }
      question.remove();
      questions.delete(id);
    }
    for (const ask of picture.asks) {
      if (questions.has(ask.id)) continue;
      questions.set(ask.id, new Question(ask, picture.target, door, live));
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
    deeds.update(picture);
    setText(notice, picture.notice);
    setText(failure, picture.failure);
    setText(earlier, picture.earlier ? `… ${picture.earlier} earlier entries` : "");
    // Buttons say it better.
    setText(todo, picture.asks.length ? "" : picture.todo);
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
      rows.get(row.index)?.tick(row, now(), picture);
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
    deeds.remove();
    model.off("change:picture", draw);
  };
}

export default { render };
