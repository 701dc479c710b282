"use strict";
(() => {
  const form = document.getElementById("passkey");
  if (!form || !window.PublicKeyCredential) return;
  const said = document.getElementById("passkey-said");
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => {
    let all = "";
    for (const byte of new Uint8Array(buffer)) all += String.fromCharCode(byte);
    return btoa(all).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  };
  const read = (options) => {
    const known = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
    const read = { ...options, challenge: bytes(options.challenge) };
    if (options.user) read.user = { ...options.user, id: bytes(options.user.id) };
    if (options.excludeCredentials) read.excludeCredentials = known(options.excludeCredentials);
    if (options.allowCredentials) read.allowCredentials = known(options.allowCredentials);
    return read;
  };
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    said.hidden = true;
    const make = form.dataset.make === "true";
    try {
      const publicKey = read(JSON.parse(form.dataset.options));
      const made = await (make ? navigator.credentials.create({ publicKey }) : navigator.credentials.get({ publicKey }));
      const { response } = made;
      const answer = { clientDataJSON: text(response.clientDataJSON) };
      if (make) {
        answer.attestationObject = text(response.attestationObject);
      } else {
        answer.authenticatorData = text(response.authenticatorData);
        answer.signature = text(response.signature);
        answer.userHandle = response.userHandle && response.userHandle.byteLength ? text(response.userHandle) : null;
      }
      form.elements.credential.value = JSON.stringify({ id: made.id, rawId: text(made.rawId), type: made.type, response: answer });
      form.submit();
    } catch {
      said.hidden = false;
    }
  });
})();
