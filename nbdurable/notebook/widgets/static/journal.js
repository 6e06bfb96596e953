// Draws one run from the traits `picture`, `rows`, `tail` and `children`, and sends one typed message
// per click; shown.py says which. Elements are kept and patched, never replaced: focus, selection
// and scrolling survive an update. What comes in between two frames is drawn in one.
// It follows rows.js, door.js, question.js and deeds.js in one module: see widgets/journal.py.

const TICK_MS = 1000;
// Who has scrolled up to read is left there; who is at the end stays at the end.
const FOLLOW_PX = 8;
// As many as are kept for who looks on, and as many for who goes back.
const ROWS_NEWEST = 200;
const ROWS_DRAWN_MAX = 1000;
// A short journal is seen whole.
const FILTER_FROM_ROWS = 12;
// Between two letters.
const TYPING_MS = 300;

class Journal {
  constructor(model, parent) {
    this.model = model;
    this.news = new Map();
    this.branches = new Map();
    this.replies = new Map();
    this.questions = new Map();
    this.found = new Set();
    this.skew = 0;
    this.first = 0;
    this.isAway = false;
    this.follows = true;
    this.run = model.get("picture").id;
    this.door = new Door(model, this.run);
    this.tree = {
      run: this.run,
      restart: (from) => this.deeds.send({ name: "restart", from_entry: from }),
      now: () => Date.now() + this.skew,
      ask: (message) => this.ask(message),
      open: (run, branch) => this.open(run, branch),
      close: (run, branch) => this.close(run, branch),
    };
    this.build(parent);
    this.heard = (message) => this.hear(message);
    this.changed = () => this.change();
    model.on("msg:custom", this.heard);
    for (const trait of ["picture", "rows", "tail", "children"]) {
      model.on(`change:${trait}`, this.changed);
    }
    this.take();
    this.draw();
    // Before the element is in the page it has no height to scroll.
    requestAnimationFrame(() => this.scrollToEnd());
    this.ticking = setInterval(() => this.tick(), TICK_MS);
  }

  build(parent) {
    const root = (this.root = element("section", "nbdurable", parent));
    root.setAttribute("aria-label", "Journal of a durable run");
    hidePicture(this.model, root);
    const head = element("header", "nbd-head", root);
    this.target = element("strong", "nbd-target", head);
    this.chip = element("span", "nbd-chip", head);
    this.chipGlyph = element("span", "", this.chip);
    this.chipGlyph.setAttribute("aria-hidden", "true");
    this.chipText = element("span", "", this.chip);
    this.deeds = new Deeds(head, this.door, this.tree.now, (text) => setText(this.said, text));
    const facts = element("div", "nbd-facts", root);
    this.id = element("code", "", facts);
    this.about = element("span", "", facts);
    this.curl = this.link(facts, () => this.showCurl());
    this.curl.textContent = "as curl";
    this.command = element("pre", "nbd-whole", root);
    this.command.hidden = true;
    this.notice = element("div", "nbd-notice", root);
    this.failure = element("div", "nbd-failure nbd-block", root);
    this.retry = element("div", "nbd-facts", root);
    const bar = element("div", "nbd-bars", root);
    const filter = (this.filter = element("input", "nbd-input nbd-filter", bar));
    filter.type = "search";
    filter.placeholder = "filter, e.g. failed";
    filter.setAttribute("aria-label", "Filter journal entries");
    filter.hidden = true;
    filter.addEventListener("keydown", (event) => event.stopPropagation());
    filter.addEventListener("input", () => this.search());
    this.earlier = this.link(bar, () => this.showEarlier());
    this.newest = this.link(bar, () => this.backToNewest());
    setText(this.newest, "");
    const { table, body } = journalTable("", "Journal entries", root);
    this.table = table;
    // It scrolls, so it must be reachable by keyboard.
    table.tabIndex = 0;
    table.addEventListener("scroll", () => {
      const isAtEnd = table.scrollTop + table.clientHeight >= table.scrollHeight - FOLLOW_PX;
      // Rows that come into sight may be higher than was thought; that is nobody's scrolling.
      if (isAtEnd) this.follows = true;
      else if (table.scrollTop < this.scrolledTo) this.follows = false;
    });
    this.rows = new Rows(body, this.run, this.tree);
    // One live region for what a person has to do; the rows would never stop talking.
    this.live = element("div", "nbd-questions", root);
    this.live.setAttribute("aria-live", "polite");
    this.todo = element("div", "nbd-facts", root);
    this.said = element("div", "nbd-said", root);
    this.said.setAttribute("role", "status");
  }

  link(parent, does) {
    const button = element("button", "nbd-more", parent);
    button.type = "button";
    button.addEventListener("click", does);
    return button;
  }

  remove() {
    clearInterval(this.ticking);
    cancelAnimationFrame(this.frame);
    clearTimeout(this.typing);
    for (const question of this.questions.values()) question.remove();
    this.deeds.remove();
    this.model.off("msg:custom", this.heard);
    for (const trait of ["picture", "rows", "tail", "children"]) {
      this.model.off(`change:${trait}`, this.changed);
    }
    this.root.remove();
  }

  // -- what the kernel says ---------------------------------------------------------------------

  change() {
    // On a board the model shows another run, or none, and this is about to be removed.
    if (this.model.get("picture").id !== this.run) return;
    this.take();
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => this.draw());
  }

  // Each patch is noted at once: the next one may leave out what this one says of older rows.
  take() {
    const { seq, rows, is_new } = this.model.get("rows");
    if (seq !== this.seq) {
      if (this.seq !== undefined && is_new) this.isAnew = true;
      if (is_new) this.news.clear();
      for (const row of rows) this.news.set(row.index, row);
      if (this.seq === undefined || is_new) this.first = rows[0]?.index ?? 0;
      this.seq = seq;
    }
    const tail = this.model.get("tail");
    if (tail.seq !== seq) return;
    for (const row of tail.rows) this.news.set(row.index, row);
    for (const index of tail.gone) this.news.set(index, null);
  }

  // What is asked for now, and answered by one message.
  ask(message) {
    const re = `${Date.now()}-${Math.random()}`;
    return new Promise((answered) => {
      this.replies.set(re, answered);
      this.send({ ...message, re });
    });
  }

  send(message) {
    this.model.send({ ...message, shown: this.run });
  }

  hear(message) {
    if (this.door.hear(message)) return this.change();
    const answered = this.replies.get(message?.re);
    this.replies.delete(message?.re);
    answered?.(message);
  }

  open(run, branch) {
    if (!this.branches.has(run)) {
      this.branches.set(run, new Set());
      this.send({ type: "open", run });
    }
    this.branches.get(run).add(branch);
    this.drawBranches();
  }

  close(run, branch) {
    this.branches.get(run)?.delete(branch);
    if (this.branches.get(run)?.size) return;
    this.branches.delete(run);
    this.send({ type: "close", run });
  }

  // -- drawing ----------------------------------------------------------------------------------

  draw() {
    this.frame = undefined;
    const picture = this.model.get("picture");
    if (picture.id !== this.run) return;
    this.picture = picture;
    // The browser's clock may be another machine's; countdowns are the kernel's.
    this.skew = picture.now_ms - Date.now();
    this.root.dataset.tone = picture.tone;
    setText(this.target, picture.target);
    this.chip.dataset.tone = picture.tone;
    setText(this.chipGlyph, GLYPHS[picture.tone]);
    setText(this.chipText, picture.status);
    setText(this.id, picture.short_id);
    this.id.title = picture.id;
    setText(this.about, picture.facts);
    this.deeds.update(picture);
    setText(this.notice, picture.notice);
    setText(this.failure, picture.failure);
    // Buttons say it better.
    setText(this.todo, picture.asks.length ? "" : picture.todo);
    setText(this.said, picture.said);
    this.drawRows();
    this.drawBranches();
    this.drawQuestions();
    this.drawRetry();
  }

  drawRows() {
    const { rows, picture } = this;
    if (this.isAnew) rows.dropBefore(Infinity);
    this.isAnew = false;
    for (const [index, row] of this.news) {
      if (row === null) rows.drop(index);
      else if (rows.byIndex.has(index) || (index >= this.first && !this.isAway)) {
        this.filterOne(rows.put(row, picture));
      }
    }
    this.news.clear();
    // Who reads further up keeps what is read.
    const kept = this.follows ? ROWS_NEWEST : ROWS_DRAWN_MAX;
    if (!this.isAway && !this.words?.length && rows.order.length > kept) {
      rows.dropBefore(rows.order[rows.order.length - kept]);
      this.first = rows.order[0];
    }
    this.offerRestarts();
    this.filter.hidden = picture.count < FILTER_FROM_ROWS && this.filter.value === "";
    this.offerEarlier(picture.count - rows.order.length);
    if (this.follows) this.scrollToEnd();
  }

  offerRestarts() {
    if (!this.picture.deeds.includes("restart")) return;
    for (const row of this.rows.byIndex.values()) row.offerRestart();
  }

  offerEarlier(count) {
    if (this.isAway || this.words?.length) return;
    setText(this.earlier, count > 0 ? `… ${count} earlier entries` : "");
  }

  scrollToEnd() {
    this.table.scrollTop = this.table.scrollHeight;
    this.scrolledTo = this.table.scrollTop;
  }

  drawBranches() {
    const children = this.model.get("children");
    for (const [run, branches] of this.branches) {
      for (const branch of branches) if (children[run]) branch.draw(children[run]);
    }
  }

  drawQuestions() {
    const { asks, target } = this.picture;
    const asked = new Set(asks.map((ask) => ask.id));
    for (const [id, question] of this.questions) {
      if (asked.has(id)) {
        question.update();
        continue;
      }
      question.remove();
      this.questions.delete(id);
    }
    for (const ask of asks) {
      if (this.questions.has(ask.id)) continue;
      this.questions.set(ask.id, new Question(ask, target, this.door, this.live));
    }
  }

  drawRetry() {
    const { due_at_ms } = this.picture;
    const left = due_at_ms === null ? null : due_at_ms - this.tree.now();
    setText(this.retry, left === null ? "" : `next attempt ${countdown(left)}`);
  }

  tick() {
    if (this.picture.ended_ms === null) this.rows.tick(this.picture);
    this.drawRetry();
  }

  // To be copied by hand where a page may not.
  async showCurl() {
    if (!this.command.hidden) return setText(this.command, "");
    const { text } = await this.ask({ type: "curl" });
    setText(this.command, text);
    const copied = await navigator.clipboard?.writeText(text).then(
      () => true,
      () => false,
    );
    if (copied) setText(this.said, "copied");
  }

  // -- further back -----------------------------------------------------------------------------

  async showEarlier() {
    const { rows, table } = this;
    const { rows: found, earlier } = await this.ask({ type: "earlier", before: rows.order[0] });
    const height = table.scrollHeight;
    for (const row of found) rows.put(row, this.picture);
    this.offerRestarts();
    if (found.length) this.first = found[0].index;
    this.follows = false;
    if (rows.order.length > ROWS_DRAWN_MAX) {
      rows.dropPast(ROWS_DRAWN_MAX);
      this.isAway = true;
      setText(this.newest, "back to the newest");
    }
    setText(this.earlier, earlier > 0 ? `… ${earlier} earlier entries` : "");
    // To where what was asked for ends, and what was there begins.
    table.scrollTop = Math.max(table.scrollHeight - height - table.clientHeight / 2, 0);
    this.scrolledTo = table.scrollTop;
  }

  backToNewest() {
    this.rows.dropBefore(Infinity);
    this.isAway = false;
    this.follows = true;
    setText(this.newest, "");
    this.seq = undefined;
    this.take();
    this.draw();
  }

  // What is drawn is filtered at once; who stops typing finds what is not drawn, too.
  search() {
    this.words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const index of this.found) this.rows.drop(index);
    this.found.clear();
    for (const row of this.rows.byIndex.values()) this.filterOne(row);
    clearTimeout(this.typing);
    if (!this.words.length) return this.offerEarlier(this.picture.count - this.rows.order.length);
    setText(this.earlier, "");
    const before = this.rows.order[0];
    if (!(before > 0)) return;
    this.typing = setTimeout(async () => {
      const words = this.filter.value;
      const { rows } = await this.ask({ type: "earlier", before, words });
      if (words !== this.filter.value) return;
      for (const row of rows) {
        this.found.add(row.index);
        this.filterOne(this.rows.put(row, this.picture));
      }
    }, TYPING_MS);
  }

  filterOne(row) {
    row.show(this.words ?? []);
  }
}
