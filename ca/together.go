package ca

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/group"
	"github.com/signet-hsm/signet/internal/pg"
)

// The intents of leaf certificates that come at the same time are recorded by one
// statement and one commit, and so are the certificates with their audit events,
// each decided on its own. Nobody waits there for a row that another holds, since
// all the others would wait too. So what a batch does not take is tried by a
// statement of its own, which waits and whose answer is the true one. A renewal
// goes that way from the start: it has to wait for a revocation of what it renews.
type together struct {
	intents *group.Group[*intent, bool]
	signed  *group.Group[*signed, bool]
}

// intent is what is recorded before the HSM signs.
type intent struct {
	*leaf
	at time.Time
}

// signed is a certificate with its event, as audit.Log.Args made it.
type signed struct {
	*leaf
	der   []byte
	at    time.Time
	event []any
}

// planned begins the arguments of a batch. The server plans a large one for its
// size and that of the table: a plan that is kept may be from when the table was
// empty, and then reads all of it for each batch until the next analyze. For a
// small one planning would cost more than that.
func planned(n int) []any {
	if n < 16 {
		return nil
	}
	return []any{pgx.QueryExecModeCacheDescribe}
}

func (a *Authority) newTogether(reg prometheus.Registerer) (t together, err error) {
	if t.intents, err = group.New(group.Config[*intent, bool]{
		Name: "ca_intents", Flush: a.recordIntents, Alone: refusedData, Lanes: 1, Timeout: a.lease / 4, Metrics: reg,
	}); err != nil {
		return t, err
	}
	t.signed, err = group.New(group.Config[*signed, bool]{
		Name: "ca_certificates", Flush: a.storeSigned, Alone: refusedData, Lanes: 1, Timeout: a.lease / 4, Metrics: reg,
	})
	return t, err
}

// refusedData reports whether one bad row may be why a batch failed. Everything
// else would fail again.
func refusedData(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code[:2] == "22" || e.Code[:2] == "23")
}

// lane keeps a leaf in one lane; its reference ends with random characters.
func (l *leaf) lane() uint64 { return uint64(binary.BigEndian.Uint32([]byte(l.ref[idLength-4:]))) }

// recordIntent records one intent and reports whether the signer was ACTIVE still.
func (a *Authority) recordIntent(ctx context.Context, l *leaf) (bool, error) {
	at := a.wallTime()
	if l.replaces == "" {
		if done, err := a.together.intents.Do(ctx, l.lane(), &intent{l, at}); done || err != nil {
			return done, err
		}
	}
	spki, hash, serial := l.draft.SPKIHash(), l.profile.Hash(), l.draft.Serial()
	tag, err := a.db.Exec(ctx, sqlLeafIntent,
		l.tenant.String(), l.ref, serial[:], l.profile.Name(), hash[:], l.line.authority.Certificate().SubjectKeyId,
		orNull(l.req.User), l.req.Client, spki[:], l.draft.NotBefore(), l.draft.NotAfter(), at, l.req.Actor,
		a.node, a.lease.Milliseconds(), orNull(l.replaces), l.line.id, l.line.serial)
	if err != nil {
		return false, pg.Unavailable(err)
	}
	return tag.RowsAffected() == 1, nil
}

// recordIntents is the Flush of intents. All leases of a batch begin together.
func (a *Authority) recordIntents(ctx context.Context, list []*intent) ([]bool, error) {
	n := len(list)
	var (
		tenants, refs, profiles, clients, actors, signers = make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)

		users                                  = make([]*string, n)
		serials, hashes, issuers, keys, active = make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
		from, to, at                           = make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
	)
	for i, l := range list {
		d := l.draft
		spki, hash, serial := d.SPKIHash(), l.profile.Hash(), d.Serial()
		tenants[i], refs[i], profiles[i], clients[i], actors[i], signers[i] = l.tenant.String(), l.ref, l.profile.Name(), l.req.Client, l.req.Actor, l.line.id
		users[i], serials[i], hashes[i], keys[i] = orNull(l.req.User), serial[:], hash[:], spki[:]
		issuers[i], active[i] = l.line.authority.Certificate().SubjectKeyId, l.line.serial
		from[i], to[i], at[i] = d.NotBefore(), d.NotAfter(), l.at
	}
	rows, err := a.db.Query(ctx, sqlLeafIntents, append(planned(n), tenants, refs, serials, profiles, hashes, issuers, users, clients, keys, from, to, at,
		actors, signers, active, a.node, a.lease.Milliseconds())...)
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	done := make(map[string]bool, n)
	var ref string
	if _, err := pgx.ForEachRow(rows, []any{&ref}, func() error { done[ref] = true; return nil }); err != nil {
		return nil, pg.Unavailable(err)
	}
	out := make([]bool, n)
	for i := range list {
		out[i] = done[refs[i]]
	}
	return out, nil
}

// storeIssued stores one signed certificate and reports whether its record was
// what this request left.
func (a *Authority) storeIssued(ctx context.Context, l *leaf, der []byte) (bool, error) {
	s := &signed{leaf: l, der: der, at: a.wallTime()}
	var err error
	if s.event, err = a.audit.Args(l.event(s.at, "ok")); err != nil {
		return false, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if l.replaces == "" {
		done, err := a.together.signed.Do(ctx, l.lane(), s)
		// Refused for load, it is known not to be stored; but it is signed.
		if done || err != nil && !errors.Is(err, group.ErrBusy) {
			return done, err
		}
	}
	tag, err := a.db.Exec(ctx, sqlLeafIssued, append([]any{l.tenant.String(), l.ref, der, s.at}, s.event...)...)
	if err != nil {
		return false, pg.Unavailable(err)
	}
	return tag.RowsAffected() == 1, nil
}

// storeSigned is the Flush of signed certificates.
func (a *Authority) storeSigned(ctx context.Context, list []*signed) ([]bool, error) {
	n := len(list)
	tenants, refs, ders, at := make([]string, n), make([]string, n), make([][]byte, n), make([]time.Time, n)
	var events audit.Many
	events.Grow(n)
	for i, s := range list {
		tenants[i], refs[i], ders[i], at[i] = s.tenant.String(), s.ref, s.der, s.at
		events.Add(s.event)
	}
	rows, err := a.db.Query(ctx, sqlLeavesIssued, append(append(planned(n), tenants, refs, ders, at), events.Args()...)...)
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	out := make([]bool, n)
	var number int64
	if _, err := pgx.ForEachRow(rows, []any{&number}, func() error { out[number-1] = true; return nil }); err != nil {
		return nil, pg.Unavailable(err)
	}
	return out, nil
}

// logUnstored has what a person would need to find a certificate that was signed,
// not stored and not answered. Its record says REQUESTED.
func (a *Authority) logUnstored(ctx context.Context, l *leaf, cause error) {
	a.log.LogAttrs(ctx, slog.LevelError, "ca: a signed certificate could not be stored",
		slog.String("tenant", l.tenant.String()), slog.String("serial", l.draft.Serial().String()), slog.Any("cause", cause))
}
