// Peer: Chromium on the gallery at `/`: with the keyboard alone, on a phone and on a desktop, dark and light.
//
// Usage: node gallery.mjs BASE_URL open|signed|closed|off
//        node gallery.mjs BASE_URL screenshots FOLDER
import { readFile } from 'node:fs/promises';

import { blake3 } from '@noble/hashes/blake3.js';
import { bytesToHex } from '@noble/hashes/utils.js';

import { launch, open } from './browser.mjs';
import { Checks, inFlight, until } from './contract.mjs';
import { takeScreenshots } from './screenshots.mjs';

const VIEWS = [
    ['phone, light', { viewport: { width: 390, height: 844 }, colorScheme: 'light', isMobile: true, hasTouch: true }],
    ['phone, dark', { viewport: { width: 390, height: 844 }, colorScheme: 'dark', isMobile: true, hasTouch: true }],
    ['desktop, light', { viewport: { width: 1440, height: 900 }, colorScheme: 'light' }],
    ['desktop, dark', { viewport: { width: 1440, height: 900 }, colorScheme: 'dark' }],
];
// Large enough to be seen drawing, and to be cancelled.
const SLOW = { width: '1024', height: '1536', num_inference_steps: '120' };
const ENDLESS = { width: '2048', height: '2048', num_inference_steps: '200' };
/** Levels that a placeholder may be off its image, on average over the parts of a coarse grid. */
const PLACEHOLDER_TOLERANCE = 24;

const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.closest('li')?.textContent || document.activeElement.tagName);
const cards = (page) => page.locator('#grid li').count();
const message = (page) => page.textContent('#error');

/** Tab by tab to the element with this id. */
async function tabTo(page, id, most = 40) {
    for (let tabs = 0; tabs < most; tabs += 1) {
        if ((await focused(page)) === id) return true;
        await page.keyboard.press('Tab');
    }
    return false;
}

/** Fills a form field by keyboard. */
async function type(page, name, value) {
    await page.focus(`[name=${name}]`);
    await page.keyboard.press('ControlOrMeta+a');
    await page.keyboard.type(value);
}

async function checkOpening(checks, page, base) {
    const { limits } = await (await fetch(`${base}/health`)).json();
    await page.goto(`${base}/`);
    await page.waitForFunction(() => document.getElementById('facts').childElementCount > 0);
    checks.equal(await page.getAttribute('#state', 'class'), 'ok', 'the state is told');
    const facts = await page.textContent('#facts');
    for (const told of ['64 to 2,048', '1 to 200', '10,000 characters', 'a second', limits.variant_sizes.join(', ')]) {
        checks.that(facts.includes(told), `the limits tell "${told}"`, facts);
    }
    for (const [name, schema] of Object.entries(limits.arguments)) {
        const field = await page.$eval(`[name=${name}]`, ({ min, max, maxLength }) => ({ min, max, maxLength }));
        const holds = schema.type === 'string'
            ? field.maxLength === schema.maxLength
            : Number(field.min) === schema.minimum && Number(field.max) === schema.maximum;
        checks.that(holds, `the field ${name} takes what the server takes`, { field, schema });
    }
    await checkWidth(checks, page, 'the page');
    const unnamed = await page.$$eval('button, a, input, textarea, progress', (all) => all
        .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.title)).map((e) => e.outerHTML));
    checks.equal(unnamed, [], 'every control has a name');
    const scheme = await page.evaluate(() => [matchMedia('(prefers-color-scheme: dark)').matches, getComputedStyle(document.body).backgroundColor]);
    const brightness = Number(scheme[1].match(/\d+/)[0]);
    checks.equal(brightness < 128, scheme[0], 'the page is dark where dark is asked for');
}

async function checkWidth(checks, page, what) {
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    checks.equal(wider, 0, `${what} is not wider than the screen`);
}

/** From the top of the page to an image, by keyboard. */
async function checkGenerate(checks, page, prompt) {
    await page.keyboard.press('Tab');
    checks.that((await page.evaluate(() => document.activeElement.className)) === 'skip', 'the first tab goes to the skip link');
    checks.that(await tabTo(page, 'prompt', 3), 'the prompt is next');
    await page.keyboard.type(prompt);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    checks.that(await page.isVisible('[name=width]'), 'the settings unfold by keyboard');
    for (const [name, value] of Object.entries(SLOW)) await type(page, name, value);
    checks.that(await tabTo(page, 'generate'), 'the button comes after the settings');
    await page.evaluate(() => {
        const bar = document.getElementById('bar');
        window.values = new Set();
        new MutationObserver(() => bar.hasAttribute('value') && window.values.add(bar.value)).observe(bar, { attributes: true });
    });
    const before = await cards(page);
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('stage').textContent.startsWith('Done in'));
    const values = await page.evaluate(() => [...window.values]);
    checks.that(values.length > 1, 'progress moves', values);
    checks.that(values.every((value, i) => value <= 1 && (i === 0 || value > values[i - 1])), 'progress only grows', values);
    checks.equal(await message(page), '', 'there is no error');
    checks.equal(await cards(page), before + 1, 'there is one image more');
    checks.equal(await page.textContent('#grid li:first-child button > span:last-child'), prompt, 'it comes first');
}

/** A placeholder has the colours of its image, part by part. Not every image has one: they are made while they are cheap. */
async function checkPlaceholder(checks, page) {
    await page.$eval('#grid li:has(canvas) img', (picture) => { picture.loading = 'eager'; });
    await page.waitForFunction(() => document.querySelector('#grid li:has(canvas) img').naturalWidth > 0);
    const off = await page.evaluate(() => {
        const side = 6;
        const parts = (source) => {
            const canvas = document.createElement('canvas');
            canvas.width = canvas.height = side;
            const context = canvas.getContext('2d');
            context.imageSmoothingQuality = 'high';
            context.drawImage(source, 0, 0, side, side);
            return context.getImageData(0, 0, side, side).data;
        };
        const card = document.querySelector('#grid li:has(canvas)');
        const [drawn, real] = [parts(card.querySelector('canvas')), parts(card.querySelector('img'))];
        const turned = real.map((_, i) => real[real.length - 4 - (i - i % 4) + i % 4]);
        const distance = (a, b) => a.reduce((sum, level, i) => sum + Math.abs(level - b[i]), 0) / a.length;
        return [distance(drawn, real), distance(drawn, turned)];
    });
    checks.that(off[0] < PLACEHOLDER_TOLERANCE, 'the placeholder has the colours of its image', off);
    checks.that(off[0] < off[1], 'and at their places', off);
}

async function checkCancel(checks, page, base) {
    for (const [name, value] of Object.entries(ENDLESS)) await type(page, name, value);
    const before = await cards(page);
    await page.focus('#prompt');
    await page.keyboard.press('ControlOrMeta+Enter');
    await page.waitForFunction(() => document.getElementById('bar').hasAttribute('value'));
    checks.that(await tabTo(page, 'cancel'), 'cancel can be reached by keyboard');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#cancel', { state: 'hidden' });
    checks.equal(await page.textContent('#stage'), 'Cancelled.', 'cancelling is told');
    checks.equal(await focused(page), 'generate', 'the focus goes on to a button that is there');
    checks.equal(await cards(page), before, 'there is no further image');
    checks.that(await until(async () => (await inFlight(base)) === 0, 20_000), 'the server stops drawing');
}

async function checkBadInput(checks, page, faults) {
    await type(page, 'width', '100');
    await page.focus('summary');
    await page.keyboard.press('Enter');
    checks.that(!(await page.isVisible('[name=width]')), 'the settings fold');
    await page.focus('#generate');
    await page.keyboard.press('Enter');
    checks.that(await page.isVisible('[name=width]:invalid'), 'a bad setting is shown though it was folded away');
    checks.that(await page.isHidden('#cancel'), 'and nothing is sent');
    await page.evaluate(() => { document.getElementById('form').noValidate = true; });
    await page.focus('#generate');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#error', { state: 'visible' });
    checks.that((await message(page)).includes('width: a whole number from 64 to 2048'), 'what the server refuses is told', await message(page));
    checks.that(faults.length === 1 && faults[0].includes('422'), 'that is all that the console says', faults);
    faults.length = 0;
    await type(page, 'width', '512');
}

/** The viewer: facts, copy, download, turning, reuse, delete. */
async function checkViewer(checks, page, base, prompt) {
    await page.focus('#grid li:first-child button');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('viewer-image').naturalWidth > 0);
    const image = await page.evaluate(() => imageOf.get(document.querySelector('#grid li')));
    checks.equal(image.prompt, prompt, 'the viewer opens by keyboard');
    checks.equal(await page.$eval('#viewer-image', (e) => [e.naturalWidth, e.naturalHeight]), [1024, 1536], 'it shows the image whole');
    const facts = await page.textContent('#viewer-facts');
    checks.that(facts.includes('1024 × 1536') && facts.includes(String(image.seed)) && facts.includes('120'), 'it tells the parameters', facts);
    await checkWidth(checks, page, 'the viewer');
    checks.equal(await focused(page), 'copy', 'the focus is on the first thing to do');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('viewer-note').textContent !== '');
    checks.equal(await page.evaluate(() => navigator.clipboard.readText()), image.url, 'the URL is copied');
    const fetched = Buffer.from(await (await fetch(image.url)).arrayBuffer());
    checks.equal(bytesToHex(blake3(fetched)), image.blake3, 'and works elsewhere');

    checks.that(await tabTo(page, 'download', 5), 'download is near');
    const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('Enter')]);
    checks.equal(download.suggestedFilename(), `${prompt}.png`, 'the download is named after the prompt');
    const saved = await readFile(await download.path());
    checks.equal(bytesToHex(blake3(saved)), image.blake3, 'and is the image');

    await page.keyboard.press('ArrowRight');
    checks.that((await page.textContent('#viewer-prompt')) !== prompt, 'the arrow turns to the next image');
    await page.keyboard.press('ArrowLeft');
    checks.equal(await page.textContent('#viewer-prompt'), prompt, 'and back');
    await page.keyboard.press('ArrowLeft');
    checks.equal(await page.textContent('#viewer-prompt'), prompt, 'and not beyond the first');
    await page.keyboard.press('Escape');
    await page.waitForSelector('#viewer', { state: 'hidden' });
    checks.equal(await focused(page), prompt, 'Escape closes it, and the focus is on the card again');

    await page.keyboard.press('Enter');
    checks.that(await tabTo(page, 'again', 6), 'reuse is near');
    await page.keyboard.press('Enter');
    const used = await page.evaluate(() => [form.elements.width.value, form.elements.seed.value, document.activeElement.id]);
    checks.equal(used, ['1024', String(image.seed), 'prompt'], 'the form takes its settings');
    await type(page, 'seed', ' ');
    return image;
}

async function checkDelete(checks, page, image) {
    const before = await cards(page);
    await page.focus('#grid li:first-child button');
    await page.keyboard.press('Enter');
    checks.that(await tabTo(page, 'delete', 8), 'delete is near');
    await page.keyboard.press('Enter');
    checks.equal(await page.textContent('#delete'), 'Delete for everyone?', 'it asks first');
    await page.keyboard.press('Shift+Tab');
    checks.equal(await page.textContent('#delete'), 'Delete', 'and thinks no more of it when one goes away');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#viewer', { state: 'hidden' });
    checks.equal(await cards(page), before - 1, 'the card is gone');
    checks.equal((await fetch(image.url)).status, 404, 'and so is the image');
    // The viewer is hidden before its `close` event comes, which moves the focus.
    const onCard = page.waitForFunction(() => document.activeElement.closest('li') !== null, null, { timeout: 10_000 });
    checks.that(await onCard.then(() => true, () => false), 'the focus is on the next card');
}

async function checkMore(checks, page) {
    const before = await cards(page);
    checks.equal(before, 24, 'a page holds 24 images, and one that was made and deleted left no gap');
    await page.focus('#more');
    await page.keyboard.press('Enter');
    await page.waitForFunction((count) => document.querySelectorAll('#grid li').length > count, before);
    await page.$$eval('#grid img', (all) => all.forEach((picture) => { picture.loading = 'eager'; }));
    await page.waitForFunction(() => [...document.querySelectorAll('#grid img')].every((e) => e.complete && e.naturalWidth > 0));
    checks.that(true, 'every image further down loads');
}

async function checkView(checks, browser, base, [name, options]) {
    const { context, page, faults } = await open(browser, base, options);
    const prompt = `a fox in the snow, ${name}`;
    await checkOpening(checks, page, base);
    await checkGenerate(checks, page, prompt);
    await checkPlaceholder(checks, page);
    await checkCancel(checks, page, base);
    await checkBadInput(checks, page, faults);
    const image = await checkViewer(checks, page, base, prompt);
    await checkDelete(checks, page, image);
    await checkMore(checks, page);
    checks.equal(faults, [], 'no console error, no violation of the policy, no request to elsewhere');
    await context.close();
}

/** Images for a second page, and on the first one an image with a placeholder. */
async function fill(base) {
    const make = async (prompt, height) => {
        const body = JSON.stringify({ prompt, width: 128, height, num_inference_steps: 1 });
        const made = await fetch(`${base}/mcp/v1/tools/generate_image`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
        if (!made.ok) throw new Error(`generating answers ${made.status}`);
        return (await made.json()).metadata;
    };
    for (let i = 0; i < 26; i += 1) await make(`a small picture, ${i}`, 64 + 64 * (i % 3));
    if (!(await until(async () => (await make('a sunset over the sea', 96)).thumbhash, 60_000))) throw new Error('there are no placeholders');
}

/** Where no one may list: what one makes is shown, and deleting is refused in words. */
async function checkClosed(checks, browser, base) {
    const { context, page, faults } = await open(browser, base, VIEWS[2][1]);
    await page.goto(`${base}/`);
    await page.waitForSelector('#empty', { state: 'visible' });
    checks.that((await page.textContent('#empty')).includes('does not list'), 'it says that it does not list');
    await page.fill('#prompt', 'a fox');
    await page.keyboard.press('ControlOrMeta+Enter');
    await page.waitForFunction(() => document.querySelector('#grid img')?.naturalWidth > 0);
    checks.that(true, 'the image that one makes is shown');
    await page.click('#grid button');
    await page.click('#delete');
    await page.click('#delete');
    await page.waitForFunction(() => document.getElementById('viewer-note').textContent.includes('not open to this client'));
    checks.that(true, 'deleting is refused in words');
    checks.equal(faults.filter((fault) => !fault.includes('403')), [], 'the console says nothing else');
    await context.close();
}

async function checkOff(checks, base) {
    const page = await fetch(`${base}/`);
    checks.equal(page.status, 404, 'there is no page where the gallery is off');
    checks.equal((await fetch(`${base}/images/`)).status, 200, 'all else is there');
}

async function main() {
    const [base, session, folder] = process.argv.slice(2);
    if (session === 'screenshots') return takeScreenshots(base, folder);
    const checks = new Checks(`gallery, ${session}`);
    if (session === 'off') {
        await checkOff(checks, base);
    } else {
        const browser = await launch();
        try {
            if (session === 'closed') {
                await checkClosed(checks, browser, base);
            } else {
                await fill(base);
                const views = session === 'open' ? VIEWS : VIEWS.slice(-1);
                for (const view of views) {
                    checks.peer = `gallery, ${session}, ${view[0]}`;
                    await checkView(checks, browser, base, view);
                }
            }
        } catch (error) {
            checks.that(false, 'nothing breaks', error.stack);
        } finally {
            await browser.close();
        }
    }
    process.exitCode = checks.failed === 0 ? 0 : 1;
}

await main();
