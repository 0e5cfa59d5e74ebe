// Package powerauth serves the PowerAuth Cloud v2 REST API (seed 004) to
// application tiers, and the protocol endpoints to devices.
//
// Application tiers authenticate with HTTP Basic. The credentials select the
// tenant and the applications; nothing in a URL or body can reach another's. The
// routes stand at the root (/v2/...); Config.BasePath puts them below a prefix,
// as public deployments of the original do with /powerauth-cloud. Errors are
// {"status":"ERROR","responseObject":{code, message, violations}}, from one table
// (errors.go). As the contract knows neither 403 nor 503, a missing role is 401
// and an outage is 500 ERROR_INTERNAL_API.
//
// Devices call /pa/v3/... (the protocol) and /api/... (the mobile token API: what
// there is to decide, where pushes go, and the inbox) without credentials of ours: a
// message is encrypted to a key of ours, signed by the registration, or comes with a
// token. Each handler there checks that first. Errors are those of the reference
// servers, which tell no more than the kind of failure; each dialect has its table.
//
// A domain that Config leaves out has its routes not mounted.
//
// Handlers parse, call a domain and map its answer; rules live there.
// A violation never repeats an OTP or a signature header.
//
// States: none. Owns: nothing. Callers: cmd. Safe for concurrent use.
package powerauth
