// Package push tells phones that something happened: it keeps where each
// registration's pushes go, the applications' credentials at Apple, Google and
// Huawei, the inbox, and sends.
//
// Promises: nothing here is on the path of a request. Send and PostInbox write
// their event in a transaction and answer; operations and registrations write
// theirs in their own; the consumer of internal/outbox sends afterwards, one
// delivery for each device, with retries for an hour. Pushes are best effort: an
// app must not rely on them (seed 002), and one whose operation has expired is
// dropped. What is personal goes to ACTIVE registrations, which is asked again for
// a push that was delayed. No provider takes more than half of the workers. A
// token that its provider calls dead is deleted, unless the device has replaced it
// meanwhile. An application without credentials at a provider sends nothing there.
//
// The extras are those of seed 002, with exactly these keys: messageType,
// operationId, operationName, activationId, mtokenOperationResult, inboxId. A new
// operation and an inbox message are shown to the user; the end of an operation
// and a change of the registration are silent, for the app to react to.
//
// Device tokens and credentials are sealed by package envelope and are in no
// error, log or dead letter. With Config.Record every push of the process goes to
// a file instead of a provider, for development.
//
// An inbox is bounded: MaxMessages of a user in an application, each for
// Config.Retention. What goes beyond is deleted; the audit log keeps that it was
// posted.
//
// Owns: tables push_device, push_credential, push_inbox. Callers: the REST and
// gRPC layers; cmd runs Consumer and Run. Safe for concurrent use. Sources: seed 002 "Used
// Push Message Extras", seed 004 "Send Push Message" (PA-PUSH-01), PA-X-03/04;
// APNs "Sending notification requests", FCM HTTP v1, HMS Push Kit.
package push
