package ca

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// CreateSigner asks for a new signer.
type CreateSigner struct {
	Name  string // 1..64 printable characters; "" = the default name and the generation
	Actor string // who asks, for the audit trail
}

// The states that callers never see.
const failedState State = "FAILED"

// creation is one signer on its way from intent to ACTIVE.
type creation struct {
	tenant     tenant.ID
	id         ulid.ULID
	name       string
	generation int
	actor      string
	created    time.Time
	request    *issuance.Request
	draft      *issuance.Draft
	key        key
}

// CreateSigner makes a signer with a fresh key and makes it the ACTIVE one; the
// one before becomes RETIRED (CA-06). Errors: ErrRequest, ErrBusy,
// ErrSuperseded, fault.ErrUnavailable; after an error the tenant's signers are
// what they were, except that a newer one may have come from elsewhere.
func (a *Authority) CreateSigner(ctx context.Context, t tenant.ID, r CreateSigner) (_ Signer, err error) {
	start := a.now()
	defer func() { a.metrics.done(a.signers.Name(), start, a.now(), err) }()
	if r.Name != "" && !validText(r.Name, maxName) {
		return Signer{}, ErrRequest.With(fault.Violation{
			Field: "name", Hint: "must be 1.." + strconv.Itoa(maxName) + " printable characters without blanks around them",
		})
	}
	c := &creation{tenant: t, name: r.Name, actor: r.Actor}
	ctx, cancel := a.begin(ctx)
	defer cancel()
	if err := a.intend(ctx, c); err != nil {
		return Signer{}, err
	}
	der, err := a.certify(ctx, c)
	if err == nil {
		err = a.activate(ctx, c, der)
	}
	if err != nil {
		if committed := a.abandon(ctx, c, err); !committed {
			return Signer{}, err
		}
	}
	a.current.Delete(t) // so that requests from now on need not find out by a failed intent
	return a.one(ctx, t, sqlSignerByID, t.String(), c.id.String())
}

// begin bounds one piece of work so that it is over, or known to have failed,
// before its lease ends and the reconciler takes it for dead.
func (a *Authority) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.lease-a.lease/4)
}

// intend writes the PENDING row before any key exists: its id will be the key's
// CKA_ID and its generation part of the label, so that a crash leaves nothing
// that can not be explained.
func (a *Authority) intend(ctx context.Context, c *creation) (err error) {
	if c.id, err = a.newID(); err != nil {
		return err
	}
	c.created = a.wallTime()
	var name *string
	if c.name != "" {
		name = &c.name
	}
	label := strings.TrimSuffix(signerRef(c.tenant, 0).String(), "0")
	for range maxIntents {
		err = a.db.QueryRow(ctx, sqlSignerIntent,
			c.tenant.String(), c.id.String(), name, a.namePrefix, label, string(a.algorithm), c.created,
			a.shards, a.node, a.lease.Milliseconds(),
		).Scan(&c.name, &c.generation)
		if err == nil {
			return nil
		}
		if !pg.IsUnique(err, "ca_signer_generation") {
			return fmt.Errorf("ca: record signer: %w", pg.Unavailable(err))
		}
	}
	return fmt.Errorf("ca: %w: no free generation in %d tries: %w", ErrBusy, maxIntents, err)
}

// certify makes the key and its certificate. The key certifies itself by a
// request like a stranger's, so it is judged by the same rules and has signed
// once before anybody depends on it.
func (a *Authority) certify(ctx context.Context, c *creation) (der []byte, err error) {
	ref := signerRef(c.tenant, c.generation)
	if err := a.keys.generate(ctx, ref, a.algorithm, c.id); err != nil {
		return nil, unusable("generate signer key", err)
	}
	if c.key, err = a.keys.signer(ctx, ref); err != nil {
		return nil, unusable("new signer key", err)
	}
	csr, err := issuance.NewRequest(bound{ctx, c.key})
	if err != nil {
		return nil, unusable("request for the new key", err)
	}
	if c.request, err = issuance.ParseRequest(csr); err != nil {
		return nil, unusable("new signer key", err)
	}
	serial, err := issuance.NewSerial(a.random)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if c.draft, err = issuance.Prepare(issuance.Order{
		Issuer: a.issuer, Profile: a.signers, Request: c.request, Serial: serial, Now: a.now(),
		Subject:   issuance.Subject{Organization: c.tenant.String(), CommonName: c.name, SerialNumber: c.id.String()},
		Locations: a.locations(a.issuer, serial, issuerShards),
	}); err != nil {
		return nil, fmt.Errorf("ca: draft signer certificate: %w", err)
	}
	if err := a.recordSignerIntent(ctx, c); err != nil {
		return nil, err
	}
	if der, err = c.draft.Sign(bound{ctx, a.issuerKey}); err != nil {
		return nil, unusable("sign signer certificate", err)
	}
	// The whole path is walked before the signer can be seen.
	if err := issuance.VerifyChain(append([][]byte{der}, a.issuers[0].chain...), a.now()); err != nil {
		return nil, fmt.Errorf("ca: new signer: %w", err)
	}
	return der, nil
}

func (a *Authority) recordSignerIntent(ctx context.Context, c *creation) error {
	d, serial := c.draft, c.draft.Serial()
	spki, hash := d.SPKIHash(), d.Profile().Hash()
	err := pg.InTx(ctx, a.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlSignerCertificateIntent,
			c.tenant.String(), c.id.String(), serial[:], d.Profile().Name(), hash[:], a.issuer.Certificate().SubjectKeyId,
			spki[:], d.NotBefore(), d.NotAfter(), c.created, c.actor, a.node, a.lease.Milliseconds()); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sqlSignerKey, c.tenant.String(), c.id.String(), spki[:], serial[:], a.wallTime())
		if err == nil && tag.RowsAffected() != 1 {
			err = ErrRecord
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("ca: record signer certificate: %w", pg.Unavailable(err))
	}
	return nil
}

// activate stores the certificate and moves both signers in one transaction.
// Which creation comes first is decided by the unique index on ACTIVE; the loop
// is for the loser, who then sees the winner and retires it, or yields to it.
func (a *Authority) activate(ctx context.Context, c *creation, der []byte) error {
	for range maxIntents {
		err := pg.InTx(ctx, a.db, func(tx pgx.Tx) error { return a.switchOver(ctx, tx, c, der) })
		if err == nil {
			return nil
		}
		if !pg.IsUnique(err, "ca_signer_one_active") {
			return fmt.Errorf("ca: activate signer: %w", pg.Unavailable(err))
		}
		var newer bool
		if err := a.db.QueryRow(ctx, sqlSignerNewer, c.tenant.String(), c.generation).Scan(&newer); err != nil {
			return fmt.Errorf("ca: activate signer: %w", pg.Unavailable(err))
		}
		if newer {
			return fmt.Errorf("ca: generation %d: %w", c.generation, ErrSuperseded)
		}
	}
	return fmt.Errorf("ca: generation %d: %w", c.generation, ErrBusy)
}

func (a *Authority) switchOver(ctx context.Context, tx pgx.Tx, c *creation, der []byte) error {
	t, id, now := c.tenant.String(), c.id.String(), a.wallTime()
	rows, err := tx.Query(ctx, sqlSignerRetire, t, c.generation, now)
	if err != nil {
		return err
	}
	retired, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, sqlSignerActivate, t, id, der, now)
	if err != nil {
		return err
	}
	issued, err := tx.Exec(ctx, sqlSignerCertificateIssued, t, id, der, now)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != 1 || issued.RowsAffected() != 1 {
		return ErrRecord
	}
	spki := c.draft.SPKIHash()
	return a.audit.RecordTx(ctx, tx, audit.Event{
		Tenant: c.tenant, At: now, Action: "signer.create", Actor: c.actor, Subject: id, Outcome: "ok",
		Detail: map[string]any{
			"name": c.name, "generation": c.generation, "algorithm": string(a.algorithm), "retired": retired,
			"serial": c.draft.Serial().String(), "spkiSha256": hex.EncodeToString(spki[:]),
		},
	})
}

// abandon marks a creation FAILED and destroys its key. It reports true when the
// creation turns out to be committed after all: the answer to a commit can be
// lost while the commit is not. The request may be over, so it has a little time
// of its own; what it can not do is left to the reconciler, and nobody sees it.
func (a *Authority) abandon(ctx context.Context, c *creation, cause error) (committed bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	t, id, reason := c.tenant.String(), c.id.String(), reasonOf(cause)
	var failed bool
	err := pg.InTx(ctx, a.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlSignerFail, t, id, reason, a.wallTime())
		failed = err == nil && tag.RowsAffected() == 1
		if err != nil || !failed {
			return err
		}
		if _, err := tx.Exec(ctx, sqlCertificateFailed, t, id, reason); err != nil {
			return err
		}
		return a.audit.RecordTx(ctx, tx, audit.Event{
			Tenant: c.tenant, Action: "signer.create", Actor: c.actor, Subject: id, Outcome: strings.ToLower(reason),
			Detail: map[string]any{"name": c.name, "generation": c.generation},
		})
	})
	state := failedState
	if err == nil && !failed {
		err = a.db.QueryRow(ctx, sqlSignerState, t, id).Scan(&state)
	}
	// Only in this state is it certain that no certificate of this key will be
	// used. The reconciler may have come first; it left the key to us.
	if err == nil && state == failedState {
		err = a.destroyKey(ctx, c.tenant, c.id, c.generation)
	}
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelError, "ca: a failed signer creation is left to the reconciler",
			slog.String("tenant", t), slog.String("signer", id), slog.Any("cause", err))
		return false
	}
	return state == Active || state == Retired
}

// destroyKey destroys the key of a FAILED or DELETED signer and records that it
// is gone.
func (a *Authority) destroyKey(ctx context.Context, t tenant.ID, id ulid.ULID, generation int) error {
	if err := a.keys.discard(ctx, signerRef(t, generation), id); err != nil {
		return unusable("destroy signer key", err)
	}
	if _, err := a.db.Exec(ctx, sqlSignerKeyGone, t.String(), id.String(), a.wallTime()); err != nil {
		return fmt.Errorf("ca: record a destroyed key: %w", pg.Unavailable(err))
	}
	return nil
}

// reasonOf is what a row and an event may say about a failure: stable, and
// nothing of the request or of the HSM in it.
func reasonOf(err error) string {
	if f := fault.Of(err); f != nil {
		return f.Reason
	}
	return "INTERNAL"
}
