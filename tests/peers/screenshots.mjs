// Pictures of the gallery for the documentation, as WebP.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { launch, open } from './browser.mjs';

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 };
const DESKTOP = { viewport: { width: 1440, height: 900 } };
const IMAGES = [
    ['a lighthouse at sunset, stormy sea, warm light', 768, 512],
    ['a fox in a snowy forest at dusk', 512, 768],
    ['night city with neon reflections in the rain', 1024, 512],
    ['a red desert under two moons', 512, 512],
    ['mountains above a lake in autumn, golden light, mist', 1024, 640],
    ['a field of lavender', 640, 640],
    ['deep forest, green moss', 512, 640],
    ['underwater coral reef, sunbeams', 896, 512],
    ['a winter village at night, aurora', 512, 512],
];

/** Draws images, and keeps four pictures of the page that shows them in `folder`. */
export async function takeScreenshots(base, folder) {
    for (const [prompt, width, height] of IMAGES) {
        const body = JSON.stringify({ prompt, width, height, seed: 7 });
        await fetch(`${base}/mcp/v1/tools/generate_image`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    }
    const browser = await launch();
    const keep = async (name, options, prepare) => {
        const { context, page } = await open(browser, base, options);
        await page.goto(`${base}/`);
        await page.waitForFunction((count) => [...document.querySelectorAll('#grid img')].filter((e) => e.naturalWidth > 0).length >= count, 4);
        await prepare(page);
        await page.waitForTimeout(800); // Fading in takes a moment.
        const png = await page.screenshot();
        await writeFile(join(folder, `${name}.webp`), await webp(context, png));
        await context.close();
    };
    const view = (index) => async (page) => {
        await page.click(`#grid li:nth-child(${index}) button`);
        await page.waitForFunction(() => document.getElementById('viewer-image').naturalWidth > 0);
    };
    await keep('gallery-desktop-light', { ...DESKTOP, colorScheme: 'light' }, async (page) => {
        await page.fill('#prompt', 'a sailing ship in a storm, dramatic light');
        await page.$eval('[name=width]', (field) => { field.value = 2048; });
        await page.$eval('[name=height]', (field) => { field.value = 2048; });
        await page.click('#generate');
        await page.waitForFunction(() => document.getElementById('bar').value > 0.2);
    });
    await keep('gallery-desktop-dark', { ...DESKTOP, colorScheme: 'dark' }, view(2));
    await keep('gallery-phone-light', { ...PHONE, colorScheme: 'light' }, view(5));
    await keep('gallery-phone-dark', { ...PHONE, colorScheme: 'dark' }, async () => {});
    await browser.close();
}

/** Chromium is the encoder, too. */
async function webp(context, png) {
    const page = await context.newPage();
    const url = await page.evaluate(async (source) => {
        const image = new Image();
        image.src = source;
        await image.decode();
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        canvas.getContext('2d').drawImage(image, 0, 0);
        return canvas.toDataURL('image/webp', 0.86);
    }, `data:image/png;base64,${png.toString('base64')}`);
    return Buffer.from(url.slice(url.indexOf(',') + 1), 'base64');
}
