// The gateway's HTTP face: requests with the caller's key, errors in words, streams, polling.

const KEY = "shortstack.api-key";
const READ_TIMEOUT_MS = 8000;
const MAX_BACK_OFF = 5;
const BROKEN_OFF = "The answer broke off: the connection to the gateway was lost.";

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export async function getJson(path) {
  const response = await send(path, { signal: AbortSignal.timeout(READ_TIMEOUT_MS) });
  return response.json();
}

// Calls onChunk with each chunk and its text: the numbers of JSON may be too long for JavaScript's.
export async function stream(path, json, signal, onChunk) {
  const headers = { "content-type": "application/json" };
  const response = await send(path, { method: "POST", body: json, headers, signal });
  let isWhole = false;
  // Read to its very end: a connection that is left before is closed, not used again.
  for await (const data of eventsOf(response.body)) {
    isWhole = data === "[DONE]";
    if (isWhole) continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(wordsOf(chunk.error));
    onChunk(chunk, data);
  }
  if (!isWhole) throw new ApiError(BROKEN_OFF);
}

// Works now and then every period; slower while it fails, not at all while nobody looks.
export function poll(work, periodMs) {
  let timer = 0;
  let isBusy = false;
  let isAskedAgain = false;
  let numFailures = 0;
  async function run() {
    clearTimeout(timer);
    if (isBusy) {
      isAskedAgain = true;
      return;
    }
    isBusy = true;
    do {
      isAskedAgain = false;
      numFailures = (await work()) ? 0 : numFailures + 1;
    } while (isAskedAgain);
    isBusy = false;
    if (!document.hidden) timer = setTimeout(run, periodMs * Math.min(numFailures + 1, MAX_BACK_OFF));
  }
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) run();
  });
  run();
  return run;
}

async function send(path, options) {
  const key = apiKey();
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal.aborted && error.name === "AbortError") throw error;
    throw new ApiError(
      error.name === "TimeoutError" ? "The gateway does not answer." : "The gateway cannot be reached.",
    );
  }
  if (!response.ok) throw new ApiError(await faultOf(response), response.status);
  return response;
}

async function faultOf(response) {
  let words = `The gateway answered with status ${response.status}.`;
  try {
    words = wordsOf((await response.json()).error);
  } catch {
    // Something between us and the gateway may answer with other than JSON: its status must do.
  }
  if (response.status === 401) return `${words} (Enter a key at the top of the page.)`;
  const wait = response.headers.get("retry-after");
  return wait ? `${words} Try again in ${wait} s.` : words;
}

function wordsOf(error) {
  return /[.!?]$/.test(error.message) ? error.message : `${error.message}.`;
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : new ApiError(BROKEN_OFF);
      });
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) if (event.startsWith("data: ")) yield event.slice(6);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
