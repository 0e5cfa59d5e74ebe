// Package pki serves what verifiers of certificates fetch: CRLs, OCSP responses
// and issuers' certificates. It is for a public listener of its own, plain HTTP,
// apart from the APIs: it knows no credentials, and nothing that changes state
// can be reached through it.
//
//	GET, HEAD  /crl/{issuer}/{shard}.crl    application/pkix-crl
//	GET, HEAD  /ocsp/{issuer}/{request}     application/ocsp-response; request is base64, escaped for a URL or not
//	POST       /ocsp/{issuer}               the same, for an application/ocsp-request
//	GET, HEAD  /ca/{issuer}.cer             application/pkix-cert
//	GET, HEAD  /ca/{issuer}/crl.cer         application/pkix-cert; of the key that signs CRLs in the CA's name
//
// {issuer} is the subject key identifier of the CA in 40 lower-case hex digits.
// The addresses are those of revocation.CRLURL and its like, below the base that
// is configured there; a base with a path needs http.StripPrefix.
//
// # Answers
//
// What is signed may be kept by caches: Cache-Control, Expires, Last-Modified and
// a strong ETag say until when, and If-None-Match is answered with 304. Conditions
// on times are not looked at: two CRLs may be of one second, and a client must not
// be told to keep the one without the revocation. Until when is nextUpdate, or
// Config.MaxAge from now if that is earlier: a cache delays a revocation by as
// much. Errors are never kept.
//
// A CRL or issuer that does not exist is 404, whatever the reason; a CRL that
// could not be replaced before its nextUpdate, or an outage, is 503 with
// Retry-After. An OCSP request gets an OCSP answer always: malformedRequest and
// unauthorized with 200, tryLater with 503, internalError with 500. unauthorized
// (RFC 5019 section 2.2.3) is for whatever we have no status of: an unknown
// issuer or serial, a certificate that has expired or was never issued. It is not
// signed, so that guessing costs the HSM nothing. Requests have limits: 8 KiB in
// a body, 2 KiB in a URL.
//
// Bodies of errors are empty. Tenants are not named anywhere, and an issuer can
// not be found but by its key identifier, which stands in its certificates.
//
// States: none. Owns: nothing. Callers: cmd. Safe for concurrent use.
//
// Sources: RFC 5280, RFC 6960 appendix A, RFC 5019, RFC 2585 (media types).
package pki
