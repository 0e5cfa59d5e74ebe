// Package callback tells the backends of applications what changed, by signed
// HTTP requests to endpoints that they have registered.
//
// Promises: a change that was committed is told at least once to every endpoint
// of its application and type, or becomes a dead letter with an audit event after
// three days; a change that was rolled back is not told; nothing here is on the
// path of a request. Every attempt of one delivery carries the same webhook-id,
// which is also its Idempotency-Key. Order is not kept: webhook-id is a UUIDv7
// and the body has the time of the change.
//
// Requests are signed as standard-webhooks says (HMAC-SHA256 over id, time and
// body), with the endpoint's secret, which Create and Rotate show once. After
// Rotate the old secret signs too, for a day.
//
// An endpoint is somebody else's: attempts end after ten seconds, redirects are
// not followed, an answer is not read beyond 64 KiB, no endpoint takes more than
// half of the workers, and one that fails five times in a row is left alone for a
// while (a breaker in each process) without using up attempts. A connection is
// made to public addresses only, decided when the address is dialled, so that a
// name that changes its mind changes nothing; Config.Allow makes exceptions. No
// proxy is used.
//
// Owns: table callback_endpoint. Callers: the administration endpoints; cmd runs
// Consumer. Safe for concurrent use. Sources: PA-X-05; PowerAuth server callback
// bodies (types ACTIVATION and OPERATION); standard-webhooks specification.
package callback
