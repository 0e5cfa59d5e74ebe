package envelope_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

// safe is a table with two sealed columns, as a domain would describe them.
var safe = []envelope.Column{
	{
		Table: "safe", Column: "one",
		Page: `select id::text, id::text, one from safe where tenant_id = $1 and id > coalesce(nullif($2, '')::integer, -1) order by safe.id limit $3`,
		Swap: `update safe set one = $4 where tenant_id = $1 and id = $2::integer and one = $3`,
	},
	{
		Table: "safe", Column: "two",
		Page: `select id::text, id::text, two from safe where tenant_id = $1 and id > coalesce(nullif($2, '')::integer, -1) order by safe.id limit $3`,
		Swap: `update safe set two = $4 where tenant_id = $1 and id = $2::integer and two = $3`,
	},
}

// vault is a database with sealed rows, and what rotates its keys.
type vault struct {
	*testing.T
	db  *pgxpool.Pool
	kek *memKEK
	reg *prometheus.Registry
}

func newVault(t *testing.T) *vault {
	v := &vault{t, pgtest.New(t), randomKEK(t), prometheus.NewRegistry()}
	_, err := v.db.Exec(t.Context(), `create table safe (tenant_id text, id integer, one bytea not null, two bytea, primary key (tenant_id, id))`)
	require.NoError(t, err)
	return v
}

// node is a process of its own as far as keys in memory go.
func (v *vault) node() *envelope.Keyring {
	return envelope.New(v.db, v.kek, envelope.Options{Refresh: time.Millisecond})
}

func (v *vault) rotation(k *envelope.Keyring, change func(*envelope.RotationConfig)) *envelope.Rotation {
	c := envelope.RotationConfig{DB: v.db, Keyring: k, Columns: safe, Batch: 3, Grace: time.Nanosecond}
	if change != nil {
		change(&c)
	}
	r, err := envelope.NewRotation(c)
	require.NoError(v, err)
	return r
}

func at(t tenant.ID, column string, id int) envelope.Field {
	return envelope.Field{Tenant: t, Table: "safe", Column: column, Row: strconv.Itoa(id)}
}

func secretOf(t tenant.ID, column string, id int) []byte {
	return fmt.Appendf(nil, "%s %s %d", t, column, id)
}

// fill seals rows; every third has nothing in the second column.
func (v *vault) fill(k *envelope.Keyring, t tenant.ID, n int) {
	v.Helper()
	for id := range n {
		one, err := k.Seal(v.Context(), at(t, "one", id), secretOf(t, "one", id))
		require.NoError(v, err)
		var two []byte
		if id%3 != 0 {
			two, err = k.Seal(v.Context(), at(t, "two", id), secretOf(t, "two", id))
			require.NoError(v, err)
		}
		_, err = v.db.Exec(v.Context(), `insert into safe values ($1, $2, $3, $4)`, t.String(), id, one, two)
		require.NoError(v, err)
	}
}

// readable opens every value of a tenant and counts by the DEK that sealed it.
func (v *vault) readable(k *envelope.Keyring, t tenant.ID) map[byte]int {
	v.Helper()
	rows, err := v.db.Query(v.Context(), `select id, one, two from safe where tenant_id = $1`, t.String())
	require.NoError(v, err)
	defer rows.Close()
	by := map[byte]int{}
	for rows.Next() {
		var id int
		var one, two []byte
		require.NoError(v, rows.Scan(&id, &one, &two))
		for column, blob := range map[string][]byte{"one": one, "two": two} {
			if blob == nil {
				continue
			}
			got, err := k.Open(v.Context(), at(t, column, id), blob)
			require.NoError(v, err)
			require.Equal(v, secretOf(t, column, id), got.Reveal())
			by[blob[4]]++
		}
	}
	require.NoError(v, rows.Err())
	return by
}

// settle runs rounds until nothing is RETIRING.
func (v *vault) settle(r *envelope.Rotation) {
	v.Helper()
	require.Eventually(v, func() bool {
		_, err := v.db.Exec(v.Context(), `update dek set held_until = '-infinity'`)
		require.NoError(v, err)
		more, err := r.Round(v.Context())
		require.NoError(v, err)
		return !more
	}, 20*time.Second, time.Millisecond)
}

func (v *vault) states() map[string]int {
	v.Helper()
	rows, err := v.db.Query(v.Context(), `select state, count(*) from dek group by state`)
	require.NoError(v, err)
	defer rows.Close()
	out := map[string]int{}
	for rows.Next() {
		var s string
		var n int
		require.NoError(v, rows.Scan(&s, &n))
		out[s] = n
	}
	return out
}

func TestRotationSealsAnewWhileOthersWork(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	reg := prometheus.NewRegistry()
	one := envelope.New(v.db, v.kek, envelope.Options{Refresh: time.Millisecond, Metrics: reg})
	other := v.node()
	v.fill(one, pgtest.Alpha, 20)
	v.fill(one, pgtest.Beta, 5)
	require.Equal(t, map[byte]int{1: 33}, v.readable(other, pgtest.Alpha))

	r := v.rotation(one, nil)
	n, err := r.Rotate(t.Context(), pgtest.Alpha)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, map[string]int{"PRIMARY": 2, "RETIRING": 1}, v.states())
	require.Equal(t, map[byte]int{1: 33}, v.readable(other, pgtest.Alpha), "what is sealed opens at every moment")
	time.Sleep(2 * time.Millisecond)
	blob, err := other.Seal(t.Context(), at(pgtest.Alpha, "one", 99), []byte("x"))
	require.NoError(t, err)
	require.EqualValues(t, 2, blob[4], "another node seals with the new one")

	v.settle(r)
	require.Equal(t, map[byte]int{2: 33}, v.readable(other, pgtest.Alpha))
	require.Equal(t, map[byte]int{1: 8}, v.readable(other, pgtest.Beta), "the twin is not touched")
	require.Equal(t, map[string]int{"PRIMARY": 2, "RETIRED": 1}, v.states())
	require.EqualValues(t, 33, metric(t, reg, "signet_envelope_resealed_total"))

	pruned, err := r.Prune(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Zero(t, pruned, "it is kept for a while")
	pruned, err = r.Prune(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, pruned)
	require.Equal(t, map[byte]int{2: 33}, v.readable(v.node(), pgtest.Alpha))
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.FailNow(t, "no metric "+name)
	return 0
}

// A value that a slow node sealed with the old key, after the last look, is found
// by the next one, and the key goes back to work.
func TestALateValueBringsItsKeyBack(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	slow := envelope.New(v.db, v.kek, envelope.Options{Refresh: time.Hour})
	v.fill(slow, pgtest.Alpha, 4)
	k := v.node()
	r := v.rotation(k, nil)
	_, err := r.Rotate(t.Context(), pgtest.Alpha)
	require.NoError(t, err)
	v.settle(r)
	require.Equal(t, 1, v.states()["RETIRED"])

	late, err := slow.Seal(t.Context(), at(pgtest.Alpha, "one", 50), secretOf(pgtest.Alpha, "one", 50))
	require.NoError(t, err)
	require.EqualValues(t, 1, late[4])
	_, err = v.db.Exec(t.Context(), `insert into safe values ('alpha', 50, $1, null)`, late)
	require.NoError(t, err)
	pruned, err := r.Prune(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, pruned)
	v.settle(r)
	require.Equal(t, map[byte]int{2: 7}, v.readable(v.node(), pgtest.Alpha))
	require.Equal(t, map[string]int{"PRIMARY": 1, "RETIRED": 1}, v.states())
}

func TestAYoungKeyDoesNotRetire(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	k := v.node()
	v.fill(k, pgtest.Alpha, 1)
	r := v.rotation(k, func(c *envelope.RotationConfig) { c.Grace = time.Hour })
	_, err := r.Rotate(t.Context(), pgtest.Alpha)
	require.NoError(t, err)
	for range 3 {
		_, err := v.db.Exec(t.Context(), `update dek set held_until = '-infinity'`)
		require.NoError(t, err)
		_, err = r.Round(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, map[string]int{"PRIMARY": 1, "RETIRING": 1}, v.states())
}

// A value that does not open is reported and keeps its key: it may still be
// repaired from a copy.
func TestADamagedValueKeepsItsKey(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	k := v.node()
	v.fill(k, pgtest.Alpha, 4)
	_, err := v.db.Exec(t.Context(), `update safe set one = set_byte(one, 20, get_byte(one, 20) # 1) where id = 2`)
	require.NoError(t, err)
	r := v.rotation(k, nil)
	_, err = r.Rotate(t.Context(), pgtest.Alpha)
	require.NoError(t, err)
	for range 3 {
		_, err := v.db.Exec(t.Context(), `update dek set held_until = '-infinity'`)
		require.NoError(t, err)
		_, err = r.Round(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, map[string]int{"PRIMARY": 1, "RETIRING": 1}, v.states())
	pruned, err := r.Prune(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, pruned)
}

// Writers and two nodes that rotate, all at once.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.fill(v.node(), pgtest.Alpha, 12)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			k := v.node()
			for i := 0; ctx.Err() == nil; i++ {
				id := (i*7 + w) % 12
				blob, err := k.Seal(t.Context(), at(pgtest.Alpha, "one", id), secretOf(pgtest.Alpha, "one", id))
				require.NoError(t, err)
				_, err = v.db.Exec(t.Context(), `update safe set one = $1 where tenant_id = 'alpha' and id = $2`, blob, id)
				require.NoError(t, err)
			}
		})
	}
	first, second := v.rotation(v.node(), nil), v.rotation(v.node(), nil)
	reader := v.node()
	for range 4 {
		_, err := first.Rotate(t.Context(), pgtest.Alpha)
		require.NoError(t, err)
		for _, r := range []*envelope.Rotation{first, second, first} {
			_, err := v.db.Exec(t.Context(), `update dek set held_until = '-infinity'`)
			require.NoError(t, err)
			_, err = r.Round(t.Context())
			require.NoError(t, err)
		}
		v.readable(reader, pgtest.Alpha)
	}
	stop()
	wg.Wait()
	// A writer that slept for longer than the grace of this test has sealed with a
	// retired key: the last look finds that.
	_, err := second.Prune(t.Context(), 0)
	require.NoError(t, err)
	v.settle(second)
	require.Equal(t, map[byte]int{5: 20}, v.readable(v.node(), pgtest.Alpha))
}

func TestEraseLeavesNothingReadable(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	k, running := v.node(), v.node()
	v.fill(k, pgtest.Alpha, 6)
	v.fill(k, pgtest.Beta, 6)
	v.readable(running, pgtest.Alpha)
	var forgotten []tenant.ID
	worker := v.rotation(running, func(c *envelope.RotationConfig) {
		c.Forgotten = func(t tenant.ID) { forgotten = append(forgotten, t) }
	})
	n, err := v.rotation(k, nil).Erase(t.Context(), pgtest.Alpha)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	_, err = worker.Round(t.Context())
	require.NoError(t, err)
	require.Equal(t, []tenant.ID{pgtest.Alpha}, forgotten)

	rows, err := v.db.Query(t.Context(), `select id, one from safe where tenant_id = 'alpha'`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id int
		var blob []byte
		require.NoError(t, rows.Scan(&id, &blob))
		for _, ring := range []*envelope.Keyring{k, running, v.node()} {
			_, err := ring.Open(t.Context(), at(pgtest.Alpha, "one", id), blob)
			require.ErrorIs(t, err, envelope.ErrCorrupt)
		}
	}
	v.readable(running, pgtest.Beta)
	_, err = v.rotation(k, nil).Erase(t.Context(), tenant.System)
	require.ErrorIs(t, err, envelope.ErrField)
}

// A DEK seals values of its table only.
func TestADataKeyIsForOneTable(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	k := v.node()
	v.fill(k, pgtest.Alpha, 1)
	other := envelope.Field{Tenant: pgtest.Alpha, Table: "other", Column: "c", Row: "1"}
	blob, err := k.Seal(t.Context(), other, []byte("x"))
	require.NoError(t, err)
	require.EqualValues(t, 2, blob[4])
	blob[4] = 1
	_, err = k.Open(t.Context(), other, blob)
	require.ErrorIs(t, err, envelope.ErrCorrupt)
	require.ErrorContains(t, err, "another table")
	// Its sealed form is bound to the table as well.
	_, err = v.db.Exec(t.Context(), `update dek set purpose = 'elsewhere' where purpose = 'safe'`)
	require.NoError(t, err)
	_, err = v.node().Open(t.Context(), at(pgtest.Alpha, "one", 0), mustRow(v, 0))
	require.ErrorIs(t, err, envelope.ErrCorrupt)
}

func mustRow(v *vault, id int) (blob []byte) {
	v.Helper()
	require.NoError(v, v.db.QueryRow(v.Context(), `select one from safe where tenant_id = 'alpha' and id = $1`, id).Scan(&blob))
	return blob
}

// keks is an HSM with several key-encryption keys.
type keks struct {
	mu   sync.Mutex
	keys map[string]*memKEK
}

func (h *keks) find(_ context.Context, name string) (envelope.KEK, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.keys[name]; k != nil {
		return k, nil
	}
	return nil, errTag
}

func TestRotationOfTheKEK(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	h := &keks{keys: map[string]*memKEK{}}
	ring := func() *envelope.Keyring {
		return envelope.New(v.db, v.kek, envelope.Options{KEKName: "kek/0", KEKs: h.find})
	}
	k, running := ring(), ring()
	v.fill(k, pgtest.Alpha, 4)
	v.fill(k, pgtest.Beta, 4)
	v.readable(running, pgtest.Alpha)
	next := func(name string) (string, error) { return "kek/" + strconv.Itoa(int(name[4]-'0')+1), nil }

	// The HSM fails after the intent is stored: nothing has changed, and the next
	// attempt makes the very key that was intended.
	r := v.rotation(k, nil)
	var intended envelope.NewKEK
	_, _, err := r.RotateKEK(t.Context(), next, func(_ context.Context, n envelope.NewKEK) error {
		intended = n
		return fault.ErrUnavailable
	})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	v.readable(ring(), pgtest.Alpha)
	name, n, err := r.RotateKEK(t.Context(), next, func(_ context.Context, n envelope.NewKEK) error {
		require.Equal(t, intended, n)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.keys[n.Name] = randomKEK(t)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, "kek/1", name)
	require.Equal(t, 2, n)

	// Without the old key everything opens, also what a running node did not have.
	down := error(fault.ErrUnavailable)
	v.kek.down.Store(&down)
	for _, ring := range []*envelope.Keyring{running, ring()} {
		v.readable(ring, pgtest.Alpha)
		v.readable(ring, pgtest.Beta)
	}
	names, err := r.RetireKEKs(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"kek/0"}, names)
	blob, err := ring().Seal(t.Context(), envelope.Field{Tenant: pgtest.Alpha, Table: "new", Column: "c", Row: "1"}, []byte("x"))
	require.NoError(t, err)
	require.NotEmpty(t, blob)
	status, err := r.Status(t.Context())
	require.NoError(t, err)
	for _, key := range status {
		if key.Tenant != "" {
			require.Equal(t, "kek/1", key.KEK)
		}
	}
}

// A rotation of the KEK that was cut off while it sealed data keys anew goes on
// from there, with the same key.
func TestACutOffRotationOfTheKEKGoesOn(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	h := &keks{keys: map[string]*memKEK{"kek/1": randomKEK(t)}}
	k := envelope.New(v.db, v.kek, envelope.Options{KEKName: "kek/0", KEKs: h.find})
	v.fill(k, pgtest.Alpha, 1)
	v.fill(k, pgtest.Beta, 1)
	down := error(fault.ErrUnavailable)
	r := v.rotation(k, nil)
	next := func(string) (string, error) { return "kek/1", nil }
	_, _, err := r.RotateKEK(t.Context(), next, func(context.Context, envelope.NewKEK) error {
		v.kek.down.Store(&down) // the old one can not be asked from here on
		return nil
	})
	require.ErrorIs(t, err, fault.ErrUnavailable)
	v.kek.heal()
	v.readable(envelope.New(v.db, v.kek, envelope.Options{KEKName: "kek/0", KEKs: h.find}), pgtest.Alpha)
	name, n, err := r.RotateKEK(t.Context(), func(string) (string, error) {
		require.Fail(t, "no further key")
		return "", nil
	}, nil)
	require.NoError(t, err)
	require.Equal(t, "kek/1", name)
	require.Equal(t, 2, n)
}

// TestSigkillAtEachBatch kills a process that seals anew after each of its commits
// in turn: every value is readable at every moment, and the work ends.
func TestSigkillAtEachBatch(t *testing.T) {
	t.Parallel()
	if url := os.Getenv("SIGNET_TEST_RESEAL"); url != "" {
		resealForever(t, url)
		return
	}
	v := newVault(t)
	key := bytes.Repeat([]byte{9}, 32)
	v.kek = newKEK(t, key)
	k := v.node()
	v.fill(k, pgtest.Alpha, 12)
	_, err := v.rotation(k, nil).Rotate(t.Context(), pgtest.Alpha)
	require.NoError(t, err)
	left := func() int { return v.readable(v.node(), pgtest.Alpha)[1] }
	kills := 0
	for before := left(); before > 0; {
		_, err := v.db.Exec(t.Context(), `update dek set held_until = '-infinity'`) // the dead one's claim
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSigkillAtEachBatch$")
		cmd.Env = append(os.Environ(), "SIGNET_TEST_RESEAL="+v.db.Config().ConnString(), "SIGNET_TEST_KEK="+hex.EncodeToString(key))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, 1)) // one commit is done
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		cancel()
		kills++
		now := left()
		require.Less(t, now, before)
		before = now
	}
	require.GreaterOrEqual(t, kills, 3)
	v.settle(v.rotation(v.node(), nil))
	require.Equal(t, map[string]int{"PRIMARY": 1, "RETIRED": 1}, v.states())
}

// resealForever is the process that is killed. It says when a commit is done.
func resealForever(t *testing.T, url string) {
	key, err := hex.DecodeString(os.Getenv("SIGNET_TEST_KEK"))
	require.NoError(t, err)
	db, err := pg.Open(t.Context(), url, pg.Options{MaxConns: 2})
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	k := envelope.New(db, newKEK(t, key), envelope.Options{Metrics: reg})
	r, err := envelope.NewRotation(envelope.RotationConfig{DB: db, Keyring: k, Columns: safe, Batch: 3})
	require.NoError(t, err)
	go func() {
		for {
			if metric(t, reg, "signet_envelope_resealed_total") > 0 {
				fmt.Print(".")
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	for {
		_, err := r.Round(t.Context())
		require.NoError(t, err)
	}
}
