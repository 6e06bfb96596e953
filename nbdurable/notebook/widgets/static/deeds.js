// What can be done to a run, as buttons. Part of the module that ends in journal.js.

class Deeds {
  constructor(parent, door, now, tell) {
    this.box = element("span", "nbd-deeds", parent);
    this.door = door;
    this.now = now;
    this.tell = tell;
    this.buttons = new Map();
  }

  update(picture) {
    this.picture = picture;
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
      this.send({ name });
    });
    return button;
  }

  send(deed) {
    this.remove();
    const message = { type: "deed", at_ms: Math.round(this.now()), ...deed };
    this.sent = this.door.send(message, (said, again) => {
      this.tell(said);
      if (again) this.update(this.picture);
    });
  }

  remove() {
    this.sent?.stop();
    this.sent = undefined;
  }
}
