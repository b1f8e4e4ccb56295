// Sessions: a row for each, running ones first.

import { el, find, number, percent, setClass, setText, showError, speed } from "./dom.js";
import { REASONS } from "./reasons.js";

// One entry per column: its class, and its text.
const COLUMNS = [
  ["", (session) => session.cell_id],
  ["", (session) => (session.has_ended ? session.finish_reason : "running")],
  ["", (session) => session.method],
  ["num", (session) => (session.exit_layer ? number(session.exit_layer) : "–")],
  ["num", (session) => (session.max_draft_len ? number(session.max_draft_len) : "–")],
  ["num", (session) => (session.max_draft_len ? String(session.stop_threshold) : "–")],
  ["num", (session) => percent(session.acceptance_rate)],
  ["num", (session) => (session.mean_emitted_len ? number(session.mean_emitted_len, 2) : "–")],
  ["num", (session) => (session.tokens_per_s ? speed(session.tokens_per_s) : "–")],
  ["num", (session) => number(session.num_emitted)],
  ["", (session) => session.reason || "–"],
];

export class Sessions {
  constructor(section) {
    this.section = section;
    this.body = find("tbody", section);
    this.rows = new Map();
    this.running = [];
    this.selected = "";
  }

  get path() {
    return `v1/shortstack/sessions?with_ended=${find("#with-ended").checked}`;
  }

  fail(error) {
    showError(find(".error", this.section), error);
  }

  select(id) {
    this.selected = id;
    for (const row of this.rows.values()) row.mark(id);
  }

  // Tokens per second by cell.
  speeds() {
    const sums = new Map();
    for (const { cell_id: cell, tokens_per_s: rate } of this.running) {
      sums.set(cell, (sums.get(cell) ?? 0) + rate);
    }
    return sums;
  }

  show({ sessions, unanswered_cells: silent }) {
    this.running = sessions.filter((session) => !session.has_ended);
    const ended = sessions.filter((session) => session.has_ended);
    this.running.sort((one, other) => other.age_ms - one.age_ms);
    ended.sort((one, other) => one.age_ms - other.age_ms);
    this.#place([...this.running, ...ended]);
    const counts = `${this.running.length} running` + (ended.length ? `, ${ended.length} ended` : "");
    setText(find("#session-counts"), counts);
    find("#no-sessions").hidden = sessions.length > 0;
    if (silent.length) {
      const told = silent.map((cell) => `${cell.cell_id} (${cell.error})`).join(", ");
      throw new Error(`Sessions of these cells are missing, as they do not answer: ${told}`);
    }
  }

  #place(sessions) {
    const focused = document.activeElement;
    const old = this.rows;
    this.rows = new Map();
    sessions.forEach((session, index) => {
      const name = `${session.cell_id} ${session.session_id}`;
      const row = old.get(name) ?? new Row(session.session_id);
      old.delete(name);
      this.rows.set(name, row);
      row.fill(session);
      row.mark(this.selected);
      if (this.body.children[index] !== row.root) {
        this.body.insertBefore(row.root, this.body.children[index] ?? null);
      }
    });
    for (const row of old.values()) row.root.remove();
    if (this.body.contains(focused)) focused.focus();
  }
}

class Row {
  constructor(id) {
    this.id = id;
    this.link = el("a", { href: `#session=${encodeURIComponent(id)}`, title: `Timeline of ${id}` }, id);
    this.cells = COLUMNS.map(([kind]) => el("td", kind ? { class: kind } : {}));
    this.root = el("tr", {}, el("th", { scope: "row" }, this.link), ...this.cells);
    // The link serves the keyboard; the rest of the row is a larger target for the mouse.
    this.root.addEventListener("click", (event) => {
      if (event.target !== this.link) this.link.click();
    });
  }

  fill(session) {
    COLUMNS.forEach(([, text], index) => setText(this.cells[index], text(session)));
    this.cells.at(-1).title = REASONS[session.reason] ?? "";
    setClass(this.cells[1], session.has_ended ? "" : "running");
    this.hasEnded = session.has_ended;
  }

  mark(selected) {
    const isSelected = this.id === selected;
    const name = [this.hasEnded && "ended", isSelected && "selected"].filter(Boolean).join(" ");
    setClass(this.root, name);
    if (isSelected) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
  }
}
