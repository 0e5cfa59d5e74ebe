package audit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/tenant"
)

// checkpoint signs the head when it is due. The signature is made outside any
// transaction; of two sealers that made the same number, one row stays.
func (s *Sealer) checkpoint(ctx context.Context, h *head, p *progress) error {
	if h.seq == 0 || h.held && h.holder != s.holder {
		return nil
	}
	if !p.loaded {
		if err := s.lastCheckpoint(ctx, h, p); err != nil {
			return err
		}
	}
	now := s.Now().UTC().Truncate(time.Microsecond)
	news := h.seq - p.last.Seq
	if news == 0 || news > 0 && news < s.SignRows && now.Sub(p.last.At) < s.SignEvery {
		return nil
	}
	// Under the lease, with a head read after the checkpoint was: what is shorter
	// now was cut.
	if won, err := s.acquire(ctx, h); err != nil || !won {
		return err
	}
	if h.seq < p.last.Seq {
		s.alarm(ctx, h, "the chain is shorter than its last checkpoint")
		return nil
	}
	id, err := tenant.Stored(h.tenant)
	if err != nil {
		return s.failed("checkpoint", err)
	}
	c := Checkpoint{Tenant: id, Number: p.last.Number + 1, Seq: h.seq, Hash: h.hash, Mark: h.mark, At: now, Key: s.Key.String()}
	if p.last.Number > 0 {
		c.Previous = sha256.Sum256(p.last.Text())
	}
	signer, err := s.Keys.Signer(ctx, s.Key)
	if err == nil {
		err = c.sign(ctx, signer)
	}
	if err != nil {
		return s.failed("sign", err)
	}
	tag, err := s.DB.Exec(ctx, sqlCheckpointInsert, h.tenant, c.Number, c.Seq, c.Hash[:],
		pgtype.UUID{Bytes: c.Mark, Valid: true}, c.At, c.Previous[:], c.Key, c.Signature)
	if err != nil {
		return s.failed("checkpoint", err)
	}
	p.loaded = tag.RowsAffected() == 1
	if !p.loaded { // another sealer's stands; it is read at the next pass
		return nil
	}
	p.last = c
	s.metrics.checkpoints.Inc()
	// A copy outside the database: what Verify is given to notice that the newest
	// checkpoints were removed.
	s.Logger.LogAttrs(ctx, slog.LevelInfo, "audit checkpoint",
		slog.String("tenant", h.tenant), slog.Int64("number", c.Number), slog.Int64("seq", c.Seq),
		slog.String("hash", base64.StdEncoding.EncodeToString(c.Hash[:])),
		slog.String("key", c.Key), slog.String("signature", base64.StdEncoding.EncodeToString(c.Signature)))
	return nil
}

func (s *Sealer) lastCheckpoint(ctx context.Context, h *head, p *progress) error {
	c, err := scanCheckpoint(s.DB.QueryRow(ctx, sqlCheckpointLast, h.tenant))
	if errors.Is(err, pgx.ErrNoRows) {
		c, err = Checkpoint{}, nil
	}
	if err != nil {
		return s.failed("checkpoint", err)
	}
	if p.last.Number > c.Number {
		s.alarm(ctx, h, "checkpoints are gone")
	}
	p.last, p.loaded = c, true
	return nil
}

func scanCheckpoint(row pgx.Row) (c Checkpoint, err error) {
	var (
		owner          string
		hash, previous []byte
		at             pgtype.Timestamptz
		mark           uuid.UUID
	)
	if err = row.Scan(&owner, &c.Number, &c.Seq, &hash, &mark, &at, &previous, &c.Key, &c.Signature); err != nil {
		return c, err
	}
	if c.Tenant, err = tenant.Stored(owner); err != nil {
		return c, err
	}
	c.Hash, c.Previous, c.Mark, c.At = toDigest(hash), toDigest(previous), mark, at.Time.UTC()
	return c, nil
}
