package ceremony

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
)

// Names of the outputs of the short form within their folder. In general a root is
// <as>.pem, an intermediate and a cross-certificate <as>-chain.pem, a request
// <as>.csr and a CRL <by>.crl.
const (
	RootFile             = "root.pem"
	ChainFile            = "issuer-chain.pem"       // issuer first, root last
	RootCrossChainFile   = "root-cross-chain.pem"   // issuer, root by the existing root, existing root
	IssuerCrossChainFile = "issuer-cross-chain.pem" // issuer by the existing root, existing root
	RootCRLFile          = "root.crl"               // in DER
	ExistingRootCRLFile  = "existing-root.crl"
	TranscriptFile       = "transcript.jsonl"
	PrintFile            = "transcript.html" // the same for people, made of it
)

// Result is what a ceremony made; what its plan did not have is nil. All but the
// first and the last are those of the short form.
type Result struct {
	Certificates       map[string][]byte // in DER, by the name in the plan
	Root, Issuer       []byte
	RootKey, IssuerKey hsm.Ref
	// RootCross and IssuerCross are the cross-certificates by the existing root.
	RootCross, IssuerCross   []byte
	RootCRL, ExistingRootCRL []byte
	Transcript               string // hash of the transcript's last line, for people to write down
}

// Options say with what and by whom a plan is carried out.
type Options struct {
	HSM    HSM
	Token  *hsm.Token // open already, instead of HSM: PINs can not be set by such a run
	Second *hsm.Token // for backup_verify
	People []*custody.Key
	Out    string // new folder, whose parent must exist
	Resume bool   // Out is the folder of a ceremony of this plan that was cut off

	now       func() time.Time
	rehearsal bool
}

// Run carries out a plan on a token that is open and writes the outputs to the new
// folder out. See Execute.
func Run(ctx context.Context, token *hsm.Token, plan Plan, out string) (Result, error) {
	return Execute(ctx, plan, Options{Token: token, Out: out})
}

func start(ctx context.Context, token *hsm.Token, plan Plan, out string, now func() time.Time) (Result, error) {
	return Execute(ctx, plan, Options{Token: token, Out: out, now: now})
}

// Check is one finding of Preflight.
type Check struct{ Name, Finding string }

// Preflight finds whatever can be found wrong without changing anything, and says
// what it looked at.
func Preflight(ctx context.Context, plan Plan, o Options) ([]Check, error) {
	w, done, err := prepareWork(ctx, &plan, &o)
	if err != nil {
		return nil, fmt.Errorf("ceremony: %w", err)
	}
	defer done()
	list, err := w.preflight()
	if err != nil {
		return list, fmt.Errorf("ceremony: %w", err)
	}
	return list, nil
}

// Execute carries out a plan. Before anything is changed: ErrPlan, ErrPeople,
// ErrToken, ErrLabel, ErrKey, ErrOutput and what hsm says, and nothing is changed.
// After that: ErrStep; the transcript tells how far it came, and Resume goes on.
func Execute(ctx context.Context, plan Plan, o Options) (Result, error) {
	w, done, err := prepareWork(ctx, &plan, &o)
	if err != nil {
		return Result{}, fmt.Errorf("ceremony: %w", err)
	}
	defer done()
	if o.Resume {
		if w.dir, err = oldFolder(o.Out); err == nil {
			w.log, err = w.dir.resume(o.now)
		}
		if err == nil {
			err = w.sameCeremony()
		}
		if err != nil {
			return Result{}, fmt.Errorf("ceremony: %w", err)
		}
		w.device.dir = w.dir
	}
	if _, err := w.preflight(); err != nil {
		return Result{}, fmt.Errorf("ceremony: %w", err)
	}
	if !o.Resume {
		if w.dir, err = newFolder(o.Out); err != nil {
			return Result{}, fmt.Errorf("ceremony: %w", err)
		}
		w.device.dir = w.dir
		if w.log, err = w.dir.transcript(o.now); err != nil {
			return Result{}, fmt.Errorf("ceremony: %w: %w", ErrStep, err)
		}
	}
	if end := w.log.ended(); end != nil {
		w.over = true // the login is no part of what was signed
		if err := w.finish(end); err != nil {
			return Result{}, fmt.Errorf("ceremony: %w: %w", ErrStep, err)
		}
	} else if err := w.all(o.rehearsal); err != nil {
		// The record of the failure is best effort; the failure itself counts. After the
		// end come signatures only: those that are missing tell enough.
		if !w.over {
			err = errors.Join(err, w.last(eventFailed, "failed", map[string]any{"error": err.Error()}))
		}
		return Result{}, fmt.Errorf("ceremony: %w: %w", ErrStep, err)
	}
	result := w.result()
	if err := w.print(); err != nil {
		return result, fmt.Errorf("ceremony: %w: the transcript is whole, its printable form is not: %w", ErrStep, err)
	}
	return result, nil
}

// prepareWork puts together what a run needs; done gives it back.
func prepareWork(ctx context.Context, plan *Plan, o *Options) (w *work, done func(), err error) {
	if o.now == nil {
		o.now = time.Now
	}
	if len(plan.text) == 0 {
		return nil, nil, fmt.Errorf("%w: it was not read from a reviewed text", ErrPlan)
	}
	if err := plan.Validate(); err != nil {
		return nil, nil, err
	}
	w = newWork(ctx, plan, o.now(), onToken{})
	w.people, w.resumed = o.People, o.Resume
	w.device = &device{hsm: o.HSM, token: o.Token, second: o.Second, lent: o.Token != nil}
	w.rehearsing = o.rehearsal
	stop := func() {}
	if o.Token == nil {
		if stop, err = hsm.Witness(o.HSM.Module, w.called); err != nil {
			return nil, nil, err
		}
	}
	return w, func() {
		_ = w.device.close()
		stop()
		if w.log != nil {
			w.log.close()
		}
		if w.dir != nil {
			w.dir.close()
		}
	}, nil
}

// called takes a call of the module that changes the token into the transcript;
// those before it begins (the login) wait for it. It may come from another goroutine
// than the steps: a call that outlives its context is told of when it ends. What
// comes after the last line is not on record; the intent before it is.
func (w *work) called(c hsm.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.calls = append(w.calls, c)
	if w.begun {
		w.callErr = errors.Join(w.callErr, w.flush())
	}
}

// flush writes down the calls that wait. mu is held.
func (w *work) flush() error {
	for _, c := range w.calls {
		detail := map[string]any{"call": c.Function, "result": c.Result}
		if c.Label != "" {
			detail["label"] = c.Label
		}
		result := "ok"
		if c.Result != "CKR_OK" {
			result = "failed"
		}
		if err := w.log.add(w.step, eventCall, result, detail); err != nil {
			return err
		}
	}
	w.calls = nil
	return nil
}

// begin writes the first line, of the ceremony or of its resumption, and the calls
// that waited for it.
func (w *work) begin(event string, detail map[string]any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = true
	if err := w.log.add(w.step, event, "ok", detail); err != nil {
		return err
	}
	return w.flush()
}

// last writes a line after which no call is told of.
func (w *work) last(event, result string, detail map[string]any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	return w.log.add(w.step, event, result, detail)
}

// next begins a step.
func (w *work) next(step int, kind string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step = step
	return errors.Join(w.callErr, w.log.add(step, eventStep, "ok", map[string]any{"kind": kind}))
}

func (w *work) rehearsal() bool { return w.rehearsing }

// preflight is everything that can be found wrong without changing anything.
func (w *work) preflight() (list []Check, err error) {
	found := func(name, format string, a ...any) { list = append(list, Check{name, fmt.Sprintf(format, a...)}) }
	hash := w.plan.Hash()
	words, err := Words(hash)
	if err != nil {
		return list, err
	}
	found("plan", "%s: SHA-256 %s: %s", w.plan.Name, hex.EncodeToString(hash[:]), words)
	found("clock", "%s: compare it with another clock", w.now.UTC().Format(time.RFC3339))
	for i := range w.plan.People {
		p := &w.plan.People[i]
		key := w.person(p.Name)
		if key == nil {
			return list, fmt.Errorf("%w: the key file of %s (%s) was not given", ErrPeople, p.Name, p.Role)
		}
		if !key.Is(p) {
			return list, fmt.Errorf("%w: the key file of %s has not the keys that the plan names", ErrPeople, p.Name)
		}
	}
	found("people", "%d of %d have their keys here", len(w.plan.People), len(w.plan.People))
	if err := rehearse(w.plan, w.now); err != nil {
		return list, fmt.Errorf("%w: rehearsal: %w", ErrPlan, err)
	}
	found("lint", "every certificate and CRL made with throw-away keys in memory: %s", linted)
	for i, s := range w.plan.steps() {
		if s.BackupVerify != nil && w.device.second == nil {
			return list, fmt.Errorf("%w: step %d (backup_verify) needs a second token: name its configuration with --second", ErrPlan, i+1)
		}
	}
	kinds := w.plan.Kinds()
	if kinds[0] == "token_init" && !w.device.lent {
		if w.resumed && w.device.hsm.PIN == nil {
			found("token", "initialised by this plan; opened when its step is gone through")
			return list, nil
		}
		found("token", "the first empty one of %s will be initialised", w.device.modulePath())
		return list, hsm.Absent(w.device.hsm.Module, w.device.hsm.Env, w.plan.steps()[0].TokenInit.Label, w.resumed)
	}
	if kinds[0] == "pin_init" && w.device.token == nil {
		found("token", "the user's PIN is set before anybody logs in")
		return list, nil
	}
	if w.device.token == nil {
		if err := w.device.open(w.ctx, w.device.hsm.TokenLabel); err != nil {
			return list, err
		}
	}
	info, err := w.device.token.Info(w.ctx)
	if err != nil {
		return list, err
	}
	found("token", "%s, serial %s, %s %s, firmware %s", info.Label, info.Serial, info.Manufacturer, info.Model, info.Firmware)
	if t := w.plan.Token; t != nil && !w.rehearsing && (t.Label != "" && t.Label != info.Label || t.Serial != "" && t.Serial != info.Serial) {
		return list, fmt.Errorf("%w: the plan is for label %q serial %q, this is label %q serial %q", ErrToken, t.Label, t.Serial, info.Label, info.Serial)
	}
	found("module", "%s, SHA-256 %s", info.Module, fileHash(info.Module))
	if officer, err := w.device.token.Officer(); err == nil {
		c, err := officer.Condition(w.ctx)
		if err != nil {
			return list, err
		}
		found("PINs", "user's %s, security officer's %s; free memory %s", c.UserPIN, c.SOPIN, c.Free)
		if c.UserPIN == "final try" || c.UserPIN == "locked" {
			return list, fmt.Errorf("%w: the user's PIN is at its %s: find out who tried, then set it by pin_init", ErrToken, c.UserPIN)
		}
	}
	var random [32]byte
	if err := w.device.token.Random(w.ctx, random[:]); err != nil {
		return list, err
	}
	if random == [32]byte{} {
		return list, fmt.Errorf("%w: its random generator gives zeros", ErrToken)
	}
	found("random", "the token's generator answers")
	if !w.resumed { // what is there already is then the plan's own, step by step
		for i, s := range w.plan.steps() {
			_, a, err := s.action()
			if err == nil {
				err = a.look(w.ctx, w.device.token, w)
			}
			if err != nil {
				return list, fmt.Errorf("step %d: %w", i+1, err)
			}
		}
		found("keys", "labels of new keys are free, keys that are used are there: %d steps", len(kinds))
	}
	return list, nil
}

// sameCeremony refuses to go on with another plan than the one that was begun.
func (w *work) sameCeremony() error {
	hash := w.plan.Hash()
	if begun := w.log.before[0].Detail["planSha256"]; begun != hex.EncodeToString(hash[:]) {
		return fmt.Errorf("%w: the ceremony was begun with the plan %v: resume it with that very file", ErrPlan, begun)
	}
	return nil
}

// all goes through the steps.
func (w *work) all(rehearsal bool) error {
	begin := map[string]any{"tool": toolInfo()}
	event := eventResume
	if !w.resumed {
		hash := w.plan.Hash()
		words, err := Words(hash)
		if err != nil {
			return err
		}
		event = eventBegin
		begin["plan"], begin["planText"], begin["planSha256"], begin["planWords"] = w.plan, string(w.plan.text), hex.EncodeToString(hash[:]), words
		if rehearsal {
			begin["rehearsal"] = true
		}
	}
	path := w.device.modulePath()
	if w.device.token != nil {
		info, err := w.device.token.Info(w.ctx)
		if err != nil {
			return err
		}
		begin["token"], path = info, info.Module
		if w.resumed {
			if err := w.sameToken(info); err != nil {
				return err
			}
		}
	}
	begin["module"], begin["moduleSha256"] = path, fileHash(path)
	if err := w.begin(event, begin); err != nil {
		return err
	}
	for i, s := range w.plan.steps() {
		kind, a, err := s.action()
		if err != nil {
			return err
		}
		if err := w.next(i+1, kind); err != nil { // also when a call did not get on record
			return err
		}
		if err := a.do(w); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, kind, err)
		}
	}
	return w.end()
}

// sameToken refuses to go on on another token than the one that has the keys.
func (w *work) sameToken(info hsm.TokenInfo) error {
	for i := range w.log.before {
		if t, ok := w.log.before[i].Detail["token"].(map[string]any); ok && t["Serial"] != info.Serial {
			return fmt.Errorf("%w: it was begun on serial %v, this is %s", ErrToken, t["Serial"], info.Serial)
		}
	}
	return nil
}

func (w *work) result() Result {
	out := Result{Certificates: map[string][]byte{}, Transcript: w.log.last()}
	for _, a := range w.order {
		out.Certificates[a.as] = a.chain[0]
	}
	for name, der := range w.crosses {
		out.Certificates[name+"-cross"] = der
	}
	if r := w.cas[newRoot]; r != nil && !r.existing {
		out.Root, out.RootKey, out.RootCross, out.RootCRL = r.chain[0], r.ref, w.crosses[newRoot], w.crls[newRoot]
	}
	if i := w.cas[newIssuer]; i != nil && !i.existing {
		out.Issuer, out.IssuerKey, out.IssuerCross = i.chain[0], i.ref, w.crosses[newIssuer]
	}
	out.ExistingRootCRL = w.crls[existingRoot]
	return out
}

// Only reports whether the plan has steps of these kinds only, and at least one of
// the first: what a verb of the offline program takes.
func (p *Plan) Only(kinds ...string) error {
	has := p.Kinds()
	for _, k := range has {
		if !slices.Contains(kinds, k) {
			return fmt.Errorf("ceremony: %w: this verb takes steps of %s; the plan has %s too: use run", ErrPlan, strings.Join(kinds, ", "), k)
		}
	}
	if !slices.Contains(has, kinds[0]) {
		return fmt.Errorf("ceremony: %w: there is no step %s in it", ErrPlan, kinds[0])
	}
	return nil
}
