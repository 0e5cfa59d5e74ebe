package ceremony

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
)

// Names of the outputs within their folder.
const (
	RootFile       = "root.pem"
	ChainFile      = "issuer-chain.pem" // issuer first, root last
	TranscriptFile = "transcript.jsonl"
)

// Result is what a ceremony made.
type Result struct {
	Root, Issuer       []byte // certificates in DER
	RootKey, IssuerKey hsm.Ref
	Transcript         string // hash of the transcript's last line, for people to write down
}

// Run carries out a plan on a token and writes the outputs to the new folder
// out, whose parent must exist. Before any key is made: ErrPlan, ErrLabel,
// ErrOutput, and nothing is changed. After that: ErrStep.
func Run(ctx context.Context, token *hsm.Token, plan Plan, out string) (Result, error) {
	return start(ctx, token, plan, out, time.Now)
}

func start(ctx context.Context, token *hsm.Token, plan Plan, out string, now func() time.Time) (Result, error) {
	if err := preflight(ctx, token, &plan, now()); err != nil {
		return Result{}, fmt.Errorf("ceremony: %w", err)
	}
	info, err := token.Info(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("ceremony: %w", err)
	}
	dir, err := newFolder(out)
	if err != nil {
		return Result{}, fmt.Errorf("ceremony: %w", err)
	}
	defer dir.close()
	tr, err := dir.transcript(now)
	if err != nil {
		return Result{}, fmt.Errorf("ceremony: %w: %w", ErrStep, err)
	}
	defer tr.close()
	r := &run{ctx: ctx, token: token, plan: &plan, dir: dir, transcript: tr, now: now()}
	result, err := r.all(info)
	if err != nil {
		// The record of the failure is best effort; the failure itself counts.
		err = errors.Join(err, tr.add(eventFailed, "failed", map[string]any{"error": err.Error()}))
		return Result{}, fmt.Errorf("ceremony: %w: %w", ErrStep, err)
	}
	result.Transcript = tr.last()
	return result, nil
}

// preflight is everything that can be found wrong without changing anything.
func preflight(ctx context.Context, token *hsm.Token, plan *Plan, now time.Time) error {
	if len(plan.text) == 0 {
		return fmt.Errorf("%w: it was not read from a reviewed text", ErrPlan)
	}
	if err := plan.Validate(); err != nil {
		return err
	}
	for _, ref := range []hsm.Ref{plan.rootRef(), plan.issuerRef()} {
		switch _, err := token.Lookup(ctx, ref); {
		case errors.Is(err, hsm.ErrKeyNotFound):
		case err == nil, errors.Is(err, hsm.ErrAmbiguous), errors.Is(err, hsm.ErrTemplate):
			return fmt.Errorf("%w: %s", ErrLabel, ref)
		default:
			return err
		}
	}
	if err := rehearse(plan, now); err != nil {
		return fmt.Errorf("%w: rehearsal: %w", ErrPlan, err)
	}
	return nil
}

// run is a ceremony that has begun.
type run struct {
	ctx        context.Context //nolint:containedctx // lives for one Run
	token      *hsm.Token
	plan       *Plan
	dir        *folder
	transcript *transcript
	now        time.Time
}

func (r *run) all(info hsm.TokenInfo) (Result, error) {
	hash := r.plan.Hash()
	if err := r.transcript.add(eventBegin, "ok", map[string]any{
		"plan": r.plan, "planText": string(r.plan.text), "planSha256": hex.EncodeToString(hash[:]),
		"tool": toolInfo(), "token": info, "moduleSha256": fileHash(info.Module),
	}); err != nil {
		return Result{}, err
	}
	out := Result{RootKey: r.plan.rootRef(), IssuerKey: r.plan.issuerRef()}
	rootKey, err := r.generate(out.RootKey, r.plan.Root.Algorithm)
	if err != nil {
		return Result{}, err
	}
	if out.Root, err = r.certify(step{profile: r.plan.Root.profile(issuance.Root()), subject: r.plan.Root.subject(), key: rootKey, signer: rootKey}); err != nil {
		return Result{}, err
	}
	root, err := issuance.NewAuthority(out.Root)
	if err != nil {
		return Result{}, err
	}
	issuerKey, err := r.generate(out.IssuerKey, r.plan.Issuer.Algorithm)
	if err != nil {
		return Result{}, err
	}
	if out.Issuer, err = r.certify(step{issuer: root, profile: r.plan.Issuer.profile(issuance.Issuer()), subject: r.plan.Issuer.subject(), key: issuerKey, signer: rootKey}); err != nil {
		return Result{}, err
	}
	if err := issuance.VerifyChain([][]byte{out.Issuer, out.Root}, r.now); err != nil {
		return Result{}, err
	}
	for _, f := range []struct {
		name  string
		certs [][]byte
	}{{RootFile, [][]byte{out.Root}}, {ChainFile, [][]byte{out.Issuer, out.Root}}} {
		sum, err := r.dir.writePEM(f.name, f.certs)
		if err != nil {
			return Result{}, err
		}
		if err := r.transcript.add(eventFile, "ok", map[string]any{"name": f.name, "sha256": sum}); err != nil {
			return Result{}, err
		}
	}
	return out, r.transcript.add(eventEnd, "ok", nil)
}

// generate makes one key. The intent, with the id that the key will have, is on
// record first: a crash leaves no key that can not be explained.
func (r *run) generate(ref hsm.Ref, alg hsm.Algorithm) (*hsm.Signer, error) {
	var id [16]byte
	if err := r.token.Random(r.ctx, id[:]); err != nil {
		return nil, err
	}
	detail := map[string]any{"label": ref.String(), "id": hex.EncodeToString(id[:]), "algorithm": alg}
	if err := r.transcript.add(eventKeyIntent, "ok", detail); err != nil {
		return nil, err
	}
	if _, err := r.token.Generate(r.ctx, ref, alg, id); err != nil {
		return nil, err
	}
	key, err := r.token.Signer(r.ctx, ref)
	if err != nil {
		return nil, err
	}
	csr, err := issuance.NewRequest(key)
	if err != nil {
		return nil, err
	}
	req, err := issuance.ParseRequest(csr)
	if err != nil {
		return nil, err
	}
	spki := req.SPKIHash()
	detail["spkiSha256"] = hex.EncodeToString(spki[:])
	return key, r.transcript.add(eventKey, "ok", detail)
}

// step is one certificate.
type step struct {
	issuer  *issuance.Authority // nil: self-signed
	profile issuance.Profile
	subject issuance.Subject
	key     crypto.Signer // to be certified
	signer  crypto.Signer
}

func (r *run) certify(s step) ([]byte, error) {
	draft, err := prepare(s, r.random(), r.now)
	if err != nil {
		return nil, err
	}
	tbs, profile := sha256.Sum256(draft.TBS()), draft.Profile().Hash()
	detail := map[string]any{
		"profile": draft.Profile().Name(), "profileSha256": hex.EncodeToString(profile[:]),
		"serial": draft.Serial().String(), "tbsSha256": hex.EncodeToString(tbs[:]),
		"notBefore": draft.NotBefore(), "notAfter": draft.NotAfter(),
		"lint": "zlint " + lint.Version + " and signet: no finding",
	}
	if err := r.transcript.add(eventDraft, "ok", detail); err != nil {
		return nil, err
	}
	der, err := draft.Sign(s.signer)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return der, r.transcript.add(eventCertificate, "ok", map[string]any{
		"serial": draft.Serial().String(), "sha256": hex.EncodeToString(sum[:]), "certificate": der,
	})
}
