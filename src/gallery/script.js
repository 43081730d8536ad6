// The page uses the public REST API alone: generate (as events), list, delete, health. Its URLs are relative: it works
// below a path that a proxy takes away, too.
const $ = (id) => document.getElementById(id);
const form = $("form");
const viewer = $("viewer");
const argumentNames = ["prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed"];
let running = null; // the AbortController of the generation in flight
let cursor = null;
let shown = null; // the card whose image is in the viewer
let sizes = []; // widths in which images may be asked for
const imageOf = new WeakMap(); // by card

const number = new Intl.NumberFormat("en");
const text = (tag, content) => { const e = document.createElement(tag); e.textContent = content; return e; };
const pairs = (list) => list.filter(([, value]) => value !== undefined && value !== null && value !== "")
  .flatMap(([name, value]) => [text("dt", name), text("dd", value)]);

/** An image's URL at the server that this page is from, whatever name the URL carries. */
function here(url, query) {
  const { pathname, search } = new URL(url);
  const found = "images/" + pathname.split("/").pop() + search;
  return query ? found + (search ? "&" : "?") + query : found;
}

/** A small version of an image for a box so many CSS pixels wide. */
function preview(image, width) {
  // Where URLs are signed, each variant is signed for itself, and there is but this one.
  if (!new URL(image.url).searchParams.has("sig")) {
    const wanted = Math.min(width * devicePixelRatio, image.width);
    const size = sizes.find((size) => size >= wanted);
    if (size) return here(image.url, `w=${size}&format=auto`);
  }
  return here(image.preview_url || image.url);
}

function bytes(count) {
  if (count < 1024 * 1024) return `${Math.max(1, Math.round(count / 1024))} KiB`;
  return `${number.format(Math.round(count / 1024 / 102.4) / 10)} MiB`;
}

function duration(seconds) {
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= length) return plural(Math.round(seconds / length * 10) / 10, unit);
  }
  return plural(seconds, "second");
}

function plural(count, unit) { return `${number.format(count)} ${unit}${count === 1 ? "" : "s"}`; }

/** A problem (RFC 9457) as a person reads it. */
function explain(problem, status) {
  const fields = (problem.errors || []).map((e) => `${e.field}: ${e.allowed}`);
  return fields.length ? fields.join("\n") : problem.detail || problem.title || `The server answered ${status}.`;
}

async function problemOf(response) {
  try { return explain(await response.json(), response.status); } catch { return `The server answered ${response.status}.`; }
}

async function copy(value, say) {
  try { await navigator.clipboard.writeText(value); say("Copied."); }
  catch { say(value); } // no clipboard without a secure context
}

// Generate ---------------------------------------------------------------------------------------

function showError(message) { $("error").textContent = message; $("error").hidden = !message; }

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
  let told;
  if (p.stage === "drawing") {
    bar.value = Math.min(1, p.step / p.total);
    const percent = `${Math.round(bar.value * 100)} %`;
    told = p.estimated ? `about ${percent}` : `step ${p.step} of ${p.total}`;
    document.title = `${percent} · Images`;
  } else {
    bar.removeAttribute("value");
    told = { queued: p.ahead ? `waiting, ${p.ahead} ahead` : "waiting", starting: "the model is starting", storing: "storing" }[p.stage];
  }
  $("stage").textContent = told;
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
      if (field("data")) await handle(field("event"), JSON.parse(field("data")));
    }
  }
}

/** The image as the listing has it, with a preview, if this client may list. */
async function listed(image) {
  try {
    const response = await fetch(`images/?limit=1&prefix=${image.image_id}`);
    if (response.ok) return (await response.json()).images[0] || image;
  } catch { /* it can be shown as it is */ }
  return image;
}

async function generate() {
  showError("");
  running = new AbortController();
  $("generate").disabled = true;
  $("cancel").hidden = $("bar").hidden = false;
  showProgress({ stage: "queued", ahead: 0 });
  let told = "";
  let ended = false;
  try {
    const response = await fetch("mcp/v1/tools/generate_image", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify(argumentsOf()),
      signal: running.signal,
    });
    if (!response.ok) { showError(await problemOf(response)); return; }
    await readEvents(response, async (event, data) => {
      if (event === "progress") return showProgress(data);
      ended = true;
      if (event === "error") return showError(explain(data, data.status));
      addCard(await listed({ ...data.metadata, url: data.url }), true);
      $("empty").hidden = true;
      told = `Done in ${duration(Math.round(data.metadata.generation_seconds * 10) / 10)}.`;
    });
    if (!ended) showError("The connection broke before the image was ready. Try again.");
  } catch (error) {
    if (error.name === "AbortError") told = "Cancelled.";
    else showError("The server cannot be reached.");
  } finally {
    running = null;
    document.title = "Images";
    $("stage").textContent = told;
    const hadFocus = document.activeElement === $("cancel");
    $("generate").disabled = false;
    $("cancel").hidden = $("bar").hidden = true;
    if (hadFocus) $("generate").focus();
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); if (!running) generate(); });
// A field that is wrong cannot be seen while it is folded away.
form.addEventListener("invalid", () => { form.querySelector("details").open = true; }, true);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
});
$("cancel").addEventListener("click", () => running?.abort());

// Grid -------------------------------------------------------------------------------------------

const rowHeight = 230;

function addCard(image, first) {
  const card = document.createElement("li");
  const button = document.createElement("button");
  const frame = document.createElement("span");
  const picture = document.createElement("img");
  const shape = Math.min(3, Math.max(0.5, image.width / image.height));
  imageOf.set(card, image);
  card.style.setProperty("--shape", shape);
  button.type = "button";
  frame.className = "frame";
  if (image.thumbhash) {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    drawThumbhash(canvas, image.thumbhash);
    frame.append(canvas);
  }
  picture.alt = "";
  picture.loading = "lazy";
  picture.decoding = "async";
  picture.className = "waiting";
  picture.addEventListener("load", () => { picture.className = ""; });
  picture.addEventListener("error", () => { card.className = "gone"; });
  picture.src = preview(image, shape * rowHeight);
  frame.append(picture);
  button.append(frame, text("span", image.prompt));
  button.addEventListener("click", () => view(card));
  card.append(button);
  if (first) $("grid").prepend(card); else $("grid").append(card);
}

async function list() {
  const query = new URLSearchParams({ limit: "24" });
  if (cursor) query.set("cursor", cursor);
  try {
    const response = await fetch(`images/?${query}`);
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
$("more").addEventListener("click", async () => {
  const last = $("grid").lastElementChild;
  await list();
  if ($("more").hidden) last?.nextElementSibling?.firstElementChild.focus(); // the button that had it is gone
});

// Viewer -----------------------------------------------------------------------------------------

function view(card) {
  const image = imageOf.get(card);
  const picture = $("viewer-image");
  shown = card;
  $("viewer-placeholder").hidden = !image.thumbhash;
  if (image.thumbhash) drawThumbhash($("viewer-placeholder"), image.thumbhash);
  $("frame").style.setProperty("--shape", image.width / image.height);
  $("frame").style.setProperty("--width", `${image.width}px`);
  picture.removeAttribute("src"); // or the image before stays until this one is there
  picture.src = here(image.url);
  picture.alt = image.prompt;
  $("viewer-prompt").textContent = image.prompt;
  $("viewer-facts").replaceChildren(...pairs([
    ["Size", `${image.width} × ${image.height} px, ${bytes(image.size_bytes)} ${image.format.toUpperCase()}`],
    ["Keep out", image.negative_prompt],
    ["Steps", image.num_inference_steps],
    ["Guidance", image.guidance_scale],
    ["Seed", image.seed],
    ["Model", `${image.model} (${image.predictor})`],
    ["Took", duration(Math.round(image.generation_seconds * 10) / 10)],
    ["Expires", new Date(image.expires_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })],
  ]));
  $("download").href = here(image.url, "download");
  $("viewer-note").textContent = "";
  $("previous").hidden = !card.previousElementSibling;
  $("next").hidden = !card.nextElementSibling;
  calm();
  if (!viewer.open) viewer.showModal();
}

/** To the image before or after, if there is one. */
function turn(to) {
  const card = to < 0 ? shown.previousElementSibling : shown.nextElementSibling;
  const focused = document.activeElement;
  if (card) view(card);
  if (focused.hidden) $("copy").focus();
}

/** The button that deletes, as it is before it is pressed. */
function calm() { $("delete").textContent = "Delete"; delete $("delete").dataset.sure; }

$("viewer-image").addEventListener("error", () => {
  const image = imageOf.get(shown);
  // Originals may come from a bucket, which this page may not show; smaller ones come from here.
  const other = preview(image, $("frame").clientWidth);
  if ($("viewer-image").getAttribute("src") !== other) $("viewer-image").src = other;
  else $("viewer-note").textContent = "The image is gone, or cannot be loaded.";
});
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") turn(-1);
  if (event.key === "ArrowRight") turn(1);
});
viewer.addEventListener("close", () => {
  $("viewer-image").removeAttribute("src");
  shown?.firstElementChild.focus(); // the card of the image that was seen last
});
$("copy").addEventListener("click", () => copy(imageOf.get(shown).url, (said) => { $("viewer-note").textContent = said; }));
$("again").addEventListener("click", () => {
  const image = imageOf.get(shown);
  for (const name of argumentNames) form.elements[name].value = image[name] ?? "";
  form.querySelector("details").open = true;
  shown = null; // the focus goes to the form
  viewer.close();
  $("prompt").focus();
});
$("delete").addEventListener("blur", calm);
$("delete").addEventListener("click", async () => {
  if (!$("delete").dataset.sure) {
    $("delete").dataset.sure = "yes";
    $("delete").textContent = "Delete for everyone?";
    return;
  }
  calm();
  try {
    const card = shown;
    const response = await fetch(here(imageOf.get(card).url), { method: "DELETE" });
    if (!response.ok && response.status !== 404) { $("viewer-note").textContent = await problemOf(response); return; }
    shown = card.nextElementSibling || card.previousElementSibling;
    card.remove();
    viewer.close();
    if (!shown) { note("No images any more. Describe one above."); $("prompt").focus(); }
  } catch { $("viewer-note").textContent = "The server cannot be reached."; }
});

// What this is -----------------------------------------------------------------------------------

/** The form takes what the server takes. */
function limit(field, schema) {
  if (!field) return;
  if (schema.maxLength) field.maxLength = schema.maxLength;
  if (schema.minimum !== undefined) field.min = schema.minimum;
  if (schema.maximum !== undefined) field.max = schema.maximum;
  if (schema.multipleOf) field.step = schema.multipleOf;
  if (schema.default !== undefined) field.defaultValue = schema.default;
}

const between = ({ minimum, maximum }) => `${number.format(minimum)} to ${number.format(maximum)}`;
const rate = (rate) => rate ? `${number.format(rate.per_second)} a second, ${number.format(rate.burst)} at once` : "unlimited";
const stores = { file: "a folder", memory: "memory, until a restart", s3: "S3" };

async function about() {
  try {
    const { predictor, storage, status, version, limits } = await (await fetch("health")).json();
    const { width, height, num_inference_steps: steps, prompt } = limits.arguments;
    for (const name of argumentNames) limit(form.elements[name], limits.arguments[name]);
    sizes = limits.variant_sizes;
    $("state").className = status;
    $("state").textContent = `${predictor.model} · ${status}`;
    $("facts").append(...pairs([
      ["Model", `${predictor.model} (${predictor.protocol})`],
      ["Note", predictor.note],
      ["Image size", `${between(width)} × ${between(height)} px, in steps of ${width.multipleOf}`],
      ["Steps", between(steps)],
      ["Prompt", `up to ${number.format(prompt.maxLength)} characters`],
      ["Draws at once", `${plural(limits.generations_at_once, "image")}; ${number.format(limits.generations_waiting)} may wait`],
      ["Kept", `for ${duration(limits.image_ttl_seconds)}, in ${stores[storage.backend] || storage.backend}; up to ${bytes(limits.max_image_bytes)} each`],
      ["Calls", `${rate(limits.request_rate)}, for each client`],
      ["Downloads", `${rate(limits.image_rate)}, for each client`],
      ["Variants", `${sizes.join(", ")} px; PNG, JPEG, WebP`],
      ["Version", version],
    ]));
  } catch { $("state").textContent = "The server cannot be reached."; }
}

const mcp = new URL("mcp", location.href).href;
const clients = {
  "Claude Code": `claude mcp add --transport http image ${mcp}`,
  "VS Code": `code --add-mcp '${JSON.stringify({ name: "image", type: "http", url: mcp })}'`,
  "Claude Desktop (claude_desktop_config.json)": JSON.stringify({ mcpServers: { image: { command: "npx", args: ["-y", "mcp-remote", mcp] } } }),
  "Plain HTTP": `curl ${mcp}/v1/tools/generate_image -H 'Content-Type: application/json' -d '{"prompt": "a fox"}'`,
};
$("clients").append(...Object.entries(clients).flatMap(([name, command]) => {
  const dd = document.createElement("dd");
  const button = text("button", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy for ${name}`);
  button.addEventListener("click", () => copy(command, (said) => {
    button.textContent = said === command ? "Cannot copy" : said;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }));
  dd.append(text("code", command), button);
  return [text("dt", name), dd];
}));
about().then(list);
