// What every Node client has to see: list, call with progress, the url's bytes, errors by name, cancel.
//
// Every check prints one line that starts with `ok` or `FAIL`; `tests/run.sh` counts them.

import { blake3 } from '@noble/hashes/blake3.js';
import { bytesToHex } from '@noble/hashes/utils.js';

const IN_FLIGHT = 'mcp_image_generations_in_flight';

const REFUSED = [
    [{}, ['prompt']],
    [{ prompt: '' }, ['prompt']],
    [{ prompt: 'a fox', width: 100 }, ['width', '100', '8']],
    [{ prompt: 'a fox', num_inference_steps: 201 }, ['num_inference_steps', '201', '200']],
    [{ prompt: 'a fox', guidance_scale: 0.5 }, ['guidance_scale', '0.5']],
    [{ prompt: 'a fox', seed: 4294967296 }, ['seed', '4294967296']],
    [{ prompt: 'a fox', stepz: 20 }, ['stepz', 'num_inference_steps']],
];

/** Counts what holds and what does not, for one peer. */
export class Checks {
    failed = 0;

    constructor(peer) {
        this.peer = peer;
    }

    that(holds, what, detail = '') {
        if (holds) {
            console.log(`ok    ${this.peer}: ${what}`);
        } else {
            this.failed += 1;
            console.log(`FAIL  ${this.peer}: ${what}: ${String(JSON.stringify(detail)).slice(0, 600)}`);
        }
        return Boolean(holds);
    }

    equal(got, expected, what) {
        return this.that(JSON.stringify(got) === JSON.stringify(expected), what, { got, expected });
    }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function inFlight(base) {
    const text = await (await fetch(`${base}/metrics`)).text();
    const line = text.split('\n').find((each) => each.startsWith(`${IN_FLIGHT} `) || each.startsWith(`${IN_FLIGHT}{`));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1));
}

export async function until(condition, ms) {
    const end = performance.now() + ms;
    while (!(await condition())) {
        if (performance.now() >= end) return false;
        await sleep(20);
    }
    return true;
}

const textOf = (result) => result.content.filter((part) => part.type === 'text').map((part) => part.text).join('\n');

async function checkTools(checks, session) {
    const { tools } = await session.client.listTools();
    const tool = tools.find((each) => each.name === 'generate_image');
    if (!checks.that(tool, 'tools/list has generate_image', tools.map((each) => each.name))) return;
    const { properties, required } = tool.inputSchema;
    checks.equal(required, ['prompt'], 'only prompt is required');
    const width = properties.width ?? {};
    checks.equal([width.minimum, width.maximum, width.multipleOf], [64, 2048, 8], 'schema of width has its range');
    const steps = properties.num_inference_steps ?? {};
    checks.equal([steps.minimum, steps.maximum], [1, 200], 'schema of num_inference_steps has its range');
    checks.that(tool.outputSchema, 'the tool has an output schema');
}

async function checkCall(checks, session, base) {
    const progress = [];
    // The client checks structuredContent against the tool's output schema by itself, and throws when it does not fit.
    const result = await session.call(
        // Large enough to take longer than the shortest time between two notifications.
        { prompt: 'a lighthouse in a storm', width: 1024, height: 1536, num_inference_steps: 120, seed: 11 },
        { onprogress: (note) => progress.push(note.progress) },
    );
    if (!checks.that(!result.isError, 'a call succeeds', result.content)) return;
    checks.that(progress.length >= 2, 'at least two progress notifications', progress);
    checks.that(progress.every((now, i) => i === 0 || progress[i - 1] < now), 'progress only grows', progress);
    checks.equal(result.content.map((part) => part.type), ['text', 'image', 'resource_link'], 'text, preview, link');
    const { url, metadata } = result.structuredContent ?? {};
    checks.equal(result.content.at(-1)?.uri, url, 'the link is the url');
    if (!checks.that(String(url).startsWith(`${base}/images/`), 'url starts with the public base URL', url)) return;
    const response = await fetch(url);
    const bytes = Buffer.from(await response.arrayBuffer());
    checks.equal(response.status, 200, 'GET of the url answers 200');
    checks.equal(bytes.length, metadata.size_bytes, "the url's bytes have the length in the metadata");
    const hash = bytesToHex(blake3(bytes));
    checks.equal(hash, metadata.blake3, "the url's bytes have the hash in the metadata");
    // PNG: signature, then IHDR with width and height (PNG, third edition, 11.2.1).
    checks.equal(bytes.subarray(1, 4).toString('latin1'), 'PNG', 'the bytes are a PNG');
    checks.equal([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [1024, 1536], 'the image has the pixels asked for');
    checks.equal(response.headers.get('content-type'), 'image/png', "Content-Type is the image's own");
}

async function checkRefused(checks, session) {
    for (const [args, names] of REFUSED) {
        const result = await session.call(args, {});
        const told = textOf(result);
        const fine = result.isError === true && names.every((name) => told.includes(name));
        checks.that(fine, `${JSON.stringify(args)} is refused by name`, [result.isError, told]);
    }
}

const SLOW = { prompt: 'a slow mountain', width: 2048, height: 2048, num_inference_steps: 200 };

async function cancelCall(checks, session, base) {
    const abort = new AbortController();
    let ended;
    const call = session.call(SLOW, { signal: abort.signal }).then(
        () => (ended = 'answered'),
        () => (ended = 'rejected'),
    );
    const began = await until(async () => (await inFlight(base)) >= 1, 10_000);
    checks.that(began && ended === undefined, `${IN_FLIGHT} counts the call while it runs`, ended);
    abort.abort();
    await Promise.race([call, sleep(2000)]);
    checks.equal(ended, 'rejected', 'a cancelled call ends within two seconds');
}

/** Starts a call that takes long, and gives it up with the connection: the caller closes the client after this. */
async function leaveCall(session, base) {
    session.call(SLOW, {}).catch(() => {});
    await until(async () => (await inFlight(base)) >= 1, 10_000);
}

async function checkIdle(checks, base, what) {
    const free = await until(async () => (await inFlight(base)) === 0, 2000);
    checks.that(free, `${what}: ${IN_FLIGHT} is 0 within two seconds`, await inFlight(base));
}

/**
 * Runs every check over the session that `connect` makes: `{client, version, modern, call(args, options)}`. A cancel
 * is the end of the stream in the modern era, and a notification in the legacy one; both have to reach the server.
 */
async function runOne(peer, base, connect) {
    const checks = new Checks(peer);
    let session;
    try {
        session = await connect(new URL(`${base}/mcp`));
        console.log(`      ${peer}: negotiated ${session.version}`);
        checks.equal(session.version === '2026-07-28', session.modern, 'negotiates its era');
        await checkTools(checks, session);
        await checkCall(checks, session, base);
        await checkRefused(checks, session);
        await cancelCall(checks, session, base);
        await checkIdle(checks, base, 'cancel reaches the server');
        const { tools } = await session.client.listTools();
        checks.that(tools.length > 0, 'the client goes on after a cancel');
        await leaveCall(session, base);
    } catch (error) {
        checks.that(false, 'runs to its end', `${error?.stack ?? error}`);
    }
    await session?.client.close();
    await checkIdle(checks, base, 'after the client has gone');
    return checks.failed;
}

/** Runs `peers`, a list of `[name, connect]`, one after the other; the exit code is 1 if a check failed. */
export async function run(peers) {
    const base = process.argv[2].replace(/\/$/, '');
    let failed = 0;
    for (const [peer, connect] of peers) failed += await runOne(peer, base, connect);
    process.exit(failed === 0 ? 0 : 1);
}
