// Package egress makes HTTP clients for addresses that somebody else has chosen: a
// bank's webhook, its identity provider.
//
// Promises: a connection is made to public addresses only, or to those that
// Config.Guard.Allow names. That is decided when an address is dialled, after the name
// was resolved, so a name that changes its mind changes nothing. No proxy is used,
// it would dial for us; redirects are not followed; every exchange ends within
// Config.Timeout. Sign is the signature of standard-webhooks, by which the other
// side knows that a request is ours.
//
// Owns: nothing. Callers: callback, registration/identity. Safe for concurrent use.
// Sources: IANA special-purpose address registries (RFC 6890 and its
// updates); standard-webhooks specification.
package egress
