package ceremony

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
)

// signedText is what is signed: the hash of the line that says end, and by it all
// lines before.
func signedText(end string) []byte { return []byte("signet ceremony transcript 1\n" + end + "\n") }

const (
	byKey    = "key "    // and its label
	byPerson = "person " // and their name
)

// end says that all steps are done and who signs that; then they sign.
func (w *work) end() error {
	var signers []string
	for _, s := range w.signing {
		signers = append(signers, byKey+s)
	}
	for i := range w.plan.People {
		signers = append(signers, byPerson+w.plan.People[i].Name)
	}
	w.mu.Lock()
	err := w.callErr
	w.mu.Unlock()
	if err != nil { // a call that is not on record is a failure
		return err
	}
	if err := w.last(eventEnd, "ok", map[string]any{"signers": signers}); err != nil {
		return err
	}
	return w.sign(w.log.last(), signers, nil)
}

// sign has those who have not signed the end do it.
func (w *work) sign(end string, signers, signed []string) error {
	text := signedText(end)
	for _, by := range signers {
		if slices.Contains(signed, by) {
			continue
		}
		detail := map[string]any{"by": by}
		if label, isKey := strings.CutPrefix(by, byKey); isKey {
			ref, err := hsm.ParseRef(label)
			if err != nil {
				return err
			}
			key, err := w.device.token.Signer(w.ctx, ref)
			if err != nil {
				return err
			}
			if detail["algorithm"], detail["signature"], err = signText(key, text); err != nil {
				return err
			}
		} else {
			key := w.person(strings.TrimPrefix(by, byPerson))
			if key == nil {
				return fmt.Errorf("%w: %s has to sign", ErrPeople, by)
			}
			detail["algorithm"], detail["signature"] = "Ed25519", key.Sign(text)
		}
		if err := w.tell(eventSignature, detail); err != nil {
			return err
		}
	}
	return nil
}

// finish is what is left of a ceremony that was cut off among the signatures.
func (w *work) finish(end *entry) error {
	if first := w.plan.steps()[0].TokenInit; first != nil && w.device.token == nil {
		if err := w.reopen(first.Label); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(end.Detail["signers"])
	if err != nil {
		return err
	}
	var signers, signed []string
	if err := json.Unmarshal(raw, &signers); err != nil {
		return fmt.Errorf("%w: line %d: %w", ErrTranscript, end.Seq, err)
	}
	for i := range w.log.before {
		if e := &w.log.before[i]; e.Event == eventSignature {
			by, _ := e.Detail["by"].(string)
			signed = append(signed, by)
		}
	}
	return w.sign(end.hash, signers, signed)
}

// peopleOf are those whom the plan in the first line names.
func peopleOf(begin *entry) (list []custody.Person, err error) {
	plan, _ := begin.Detail["plan"].(map[string]any)
	raw, err := json.Marshal(plan["people"])
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	return list, err
}

// verifyBegin checks that the plan in the first line is the one of its text, but
// for a rehearsal, where people and existing CAs are stand-ins.
func verifyBegin(begin *entry) error {
	text, _ := begin.Detail["planText"].(string)
	sum := sha256.Sum256([]byte(text))
	if begin.Detail["planSha256"] != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%w: the plan's hash is not that of its text", ErrTranscript)
	}
	if begin.Detail["rehearsal"] == true {
		return nil
	}
	plan, err := Parse("plan", []byte(text))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	var again any
	raw, err := json.Marshal(plan)
	if err == nil {
		err = json.Unmarshal(raw, &again)
	}
	if err != nil || !reflect.DeepEqual(again, begin.Detail["plan"]) {
		return fmt.Errorf("%w: the plan is not that of its text", ErrTranscript)
	}
	return nil
}

// verifySignatures checks the sign-offs and that all who had to sign the end did,
// once, and nobody else: every person of the plan and every new key.
func verifySignatures(list []entry) error {
	bad := func(e *entry, format string, a ...any) error {
		return fmt.Errorf("%w: line %d: %s", ErrTranscript, e.Seq, fmt.Sprintf(format, a...))
	}
	people, err := peopleOf(&list[0])
	if err != nil {
		return bad(&list[0], "people: %v", err)
	}
	public := map[string]crypto.PublicKey{}
	var due []string // new keys in their order, then people
	var end *entry
	var signed []string
	for i := range people {
		key, err := people[i].PublicKey()
		if err != nil {
			return bad(&list[0], "people: %v", err)
		}
		public[byPerson+people[i].Name] = key
	}
	for i := range list {
		e := &list[i]
		text := func(key string) string { s, _ := e.Detail[key].(string); return s }
		switch e.Event {
		case eventKey:
			spki, err := bytesOf(e.Detail["spki"])
			if e.Detail["spki"] == nil {
				continue // a secret key
			}
			key, bad1 := x509.ParsePKIXPublicKey(spki)
			if err != nil || bad1 != nil {
				return bad(e, "not a public key")
			}
			by := byKey + text("label")
			if public[by] == nil && e.Detail["restored"] == nil {
				due = append(due, by)
			}
			public[by] = key
		case eventSignOff:
			key, _ := public[byPerson+text("custodian")].(ed25519.PublicKey)
			signature, _ := bytesOf(e.Detail["signature"])
			if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signOffText(text("custodian"), text("purpose"), text("sealedSha256")), signature) {
				return bad(e, "the sign-off of %s is wrong", text("custodian"))
			}
		case eventEnd:
			end = e
		case eventSignature:
			by := text("by")
			signature, err := bytesOf(e.Detail["signature"])
			if err != nil || !verified(public[by], signedText(end.hash), signature) {
				return bad(e, "the signature of %s is wrong", by)
			}
			signed = append(signed, by)
		}
	}
	for i := range people {
		due = append(due, byPerson+people[i].Name)
	}
	if !slices.Equal(due, signed) {
		return fmt.Errorf("%w: it had to be signed by %q and is by %q", ErrTranscript, due, signed)
	}
	return nil
}

// signText has a key sign a text by the scheme that its certificates have. The text
// begins with words, so that it is no DER and never a certificate.
func signText(key crypto.Signer, text []byte) (algorithm string, signature []byte, err error) {
	scheme, err := issuance.SchemeOf(key.Public())
	if err != nil {
		return "", nil, err
	}
	digest, hash := text, crypto.Hash(0)
	switch scheme.Algorithm() {
	case x509.ECDSAWithSHA256, x509.SHA256WithRSA:
		hash = crypto.SHA256
	case x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	}
	if hash != 0 {
		h := hash.New()
		h.Write(text)
		digest = h.Sum(nil)
	}
	if signature, err = key.Sign(nil, digest, hash); err != nil { // the token has its own randomness
		return "", nil, err
	}
	if !verified(key.Public(), text, signature) {
		return "", nil, fmt.Errorf("%w: a new signature does not verify", ErrKey)
	}
	return scheme.Algorithm().String(), signature, nil
}

func verified(key crypto.PublicKey, text, signature []byte) bool {
	if key == nil {
		return false
	}
	scheme, err := issuance.SchemeOf(key)
	if err != nil {
		return false
	}
	return (&x509.Certificate{PublicKey: key}).CheckSignature(scheme.Algorithm(), text, signature) == nil
}
