// A click: first to the kernel; where that does not hear it in time, to the Jupyter server that this
// page came from (nbdurable/jupyter.py), which does the same by itself. The kernel may hear it later
// all the same: what was answered is answered once, and a deed that is late is not done (live.py).
// Part of the module that ends in journal.js.

// A kernel that waits hears within a tenth of that. Not less than LATE_MS of live.py.
const SLOW_MS = 1500;
const NOBODY =
  "no answer from the kernel yet: if it is busy, yours waits for it; " +
  "if it was restarted, run this cell again or use %durable approve";

class Door {
  constructor(model) {
    this.model = model;
  }

  // Says what is going on by `tell`, until `heard` is called on what this returns.
  send(message, tell) {
    try {
      this.model.send(message);
    } catch {
      // Its kernel is gone, and the page knows.
    }
    let isAnswered = false;
    const slow = setTimeout(async () => {
      tell("the kernel is busy or gone; asking the Jupyter server…");
      const said = await this.ask(message).catch(() => null);
      isAnswered = said !== null;
      tell(said ?? NOBODY);
    }, SLOW_MS);
    const saidBefore = this.model.get("picture").said;
    return {
      stop: () => clearTimeout(slow),
      isHeard: () => isAnswered || this.model.get("picture").said !== saidBefore,
    };
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
    const body = JSON.stringify({ ...message, run: this.model.get("picture").id, journal });
    const reply = await fetch(`${baseUrl}nbdurable/do`, { method: "POST", headers, body });
    // What the server itself refuses, it calls a message.
    const { said, message: refusal } = await reply.json();
    return said ?? refusal ?? null;
  }
}
