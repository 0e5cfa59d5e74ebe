package ca

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// IssueRequest asks for the certificate of one client.
type IssueRequest struct {
	CSR    []byte // PKCS#10 in DER
	User   string // 1..255 printable characters; kept in the record, not in the certificate
	Client string // the client's id, 26 characters; becomes the common name
	Actor  string // who asks, for the audit trail
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

// IssueDevice issues a certificate of profile AST_DEVICE by the tenant's ACTIVE
// signer. Errors: ErrRequest, those of issuance.ParseRequest and Prepare (all
// before anything is stored), ErrNoSigner, fault.ErrUnavailable. When the last
// statement fails, the record stays REQUESTED under its serial, and the
// certificate is not handed out.
func (a *Authority) IssueDevice(ctx context.Context, t tenant.ID, r IssueRequest) (_ Certificate, err error) {
	start := a.now()
	defer func() { a.metrics.done(a.devices.Name(), start, a.now(), err) }()
	if err := r.validate(); err != nil {
		return Certificate{}, err
	}
	request, err := issuance.ParseRequest(r.CSR)
	if err != nil {
		return Certificate{}, fmt.Errorf("ca: %w", err)
	}
	i, err := a.intendDevice(ctx, t, request, r)
	if err != nil {
		return Certificate{}, err
	}
	der, err := i.draft.Sign(bound{ctx, i.line.key})
	if err != nil {
		err = unusable("sign certificate", err)
		a.failDevice(ctx, i, err)
		return Certificate{}, err
	}
	if err := a.storeDevice(ctx, i, der); err != nil {
		return Certificate{}, err
	}
	return Certificate{
		Ref: i.ref, Serial: i.draft.Serial(), Signer: i.line.id, DER: der, Chain: i.line.chain,
		NotBefore: i.draft.NotBefore(), NotAfter: i.draft.NotAfter(),
	}, nil
}

func (r *IssueRequest) validate() error {
	var v []fault.Violation
	if len(r.CSR) == 0 {
		v = append(v, fault.Violation{Field: "csr", Hint: "must not be empty"})
	}
	if !validText(r.User, maxUser) {
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

// issue is one certificate on its way.
type issue struct {
	line  *line
	ref   string
	draft *issuance.Draft
	req   *IssueRequest
}

// intendDevice drafts the certificate and records the intent. The record is
// written only while the signer is ACTIVE; when a rotation came first, the next
// round drafts anew, with another serial, by the new signer.
func (a *Authority) intendDevice(ctx context.Context, t tenant.ID, request *issuance.Request, r IssueRequest) (*issue, error) {
	for range maxIntents {
		l, err := a.currentLine(ctx, t)
		if err != nil {
			return nil, err
		}
		id, err := a.newID()
		if err != nil {
			return nil, err
		}
		serial, err := issuance.NewSerial(a.random)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		draft, err := issuance.Prepare(issuance.Order{
			Issuer: l.authority, Profile: a.devices, Request: request, Serial: serial, Now: a.now(),
			Subject: issuance.Subject{Organization: t.String(), CommonName: r.Client},
		})
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		spki, hash := draft.SPKIHash(), a.devices.Hash()
		tag, err := a.db.Exec(ctx, sqlDeviceIntent,
			t.String(), id.String(), serial[:], a.devices.Name(), hash[:], l.authority.Certificate().SubjectKeyId,
			r.User, r.Client, spki[:], draft.NotBefore(), draft.NotAfter(), a.wallTime(), l.id)
		if err != nil {
			return nil, fmt.Errorf("ca: record certificate: %w", pg.Unavailable(err))
		}
		if tag.RowsAffected() == 1 {
			return &issue{line: l, ref: id.String(), draft: draft, req: &r}, nil
		}
		a.forget(l)
	}
	return nil, fmt.Errorf("ca: %w", ErrBusy)
}

func (a *Authority) storeDevice(ctx context.Context, i *issue, der []byte) error {
	now := a.wallTime()
	event, err := a.audit.Args(i.event(now, "ok"))
	if err != nil {
		return fmt.Errorf("ca: %w: %w", ErrRecord, err)
	}
	tag, err := a.db.Exec(ctx, sqlDeviceIssued, append([]any{i.line.tenant.String(), i.ref, der, now}, event...)...)
	switch {
	case err != nil:
		// Signed, not stored, not answered: the log has what a person would need
		// to find the record, which says REQUESTED.
		a.log.LogAttrs(ctx, slog.LevelError, "ca: a signed certificate could not be stored",
			slog.String("tenant", i.line.tenant.String()), slog.String("serial", i.draft.Serial().String()), slog.Any("cause", err))
		return fmt.Errorf("ca: store certificate: %w", pg.Unavailable(err))
	case tag.RowsAffected() != 1:
		return fmt.Errorf("ca: store certificate %s: %w", i.ref, ErrRecord)
	}
	return nil
}

// failDevice records that nothing was signed. It is best effort: the row says
// REQUESTED otherwise, and no certificate left.
func (a *Authority) failDevice(ctx context.Context, i *issue, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	reason := reasonOf(cause)
	event, err := a.audit.Args(i.event(a.wallTime(), strings.ToLower(reason)))
	if err == nil {
		_, err = a.db.Exec(ctx, sqlDeviceFailed, append([]any{i.line.tenant.String(), i.ref, reason}, event...)...)
	}
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelError, "ca: a failed certificate could not be recorded",
			slog.String("tenant", i.line.tenant.String()), slog.String("serial", i.draft.Serial().String()), slog.Any("cause", err))
	}
}

func (i *issue) event(at time.Time, outcome string) audit.Event {
	spki := i.draft.SPKIHash()
	return audit.Event{
		Tenant: i.line.tenant, At: at, Action: "certificate.issue", Actor: i.req.Actor, Subject: i.ref,
		UserID: i.req.User, Outcome: outcome,
		Detail: map[string]any{
			"profile": i.draft.Profile().Name(), "client": i.req.Client, "signer": i.line.id,
			"serial": i.draft.Serial().String(), "spkiSha256": hex.EncodeToString(spki[:]),
		},
	}
}
