// Cells: a card for each, and the gateway's throughput.

import { el, find, mark, number, setClass, setText, showError, speed } from "./dom.js";

const RECENT_S = 5;
const PAGE_KINDS = ["used", "cached", "quarantined", "free"];

export class Cells {
  constructor(section) {
    this.section = section;
    this.cards = new Map();
    this.speeds = new Map();
  }

  fail(error) {
    showError(find(".error", this.section), error);
  }

  show({ cells, throughput }) {
    this.#showThroughput(throughput.tokens_per_s);
    const list = find("#cell-cards");
    const known = new Set(cells.map((cell) => cell.cell_id));
    for (const [id, card] of this.cards) {
      if (known.has(id)) continue;
      card.root.remove();
      this.cards.delete(id);
    }
    for (const cell of cells) {
      if (!this.cards.has(cell.cell_id)) {
        const card = makeCard(cell.cell_id);
        this.cards.set(cell.cell_id, card);
        list.append(card.root);
      }
      fill(this.cards.get(cell.cell_id), cell);
    }
    if (cells.length === 0) throw new Error("No cell answers: nothing can be generated now.");
  }

  showSpeeds(speeds) {
    for (const [id, card] of this.cards) setText(card.speed, speed(speeds.get(id) ?? 0));
  }

  #showThroughput(counts) {
    const total = (list) => list.reduce((sum, count) => sum + count, 0);
    setText(find("#rate"), speed(total(counts.slice(-RECENT_S)) / RECENT_S));
    const [mean, peak] = [total(counts) / counts.length, Math.max(...counts)];
    setText(find("#rates"), `mean ${speed(mean)}, peak ${number(peak)}`);
    const height = 40;
    const scale = height / Math.max(peak, 1);
    const bars = counts.map((count, index) => `M${index + 0.15} ${height}v${-count * scale}h.7V${height}z`);
    const chart = find("#throughput");
    chart.setAttribute("viewBox", `0 0 ${counts.length} ${height}`);
    chart.setAttribute("preserveAspectRatio", "none");
    chart.replaceChildren(
      mark("path", { class: "grid", d: `M0 ${height - 0.5}H${counts.length}` }),
      mark("path", { class: "column", d: bars.join("") }),
    );
  }
}

function makeCard(id) {
  const card = {
    badge: el("span", { class: "badge" }),
    speed: el("b", {}, "0"),
    sessions: el("b"),
    drafters: el("b"),
    free: el("b"),
    pages: el("div", { class: "meter", role: "img" }),
    about: el("p", { class: "muted about" }),
  };
  const parts = PAGE_KINDS.map((kind) => el("i", { class: kind }));
  card.pages.append(...parts);
  card.parts = parts;
  const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
  card.root = el(
    "li",
    { class: "card" },
    el("div", { class: "bar" }, el("h3", {}, id), card.badge),
    el(
      "dl",
      {},
      fact("sessions", card.sessions),
      fact("tokens/s", card.speed),
      fact("draft workers", card.drafters),
      fact("free pages", card.free),
    ),
    card.pages,
    card.about,
  );
  return card;
}

function fill(card, cell) {
  setText(card.sessions, `${cell.num_sessions} / ${cell.max_sessions}`);
  setText(card.drafters, String(cell.num_draft_workers));
  const [words, kind] = standing(cell);
  setText(card.badge, words);
  setClass(card.badge, `badge ${kind}`);
  const { pages } = cell;
  card.pages.hidden = !pages;
  setText(card.free, pages ? number(pages.num_free + pages.num_cached) : "–");
  if (pages) {
    const told = PAGE_KINDS.map((name) => `${number(pages[`num_${name}`])} ${name}`).join(", ");
    card.pages.setAttribute("aria-label", `Pages: ${told}`);
    card.pages.title = `Pages: ${told} (cached ones are given to whoever needs them)`;
    PAGE_KINDS.forEach((name, index) => {
      card.parts[index].style.flexGrow = pages[`num_${name}`];
    });
  }
  const facts = [cell.cell_kind, cell.transport, cell.dtype].filter(Boolean);
  setText(card.about, cell.error ? cell.error : facts.join(" · "));
}

function standing(cell) {
  if (cell.error) return ["no answer", "bad"];
  if (cell.is_draining) return ["draining", "warn"];
  if (!cell.num_draft_workers && cell.cell_kind === "split") return ["plain: no draft worker", "warn"];
  return ["serving", "good"];
}
