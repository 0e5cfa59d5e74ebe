// Package ceremony makes the keys that everything else hangs from: a root and
// an issuer CA, from one reviewed plan, in the HSM, with a transcript. For a change
// of root it also has the existing root certify the new ones (cross-certificates),
// and it signs the CRLs of roots.
//
// It promises that nothing is half decided when the first key is made: the plan
// is read strictly and checked whole, the labels are free, the folder of the
// outputs is new, an existing root's key is the certificate's, and the plan has
// been rehearsed to the last certificate and CRL with throw-away keys in memory
// and linted (ca/lint). What is signed is, byte for byte, a draft that was linted.
// It takes no prompts. Outputs are only ever created, never replaced, and a label or
// key id is never used twice; a second run of a plan that makes keys therefore
// refuses and changes nothing. When a step fails after the first key was made, the
// transcript ends with it and the keys stay for a person to judge.
//
// A cross-certificate has the subject and key of the authority's own one, lasts no
// longer than that and the existing root, and leaves room below it for what is
// there and no more. CRL numbers stand in the plan: who reviews it sees to it that
// they rise.
//
// The transcript is a chain of JSON lines (VerifyTranscript): the plan and its
// hash, tool and token, each step that changed something with its result, public
// key hashes, certificates and CRLs. It holds no secret; there is none to hold, for
// private keys never leave the token and the PIN is not seen here.
//
// States: a run is begun, then ended or failed; the transcript says which. Owns:
// the files of its folder (RootFile and the others), HSM keys of roles root and
// issuer of the tenant "_system". Callers: cmd/signet and the offline
// cmd/ceremony. No SQL, no network.
//
// Source: guides of CA ceremonies in public use (boulder's ceremony, ICANN KSK);
// CA/B baseline requirements 6.1.1.1 and 5.4.1 for what evidence to keep; RFC 5280
// sections 3.2 and 5 for cross-certificates and CRLs.
package ceremony
