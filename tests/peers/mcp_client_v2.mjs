// Peer: npm @modelcontextprotocol/client 2.x, in both eras of the protocol.
//
// Usage: node mcp_client_v2.mjs BASE_URL
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { run } from './contract.mjs';

const connect = (mode) => async (url) => {
    const client = new Client({ name: 'peer-client-v2', version: '1' }, { versionNegotiation: { mode } });
    await client.connect(new StreamableHTTPClientTransport(url));
    return {
        client,
        version: client.getNegotiatedProtocolVersion(),
        modern: mode !== 'legacy',
        call: (args, options) =>
            client.callTool({ name: 'generate_image', arguments: args }, { timeout: 120_000, ...options }),
    };
};

await run(['auto', 'legacy'].map((mode) => [`npm client 2 (${mode})`, connect(mode)]));
