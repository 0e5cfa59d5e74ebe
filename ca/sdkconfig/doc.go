// Package sdkconfig makes the signed configuration that a tenant ships inside its
// apps: which TLS certificates to trust, and where the services are (CA-14).
//
// # Promises
//
// What is signed was checked: each TLS certificate parses, has not expired, and is
// there once; addresses are http or https and within their limits. A request that
// is wrong in several places is told all of them, certificates by their index. The
// result is a JWT (compact JWS) by the tenant's ACTIVE signer in the HSM, recorded
// in the audit trail before it is answered; without such a signer, nothing.
//
// # Format
//
// The seed shows only that the answer is signed; vendor material calls it a JWT.
// Header and claims are therefore ours:
//
//	{"alg": "ES256" | "ES384" | "RS256" | "EdDSA",   by the signer's key
//	 "kid": the signer's id,
//	 "typ": "sdk-config+jwt",
//	 "x5c": [the signer's certificate ... the root]}
//
//	{"tenant": the tenant, which a client refuses to change,
//	 "iat": seconds,
//	 "tlsBundle": [DER certificates in standard base64, in the order of the request],
//	 "astUrl": as given, left out if not,
//	 "services": [{"name": ..., "url": ...}], left out if empty}
//
// There is no exp: the file is part of an app, and it is good for as long as the
// chain in its header.
//
// States: none. Owns: nothing; package ca has the signers. Callers: the API
// adapters. Safe for concurrent use.
//
// Source: seed 001 "Create signed SDK Config"; inventory CA-14.
package sdkconfig
