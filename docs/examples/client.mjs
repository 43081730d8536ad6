// Draws an image from Node: `npm install @modelcontextprotocol/client@2.4.0`, then
// `node client.mjs http://localhost:8000/mcp "a red fox"`. The same lines are TypeScript.
import { writeFile } from 'node:fs/promises';

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url, prompt] = process.argv.slice(2);

// `auto` speaks the newest revision that both know; `legacy` is for servers of the old era.
const client = new Client({ name: 'example', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

const result = await client.callTool(
    { name: 'generate_image', arguments: { prompt, width: 768, height: 512, include_preview: false } },
    {
        timeout: 300_000,
        resetTimeoutOnProgress: true,
        onprogress: ({ progress, total, message }) => console.log(`  ${progress} of ${total}: ${message ?? ''}`),
    },
);
await client.close();

if (result.isError) {
    // What is wrong with the arguments, or with the model, in words that a model can act upon.
    console.error(result.content[0].text);
    process.exit(1);
}
const image = result.structuredContent;
const answer = await fetch(image.url);
await writeFile('node.png', Buffer.from(await answer.arrayBuffer()));
console.log(image.url, 'seed', image.metadata.seed, 'saved as node.png');
