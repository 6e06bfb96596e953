// Draws one run from the trait `picture` (widgets/picture.py) and sends one typed message per click:
//   { type: "answer", id: string, value: any } or { type: "reject", id: string, message: string }
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

// -- questions: a form for the type of the answer, from its JSON Schema ---------------------------

// What a schema says once references are followed; a value that may also be null is the value.
function resolved(schema, root) {
  let found = schema ?? {};
  for (let hops = 0; hops < 20; hops++) {
    if (found.$ref?.startsWith("#/")) {
      const path = found.$ref.slice(2).split("/");
      const target = path.reduce((at, name) => at?.[name.replace(/~1/g, "/")], root) ?? {};
      found = { ...target, ...found, $ref: undefined };
    } else if (found.allOf?.length === 1) {
      found = { ...found.allOf[0], ...found, allOf: undefined };
    } else if (found.anyOf) {
      const kinds = found.anyOf.filter((one) => one.type !== "null");
      if (kinds.length !== 1) break;
      found = { ...kinds[0], ...found, anyOf: undefined, isOptional: true };
    } else break;
  }
  return found;
}

const isYesOrNo = (schema) => schema === null || schema.type === "boolean";

// Each field is { element, read() }: what stands in the form, and the value it holds. `read` raises
// what a person should correct.
function field(schema, root, label) {
  const found = resolved(schema, root);
  if (found.enum) return choice(found.enum, found.default, label);
  switch (found.type) {
    case "boolean": {
      const input = element("input", "nbd-input");
      input.type = "checkbox";
      input.checked = found.default === true;
      return { element: input, read: () => input.checked };
    }
    case "integer":
    case "number":
      return numberField(found, label);
    case "string":
      return textField(found);
    case "object":
      if (found.properties) return objectField(found, root);
  }
  return jsonField(found, label);
}

function choice(values, preset, label) {
  const select = element("select", "nbd-input");
  for (const value of values) {
    const option = element("option", "", select);
    option.textContent = String(value);
    option.selected = value === preset;
  }
  select.setAttribute("aria-label", label);
  return { element: select, read: () => values[select.selectedIndex] };
}

function numberField(schema, label) {
  const input = element("input", "nbd-input");
  input.type = "number";
  input.step = schema.type === "integer" ? "1" : "any";
  if (schema.minimum !== undefined) input.min = schema.minimum;
  if (schema.maximum !== undefined) input.max = schema.maximum;
  if (typeof schema.default === "number") input.value = schema.default;
  return {
    element: input,
    read() {
      if (input.value === "" && schema.isOptional) return null;
      const value = Number(input.value);
      if (input.value === "" || Number.isNaN(value)) throw new Error(`${label} is a number`);
      return value;
    },
  };
}

function textField(schema) {
  const input = element("input", "nbd-input");
  input.type = schema.format === "date" ? "date" : "text";
  if (typeof schema.default === "string") input.value = schema.default;
  return {
    element: input,
    read: () => (input.value === "" && schema.isOptional ? null : input.value),
  };
}

function jsonField(schema, label) {
  const input = element("textarea", "nbd-input");
  input.rows = 2;
  input.placeholder = "JSON";
  if (schema.default !== undefined) input.value = JSON.stringify(schema.default);
  return {
    element: input,
    read() {
      try {
        return JSON.parse(input.value);
      } catch {
        throw new Error(`${label} is written as JSON: a text is "so"`);
      }
    },
  };
}

function objectField(schema, root) {
  const box = element("div", "nbd-fields");
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties).map(([name, of]) => {
    const line = element("label", "nbd-field", box);
    const label = element("span", "nbd-label", line);
    label.textContent = resolved(of, root).title ?? name;
    const inner = field(of, root, name);
    line.append(inner.element);
    return { name, inner };
  });
  return {
    element: box,
    read: () =>
      Object.fromEntries(
        fields
          .map(({ name, inner }) => [name, inner.read()])
          .filter(([name, value]) => value !== null || required.has(name)),
      ),
  };
}

class Question {
  constructor(ask, target, send, parent) {
    this.send = send;
    this.ask = ask;
    this.box = element("form", "nbd-question", parent);
    this.box.setAttribute("aria-label", `${ask.name} of ${target}`);
    this.text = element("span", "nbd-asked", this.box);
    const name = element("strong", "");
    name.textContent = ask.title || ask.name;
    this.text.append(...(ask.title ? [name] : ["Waiting for ", name, " – "]));
    if (ask.context) element("pre", "nbd-context", this.box).textContent = ask.context;
    const schema = ask.schema === null ? null : resolved(ask.schema, ask.schema);
    this.field = isYesOrNo(schema) ? null : field(ask.schema, ask.schema, ask.name);
    if (this.field) this.box.append(this.field.element);
    this.buttons = [
      this.button(this.field ? "Answer" : "Approve", "nbd-approve", `of ${target}`),
      this.button("Reject", "nbd-reject", `of ${target}`),
    ];
    this.buttons[0].type = "submit";
    this.buttons[1].addEventListener("click", () => this.reject());
    this.box.addEventListener("submit", (event) => {
      event.preventDefault();
      this.answer();
    });
    this.reason = element("input", "nbd-input nbd-reason", this.box);
    this.reason.placeholder = "reason, if rejected";
    this.reason.setAttribute("aria-label", `Reason to reject ${ask.name} of ${target}`);
    this.state = element("span", "nbd-sent", this.box);
    // A front end has shortcuts of one letter; what is typed here is not for it.
    this.box.addEventListener("keydown", (event) => event.stopPropagation());
  }

  button(verb, className, of) {
    const button = element("button", className, this.box);
    button.type = "button";
    button.textContent = verb;
    button.setAttribute("aria-label", `${verb} ${this.ask.name} ${of}`);
    return button;
  }

  answer() {
    let value = true;
    try {
      if (this.field) value = this.field.read();
    } catch (error) {
      this.state.textContent = error.message;
      return;
    }
    this.sent(this.field ? "answering…" : "approving…");
    this.send({ type: "answer", id: this.ask.id, value });
  }

  reject() {
    this.sent("rejecting…");
    this.send({ type: "reject", id: this.ask.id, message: this.reason.value.trim() });
  }

  sent(state) {
    for (const button of this.buttons) button.disabled = true;
    this.state.textContent = state;
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
  const send = (message) => model.send(message);

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
    const asked = new Set(picture.asks.map((ask) => ask.id));
    for (const [id, question] of questions) {
      if (asked.has(id)) {
        if (picture.said) question.answered();
        continue;
      }
      question.remove();
      questions.delete(id);
    }
    for (const ask of picture.asks) {
      if (questions.has(ask.id)) continue;
      questions.set(ask.id, new Question(ask, picture.target, send, live));
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
