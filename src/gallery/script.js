"use strict";
// The page uses the public REST API alone: generate (as events), list, delete, health.
const $ = (id) => document.getElementById(id);
const form = $("form");
const viewer = $("viewer");
let running = null; // the AbortController of the generation in flight
let cursor = null;
let shown = null; // the image in the viewer

/** The path of an image's URL: pages are served from here, whatever name the URL carries. */
const path = (image) => { const u = new URL(image.url); return u.pathname + u.search; };
const withQuery = (image, query) => path(image) + (path(image).includes("?") ? "&" : "?") + query;
const text = (tag, content) => { const e = document.createElement(tag); e.textContent = content; return e; };

/** A problem (RFC 9457) as a person reads it. */
function explain(problem, status) {
  const fields = (problem.errors || []).map((e) => `${e.field}: ${e.allowed}`);
  return fields.length ? fields.join("\n") : problem.detail || problem.title || `The server answered ${status}.`;
}

async function problemOf(response) {
  try { return explain(await response.json(), response.status); } catch { return `The server answered ${response.status}.`; }
}

function showError(message) { $("error").textContent = message; $("error").hidden = !message; }

// Generate ---------------------------------------------------------------------------------------

function argumentsOf() {
  const values = {};
  for (const [name, value] of new FormData(form)) {
    if (value.trim() === "") continue;
    values[name] = name.includes("prompt") ? value : Number(value);
  }
  return values;
}

function showProgress(p) {
  const bar = $("bar");
  if (p.stage === "drawing") {
    bar.value = Math.min(1, p.step / p.total);
    $("stage").textContent = p.estimated ? `drawing, about ${Math.round(bar.value * 100)} % (estimate)` : `step ${p.step} of ${p.total}`;
  } else {
    bar.removeAttribute("value");
    $("stage").textContent = { queued: p.ahead ? `waiting, ${p.ahead} ahead` : "waiting", starting: "the model is starting", storing: "storing" }[p.stage];
  }
}

/** Reads server-sent events from a response to a POST, which EventSource cannot make. */
async function readEvents(response, handle) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const lines = buffer.slice(0, end).split("\n");
      buffer = buffer.slice(end + 2);
      const field = (name) => lines.find((line) => line.startsWith(name + ": "))?.slice(name.length + 2);
      if (field("data")) handle(field("event"), JSON.parse(field("data")));
    }
  }
}

async function generate() {
  showError("");
  running = new AbortController();
  $("generate").disabled = true;
  $("cancel").hidden = $("progress").hidden = false;
  showProgress({ stage: "queued", ahead: 0 });
  let ended = false;
  try {
    const response = await fetch("/mcp/v1/tools/generate_image", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify(argumentsOf()),
      signal: running.signal,
    });
    if (!response.ok) { showError(await problemOf(response)); return; }
    await readEvents(response, (event, data) => {
      if (event === "progress") return showProgress(data);
      ended = true;
      if (event === "error") return showError(explain(data, data.status));
      addCard({ ...data.metadata, url: data.url }, true);
      $("empty").hidden = true;
    });
    if (!ended) showError("The connection broke before the image was ready. Try again.");
  } catch (error) {
    showError(error.name === "AbortError" ? "Cancelled." : "The server cannot be reached.");
  } finally {
    running = null;
    $("generate").disabled = false;
    $("cancel").hidden = $("progress").hidden = true;
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); if (!running) generate(); });
form.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
});
$("cancel").addEventListener("click", () => running?.abort());

// Grid -------------------------------------------------------------------------------------------

function addCard(image, first) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const picture = document.createElement("img");
  item.dataset.id = image.image_id;
  button.type = "button";
  picture.alt = image.prompt;
  picture.loading = "lazy";
  picture.decoding = "async";
  picture.width = picture.height = 320;
  picture.className = "waiting";
  picture.addEventListener("load", () => { picture.className = ""; });
  picture.src = withQuery(image, "w=320&h=320&fit=cover&format=auto");
  button.append(picture, text("span", image.prompt));
  button.addEventListener("click", () => view(image));
  item.append(button);
  if (first) $("grid").prepend(item); else $("grid").append(item);
}

async function list() {
  const query = new URLSearchParams({ limit: "24" });
  if (cursor) query.set("cursor", cursor);
  try {
    const response = await fetch(`/images/?${query}`);
    if (response.status === 403) return note("This server does not list images to you. What you generate here is shown all the same.");
    if (!response.ok) return note(await problemOf(response));
    const page = await response.json();
    page.images.forEach((image) => addCard(image, false));
    cursor = page.next_cursor || null;
    $("more").hidden = !cursor;
    if (!$("grid").children.length) note("No images yet. Describe one above.");
  } catch {
    note("The server cannot be reached.");
  }
}

function note(message) { $("empty").textContent = message; $("empty").hidden = false; }
$("more").addEventListener("click", list);

// Viewer -----------------------------------------------------------------------------------------

function view(image) {
  shown = image;
  $("viewer-image").src = path(image);
  $("viewer-image").alt = image.prompt;
  $("viewer-prompt").textContent = image.prompt;
  const facts = {
    Size: `${image.width} × ${image.height}, ${Math.ceil(image.size_bytes / 1024)} kB ${image.format.toUpperCase()}`,
    "Keep out": image.negative_prompt,
    Steps: image.num_inference_steps,
    Guidance: image.guidance_scale,
    Seed: image.seed,
    Model: `${image.model} (${image.predictor})`,
    Took: `${image.generation_seconds} s`,
    Expires: new Date(image.expires_at).toLocaleString(),
  };
  $("viewer-facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== undefined && value !== null)
    .flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
  $("download").href = withQuery(image, "download");
  $("viewer-note").textContent = "";
  viewer.showModal();
}

$("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
$("copy").addEventListener("click", async () => {
  try { await navigator.clipboard.writeText(shown.url); $("viewer-note").textContent = "URL copied."; }
  catch { $("viewer-note").textContent = shown.url; } // no clipboard without a secure context
});
$("again").addEventListener("click", () => {
  for (const name of ["prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed"]) {
    form.elements[name].value = shown[name] ?? "";
  }
  viewer.close();
  form.querySelector("details").open = true;
  form.elements.prompt.focus();
});
$("delete").addEventListener("click", async () => {
  if (!confirm("Delete this image for everyone?")) return;
  try {
    const response = await fetch(path(shown), { method: "DELETE" });
    if (!response.ok && response.status !== 404) { $("viewer-note").textContent = await problemOf(response); return; }
    document.querySelector(`[data-id="${shown.image_id}"]`)?.remove();
    viewer.close();
  } catch { $("viewer-note").textContent = "The server cannot be reached."; }
});

// What this is -----------------------------------------------------------------------------------

async function about() {
  try {
    const health = await (await fetch("/health")).json();
    const { predictor, storage } = health;
    $("about").textContent = `${predictor.model} (${predictor.protocol})${predictor.note ? ", " + predictor.note.split(";")[0] : ""} · stored in ${storage.backend} · ${health.status}`;
  } catch { $("about").textContent = "The server cannot be reached."; }
}

const mcp = `${location.origin}/mcp`;
const clients = {
  "Claude Code": `claude mcp add --transport http image ${mcp}`,
  "VS Code": `code --add-mcp '${JSON.stringify({ name: "image", type: "http", url: mcp })}'`,
  "Claude Desktop (claude_desktop_config.json)": JSON.stringify({ mcpServers: { image: { command: "npx", args: ["-y", "mcp-remote", mcp] } } }),
  "Plain HTTP": `curl ${location.origin}/mcp/v1/tools/generate_image -H 'Content-Type: application/json' -d '{"prompt": "a fox"}'`,
};
$("clients").append(...Object.entries(clients).flatMap(([name, command]) => {
  const dd = document.createElement("dd");
  dd.append(text("code", command));
  return [text("dt", name), dd];
}));
about();
list();
