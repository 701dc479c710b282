// Somebody else's OAuth client (npm `openid-client`) and token library (npm `jose`), for the tests: every
// flow, as an application would go through it. Arguments: the folder of the modules, then a JSON object
// with `issuer`, `at` (where it really listens), `machine`, `web` and `spa` (clients, with `id`, `client_id`
// and `client_secret`), `redirect_uri`, `after` (a log-out), `resource` (an audience of all of them),
// `username`, `password`, and `manage` and `admin`: where the management API is, and an administrator's
// token. Ends with 1 and what is wrong, or prints each flow that went through.
import { strict as assert } from 'node:assert';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, told] = process.argv.slice(2);
const found = (name) => import(pathToFileURL(createRequire(`${modules}/`).resolve(name)));
const oidc = await found('openid-client');
const jose = await found('jose');
const it = JSON.parse(told);

// The issuer's public address is not where the tests have it listen.
const there = (url, options) =>
  fetch(String(url).replace(it.issuer, it.at), { ...options, redirect: 'manual' });
const metadata = { [oidc.customFetch]: there, execute: [oidc.allowInsecureRequests] };
const discover = async ({ client_id }, auth, more = {}) => {
  const config = await oidc.discovery(new URL(it.issuer), client_id, undefined, auth, {
    ...metadata,
    ...more,
  });
  config[oidc.customFetch] = there;
  // Signatures of ID tokens are checked, though they come from the issuer itself.
  oidc.enableNonRepudiationChecks(config);
  return config;
};

// A browser, as far as our pages need one: it keeps cookies and sends forms.
class Browser {
  cookies = new Map();

  async ask(url, options = {}) {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const headers = { ...options.headers, cookie };
    const answer = await there(url, { ...options, headers });
    for (const set of answer.headers.getSetCookie()) {
      const [, name, value] = set.match(/^([^=]+)=([^;]*)/);
      value ? this.cookies.set(name, value) : this.cookies.delete(name);
    }
    return answer;
  }

  async to(url) {
    let answer = await this.ask(url);
    if (answer.status === 200) {
      const html = await answer.text();
      const field = (name) =>
        html
          .match(new RegExp(`name="${name}" value="([^"]*)"`))[1]
          .replace(/&#(\d+);/g, (_, code) => String.fromCharCode(code));
      const body = new URLSearchParams({
        request: field('request'),
        csrf: field('csrf'),
        username: it.username,
        password: it.password,
      });
      answer = await this.ask(`${it.issuer}/oauth2/sign-in`, {
        method: 'POST',
        headers: { origin: it.issuer, 'sec-fetch-site': 'same-origin' },
        body,
      });
    }
    assert.equal(answer.status, 303, await answer.text());
    return new URL(answer.headers.get('location'));
  }
}

const refused = async (error, flow) => {
  const thrown = await flow().then(
    () => assert.fail(`it should have been refused as ${error}`),
    (thrown) => thrown,
  );
  assert.equal(thrown.error, error, thrown);
};

const jwks = jose.createRemoteJWKSet(new URL(`${it.issuer}/.well-known/jwks.json`), {
  [jose.customFetch]: there,
});

const verified = async (token, audience, typ) =>
  (await jose.jwtVerify(token, jwks, { issuer: it.issuer, audience, typ })).payload;

async function signIn(name, config, client, { secret }) {
  const browser = new Browser();
  const pkceCodeVerifier = oidc.randomPKCECodeVerifier();
  const [expectedState, expectedNonce] = [oidc.randomState(), oidc.randomNonce()];
  const parameters = {
    redirect_uri: it.redirect_uri,
    scope: 'openid profile email',
    code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
    state: expectedState,
    nonce: expectedNonce,
  };
  const checks = { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true };
  const back = await browser.to(oidc.buildAuthorizationUrl(config, parameters));
  const tokens = await oidc.authorizationCodeGrant(config, back, checks);
  const claims = tokens.claims();
  assert.equal(claims.nonce, expectedNonce);
  // What the one library has read, the other verifies.
  assert.deepEqual(await verified(tokens.id_token, client.client_id), claims);
  const access = await verified(tokens.access_token, 'postern', 'at+jwt');
  assert.equal(access.sub, claims.sub);
  // One does not stand in for the other.
  await assert.rejects(verified(tokens.id_token, client.client_id, 'at+jwt'));
  await assert.rejects(oidc.fetchUserInfo(config, tokens.id_token, claims.sub));
  assert.equal(back.searchParams.get('iss'), it.issuer);
  const person = await oidc.fetchUserInfo(config, tokens.access_token, claims.sub);
  assert.equal(person.preferred_username, it.username);
  assert.ok(person.email);
  console.log(`${name}: code`);

  // Signed in already: no page this time, and nobody is asked.
  const again = { ...parameters, prompt: 'none' };
  const ask = async (more = {}) => {
    const back = await browser.to(oidc.buildAuthorizationUrl(config, { ...again, ...more }));
    assert.ok(back.searchParams.get('code'), back);
    return back;
  };
  const silent = await ask();
  // A code is good once.
  await refused('invalid_grant', () => oidc.authorizationCodeGrant(config, back, checks));
  // And what it gave is gone with it.
  await refused('invalid_grant', () => oidc.refreshTokenGrant(config, tokens.refresh_token));
  const second = await oidc.authorizationCodeGrant(config, silent, checks);
  console.log(`${name}: a code that is used again`);

  const next = await oidc.refreshTokenGrant(config, second.refresh_token);
  assert.notEqual(next.refresh_token, second.refresh_token);
  assert.equal(next.claims().sub, claims.sub);
  // An answer that got lost is given again, until somebody has used what it gave.
  const lost = await oidc.refreshTokenGrant(config, second.refresh_token);
  assert.equal(lost.refresh_token, next.refresh_token);
  const last = await oidc.refreshTokenGrant(config, next.refresh_token, { scope: 'openid' });
  assert.equal(last.scope, 'openid');
  console.log(`${name}: refresh`);

  await refused('invalid_grant', () => oidc.refreshTokenGrant(config, second.refresh_token));
  await refused('invalid_grant', () => oidc.refreshTokenGrant(config, last.refresh_token));
  await assert.rejects(oidc.fetchUserInfo(config, last.access_token, claims.sub));
  console.log(`${name}: a refresh token that is used again`);

  const both = new URLSearchParams([
    ...Object.entries(again),
    ['resource', it.issuer],
    ['resource', it.resource],
  ]);
  const wide = await browser.to(oidc.buildAuthorizationUrl(config, both));
  const two = await oidc.authorizationCodeGrant(config, wide, checks);
  assert.deepEqual((await verified(two.access_token, it.resource)).aud, ['postern', it.resource]);
  const one = await oidc.refreshTokenGrant(config, two.refresh_token, { resource: it.resource });
  assert.deepEqual((await verified(one.access_token, it.resource)).aud, [it.resource]);
  // A token for another resource opens nothing here.
  await assert.rejects(oidc.fetchUserInfo(config, one.access_token, claims.sub));
  const narrow = await oidc.authorizationCodeGrant(config, await ask({ resource: it.issuer, scope: 'openid' }), checks);
  await refused('invalid_target', () =>
    oidc.refreshTokenGrant(config, narrow.refresh_token, { resource: it.resource }),
  );
  await refused('invalid_scope', () =>
    oidc.refreshTokenGrant(config, narrow.refresh_token, { scope: 'openid email' }),
  );
  const elsewhere = { ...again, resource: 'https://elsewhere.example' };
  const no = await browser.to(oidc.buildAuthorizationUrl(config, elsewhere));
  assert.equal(no.searchParams.get('error'), 'invalid_target');
  assert.equal(no.searchParams.get('iss'), it.issuer);
  console.log(`${name}: resource indicators`);

  const fresh = await oidc.authorizationCodeGrant(config, await ask(), checks);

  if (secret) {
    const about = await oidc.tokenIntrospection(config, fresh.access_token);
    assert.equal(about.active, true);
    assert.equal(about.client_id, client.client_id);
    const refresh = await oidc.tokenIntrospection(config, fresh.refresh_token);
    assert.equal(refresh.active, true);
    console.log(`${name}: introspection`);
  }
  await oidc.tokenRevocation(config, fresh.refresh_token);
  if (secret) {
    assert.equal((await oidc.tokenIntrospection(config, fresh.access_token)).active, false);
  }
  await refused('invalid_grant', () => oidc.refreshTokenGrant(config, fresh.refresh_token));
  await assert.rejects(oidc.fetchUserInfo(config, fresh.access_token, claims.sub));
  console.log(`${name}: revocation`);

  const out = oidc.buildEndSessionUrl(config, {
    id_token_hint: fresh.id_token,
    post_logout_redirect_uri: it.after,
    state: 'bye',
  });
  const gone = await browser.ask(out);
  assert.equal(gone.status, 303, await gone.text());
  assert.equal(gone.headers.get('location'), `${it.after}?state=bye`);
  const nobody = await browser.ask(oidc.buildAuthorizationUrl(config, again));
  assert.equal(new URL(nobody.headers.get('location')).searchParams.get('error'), 'login_required');
  console.log(`${name}: log-out`);
}

const basic = await discover(it.web, oidc.ClientSecretBasic(it.web.client_secret));
await signIn('client_secret_basic', basic, it.web, { secret: true });
const post = await discover(it.web, oidc.ClientSecretPost(it.web.client_secret));
await signIn('client_secret_post', post, it.web, { secret: true });
// The other document (RFC 8414), and no secret.
const none = await discover(it.spa, oidc.None(), { algorithm: 'oauth2' });
await signIn('public client', none, it.spa, { secret: false });

// A key of its own in place of a secret.
async function keyed(client) {
  const { publicKey, privateKey } = await jose.generateKeyPair('ES256');
  const jwk = { ...(await jose.exportJWK(publicKey)), kid: 'theirs', alg: 'ES256' };
  const added = await fetch(`${it.manage}/v1/applications/${client.id}/credentials`, {
    method: 'POST',
    headers: { authorization: `Bearer ${it.admin}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'theirs', jwk }),
  });
  assert.equal(added.status, 201, await added.text());
  return oidc.PrivateKeyJwt({ key: privateKey, kid: 'theirs' });
}
await signIn('private_key_jwt', await discover(it.web, await keyed(it.web)), it.web, {
  secret: true,
});

for (const [name, auth] of [
  ['client_secret_basic', oidc.ClientSecretBasic(it.machine.client_secret)],
  ['client_secret_post', oidc.ClientSecretPost(it.machine.client_secret)],
  ['private_key_jwt', await keyed(it.machine)],
]) {
  const machine = await discover(it.machine, auth);
  const own = await oidc.clientCredentialsGrant(machine);
  const claims = await verified(own.access_token, 'postern', 'at+jwt');
  assert.equal(claims.client_id, it.machine.client_id);
  assert.equal(own.refresh_token, undefined);
  const there = await oidc.clientCredentialsGrant(machine, { resource: it.resource });
  assert.deepEqual((await verified(there.access_token, it.resource)).aud, [it.resource]);
  await refused('invalid_target', () =>
    oidc.clientCredentialsGrant(machine, { resource: 'https://elsewhere.example' }),
  );
  await refused('invalid_scope', () => oidc.clientCredentialsGrant(machine, { scope: 'openid' }));
  assert.equal((await oidc.tokenIntrospection(machine, own.access_token)).active, true);
  await oidc.tokenRevocation(machine, own.access_token);
  assert.equal((await oidc.tokenIntrospection(machine, own.access_token)).active, false);
  console.log(`${name}: client credentials`);
}
const { privateKey: unknown } = await jose.generateKeyPair('ES256');
for (const auth of [
  oidc.ClientSecretBasic('wrong'),
  oidc.PrivateKeyJwt({ key: unknown, kid: 'theirs' }),
  oidc.None(),
]) {
  const wrong = await discover(it.machine, auth);
  // The challenge comes first for it, and then what the body says.
  await assert.rejects(oidc.clientCredentialsGrant(wrong), { status: 401 });
}
console.log('nobody');
