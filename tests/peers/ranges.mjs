// Peer: Chromium reads an image in parts: as `<img>`, as `<video>` would, and with `fetch`; compared to the stored bytes.
// And it shows a variant in every format, which is how those are seen to be what they say.
//
// Usage: node ranges.mjs BASE_URL IMAGES_FOLDER
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { launch, open } from './browser.mjs';
import { Checks } from './contract.mjs';

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** The bytes as the store has them. */
async function stored(folder, id) {
    const files = await readdir(folder, { recursive: true });
    return readFile(join(folder, files.find((name) => name.endsWith(`${id}.png`))));
}

/** What the page's `fetch` gets: status, fields, and bytes by their hash. */
function ask(page, path, headers = {}) {
    return page.evaluate(async ([path, headers]) => {
        const response = await fetch(path, { headers, cache: 'no-store' });
        const body = new Uint8Array(await response.arrayBuffer());
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', body));
        const hash = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
        return { status: response.status, length: body.length, hash, range: response.headers.get('content-range'), tag: response.headers.get('etag') };
    }, [path, headers]);
}

async function checkFetch(checks, page, path, bytes) {
    const size = bytes.length;
    const { tag } = await ask(page, path);
    const part = (from, to) => ({ status: 206, length: to - from, hash: sha256(bytes.subarray(from, to)), range: `bytes ${from}-${to - 1}/${size}`, tag });
    const whole = { status: 200, length: size, hash: sha256(bytes), range: null, tag };
    for (const [what, headers, expected] of [
        ['no range', {}, whole],
        ['bytes=0-', { range: 'bytes=0-' }, part(0, size)],
        ['the first byte', { range: 'bytes=0-0' }, part(0, 1)],
        ['the middle', { range: 'bytes=1000-70000' }, part(1000, 70_001)],
        ['the last bytes', { range: 'bytes=-500' }, part(size - 500, size)],
        ['beyond the end', { range: `bytes=${size - 10}-${size + 10}` }, part(size - 10, size)],
        ['many ranges', { range: 'bytes=0-9,20-29' }, whole],
        ['a range of this image', { range: 'bytes=5-9', 'if-range': tag }, part(5, 10)],
        ['a range of another image', { range: 'bytes=5-9', 'if-range': '"another"' }, whole],
        ['another unit', { range: 'pages=1-2' }, whole],
    ]) {
        checks.equal(await ask(page, path, headers), expected, `fetch: ${what}`);
    }
    const after = await ask(page, path, { range: `bytes=${size}-` });
    checks.equal([after.status, after.range], [416, `bytes */${size}`], 'fetch: after the end is 416');
}

/** As players read: open-ended from the start and broken off, the end for its index, then on and on from where it was. */
async function checkSeeking(checks, page, path, bytes) {
    const got = await page.evaluate(async (path) => {
        const steps = [];
        const first = new AbortController();
        const response = await fetch(path, { headers: { range: 'bytes=0-' }, signal: first.signal, cache: 'no-store' });
        const size = Number(response.headers.get('content-range').split('/')[1]);
        const tag = response.headers.get('etag');
        const whole = new Uint8Array(size);
        const reader = response.body.getReader();
        let at = 0;
        while (at < 65536) {
            const { value, done } = await reader.read();
            if (done) break;
            whole.set(value, at);
            at += value.length;
        }
        first.abort();
        const read = async (from, to) => {
            const answer = await fetch(path, { headers: { range: `bytes=${from}-${to}`, 'if-range': tag }, cache: 'no-store' });
            steps.push([answer.status, answer.headers.get('content-range') === `bytes ${from}-${to}/${size}`, answer.headers.get('etag') === tag]);
            whole.set(new Uint8Array(await answer.arrayBuffer()), from);
        };
        await read(size - 4096, size - 1);
        for (let from = at; from < size; from += 40_000) await read(from, Math.min(from + 40_000, size) - 1);
        const hash = [...new Uint8Array(await crypto.subtle.digest('SHA-256', whole))];
        return { steps, hash: hash.map((byte) => byte.toString(16).padStart(2, '0')).join('') };
    }, path);
    checks.that(got.steps.length > 3, 'seeking: it takes several reads', got.steps.length);
    checks.that(got.steps.every((step) => step.join() === '206,true,true'), 'seeking: each is the part that was asked for', got.steps);
    checks.equal(got.hash, sha256(bytes), 'seeking: the parts together are the image');
}

/** The size that an `<img>` has once it is decoded. */
function shown(page, path) {
    return page.evaluate(async (path) => {
        const picture = new Image();
        picture.src = path;
        await picture.decode();
        return [picture.naturalWidth, picture.naturalHeight];
    }, path);
}

async function checkVariants(checks, page, path) {
    for (const format of ['png', 'jpeg', 'webp', 'avif']) {
        const type = page.waitForResponse((response) => response.url().includes(`format=${format}`)).then((response) => response.headers()['content-type']);
        checks.equal(await shown(page, `${path}?w=256&h=128&fit=cover&format=${format}`), [256, 128], `<img>: a variant in ${format} is shown in its size`);
        checks.equal(await type, `image/${format}`, `<img>: the variant in ${format} says so`);
    }
}

async function checkElements(checks, page, path, image) {
    checks.equal(await shown(page, path), [image.metadata.width, image.metadata.height], '<img>: the image is shown');
    // The player asks as players do, and finds that it is no film.
    const asked = page.waitForResponse((response) => response.url().includes(`${path}?player`));
    const event = page.evaluate((path) => new Promise((resolve) => {
        const video = document.createElement('video');
        for (const name of ['error', 'loadedmetadata']) video.addEventListener(name, () => resolve(name));
        video.src = `${path}?player`;
    }), path);
    const response = await asked;
    const sent = (await response.request().allHeaders()).range;
    checks.equal(sent, 'bytes=0-', '<video>: it asks for a range');
    checks.equal([response.status(), response.headers()['accept-ranges']], [206, 'bytes'], '<video>: and gets one');
    checks.equal(await event, 'error', '<video>: a PNG is no film');
}

async function main() {
    const [base, folder] = process.argv.slice(2);
    const checks = new Checks('browser ranges');
    const body = JSON.stringify({ prompt: 'a fox', width: 1536, height: 1024 });
    const answer = await fetch(`${base}/mcp/v1/tools/generate_image`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    const image = await answer.json();
    const bytes = await stored(folder, image.image_id);
    const path = new URL(image.url).pathname;
    const browser = await launch();
    try {
        const { page } = await open(browser, base);
        // A page of the same origin without the gallery's policy, which lets no player in.
        await page.route(`${base}/empty`, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
        await page.goto(`${base}/empty`);
        await checkFetch(checks, page, path, bytes);
        await checkSeeking(checks, page, path, bytes);
        await checkElements(checks, page, path, image);
        await checkVariants(checks, page, path);
    } catch (error) {
        checks.that(false, 'nothing breaks', error.stack);
    } finally {
        await browser.close();
    }
    process.exitCode = checks.failed === 0 ? 0 : 1;
}

await main();
