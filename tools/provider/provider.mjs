// Somebody else's OpenID provider (npm `oidc-provider`), for the tests. It listens on a free port and
// says on standard output where. It ends with its standard input, on which a line is an order, answered
// with a line:
//   rotate        withdraw its key for another
//   redirect URI  send people back there, too
//   lie CLAIM X   say X in the `iss` or `aud` of each ID token
//   truth         and no more
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

const redirect_uris = ['https://app.example/back'];
let lie = {};
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

// Everybody is there, and has an address.
const findAccount = (_ctx, sub) => ({
  accountId: sub,
  claims: () => ({
    sub,
    preferred_username: sub,
    email: `${sub}@corp.example`,
    email_verified: true,
    roles: ['staff'],
  }),
});

const made = (jwks) =>
  new Provider(issuer, {
    clients: [
      {
        client_id,
        client_secret,
        redirect_uris,
        grant_types: ['authorization_code', 'client_credentials'],
        id_token_signed_response_alg: 'ES256',
      },
    ],
    jwks,
    findAccount,
    claims: {
      openid: ['sub'],
      profile: ['preferred_username', 'roles'],
      email: ['email', 'email_verified'],
    },
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
  });

let jwks = { keys: [key()] };
const provider = () => {
  const one = made(jwks);
  const { issue } = one.IdToken.prototype;
  one.IdToken.prototype.issue = async function (...how) {
    const { client } = this;
    const other = { get: (of, name) => (name === 'clientId' ? lie.aud : Reflect.get(of, name)) };
    if (lie.aud) this.client = new Proxy(client, other);
    if (lie.iss) one.issuer = lie.iss;
    try {
      return await issue.apply(this, how);
    } finally {
      this.client = client;
      one.issuer = issuer;
    }
  };
  return one.callback();
};

let answer = provider();
server.on('request', (request, response) => answer(request, response));
console.log(issuer);
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [order, ...words] = line.split(' ');
    if (order === 'rotate') jwks = { keys: [key()] };
    if (order === 'redirect') redirect_uris.push(words[0]);
    if (order === 'lie') lie = { [words[0]]: words[1] };
    if (order === 'truth') lie = {};
    if (order === 'rotate' || order === 'redirect') answer = provider();
    console.log('done');
  })
  .on('close', () => process.exit(0));
