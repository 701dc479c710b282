"""Somebody else's OAuth client (PyPI `authlib`), for the tests: every flow, as an application would go
through it. Takes the same JSON object as `flows.mjs`; ends with 1 and what is wrong, or prints each flow
that went through."""

import base64
import hashlib
import html
import json
import re
import secrets
import sys
from urllib.parse import parse_qs, urlparse

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from requests.adapters import HTTPAdapter

it = json.loads(sys.argv[1])


class There(HTTPAdapter):
    """The issuer's public address is not where the tests have it listen."""

    def send(self, request, **options):
        request.url = request.url.replace(it["issuer"], it["at"])
        return super().send(request, **options)


def to(session):
    session.mount(it["issuer"], There())
    # Nothing of the machine's own settings.
    session.trust_env = False
    return session


def client(of, **more):
    key = of.get("key")
    made = to(OAuth2Session(of["client_id"], key or of.get("client_secret"), **more))
    if key:
        made.register_client_auth_method(PrivateKeyJWT(known["token_endpoint"], alg="ES256"))
    return made


def keyed(of):
    """The same client with a key of its own in place of a secret."""
    key = ECKey.generate_key("P-256", {"alg": "ES256"}, private=True)
    added = requests.post(
        f"{it['manage']}/v1/applications/{of['id']}/credentials",
        json={"name": "theirs", "jwk": key.as_dict(private=False)},
        headers={"authorization": "Bearer " + it["admin"]},
        timeout=30,
    )
    assert added.status_code == 201, added.text
    return {name: of[name] for name in ("id", "client_id")} | {"key": key}


known = to(requests.Session()).get(it["issuer"] + "/.well-known/openid-configuration").json()
assert known["issuer"] == it["issuer"], known
keys = KeySet.import_key_set(to(requests.Session()).get(known["jwks_uri"]).json())


def verified(token, audience):
    claims = jwt.decode(token, keys, algorithms=["RS256", "ES256", "EdDSA"]).claims
    wanted = {name: {"essential": True} for name in ("exp", "iat", "sub")}
    wanted["iss"] = {"essential": True, "value": it["issuer"]}
    wanted["aud"] = {"essential": True, "value": audience}
    jwt.JWTClaimsRegistry(**wanted).validate(claims)
    return claims


def refused(error, call):
    try:
        call()
    except AuthlibBaseError as told:
        assert told.error == error, told
    else:
        raise AssertionError(f"it should have been refused as {error}")


class Browser:
    """As far as our pages need one: it keeps cookies, `Secure` ones on this machine too, and sends forms."""

    def __init__(self):
        self.http = to(requests.Session())
        self.cookies = {}

    def ask(self, method, url, **more):
        headers = more.pop("headers", {})
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.http.cookies.clear()
        answer = self.http.request(method, url, headers=headers, allow_redirects=False, **more)
        for name, value in answer.raw.headers.items():
            if name.lower() == "set-cookie":
                name, value = value.split(";")[0].split("=", 1)
                self.cookies[name] = value
        return answer

    def to(self, url):
        answer = self.ask("GET", url)
        if answer.status_code == 200:
            form = {
                name: html.unescape(re.search(f'name="{name}" value="([^"]*)"', answer.text)[1])
                for name in ("request", "csrf")
            }
            form |= {"username": it["username"], "password": it["password"]}
            headers = {"origin": it["issuer"], "sec-fetch-site": "same-origin"}
            answer = self.ask("POST", it["issuer"] + "/oauth2/sign-in", data=form, headers=headers)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]


def sign_in(name, of, method):
    app = client(
        of,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        scope="openid profile email",
        redirect_uri=it["redirect_uri"],
        code_challenge_method="S256",
    )
    verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    url, state = app.create_authorization_url(
        known["authorization_endpoint"], code_verifier=verifier, nonce=nonce
    )
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode()
    assert challenge.rstrip("=") in url
    browser = Browser()
    back = browser.to(url)
    assert parse_qs(urlparse(back).query)["iss"] == [it["issuer"]]
    exchange = {"authorization_response": back, "code_verifier": verifier, "state": state}
    token = app.fetch_token(known["token_endpoint"], **exchange)
    person = verified(token["id_token"], of["client_id"])
    assert person["nonce"] == nonce
    assert verified(token["access_token"], "postern")["sub"] == person["sub"]
    about = app.get(known["userinfo_endpoint"]).json()
    assert about["sub"] == person["sub"] and about["preferred_username"] == it["username"], about
    print(f"{name}: code")

    first = token["refresh_token"]
    token = app.refresh_token(known["token_endpoint"], refresh_token=first)
    assert token["refresh_token"] != first
    if method != "none":
        told = app.introspect_token(known["introspection_endpoint"], token=token["access_token"]).json()
        assert told["active"] and told["client_id"] == of["client_id"], told
    wanted = {"refresh_token": token["refresh_token"], "resource": it["issuer"]}
    token = app.refresh_token(known["token_endpoint"], **wanted)
    verified(token["access_token"], "postern")
    wanted = {"refresh_token": token["refresh_token"], "resource": it["resource"]}
    refused("invalid_target", lambda: app.refresh_token(known["token_endpoint"], **wanted))
    print(f"{name}: refresh")

    gone = app.revoke_token(known["revocation_endpoint"], token=token["refresh_token"])
    assert gone.status_code == 200, gone.text
    assert app.get(known["userinfo_endpoint"]).status_code == 401
    refused(
        "invalid_grant",
        lambda: app.refresh_token(known["token_endpoint"], refresh_token=token["refresh_token"]),
    )
    refused("invalid_grant", lambda: app.fetch_token(known["token_endpoint"], **exchange))
    print(f"{name}: revocation")

    # Signed in once more, and used twice.
    url, state = app.create_authorization_url(known["authorization_endpoint"], code_verifier=verifier)
    exchange = {"authorization_response": browser.to(url), "code_verifier": verifier, "state": state}
    token = app.fetch_token(known["token_endpoint"], **exchange)
    first = token["refresh_token"]
    for _ in range(2):
        token = app.refresh_token(known["token_endpoint"], refresh_token=token["refresh_token"])
    for stolen in (first, token["refresh_token"]):
        refused(
            "invalid_grant",
            lambda: app.refresh_token(known["token_endpoint"], refresh_token=stolen),
        )
    assert app.get(known["userinfo_endpoint"]).status_code == 401
    print(f"{name}: a refresh token that is used again")

    out = {"id_token_hint": token["id_token"], "post_logout_redirect_uri": it["after"], "state": "bye"}
    gone = browser.ask("GET", known["end_session_endpoint"], params=out)
    assert gone.headers["location"] == it["after"] + "?state=bye", gone.text
    url, _ = app.create_authorization_url(
        known["authorization_endpoint"], code_verifier=verifier, prompt="none"
    )
    assert parse_qs(urlparse(browser.to(url)).query)["error"] == ["login_required"]
    print(f"{name}: log-out")


sign_in("client_secret_basic", it["web"], "client_secret_basic")
sign_in("client_secret_post", it["web"], "client_secret_post")
sign_in("public client", it["spa"], "none")
sign_in("private_key_jwt", keyed(it["web"]), "private_key_jwt")

for of, method in (
    (it["machine"], "client_secret_basic"),
    (it["machine"], "client_secret_post"),
    (keyed(it["machine"]), "private_key_jwt"),
):
    machine = client(of, token_endpoint_auth_method=method, revocation_endpoint_auth_method=method)
    token = machine.fetch_token(known["token_endpoint"], grant_type="client_credentials")
    assert verified(token["access_token"], "postern")["client_id"] == of["client_id"]
    told = machine.introspect_token(known["introspection_endpoint"], token=token["access_token"]).json()
    assert told["active"], told
    machine.revoke_token(known["revocation_endpoint"], token=token["access_token"])
    told = machine.introspect_token(known["introspection_endpoint"], token=token["access_token"]).json()
    assert told == {"active": False}, told
    there = machine.fetch_token(
        known["token_endpoint"], grant_type="client_credentials", resource=it["resource"]
    )
    verified(there["access_token"], it["resource"])
    print(f"{method}: client credentials")

for wrong, method in (
    (it["machine"] | {"client_secret": "wrong"}, "client_secret_basic"),
    (it["machine"] | {"key": ECKey.generate_key("P-256", private=True)}, "private_key_jwt"),
):
    nobody = client(wrong, token_endpoint_auth_method=method)
    refused(
        "invalid_client",
        lambda: nobody.fetch_token(known["token_endpoint"], grant_type="client_credentials"),
    )
print("nobody")
