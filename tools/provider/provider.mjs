// Somebody else's OpenID provider (npm `oidc-provider`), for the tests. It listens on a free port and
// says on standard output where. A line `rotate` on standard input withdraws its key for another; it
// ends with its standard input.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// Its advice for those who mean to run it would stand between the answers below.
console.info = console.warn = () => {};

const [modules, client_id, client_secret] = process.argv.slice(2);
const found = createRequire(`${modules}/`).resolve('oidc-provider');
const { Provider } = await import(pathToFileURL(found));

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const redirect_uri = 'https://app.example/back';
const key = () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: randomUUID() };
};

// A resource's name says the form of its tokens: `urn:postern:jwt`, `urn:postern:opaque`.
const resource = (_ctx, name) => ({
  scope: 'read write',
  audience: 'postern',
  accessTokenFormat: name.split(':').pop(),
  accessTokenTTL: 600,
  jwt: { sign: { alg: 'ES256' } },
});

const provider = () =>
  new Provider(issuer, {
    clients: [
      {
        client_id,
        client_secret,
        redirect_uris: [redirect_uri],
        grant_types: ['authorization_code', 'client_credentials'],
        id_token_signed_response_alg: 'ES256',
      },
    ],
    jwks: { keys: [key()] },
    pkce: { required: () => false },
    cookies: { keys: [randomUUID()] },
    extraTokenClaims: (_ctx, token) =>
      token.kind === 'AccessToken'
        ? { realm_access: { roles: ['viewers', 'offline_access'] } }
        : { gty: 'client-credentials', scopes: ['write'] },
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: resource,
        useGrantedResource: () => true,
      },
    },
  }).callback();

let answer = provider();
server.on('request', (request, response) => answer(request, response));
console.log(issuer);
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'rotate') {
      answer = provider();
      console.log('rotated');
    }
  })
  .on('close', () => process.exit(0));
