-- Asks Postern about a request, for HAProxy 2.6 or later:
--
--   http-request lua.postern http://127.0.0.1:4000/forward-auth/haproxy/midaz
--   http-request deny deny_status 503 unless { var(txn.postern_permit) -m bool }
--
-- The second line counts: HAProxy goes on with a request whose script broke off. A request that may pass goes on with the identity headers that Postern sends, and with none that the
-- client sent. Any other ends here, with Postern's answer to the client. So does one that Postern
-- could not be asked about.

local SENT_ON = {
    "x-postern-subject", "x-postern-type", "x-postern-organization", "x-postern-name",
    "x-postern-groups", "x-postern-client", "x-postern-decision-id",
}
local TOLD = {
    "www-authenticate", "content-type", "cache-control", "x-request-id", "location",
    "x-postern-decision-id", "x-postern-deny-reason",
}
-- What tells a person's browser from a program, and a session of the former: for products that people
-- sign in to (docs/browsers.md).
local BROWSERS = {
    "cookie", "accept", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest",
    "x-requested-with", "sec-websocket-key",
}
-- Milliseconds.
local PATIENCE = 5000

-- The values of a header, which HAProxy counts from 0, as a list.
local function values(headers, name)
    local list = {}
    for _, value in pairs(headers[name] or {}) do
        list[#list + 1] = value
    end
    return list
end

-- Identity headers in any spelling, what a client says of its own request, and the headers by which
-- some frameworks replace the method that was decided on. HAProxy has names in lower case.
local function forged(name)
    local plain = name:gsub("[^a-z0-9]", "-")
    return plain:find("^x%-postern%-")
        or plain:find("^x%-original%-")
        or plain:find("^x%-forwarded%-")
        or plain == "forwarded" or plain == "x-real-ip" or plain == "x-rewrite-url"
        or plain == "x-http-method" or plain == "x-http-method-override" or plain == "x-method-override"
end

local function turn_away(txn, status, headers, body)
    local reply = txn:reply()
    reply:set_status(status)
    for _, name in ipairs(TOLD) do
        for _, value in ipairs(values(headers, name)) do
            reply:add_header(name, value)
        end
    end
    reply:set_body(body)
    txn:done(reply)
end

local function ask(txn, address)
    local received = txn.http:req_get_headers()
    local removed = {}
    for name in pairs(received) do
        if forged(name) then
            removed[#removed + 1] = name
        end
    end
    for _, name in ipairs(removed) do
        txn.http:req_del_header(name)
    end

    local scheme = txn.sf:ssl_fc() == 1 and "https" or "http"
    local question = {
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-uri"] = { txn.sf:pathq() },
        ["x-forwarded-proto"] = { scheme },
        ["x-forwarded-host"] = values(received, "host"),
        ["x-forwarded-for"] = { txn.sf:src() },
        ["authorization"] = values(received, "authorization"),
        ["x-request-id"] = values(received, "x-request-id"),
        ["traceparent"] = values(received, "traceparent"),
    }
    for _, name in ipairs(BROWSERS) do
        question[name] = values(received, name)
    end
    for name, list in pairs(question) do
        if #list == 0 then
            question[name] = nil
        end
    end
    local answer = core.httpclient():get({ url = address, headers = question, timeout = PATIENCE })

    local status = answer and answer.status
    if status == 200 then
        for _, name in ipairs(SENT_ON) do
            for _, value in ipairs(values(answer.headers, name)) do
                txn.http:req_add_header(name, value)
            end
        end
        -- All cookies but the session, where there is one: that is not the product's business.
        local cookies = values(answer.headers, "cookie")[1]
        if cookies == "" then
            txn.http:req_del_header("cookie")
        elseif cookies then
            txn.http:req_set_header("cookie", cookies)
        end
        txn.http:req_set_header("x-forwarded-for", txn.sf:src())
        txn.http:req_set_header("x-forwarded-proto", scheme)
        txn:set_var("txn.postern_permit", true)
    elseif status == 302 or status == 401 or status == 403 then
        turn_away(txn, status, answer.headers, answer.body or "")
    else
        txn:Warning("postern could not be asked: " .. tostring(status))
        turn_away(txn, 503, {}, "")
    end
end

core.register_action("postern", { "http-req" }, ask, 1)
