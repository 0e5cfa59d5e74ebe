// Package access says who is calling and what the caller may do.
//
// Two kinds of credentials are known. A bearer JWT comes from the identity
// provider of one tenant: its issuer selects the Realm, its signature is checked
// with keys from the realm's pinned JWKS, and its roles become privileges
// (Realms; seed 001). HTTP Basic credentials are made by signet for the callers
// of the PowerAuth API (Basic; seed 004): the username selects the tenant, the
// role and the applications the caller may act for.
//
// It promises: an outage (JWKS, database, HSM) is fault.ErrUnavailable and never
// a refusal; all refusals of credentials are the one ErrUnauthenticated; secrets
// are compared in constant time, and an unknown or disabled user costs the same
// lookup and the same MAC as a wrong password. It decides nothing about single
// routes: adapters ask a Principal for its privileges and compare tenants.
//
// A Basic secret is 256 random bits, shown once and kept as HMAC-SHA256 under a
// pepper that the database holds only sealed (package envelope). A slow password
// hash would protect nothing here and cost a third of a second per call.
//
// A Limiter bounds how many calls of one credential are at work at once, and of all.
//
// Each change of a credential is one statement with its audit event, in the name
// of the actor that By was given.
//
// States: a credential is enabled or disabled. Owns: tables access_credential,
// access_grant, access_pepper. Callers: api adapters and cmd. Realms and Basic
// are safe for concurrent use.
package access
