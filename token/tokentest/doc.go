// Package tokentest is what a device talks to, for tests: registrations and
// tokens on a real database and a real token, twin tenants, a clock that a test
// may turn, and the device's endpoints over HTTP with nothing around them.
//
// The endpoints here are as thin as they can be; the server's own are in
// api/powerauth. States: New makes everything, the end of the test takes it away.
// Callers: tests of token and client/powerauth.
package tokentest
