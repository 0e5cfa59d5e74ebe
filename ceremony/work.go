package ceremony

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
)

// work is a plan being carried out, or rehearsed. The steps are the same lines in
// both; they differ in the bench, where keys come from, and in what is written down.
//
// Each effect is remembered by the transcript (remembered, key, write): a step that
// is gone through a second time, after an interruption, does what is missing and
// nothing twice.
type work struct {
	ctx   context.Context //nolint:containedctx // lives for one Run
	plan  *Plan
	now   time.Time
	bench bench
	step  int // number of the step at work

	log     *transcript // nil in memory
	dir     *folder     // nil in memory
	device  *device     // nil in memory
	people  []*custody.Key
	resumed bool

	rehearsing bool

	mu      sync.Mutex // of the transcript and what follows, and for writing step
	begun   bool       // the first line is written
	calls   []hsm.Call // that wait for the transcript to begin
	callErr error      // why calls did not get into it
	over    bool       // the end is written: signatures follow

	cas     map[string]*authority // by the name in the plan
	order   []*authority          // the same, as they came
	crosses map[string][]byte     // cross-certificates by the CA they are for
	crls    map[string][]byte
	signing []string // labels of the new keys, which sign the transcript
}

// bench is where keys are made and found.
type bench interface {
	generate(w *work, ref hsm.Ref, alg hsm.Algorithm, backup *Backup) (crypto.Signer, error)
	existing(w *work, e *Existing, certificates [][]byte) (crypto.Signer, [][]byte, error)
	random(w *work) io.Reader
}

func newWork(ctx context.Context, p *Plan, now time.Time, b bench) *work {
	return &work{ctx: ctx, plan: p, now: now, bench: b, cas: map[string]*authority{}, crosses: map[string][]byte{}, crls: map[string][]byte{}}
}

// step is one certificate.
type step struct {
	issuer  *issuance.Authority // nil: self-signed
	profile issuance.Profile
	subject issuance.Subject
	key     crypto.Signer     // to be certified; or
	request *issuance.Request // who has it elsewhere
	signer  crypto.Signer
	whole   time.Duration // not 0: a validity that may not be cut
}

// linted is the verdict in the transcript; there is no draft with another.
const linted = "zlint " + lint.Version + " and signet: no finding"

// tell writes a line; a rehearsal in memory has nobody to tell.
func (w *work) tell(event string, detail map[string]any) error {
	if w.log == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.add(w.step, event, "ok", detail)
}

// remembered does a thing once: its detail goes into the transcript under a name, and
// is taken from there when the step is gone through again. Then comes what follows
// from it, each time.
func (w *work) remembered(event, name string, once func() (map[string]any, error), then func(map[string]any) error) error {
	detail := w.recalled(event, name)
	if detail == nil {
		var err error
		if detail, err = once(); err != nil {
			return err
		}
		detail["name"] = name
		if err := w.tell(event, detail); err != nil {
			return err
		}
	}
	if then == nil {
		return nil
	}
	return then(detail)
}

// recalled is what this step wrote down before it was cut off.
func (w *work) recalled(event, name string) map[string]any {
	if w.log == nil {
		return nil
	}
	for i := len(w.log.before) - 1; i >= 0; i-- {
		if e := &w.log.before[i]; e.Step == w.step && e.Event == event && e.Detail["name"] == name {
			return e.Detail
		}
	}
	return nil
}

// bytesOf reads what JSON has made Base64 of.
func bytesOf(v any) ([]byte, error) {
	switch b := v.(type) {
	case []byte:
		return b, nil
	case string:
		return base64.StdEncoding.DecodeString(b)
	}
	return nil, fmt.Errorf("%w: bytes are missing", ErrTranscript)
}

// certify drafts, lints, signs and verifies one certificate.
func (w *work) certify(name string, s step) (der []byte, err error) {
	err = w.remembered(eventCertificate, name, func() (map[string]any, error) {
		draft, err := prepare(s, w.bench.random(w), w.now)
		if err != nil {
			return nil, err
		}
		tbs, profile := sha256.Sum256(draft.TBS()), draft.Profile().Hash()
		if err := w.tell(eventDraft, map[string]any{
			"name": name, "profile": draft.Profile().Name(), "profileSha256": hex.EncodeToString(profile[:]),
			"serial": draft.Serial().String(), "tbsSha256": hex.EncodeToString(tbs[:]),
			"notBefore": draft.NotBefore(), "notAfter": draft.NotAfter(), "lint": linted,
		}); err != nil {
			return nil, err
		}
		der, err := draft.Sign(s.signer)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(der)
		return map[string]any{"serial": draft.Serial().String(), "sha256": hex.EncodeToString(sum[:]), "certificate": der}, nil
	}, func(detail map[string]any) (err error) {
		der, err = bytesOf(detail["certificate"])
		return err
	})
	return der, err
}

// write writes one output, once.
func (w *work) write(name string, content []byte) error {
	if w.dir == nil {
		return nil
	}
	sum := sha256.Sum256(content)
	hash := hex.EncodeToString(sum[:])
	return w.remembered(eventFile, name, func() (map[string]any, error) {
		return map[string]any{"sha256": hash}, w.dir.write(name, content, w.resumed)
	}, func(detail map[string]any) error {
		if detail["sha256"] != hash || fileHash(w.dir.at(name)) != hash {
			return fmt.Errorf("%w: %s is not what the transcript says", ErrOutput, name)
		}
		return nil
	})
}

// key makes a key, or finds the one that this step made before it was cut off.
func (w *work) key(ref hsm.Ref, alg hsm.Algorithm, backup *Backup) (crypto.Signer, error) {
	return w.bench.generate(w, ref, alg, backup)
}

// onToken is the bench of a ceremony.
type onToken struct{}

func (onToken) random(w *work) io.Reader { return tokenReader{w.ctx, w.device.token} }

type tokenReader struct {
	ctx   context.Context //nolint:containedctx // lives for one Run
	token *hsm.Token
}

func (t tokenReader) Read(p []byte) (int, error) {
	if err := t.token.Random(t.ctx, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (onToken) existing(w *work, e *Existing, certificates [][]byte) (crypto.Signer, [][]byte, error) {
	key, err := w.device.token.Signer(w.ctx, e.ref())
	return key, certificates, err
}

// generate makes one key. The intent, with the id that the key will have, is on
// record first: a crash leaves no key that can not be explained. Taken up again, a
// key that has label and id of the intent is ours and is used; a label that nobody
// has is made anew; anything else is for people to judge.
func (onToken) generate(w *work, ref hsm.Ref, alg hsm.Algorithm, backup *Backup) (crypto.Signer, error) {
	label := ref.String()
	if w.recalled(eventKey, label) == nil {
		if err := w.makeKey(ref, alg, backup); err != nil {
			return nil, err
		}
	}
	return w.signer(ref, alg)
}

func (w *work) makeKey(ref hsm.Ref, alg hsm.Algorithm, backup *Backup) error {
	label := ref.String()
	if intent := w.recalled(eventKeyIntent, label); intent != nil {
		found, err := w.device.token.Lookup(w.ctx, ref)
		switch {
		case errors.Is(err, hsm.ErrKeyNotFound):
		case err != nil:
			return err
		case hex.EncodeToString(found.ID[:]) != intent["id"]:
			return fmt.Errorf("%w: %s has another id than the transcript", ErrLabel, ref)
		case backup != nil && w.recalled(eventFile, backupFile(ref)) == nil:
			// Its backup is lost, and it has signed nothing: another is made.
			if err := w.device.token.Destroy(w.ctx, ref); err != nil {
				return err
			}
			if err := w.tell(eventKeyDestroyed, map[string]any{"name": label, "id": intent["id"], "reason": "interrupted before its backup was written"}); err != nil {
				return err
			}
		default:
			if backup != nil {
				if err := w.signOffBackup(ref); err != nil {
					return err
				}
			}
			return w.tellKey(found, true)
		}
	}
	var id [16]byte
	if err := w.device.token.Random(w.ctx, id[:]); err != nil {
		return err
	}
	intent := map[string]any{"name": label, "label": label, "id": hex.EncodeToString(id[:]), "algorithm": alg, "backup": backup != nil}
	if err := w.tell(eventKeyIntent, intent); err != nil {
		return err
	}
	var made hsm.KeyInfo
	var err error
	if backup == nil {
		made, err = w.device.token.Generate(w.ctx, ref, alg, id)
	} else {
		made, err = w.generateBacked(ref, alg, id, backup)
	}
	if err != nil {
		return err
	}
	return w.tellKey(made, false)
}

// tellKey records a key: what was read back of it and its public half.
func (w *work) tellKey(k hsm.KeyInfo, adopted bool) error {
	detail := map[string]any{"name": k.Ref.String(), "label": k.Ref.String(), "id": hex.EncodeToString(k.ID[:]), "algorithm": k.Algorithm}
	if adopted {
		detail["adopted"] = "made before the interruption, found under the id of its intent"
	}
	if k.Public != nil {
		spki, words, err := spkiOf(k.Public)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(spki)
		detail["spki"], detail["spkiSha256"], detail["spkiWords"] = spki, hex.EncodeToString(sum[:]), words
	}
	objects, err := w.device.attributes(w.ctx, k.Ref)
	if err != nil {
		return err
	}
	if objects != nil {
		detail["attributes"] = objects
	}
	return w.tell(eventKey, detail)
}

// signer takes a key that the transcript knows into use. It signs the transcript
// in the end.
func (w *work) signer(ref hsm.Ref, alg hsm.Algorithm) (crypto.Signer, error) {
	if _, signs := throwAway[alg]; !signs {
		return nil, nil
	}
	key, err := w.device.token.Signer(w.ctx, ref)
	if err != nil {
		return nil, err
	}
	spki, _, err := spkiOf(key.Public())
	if err != nil {
		return nil, err
	}
	if known := w.log.key(ref.String()); known == "" || known != base64.StdEncoding.EncodeToString(spki) {
		return nil, fmt.Errorf("%w: %s is not the key that the transcript has", ErrKey, ref)
	}
	w.signing = append(w.signing, ref.String())
	return key, nil
}
