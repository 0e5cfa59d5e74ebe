package registration_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// crowd is many ACTIVE registrations, made in bulk: rows as an activation leaves
// them, each with secrets sealed for its own place. The phones share one key
// pair, which the server can not see; each has its own counter.
type crowd struct {
	w      *world
	keys   *signature.Keys
	phones []phone
}

type phone struct {
	id   uuid.UUID
	ctr  signature.Counter
	text string // of id
}

// newCrowd adds n registrations to alpha.
func (w *world) newCrowd(n int) *crowd {
	tb := w.tb
	tb.Helper()
	ctx := tb.Context()
	ring := w.keyring(w.db)
	d := w.active(alpha, "crowd-"+uuid.NewString())
	place := func(column, id string) envelope.Field {
		return envelope.Field{Tenant: alpha, Table: "registration", Column: column, Row: id}
	}
	var private, master []byte
	var row [2][]byte
	require.NoError(tb, w.db.QueryRow(ctx, `select server_private_sealed, master_secret_sealed from registration where id = $1`, d.id).
		Scan(&row[0], &row[1]))
	for i, column := range []string{"server_private_sealed", "master_secret_sealed"} {
		open, err := ring.Open(ctx, place(column, d.id), row[i])
		require.NoError(tb, err)
		if i == 0 {
			private = open.Reveal()
		} else {
			master = open.Reveal()
		}
	}
	c := &crowd{w: w, keys: d.keys, phones: make([]phone, n)}
	columns := []string{
		"tenant_id", "id", "app_id", "user_id", "activation_code", "state", "otp_mode", "flags", "name", "platform",
		"device_info", "device_public_key", "server_public_key", "server_private_sealed", "master_secret_sealed", "ctr_data", "counter",
		"failed_attempts", "failed_possession", "max_failed_attempts", "version", "revision", "expires_at", "created_at", "changed_at", "last_used_at",
	}
	now := time.Now().UTC()
	run := uuid.NewString()[:8]
	// Not of the pool: its statements end after ten seconds.
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(ctx, w.url)
		require.NoError(tb, err)
		return conn
	}
	var wg sync.WaitGroup
	parts := runtime.GOMAXPROCS(0)
	errs := make([]error, parts)
	for p := range parts {
		wg.Go(func() {
			i, end := p*n/parts, (p+1)*n/parts
			conn := connect()
			defer conn.Close(ctx)
			_, errs[p] = conn.CopyFrom(ctx, pgx.Identifier{"registration"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
				if i == end {
					return nil, nil
				}
				id := uuid.New()
				text := id.String()
				var ctr signature.Counter
				_, _ = rand.Read(ctr[:])
				c.phones[i] = phone{id: id, ctr: ctr, text: text}
				sealedPrivate, err := ring.Seal(ctx, place("server_private_sealed", text), private)
				if err != nil {
					return nil, err
				}
				sealedMaster, err := ring.Seal(ctx, place("master_secret_sealed", text), master)
				if err != nil {
					return nil, err
				}
				i++
				return []any{
					"alpha", [16]byte(id), "APP", fmt.Sprintf("%s-user-%d", run, i), "AAAAA-BBBBB-CCCCC-DDDDD", "ACTIVE", "NONE",
					[]string{"FLAG"},
					"Petr's phone", "ios",
					"iPhone10,6", d.private.PublicKey().Bytes(), d.server.Bytes(), sealedPrivate, sealedMaster, ctr[:], int64(0),
					int32(0), int32(0), int32(5), "3.1", int64(3), now, now, now, now,
				}, nil
			}))
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(tb, err)
	}
	conn := connect()
	defer conn.Close(ctx)
	for _, sql := range []string{"vacuum analyze registration", "checkpoint"} {
		_, err := conn.Exec(ctx, sql)
		require.NoError(tb, err)
	}
	return c
}

// sign signs with the next counter of phone i, which only one goroutine uses.
func (c *crowd) sign(i int) registration.VerifyRequest {
	p := &c.phones[i]
	version := c.w.version[alpha]
	h := signature.Header{ActivationID: p.text, ApplicationKey: version.Key, Factors: signature.PossessionKnowledge, Version: signature.V31}
	_, _ = rand.Read(h.Nonce[:])
	h.Signature = c.keys.Sign(h.Version, h.Factors, signature.Request{
		Method: "POST", URIID: "/login", Nonce: h.Nonce[:], Body: crowdBody, Secret: version.Secret.Reveal(),
	}, p.ctr)
	p.ctr = p.ctr.Next()
	return registration.VerifyRequest{Apps: mine, Header: h, Method: "POST", URIID: "/login", Body: crowdBody, Actor: "backend"}
}

var crowdBody = []byte(`{"amount":"100"}`)

// serverCPU is the CPU time of a PostgreSQL server: the postmaster, its children
// and those that have ended.
func serverCPU(tb testing.TB, postmaster int) time.Duration {
	var ticks int64
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(tb, err)
	for _, f := range dirs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		s := string(b)
		fields := strings.Fields(s[strings.LastIndexByte(s, ')')+2:])
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		num := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
		switch {
		case pid == postmaster:
			ticks += num(11) + num(12) + num(13) + num(14)
		case num(1) == int64(postmaster):
			ticks += num(11) + num(12)
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
