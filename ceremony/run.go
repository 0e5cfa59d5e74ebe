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

// Names of the outputs within their folder; there are those of the steps in the plan.
const (
	RootFile             = "root.pem"
	ChainFile            = "issuer-chain.pem"       // issuer first, root last
	RootCrossChainFile   = "root-cross-chain.pem"   // issuer, root by the existing root, existing root
	IssuerCrossChainFile = "issuer-cross-chain.pem" // issuer by the existing root, existing root
	RootCRLFile          = "root.crl"               // in DER
	ExistingRootCRLFile  = "existing-root.crl"
	TranscriptFile       = "transcript.jsonl"
)

// Result is what a ceremony made; what its plan did not have is nil.
type Result struct {
	Root, Issuer       []byte // certificates in DER
	RootKey, IssuerKey hsm.Ref
	// RootCross and IssuerCross are the cross-certificates by the existing root.
	RootCross, IssuerCross   []byte
	RootCRL, ExistingRootCRL []byte
	Transcript               string // hash of the transcript's last line, for people to write down
}

// Run carries out a plan on a token and writes the outputs to the new folder
// out, whose parent must exist. Before any key is made or used: ErrPlan, ErrLabel,
// ErrKey, ErrOutput, and nothing is changed. After that: ErrStep.
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
	for _, ref := range plan.newRefs() {
		switch _, err := token.Lookup(ctx, ref); {
		case errors.Is(err, hsm.ErrKeyNotFound):
		case err == nil, errors.Is(err, hsm.ErrAmbiguous), errors.Is(err, hsm.ErrTemplate):
			return fmt.Errorf("%w: %s", ErrLabel, ref)
		default:
			return err
		}
	}
	if plan.ExistingRoot != nil {
		if err := checkExisting(ctx, token, plan.ExistingRoot, now); err != nil {
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
	var out Result
	h := &hierarchy{}
	if r.plan.Root != nil {
		if err := r.authorities(h, &out); err != nil {
			return Result{}, err
		}
	}
	if r.plan.ExistingRoot != nil {
		if err := r.existing(h); err != nil {
			return Result{}, err
		}
	}
	for i := range r.plan.CrossSign {
		if err := r.crossSign(h, &r.plan.CrossSign[i], &out); err != nil {
			return Result{}, err
		}
	}
	for i := range r.plan.CRLs {
		if err := r.signCRL(h, &r.plan.CRLs[i], &out); err != nil {
			return Result{}, err
		}
	}
	return out, r.transcript.add(eventEnd, "ok", nil)
}

// authorities makes the new root and issuer.
func (r *run) authorities(h *hierarchy, out *Result) (err error) {
	root, issuer := r.plan.Root, r.plan.Issuer
	out.RootKey, out.IssuerKey = root.ref(hsm.RoleRoot), issuer.ref(hsm.RoleIssuer)
	if h.rootKey, err = r.generate(out.RootKey, root.Algorithm); err != nil {
		return err
	}
	if out.Root, err = r.certify(step{profile: root.profile(issuance.Root()), subject: root.subject(), key: h.rootKey, signer: h.rootKey}); err != nil {
		return err
	}
	if h.root, err = issuance.NewAuthority(out.Root); err != nil {
		return err
	}
	if h.issuerKey, err = r.generate(out.IssuerKey, issuer.Algorithm); err != nil {
		return err
	}
	if out.Issuer, err = r.certify(step{issuer: h.root, profile: issuer.profile(issuance.Issuer()), subject: issuer.subject(), key: h.issuerKey, signer: h.rootKey}); err != nil {
		return err
	}
	if h.issuer, err = issuance.NewAuthority(out.Issuer); err != nil {
		return err
	}
	if err := issuance.VerifyChain([][]byte{out.Issuer, out.Root}, r.now); err != nil {
		return err
	}
	if err := r.write(RootFile, pemOf(out.Root)); err != nil {
		return err
	}
	return r.write(ChainFile, pemOf(out.Issuer, out.Root))
}

// existing takes the existing root's key into use.
func (r *run) existing(h *hierarchy) (err error) {
	if h.existing, err = r.plan.ExistingRoot.authority(); err != nil {
		return err
	}
	ref := r.plan.ExistingRoot.ref()
	if h.existingKey, err = r.token.Signer(r.ctx, ref); err != nil {
		return err
	}
	cert := sha256.Sum256(h.existing.Certificate().Raw)
	return r.transcript.add(eventKeyUse, "ok", map[string]any{
		"label": ref.String(), "certificateSha256": hex.EncodeToString(cert[:]),
	})
}

func (r *run) crossSign(h *hierarchy, c *CrossSign, out *Result) error {
	der, err := r.certify(h.crossStep(r.plan, c))
	if err != nil {
		return err
	}
	if err := h.checkCross(c, der); err != nil {
		return err
	}
	path := h.path(c, der)
	if err := issuance.VerifyPath(path, r.now); err != nil {
		return err
	}
	if c.Certify == newRoot {
		out.RootCross = der
		return r.write(RootCrossChainFile, pemOf(path...))
	}
	out.IssuerCross = der
	return r.write(IssuerCrossChainFile, pemOf(path...))
}

func (r *run) signCRL(h *hierarchy, c *CRL, out *Result) error {
	by, key := h.by(c)
	draft, err := prepareCRL(c, by, r.now)
	if err != nil {
		return err
	}
	tbs := sha256.Sum256(draft.tbs)
	if err := r.transcript.add(eventCRLDraft, "ok", map[string]any{
		"by": c.By, "number": c.Number, "thisUpdate": draft.template.ThisUpdate, "nextUpdate": draft.template.NextUpdate,
		"entries": len(c.Revoked), "tbsSha256": hex.EncodeToString(tbs[:]), "lint": linted,
	}); err != nil {
		return err
	}
	der, err := draft.sign(key)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	if err := r.transcript.add(eventCRL, "ok", map[string]any{
		"by": c.By, "number": c.Number, "sha256": hex.EncodeToString(sum[:]), "crl": der,
	}); err != nil {
		return err
	}
	if c.By == newRoot {
		out.RootCRL = der
		return r.write(RootCRLFile, der)
	}
	out.ExistingRootCRL = der
	return r.write(ExistingRootCRLFile, der)
}

// write writes one output.
func (r *run) write(name string, content []byte) error {
	if err := r.dir.write(name, content); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	return r.transcript.add(eventFile, "ok", map[string]any{"name": name, "sha256": hex.EncodeToString(sum[:])})
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

// linted is the verdict in the transcript; there is no draft with another.
const linted = "zlint " + lint.Version + " and signet: no finding"

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
		"lint": linted,
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
