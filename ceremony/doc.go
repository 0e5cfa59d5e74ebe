// Package ceremony carries out key ceremonies: from one reviewed plan of several
// steps, on an HSM, with a transcript. It makes roots, issuers and other keys, their
// backups, cross-certificates, requests and CRLs; sets PINs; destroys keys.
//
// It promises that nothing is half decided when the first change is made: the plan
// is read strictly and checked whole, the people of the plan are there with their
// keys, labels are free, the folder of the outputs is new, keys that are there
// already are the ones that are meant, and the plan has been rehearsed to the last
// certificate and CRL with throw-away keys in memory and linted (ca/lint). What is
// signed is, byte for byte, a draft that was linted. Rehearse does the whole on a
// throw-away SoftHSM, by the same lines. Nothing is asked on the way. Outputs are
// only ever created, whole, never replaced; a label or key id is never used twice.
//
// When a step fails after the first change, the transcript says so, and the same
// plan is taken up again (Options.Resume) from what it says: a key whose intent is
// on record is adopted by its id, what was signed is not signed again, and no effect
// happens twice. Everything the resumption needs stands in the transcript and in
// the files; there is no other state.
//
// The transcript is a chain of JSON lines (VerifyTranscript): the plan and its
// hash, tool, module and token, each call that changes the token with its result,
// what was read back of each key, public key hashes in hex and in words,
// certificates, CRLs, sign-offs of custodians. Its end is signed by every new key
// and by all people of the plan. It holds no secret: private keys never leave the
// token, and PINs and shares are nowhere written but encrypted to custodians
// (package custody). Print makes an HTML page of it, of nothing else.
//
// A cross-certificate has the subject and key of the CA's own one, lasts no longer
// than that and the existing CA's, and leaves room below it for what is there and no
// more. CRL numbers stand in the plan: who reviews it sees to it that they rise.
//
// Keys with a backup are never extractable on a token: see hsm.Officer.
//
// States: a run is begun, then ended and signed, or failed, then perhaps resumed; the
// transcript says which. Owns: the files of its folder, HSM keys of roles root and
// issuer of the tenant "_system", and what plans make beside. Callers: cmd/ceremony
// and, for plans without PINs and people, cmd/signet. No SQL, no network.
//
// Source: guides of CA ceremonies in public use (boulder's ceremony, ICANN KSK, oks);
// CA/B baseline requirements 6.1.1.1 and 5.4.1 for what evidence to keep; RFC 5280
// sections 3.2 and 5 for cross-certificates and CRLs; BIP-39 for the words.
package ceremony
