// What the browser tests share: Chromium, pages that are watched, and checks of what they did.
import { chromium } from 'playwright-core';

/** Chromium, cut off from everything but loopback. */
export function launch() {
    return chromium.launch({
        executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
        args: [
            '--disable-gpu',
            '--disable-background-networking',
            '--no-first-run',
            '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
        ],
    });
}

/** A page in a context of its own; what goes wrong in it, or goes out from it, is kept in `faults`. */
export async function open(browser, base, options = {}) {
    const faults = [];
    const context = await browser.newContext(options);
    await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
    await context.addInitScript(() => {
        document.addEventListener('securitypolicyviolation', (event) => {
            console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
        });
    });
    context.on('request', (request) => {
        const url = request.url();
        if (!url.startsWith(`${base}/`) && !/^(data|blob):/.test(url)) faults.push(`request to ${url}`);
    });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) faults.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => faults.push(`error: ${error}`));
    return { context, page, faults };
}
