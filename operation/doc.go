// Package operation keeps what a person has to decide with a registered device:
// a payment, a login. It is made from a template and parameters by the
// application tier, and decided online by a signed request of the phone or
// offline by a QR code and the digits the person copies back.
//
// States (SM-06): PENDING, then one of CANCELED, EXPIRED, APPROVED, REJECTED,
// FAILED, for good. Every change compares and bumps the row's revision in one
// statement; with it, in one transaction, go its audit event and (when the
// operation ends) what the world is told. Whoever loses the race reads again and
// decides again, so of any number of approvals and cancellations one wins. No
// row is locked and no transaction open while a key is used. Expiry is applied
// on every read and by Run, which N nodes may run. A database or HSM that does
// not answer is fault.ErrUnavailable, never a verdict.
//
// An operation is a copy: data, texts in all languages, factors and limits are
// taken from the template when it is made, and no change of the template reaches
// what a person may be looking at. A placeholder without a parameter, and
// parameters that give data no phone can read, are refused (the reference leaves
// the placeholder standing). It belongs to the applications in which the user
// could decide when it was made, and is unknown to callers of others.
//
// Approval. Data must be equal byte for byte, the factors among the template's,
// the proximity OTP that of this or the previous step. What does not fit is
// counted, and ends the operation FAILED at the limit. Another user's or
// application's device finds no operation and counts nothing, so that nobody can
// fail a stranger's operation. Signatures are verified before, by package
// registration; the caller brings the verdict.
//
// Offline approval is two writes in two packages: VerifyOffline consumes the
// signature (counter, failed attempts), then the operation is moved. Before both,
// a mark of the OTP is left in the row. The order is thus mark, signature,
// operation, and a failure leaves this behind:
//
//   - before the signature: nothing counted;
//   - after it: the second write goes on without the caller, several times for
//     seconds, and knows by the mark if one of its tries was stored after all;
//   - given up, or the process died: the signature is used, the operation still
//     PENDING. The same OTP again finds its mark and is ErrUndecided: it is
//     neither called wrong, which would be a lie, nor counted, whatever other OTPs
//     were tried in between. A new QR code and OTP decide; an OTP that was right
//     is never answered as wrong.
//
// The nonce of a QR code is not kept: the caller brings it back, the signature
// covers it, and the registration's counter is what stops a second use.
//
// Owns: tables operation_template, operation. Callers: api. Safe for concurrent
// use by any number of processes on one database. Source: seed 004 (PA-OP-01 to
// 05, PA-INT-01), seed 002 (PUSHX-01 to 08), the mobile token API, operation data
// and offline QR formats of PowerAuth.
package operation
