// Playground: ask for a text, watch where each token comes from.

import { stream } from "./api.js";
import { duration, el, find, number, percent, setText, showError, speed } from "./dom.js";

const PLACEHOLDERS = { prompt: "Text to go on from", chat: "Message" };
// How near to its end a text must be to be followed.
const FOLLOW_PX = 40;

export class Playground {
  constructor(section, onChange) {
    this.form = find("#ask", section);
    this.fields = this.form.elements;
    this.transcript = find("#transcript", section);
    this.error = find(".error", this.form);
    this.onChange = onChange;
    this.turns = [];
    this.stopper = null;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.stopper) this.#run();
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    section.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#stop();
    });
    for (const kind of this.fields.kind) kind.addEventListener("change", () => this.#clear());
    find("#stop").addEventListener("click", () => this.#stop());
    find("#clear").addEventListener("click", () => this.#clear());
  }

  // Offers the methods and exit layers of a model.
  offer(model) {
    setChoices(this.fields.method, model.methods.filter((method) => method !== "off"));
    setChoices(this.fields.exit_layer, model.exit_layers.map(String));
  }

  get #isChat() {
    return this.fields.kind.value === "chat";
  }

  #clear() {
    this.#stop();
    this.turns = [];
    this.transcript.replaceChildren();
    showError(this.error, null);
    setText(find("#prompt-label"), PLACEHOLDERS[this.fields.kind.value]);
  }

  #stop() {
    this.stopper?.abort();
  }

  async #run() {
    showError(this.error, null);
    const isChat = this.#isChat;
    const prompt = this.fields.prompt.value;
    const before = this.turns;
    const turns = [...before, { role: "user", content: prompt }];
    const input = isChat ? { messages: turns } : { prompt };
    const answer = new Answer(prompt, isChat, {
      onSeed: (seed) => {
        this.fields.seed.value = seed;
      },
      whileShown: (draw) => this.#following(draw),
    });
    if (!isChat) this.transcript.replaceChildren();
    this.transcript.append(...answer.roots);
    this.#follow();
    this.#setRunning(true);
    try {
      const path = isChat ? "v1/chat/completions" : "v1/completions";
      const { signal } = this.stopper;
      await stream(path, this.#json(input), signal, (chunk, data) => answer.take(chunk, data));
      answer.end();
    } catch (error) {
      if (error.name === "AbortError") answer.end("stopped");
      else this.#fail(answer, error);
    } finally {
      this.#setRunning(false);
    }
    // Cleared meanwhile: it is another chat.
    if (isChat && answer.text && this.turns === before) {
      this.turns = [...turns, { role: "assistant", content: answer.text }];
      if (this.fields.prompt.value === prompt) this.fields.prompt.value = "";
    }
    this.onChange();
  }

  #fail(answer, error) {
    if (answer.text) answer.end("broken off");
    else answer.remove();
    showError(this.error, error);
  }

  // Draws, and keeps the end of the text in sight if it was so before.
  #following(draw) {
    const { scrollTop, scrollHeight, clientHeight } = this.transcript;
    draw();
    if (scrollHeight - scrollTop - clientHeight < FOLLOW_PX) this.#follow();
  }

  #follow() {
    this.transcript.scrollTop = this.transcript.scrollHeight;
  }

  #setRunning(isRunning) {
    this.stopper = isRunning ? new AbortController() : null;
    find("#go").disabled = isRunning;
    find("#stop").disabled = !isRunning;
    this.transcript.setAttribute("aria-busy", String(isRunning));
    setText(find("#told"), isRunning ? "Generating" : "Done");
  }

  // A seed has up to 64 bits, more than JavaScript's numbers: it is written as it was typed.
  #json(input) {
    const { fields } = this;
    const speculation = { mode: fields.mode.value, report: "detailed" };
    for (const name of ["method", "policy"]) {
      if (fields[name].value) speculation[name] = fields[name].value;
    }
    for (const name of ["exit_layer", "max_draft_len", "tree_nodes"]) {
      if (fields[name].value !== "") speculation[name] = Number(fields[name].value);
    }
    const json = JSON.stringify({
      ...input,
      max_tokens: Number(fields.max_tokens.value),
      temperature: Number(fields.temperature.value),
      stream: true,
      stream_options: { include_usage: true },
      speculation,
    });
    const seed = fields.seed.value.trim();
    return seed ? `{"seed":${BigInt(seed)},${json.slice(1)}` : json;
  }
}

// Puts values into a list behind its first entry, which leaves the choice to the server.
function setChoices(select, values) {
  const [first, ...others] = select.options;
  if (values.join() === others.map((option) => option.value).join()) return;
  const chosen = select.value;
  select.replaceChildren(first, ...values.map((value) => el("option", { value }, value)));
  select.value = values.includes(chosen) ? chosen : "";
}

// One answer as it comes in: noted round by round, drawn once per frame.
class Answer {
  constructor(prompt, isChat, { onSeed, whileShown }) {
    this.onSeed = onSeed;
    this.whileShown = whileShown;
    this.undrawn = [];
    this.frame = 0;
    this.beganMs = performance.now();
    this.firstMs = this.lastMs = 0;
    this.numFirst = this.numTokens = this.numDrafted = this.numAccepted = 0;
    this.source = "plain";
    this.text = this.sessionId = this.finish = this.seed = "";
    this.body = el("span", { class: "answer" });
    this.figures = el("p", { class: "figures" });
    const text = isChat ? [this.body] : [el("span", { class: "prompt" }, prompt), this.body];
    const told = el("article", { class: "turn" }, el("p", { class: "text" }, ...text), this.figures);
    const asked = el("article", { class: "turn user" }, el("p", { class: "text" }, prompt));
    this.roots = isChat ? [asked, told] : [told];
  }

  remove() {
    for (const root of this.roots) root.remove();
  }

  take(chunk, data) {
    for (const choice of chunk.choices) {
      const text = choice.delta?.content ?? choice.text ?? "";
      this.text += text;
      if (choice.finish_reason) this.finish = choice.finish_reason;
      if (choice.speculation) this.#round(choice.speculation);
      else if (text) this.#append(text, this.source, "held back until the end");
    }
    // By its digits: see above.
    const seed = data.match(/"metrics":\{"seed":(\d+)/);
    if (seed) this.seed = seed[1];
    this.frame ||= requestAnimationFrame(() => this.#draw());
  }

  end(how = "") {
    if (how) this.finish = how;
    // Frames do not come while nobody looks.
    cancelAnimationFrame(this.frame);
    this.whileShown(() => this.#finish());
  }

  #draw() {
    this.frame = 0;
    this.whileShown(() => this.#show());
  }

  #show() {
    this.body.append(...this.undrawn);
    this.undrawn = [];
    this.#tell();
  }

  #finish() {
    this.#show();
    if (this.seed) {
      const reuse = el("button", { type: "button", class: "link", title: "Take this seed again" }, `seed ${this.seed}`);
      reuse.addEventListener("click", () => this.onSeed(this.seed));
      this.figures.append(reuse);
    }
    if (this.sessionId) {
      const hash = `#session=${encodeURIComponent(this.sessionId)}`;
      this.figures.append(el("a", { href: hash }, "timeline"));
    }
  }

  #round({ session_id: id, tokens, draft }) {
    this.lastMs = performance.now();
    if (!this.numTokens) [this.firstMs, this.numFirst] = [this.lastMs, tokens.length];
    this.sessionId = id;
    this.numTokens += tokens.length;
    if (draft) {
      this.numDrafted += draft.draft_len;
      this.numAccepted += draft.num_accepted;
    }
    const where = draft?.exit_layer ? ` at layer ${draft.exit_layer}` : "";
    const order = draft ? `${draft.method}${where}, ${draft.reason}` : "no draft";
    for (const token of tokens) {
      this.source = token.source;
      if (token.text) this.#append(token.text, token.source, `${token.source} · id ${token.id} · ${order}`);
    }
  }

  #append(text, source, title) {
    this.undrawn.push(el("span", { class: `tok ${source}`, title }, text));
  }

  #tell() {
    const facts = [];
    const fact = (value, words) => facts.push(el("span", {}, el("b", {}, value), ` ${words}`));
    const [kept, drafted] = [this.numAccepted, this.numDrafted];
    if (drafted) fact(percent(kept / drafted), `accepted (${number(kept)} of ${number(drafted)})`);
    else fact("no", "drafts");
    const seconds = (this.lastMs - this.firstMs) / 1000;
    fact(seconds > 0 ? speed((this.numTokens - this.numFirst) / seconds) : "–", "tokens/s");
    fact(this.numTokens ? duration(this.firstMs - this.beganMs) : "–", "to the first token");
    fact(number(this.numTokens), "tokens");
    if (this.finish) facts.push(el("span", { class: "finish" }, this.finish));
    this.figures.replaceChildren(...facts);
  }
}
