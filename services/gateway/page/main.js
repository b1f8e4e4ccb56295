// The page: what it asks for, how often, and who shows it.

import { apiKey, getJson, poll, setApiKey } from "./api.js";
import { Cells } from "./cells.js";
import { find, setText } from "./dom.js";
import { Playground } from "./playground.js";
import { Sessions } from "./sessions.js";
import { Timeline } from "./timeline.js";

const PERIOD_MS = 1000;
const MODELS_PERIOD_MS = 10_000;

const cells = new Cells(find("#cells"));
const sessions = new Sessions(find("#sessions"));
const timeline = new Timeline(find("#timeline"));
const playground = new Playground(find("#playground"), () => look());

// Returns whether it went well; what went wrong stands where it would have been shown.
async function read(path, part) {
  try {
    part.show(await getJson(path));
    part.fail(null);
    return true;
  } catch (error) {
    part.fail(error);
    return false;
  }
}

async function readAll() {
  const tasks = [read("v1/shortstack/cells", cells), read(sessions.path, sessions)];
  if (timeline.path) tasks.push(read(timeline.path, timeline));
  const went = await Promise.all(tasks);
  cells.showSpeeds(sessions.speeds());
  return went.every(Boolean);
}

async function readModels() {
  try {
    const [model] = (await getJson("v1/models")).data;
    playground.offer(model);
    setText(find("#model"), `${model.id} · ${model.context_length} tokens of context`);
    return true;
  } catch {
    // The parts above say what is wrong; here nothing is missing but names.
    return false;
  }
}

function select() {
  const id = decodeURIComponent(location.hash.match(/^#session=(.+)$/)?.[1] ?? "");
  timeline.select(id);
  sessions.select(id);
  look();
}

const look = poll(readAll, PERIOD_MS);
const lookAtModels = poll(readModels, MODELS_PERIOD_MS);

const key = find("#key");
key.value = apiKey();
key.addEventListener("change", () => {
  setApiKey(key.value.trim());
  look();
  lookAtModels();
});
find("#key-form").addEventListener("submit", (event) => event.preventDefault());
find("#with-ended").addEventListener("change", () => look());
window.addEventListener("hashchange", select);
if (location.hash) select();
