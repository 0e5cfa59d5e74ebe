// Package wire is the language between signet and its HSM workers: the child
// processes that hold the PKCS#11 module (package broker tells why).
//
// # Frames
//
// Both sides first send Preamble, which ends with the version. Then come frames,
// numbers big-endian:
//
//	length u32   of what follows: 9 .. MaxFrame
//	kind   u8    below
//	id     u64   of the request; an answer carries the id of its request
//	body
//
// Requests go from the parent to the worker, with an id of the parent's choice
// that is in use once; answers come in any order. The operations are those of
// hsm.Engine, and keys are named by hsm.Key: there is no session, no handle, no
// PKCS#11 call and no attribute on the wire, so nobody can ask for one. What a
// worker may do beyond using keys was decided when it was started, and no frame
// changes it.
//
// A frame that breaks a rule ends the connection, and with it the worker: a peer
// that speaks wrongly is broken or hostile, and there is no state worth saving.
//
//	kind        from    body
//	1..12       parent  a request; the number is that of the hsm.Op
//	KindHello   parent  Hello, JSON, once and first
//	KindPIN     parent  answer to KindAskPIN: 1 and the PIN, or 0 and a failure
//	KindReady   worker  answer to KindHello: the token is open
//	KindOK      worker  answer to a request: the result
//	KindFailed  worker  answer to a request or to KindHello: a failure
//	KindAskPIN  worker  the PIN is needed for one C_Login; the id is the worker's
//	KindLogin   worker  how that C_Login ended: nothing, or a failure
//	KindStats   parent  a request for the metrics of the worker
//
// # Bodies
//
// label: u8 length, then the CKA_LABEL of an hsm.Ref. key: label, id (16), print
// (32). bytes: u32 length, then the bytes. text: u16 length, then UTF-8.
//
//	request     timeout u32 (microseconds left, 0 = no end), then
//	  sign      key, scheme u8, hash u8, salt u16, bytes input
//	  hmac      key, bytes message
//	  seal      key, bytes aad, bytes plaintext
//	  unseal    key, bytes aad, bytes sealed
//	  agree     key, bytes point
//	  random    size u32
//	  find      label
//	  generate  label, algorithm (u8 length, text), id (16)
//	  destroy   label
//	  keys, check, info: nothing
//	result      sign .. random: the bytes themselves; find, generate: key info;
//	            keys: count u32, then each key info and a failure; info: JSON;
//	            destroy, check: nothing
//	key info    label, id (16), algorithm (u8 length, text), bytes SubjectPublicKeyInfo
//	failure     reasons u8, each u8 length and text; CKR u64; context u8; text
//
// # Promises
//
// Parsers take exactly what the Append functions make: no trailing bytes, no
// second spelling. They allocate in proportion to what they have read, never to
// what a length claims. Results alias the frame they were parsed from. The Reader
// and the Writer overwrite what they have carried, because keys and PINs pass
// through them.
//
// States: none but the buffers. Callers: broker and broker/worker.
package wire
