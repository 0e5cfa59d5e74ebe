package ca

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// IssueRequest asks for the certificate of one client.
type IssueRequest struct {
	Profile string // AST_DEVICE, SIGNATURE, GATEWAY or another of the configuration's; "" = that of devices
	CSR     []byte // PKCS#10 in DER
	User    string // 1..255 printable characters; kept in the record, not in the certificate; may be "" for a gateway
	Client  string // the client's id, 26 characters; becomes the common name
	// AltNames are the hosts of a gateway, which the caller knows to be the
	// client's; other profiles allow none.
	AltNames issuance.AltNames
	Actor    string // who asks, for the audit trail
}

// Certificate is an issued certificate.
type Certificate struct {
	Ref       string // ULID
	Serial    issuance.Serial
	Signer    string // id of the issuing signer
	DER       []byte
	Chain     [][]byte // the certificates above it: signer first, root last
	NotBefore time.Time
	NotAfter  time.Time // the last valid second
}

// leaf is one certificate on its way.
type leaf struct {
	tenant   tenant.ID
	req      *IssueRequest
	profile  *issuance.Template
	request  *issuance.Request
	replaces string // reference of the certificate that this one renews; "" = none
	line     *line
	ref      string
	draft    *issuance.Draft
}

// IssueDevice is Issue with the profile of devices.
func (a *Authority) IssueDevice(ctx context.Context, t tenant.ID, r IssueRequest) (Certificate, error) {
	r.Profile = a.device
	return a.Issue(ctx, t, r)
}

// Issue issues a certificate by the tenant's ACTIVE signer. Errors: ErrRequest,
// those of issuance.ParseRequest and Prepare (all before anything is stored),
// ErrNoSigner, fault.ErrUnavailable. When the last statement fails, the record
// stays REQUESTED until the reconciler judges it, and the certificate is not
// handed out.
func (a *Authority) Issue(ctx context.Context, t tenant.ID, r IssueRequest) (Certificate, error) {
	if r.Profile == "" {
		r.Profile = a.device
	}
	return a.issueLeaf(ctx, &leaf{tenant: t, req: &r})
}

func (a *Authority) issueLeaf(ctx context.Context, l *leaf) (_ Certificate, err error) {
	start := a.now()
	if l.profile = a.leaves[l.req.Profile]; l.profile == nil {
		return Certificate{}, ErrRequest.With(fault.Violation{Field: "profile", Hint: "must be the name of a certificate profile"})
	}
	defer func() { a.metrics.done(l.profile.Name(), start, a.now(), err) }()
	if err := l.req.validate(); err != nil {
		return Certificate{}, err
	}
	if l.request, err = issuance.ParseRequest(l.req.CSR); err != nil {
		return Certificate{}, fmt.Errorf("ca: %w", err)
	}
	ctx, cancel := a.begin(ctx)
	defer cancel()
	if err := a.intendLeaf(ctx, l); err != nil {
		return Certificate{}, err
	}
	der, err := l.draft.Sign(bound{ctx, l.line.key})
	if err != nil {
		err = unusable("sign certificate", err)
		a.failLeaf(ctx, l, err)
		return Certificate{}, err
	}
	if err := a.storeLeaf(ctx, l, der); err != nil {
		return Certificate{}, err
	}
	return Certificate{
		Ref: l.ref, Serial: l.draft.Serial(), Signer: l.line.id, DER: der, Chain: l.line.chain,
		NotBefore: l.draft.NotBefore(), NotAfter: l.draft.NotAfter(),
	}, nil
}

func (r *IssueRequest) validate() error {
	var v []fault.Violation
	if len(r.CSR) == 0 {
		v = append(v, fault.Violation{Field: "csr", Hint: "must not be empty"})
	}
	if !validText(r.User, maxUser) && !(r.User == "" && r.Profile == gateway) {
		v = append(v, fault.Violation{Field: "user", Hint: "must be 1.." + strconv.Itoa(maxUser) + " printable characters"})
	}
	if !validClient(r.Client) {
		v = append(v, fault.Violation{Field: "client", Hint: "must be 26 characters of 0-9 A-H J K M N P-T V-Z"})
	}
	if v != nil {
		return ErrRequest.With(v...)
	}
	return nil
}

// intendLeaf drafts the certificate and records the intent. The record is
// written only while the signer is ACTIVE; when a rotation came first, the next
// round drafts anew, with another serial, by the new signer.
func (a *Authority) intendLeaf(ctx context.Context, l *leaf) error {
	for n := range maxIntents {
		var err error
		if l.line, err = a.currentLine(ctx, l.tenant); err != nil {
			return err
		}
		id, err := a.newID()
		if err != nil {
			return err
		}
		serial, err := issuance.NewSerial(a.random)
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		stencil, err := a.stencil(l.line, l.profile, serial)
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		if l.draft, err = issuance.Prepare(issuance.Order{
			Stencil: stencil, Request: l.request, Serial: serial, Now: a.now(),
			Subject:  issuance.Subject{Organization: l.tenant.String(), CommonName: l.req.Client},
			AltNames: l.req.AltNames,
		}); err != nil {
			if n == 0 && errors.Is(err, issuance.ErrIssuerExpired) {
				a.forget(l.line) // another node may have renewed the signer
				continue
			}
			return fmt.Errorf("ca: %w", err)
		}
		l.ref = id.String()
		done, err := a.recordIntent(ctx, l)
		if err != nil {
			return fmt.Errorf("ca: record certificate: %w", err)
		}
		if done {
			return nil
		}
		if err := a.stillHeld(ctx, l); err != nil {
			return err
		}
		a.forget(l.line)
	}
	return fmt.Errorf("ca: %w", ErrBusy)
}

func (a *Authority) storeLeaf(ctx context.Context, l *leaf, der []byte) error {
	done, err := a.storeIssued(ctx, l, der)
	switch {
	case err != nil:
		a.logUnstored(ctx, l, err)
		return fmt.Errorf("ca: store certificate: %w", err)
	case !done:
		// Too late for its lease, or the signer was revoked, or the certificate that
		// this one renews. What is left is the reconciler's, which treats it as signed.
		a.forget(l.line)
		return fmt.Errorf("ca: store certificate %s: %w", l.ref, ErrRecord)
	}
	return nil
}

// failLeaf records that nothing was signed. It is best effort: the row says
// REQUESTED otherwise, and no certificate left.
func (a *Authority) failLeaf(ctx context.Context, l *leaf, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	reason := reasonOf(cause)
	event, err := a.audit.Args(l.event(a.wallTime(), strings.ToLower(reason)))
	if err == nil {
		_, err = a.db.Exec(ctx, sqlLeafFailed, append([]any{l.tenant.String(), l.ref, reason}, event...)...)
	}
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelError, "ca: a failed certificate could not be recorded",
			slog.String("tenant", l.tenant.String()), slog.String("serial", l.draft.Serial().String()), slog.Any("cause", err))
	}
}

func (l *leaf) event(at time.Time, outcome string) audit.Event {
	return audit.Event{
		Tenant: l.tenant, At: at, Action: "certificate.issue", Actor: l.req.Actor, Subject: l.ref,
		UserID: l.req.User, Outcome: outcome, JSON: l.detail(),
	}
}

// detail is the event's, as JSON. Its values are names of ours, ids and hex digits:
// nothing in them has to be quoted.
func (l *leaf) detail() []byte {
	spki, serial := l.draft.SPKIHash(), l.draft.Serial()
	b := make([]byte, 0, 320)
	field := func(before, value string) { b = append(append(b, before...), value...) }
	field(`{"profile":"`, l.profile.Name())
	field(`","client":"`, l.req.Client)
	field(`","signer":"`, l.line.id)
	b = hex.AppendEncode(append(b, `","serial":"`...), serial[:])
	b = hex.AppendEncode(append(b, `","spkiSha256":"`...), spki[:])
	if l.replaces != "" {
		field(`","replaces":"`, l.replaces)
	}
	return append(b, `"}`...)
}

// orNull stores "" as NULL.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
