//! Everything together, from outside: a real `postern` process on free ports, real servers at
//! its doors, a real product behind it. The list of modules is the table of contents.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod harness;

mod aliases; // paths and header names of other access managers
mod alone; // the proxy without an identity service
mod assertion; // a signed statement of who asks
mod authorize; // permission checks, as the products' client library asks them
mod authzen; // the OpenID Authorization API, over products
mod authzen_search; // its searches, page by page, and discovery
mod authzen_store; // the same, of plain Cedar stores
mod browsers; // people who are sent to sign in, and come back
mod clients; // other people's OAuth clients, and a tester that reads the API's description
mod database; // everything on PostgreSQL, and PostgreSQL gone
mod decision_log; // where decisions are written, and what is left out of them
mod dialects; // every door, asked directly: one answer
mod doors; // the nginx door, asked directly
mod everywhere; // one question, wherever it can be put
mod ext_authz; // Envoy's gRPC door, asked what no Envoy asks
mod factors; // a second factor, and policies that ask for one
mod feed; // identity and proxies as processes of their own
mod fronts; // real servers at the doors, in front of an unmodified product
mod gateway; // the inline door
mod granted; // declarations, grants of applications, ended tokens and reviews, at the doors
mod hot_reload; // a changed right is in force at the next request
mod issuers; // tokens of other people's issuers
mod library; // the products' client library, every generation byte for byte
mod oauth; // OAuth and OpenID Connect, at the one address that clients know
mod outage; // identity gone: what still works, and what is refused
mod passkeys; // passkeys in a real browser
mod paths; // every spelling of a path, at every door
mod permissions; // every route of Midaz × every group, every door with one answer
mod policy_bench; // the policy author's tools: bench
mod policy_check; // the policy author's tools: check, fmt, new
mod policy_docs; // docs/policies.md, followed to the letter
mod policy_explain; // the policy author's tools: explain, who, what, diff
mod policy_import; // the author's tools: manifests from other sources, and plain Cedar out of ours
mod policy_matrix; // the policy author's tools: matrix
mod policy_replay; // the policy author's tools: replay
mod policy_store; // the author's tools over a plain Cedar store
mod policy_table; // decision tables: policy test
mod rates; // how often somebody may ask a product
mod restart; // a proxy that is replaced while requests come in
mod secrets; // what no log, metric or error may hold
mod shadow; // what other policies would have decided
mod sign_in; // a person signs in through somebody else's provider
mod startup; // what stops a start, and how it is told
mod tls; // certificates on both sides, and exchanged while it runs
mod tokens; // forged and misused tokens
mod traces; // from whoever asks through to the upstream, and to a collector
mod upstreams; // several servers of a product: turns, health, limits
mod usage; // when a permission was last used
mod watched; // a policy file that is edited while requests come in
