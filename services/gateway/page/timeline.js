// Timeline: one session's rounds as a chart.
//
//   exit layers   a dash per round with a draft
//   drafts        a bar per round: pale what was drafted, full what was kept; a line: most allowed
//   both          grey where a round was plain; a red line where the task shifted

import { duration, find, mark, number, percent, setText, showError } from "./dom.js";
import { REASONS } from "./reasons.js";

const LEFT = 34;
const RIGHT = 8;
const EXITS = { top: 16, height: 72 };
const DRAFTS = { top: 108, height: 108 };
const HEIGHT = 240;
// A session of few rounds does not become a wall.
const MIN_ROUNDS = 48;

export class Timeline {
  constructor(panel) {
    this.panel = panel;
    this.chart = find("#chart", panel);
    this.id = "";
    this.rounds = null;
    this.hasEnded = false;
    this.cursor = -1;
    find("#close-timeline", panel).addEventListener("click", () => {
      location.hash = "";
    });
    this.chart.addEventListener("pointermove", (event) => this.#point(this.#roundAt(event.clientX)));
    this.chart.addEventListener("keydown", (event) => this.#step(event));
    new ResizeObserver(() => this.#draw()).observe(this.chart);
  }

  // Nothing changes any more in a session that has ended.
  get path() {
    if (!this.id || this.hasEnded) return "";
    return `v1/shortstack/sessions/${encodeURIComponent(this.id)}/timeline`;
  }

  select(id) {
    if (id === this.id) return;
    [this.id, this.rounds, this.hasEnded, this.cursor] = [id, null, false, -1];
    this.panel.hidden = !id;
    setText(find("code", this.panel), id);
    setText(find("#round", this.panel), "");
    this.chart.replaceChildren();
    this.fail(null);
    if (id) this.panel.scrollIntoView({ block: "nearest" });
  }

  fail(error) {
    // Nobody knows it any more: nothing will change.
    if (error?.status === 404) this.hasEnded = true;
    showError(find(".error", this.panel), error);
  }

  show({ session, rounds }) {
    if (session.session_id !== this.id) return;
    this.session = session;
    this.rounds = rounds;
    this.hasEnded = session.has_ended;
    this.#draw();
  }

  get #num() {
    return this.rounds ? this.rounds.round_indices.length : 0;
  }

  get #stepPx() {
    return (this.chart.clientWidth - LEFT - RIGHT) / Math.max(this.#num, MIN_ROUNDS);
  }

  #x(index) {
    return LEFT + index * this.#stepPx;
  }

  #draw() {
    const width = this.chart.clientWidth;
    if (!this.rounds || !width) return;
    this.chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.chart.setAttribute("aria-label", this.#summary());
    const { exit_layers: exits, draft_lens: lens, nums_accepted: kept } = this.rounds;
    const limits = this.rounds.max_draft_lens;
    const topExit = Math.max(4, ...exits);
    const topLen = Math.max(4, ...limits, ...lens);
    const yExit = (value) => EXITS.top + EXITS.height * (1 - value / topExit);
    const yLen = (value) => DRAFTS.top + DRAFTS.height * (1 - value / topLen);
    const bar = (value, index) =>
      value ? `M${this.#x(index) + this.#gap} ${yLen(0)}V${yLen(value)}h${this.#bar}V${yLen(0)}z` : "";
    const dash = (y) => (value, index) => (value ? `M${this.#x(index)} ${y(value)}h${this.#stepPx}` : "");
    const each = (values, path) => values.map(path).join("");
    this.chart.replaceChildren(
      ...this.#axis(EXITS, topExit, yExit, "exit layer"),
      ...this.#axis(DRAFTS, topLen, yLen, "draft tokens"),
      mark("path", { class: "off", d: each(limits, (value, index) => (value ? "" : this.#column(index))) }),
      mark("path", { class: "cursor", d: this.cursor < 0 ? "" : this.#column(this.cursor) }),
      mark("path", { class: "drafted", d: each(lens, bar) }),
      mark("path", { class: "kept", d: each(kept, bar) }),
      mark("path", { class: "limit", d: each(limits, dash(yLen)) }),
      mark("path", { class: "exit", d: each(exits, dash(yExit)) }),
      mark("path", { class: "alarm", d: each(this.rounds.are_alarms, (is, index) => this.#alarm(is, index)) }),
      ...this.#roundLabels(),
    );
    this.#tell();
  }

  get #gap() {
    return this.#stepPx > 4 ? 0.5 : 0;
  }

  get #bar() {
    return this.#stepPx - 2 * this.#gap;
  }

  #column(index) {
    const column = (panel) => `M${this.#x(index)} ${panel.top}h${this.#stepPx}v${panel.height}h${-this.#stepPx}z`;
    return column(EXITS) + column(DRAFTS);
  }

  #alarm(isAlarm, index) {
    if (!isAlarm) return "";
    const x = this.#x(index) + this.#stepPx / 2;
    return `M${x - 5} 4h10l-5 7zM${x} 4V${DRAFTS.top + DRAFTS.height}`;
  }

  #axis(panel, top, y, name) {
    const width = this.chart.clientWidth;
    const step = Math.max(1, Math.ceil(top / 4));
    const parts = [];
    for (let value = 0; value <= top; value += step) {
      parts.push(mark("path", { class: "grid", d: `M${LEFT} ${y(value)}H${width - RIGHT}` }));
      parts.push(mark("text", { x: LEFT - 6, y: y(value) + 4, class: "end" }, String(value)));
    }
    const middle = panel.top + panel.height / 2;
    const turn = `rotate(-90 9 ${middle})`;
    parts.push(mark("text", { x: 9, y: middle, class: "middle", transform: turn }, name));
    return parts;
  }

  #roundLabels() {
    const every = Math.max(1, Math.ceil(80 / this.#stepPx / 10) * 10);
    const labels = [];
    this.rounds.round_indices.forEach((round, index) => {
      if (round % every) return;
      labels.push(mark("text", { x: this.#x(index), y: HEIGHT - 8 }, index ? number(round) : `round ${round}`));
    });
    return labels;
  }

  #summary() {
    const exits = new Set(this.rounds.exit_layers.filter(Boolean));
    const numAlarms = this.rounds.are_alarms.filter(Boolean).length;
    return (
      `The last ${this.#num} rounds of ${this.id}: exit layers ${[...exits].join(", ") || "none"}, ` +
      `${percent(this.session.acceptance_rate)} of the drafts accepted, ${numAlarms} task shifts. ` +
      "Arrow keys go from round to round."
    );
  }

  #roundAt(clientX) {
    const x = clientX - this.chart.getBoundingClientRect().left - LEFT;
    return Math.floor(x / this.#stepPx);
  }

  #point(index) {
    const cursor = index >= 0 && index < this.#num ? index : -1;
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    this.#draw();
  }

  #step(event) {
    const last = this.#num - 1;
    const from = this.cursor < 0 ? last : this.cursor;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#point(Math.min(last, Math.max(0, to)));
  }

  #tell() {
    setText(find("#round", this.panel), this.cursor < 0 ? this.#inSum() : this.#ofRound(this.cursor));
  }

  #inSum() {
    const { session } = this;
    const parts = [
      `${number(session.num_rounds)} rounds, ${number(session.num_plain_rounds)} of them plain`,
      `${number(session.num_emitted)} tokens`,
    ];
    if (session.num_draft_tokens) {
      parts.push(`${percent(session.acceptance_rate)} of the drafts accepted`);
      parts.push(`${number(session.mean_emitted_len, 2)} tokens per round with a draft`);
    }
    return parts.join(" · ");
  }

  #ofRound(index) {
    const { rounds } = this;
    const length = rounds.max_draft_lens[index];
    const reason = rounds.reason_names[rounds.reasons[index]];
    const exit = rounds.exit_layers[index];
    const parts = [
      `round ${number(rounds.round_indices[index])}`,
      `position ${number(rounds.positions[index])}`,
      length
        ? `${rounds.method_names[rounds.methods[index]]}${exit ? ` at layer ${exit}` : ""}`
        : "plain",
      length ? `${rounds.nums_accepted[index]} of ${rounds.draft_lens[index]} drafts accepted, ${length} allowed` : "",
      duration(rounds.round_ns[index] / 1e6),
      reason ? `${reason}: ${REASONS[reason] ?? "not known to this version"}` : "",
      rounds.are_alarms[index] ? "task shift" : "",
    ];
    return parts.filter(Boolean).join(" · ");
  }
}
