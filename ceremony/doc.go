// Package ceremony makes the keys that everything else hangs from: a root and
// an issuer CA, from one reviewed plan, in the HSM, with a transcript.
//
// It promises that nothing is half decided when the first key is made: the plan
// is read strictly and checked whole, the labels are free, the folder of the
// outputs is new, and the plan has been rehearsed to the last certificate with
// throw-away keys in memory and linted (ca/lint). It takes no prompts. Outputs are only ever created,
// never replaced, and a label or key id is never used twice; a second run of the
// same plan therefore refuses and changes nothing. When a step fails after the
// first key was made, the transcript ends with it and the keys stay for a person
// to judge.
//
// The transcript is a chain of JSON lines (VerifyTranscript): the plan and its
// hash, tool and token, each step that changed something with its result, public
// key hashes and certificates. It holds no secret; there is none to hold, for
// private keys never leave the token and the PIN is not seen here.
//
// States: a run is begun, then ended or failed; the transcript says which. Owns:
// the files root.pem, issuer-chain.pem and transcript.jsonl of its folder, HSM
// keys of roles root and issuer of the tenant "_system". Callers: cmd/signet and
// the offline cmd/ceremony. No SQL, no network.
//
// Source: guides of CA ceremonies in public use (boulder's ceremony, ICANN KSK);
// CA/B baseline requirements 6.1.1.1 and 5.4.1 for what evidence to keep.
package ceremony
