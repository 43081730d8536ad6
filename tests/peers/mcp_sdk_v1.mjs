// Peer: npm @modelcontextprotocol/sdk 1.x, which speaks the legacy era alone.
//
// Usage: node mcp_sdk_v1.mjs BASE_URL
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

import { run } from './contract.mjs';

async function connect(url) {
    const client = new Client({ name: 'peer-sdk-v1', version: '1' });
    const transport = new StreamableHTTPClientTransport(url);
    await client.connect(transport);
    return {
        client,
        version: transport.protocolVersion,
        modern: false,
        call: (args, options) =>
            client.callTool({ name: 'generate_image', arguments: args }, undefined, { timeout: 120_000, ...options }),
    };
}

await run([['npm sdk 1', connect]]);
