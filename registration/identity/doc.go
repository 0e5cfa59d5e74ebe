// Package identity asks a bank's own service who activates: the
// registration.ActivationProvider of activations of type CUSTOM.
//
// The endpoint of an application is called with
//
//	POST <URL>
//	Content-Type: application/json
//	Webhook-Id, Webhook-Timestamp, Webhook-Signature   (standard-webhooks)
//
//	{"tenant": "...", "appId": "...", "identityAttributes": {...}, "customAttributes": {...}}
//
// and answers
//
//	200 {"userId": "1..255 characters", "flags": ["..."]}   it vouches for this user
//	204                                                      it does not
//
// Promises: it fails closed. Anything else (another status, a redirect, a body
// that does not parse or names no user that can be stored, silence) is an outage:
// no registration is made and nobody is told to be unknown. An application without
// an endpoint vouches for nobody, which a phone can not tell from a user that is
// not known. An exchange takes at most Config.Timeout, no endpoint has more than
// MaxCalls at a time, an answer is read to 64 KiB, and connections are made as
// package egress says. Attributes may hold credentials: they stand in no error or
// log.
//
// States: none. Owns: nothing. Callers: package registration, by its interface; cmd
// makes the Provider. Safe for concurrent use. Source: PowerAuth custom activations
// (activationType CUSTOM).
package identity
