// A question to a person: a form for the type of its answer, from its JSON Schema. Part of the module
// that ends in journal.js.


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
  if (found.enum) return choice(found, label);
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

function choice({ enum: values, default: preset, isOptional }, label) {
  const select = element("select", "nbd-input");
  // What nobody has chosen is no answer.
  const isOpen = !values.includes(preset);
  if (isOpen) element("option", "", select).textContent = "choose…";
  for (const value of values) {
    const option = element("option", "", select);
    option.textContent = String(value);
    option.selected = value === preset;
  }
  select.setAttribute("aria-label", label);
  return {
    element: select,
    read() {
      const chosen = select.selectedIndex - (isOpen ? 1 : 0);
      if (chosen >= 0) return values[chosen];
      if (isOptional) return null;
      throw new Error(`${label}: choose one`);
    },
  };
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
    const { title, isOptional } = resolved(of, root);
    label.textContent = (title ?? name) + (isOptional ? " (optional)" : "");
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
  constructor(ask, target, door, parent) {
    this.door = door;
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
    this.reason.placeholder = "comment, or reason to reject";
    this.reason.setAttribute("aria-label", `Comment, or reason to reject ${ask.name} of ${target}`);
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
    const comment = this.reason.value.trim();
    const answer = { type: "answer", id: this.ask.id, value, comment };
    this.send(answer, this.field ? "answering…" : "approving…");
  }

  reject() {
    const message = this.reason.value.trim();
    this.send({ type: "reject", id: this.ask.id, message }, "rejecting…");
  }

  send(message, state) {
    for (const button of this.buttons) button.disabled = true;
    this.state.textContent = state;
    this.sent = this.door.send(message, (said, again) => {
      if (again) this.update();
      this.state.textContent = said;
    });
  }

  // It is still asked, and the kernel has said something: why not.
  update() {
    if (!this.sent?.isHeard()) return;
    this.sent.stop();
    this.sent = undefined;
    this.state.textContent = "";
    for (const button of this.buttons) button.disabled = false;
  }

  remove() {
    this.sent?.stop();
    this.box.remove();
  }
}
