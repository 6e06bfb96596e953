// A click: first to the kernel; where that does not hear it in time, to the Jupyter server that this
// page came from (nbdurable/jupyter.py), which does the same by itself. The kernel may hear it later
// all the same: what was answered is answered once, and a deed that is late is not done (clicks.py).
// Part of the module that ends in journal.js.

// A kernel that waits hears within a tenth of that. Longer than LATE_MS of clicks.py: what is heard
// just before that must have been said here before the server is asked.
const SLOW_MS = 1500;
// What a living kernel has taken up is a commit, and done long before.
const LOST_MS = 10_000;
const LOST =
  "the kernel has taken this up and not said what came of it; it may be gone. " +
  "See how the run stands, and click again if it was not done";
const NOBODY =
  "no answer from the kernel yet: if it is busy, yours waits for it; " +
  "if it was restarted, run this cell again or use %durable approve";

class Door {
  // `run` is the one whose journal the clicks are in; a board's model may show another by now.
  constructor(model, run) {
    this.model = model;
    this.run = run;
    this.clicks = new Map();
  }

  // Says what is going on by `tell`, and whether it may be clicked again though nothing will be
  // drawn; whether it is over is asked of what this returns.
  send(message, tell) {
    const re = `click-${Date.now()}-${Math.random()}`;
    try {
      this.model.send({ ...message, shown: this.run, re });
    } catch {
      // Its kernel is gone, and the page knows.
    }
    const click = { isHeard: false };
    let late = setTimeout(async () => {
      tell("the kernel is busy or gone; asking the Jupyter server…");
      const said = await this.ask(message).catch(() => null);
      if (said !== null) click.isHeard = true;
      tell(said ?? NOBODY);
    }, SLOW_MS);
    click.stop = () => clearTimeout(late);
    // The server is not asked in its place: it might be done twice.
    click.takenUp = () => {
      late = setTimeout(() => {
        click.isHeard = true;
        tell(LOST, true);
      }, LOST_MS);
    };
    this.clicks.set(re, click);
    return { stop: click.stop, isHeard: () => click.isHeard };
  }

  // The kernel has taken up one of these clicks, or is done with it. Whether it was one of these.
  hear(message) {
    const click = this.clicks.get(message?.re);
    if (!click) return false;
    click.stop();
    if (message.is_done) {
      click.isHeard = true;
      this.clicks.delete(message.re);
    } else click.takenUp();
    return true;
  }

  // What the server says; null where none can be asked.
  async ask(message) {
    const config = document.getElementById("jupyter-config-data")?.textContent;
    const journal = this.model.get("journal");
    if (!config || !journal) return null;
    const { baseUrl, token } = JSON.parse(config);
    const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
    const headers = { "Content-Type": "application/json", "X-XSRFToken": xsrf };
    if (token) headers.Authorization = `token ${token}`;
    const body = JSON.stringify({ ...message, run: this.run, journal });
    const reply = await fetch(`${baseUrl}nbdurable/do`, { method: "POST", headers, body });
    // What the server itself refuses, it calls a message.
    const { said, message: refusal } = await reply.json();
    return said ?? refusal ?? null;
  }
}
