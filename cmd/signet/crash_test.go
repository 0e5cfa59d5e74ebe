package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/linear"
	"github.com/signet-hsm/signet/signature"
)

// caller is one phone whose signatures are verified in turn, and what it was told.
type caller struct {
	id    int
	phone *powerauth.Device
	used  int        // counters signed with
	last  verifyBody // the last one that was accepted
	acked []int      // counters that were
	open  verifyBody // the one without an answer, if any
	index int        // and its counter
}

func (c *caller) call(index int) linear.Call {
	return linear.Call{Kind: linear.Signature, Object: c.phone.ActivationID(), Index: index}
}

// The server is killed with SIGKILL under verify load, again and again, and every
// third time PostgreSQL with it. What was acknowledged stays: the signature is
// refused when it comes again, its event is in the audit log, the counter stands
// behind it. What was cut off happened once or not at all. SIGNET_SOAK makes it
// 100 times.
func TestPAAUTH01_SigkillLosesNoVerdict(t *testing.T) {
	t.Parallel()
	kills, callers := 3, make([]*caller, 8)
	if soak {
		kills = 100
	}
	f := newFleet(t)
	for i := range callers {
		callers[i] = &caller{id: i, phone: f.activeDevice(t, fmt.Sprintf("caller-%d", i), f.nodes[0].Load(), f.nodes[1].Load()), index: linear.Wrong}
	}
	cut := 0
	for kill := range kills {
		// Both nodes serve; the one that dies has most of the load.
		victim := kill % 2
		var wg sync.WaitGroup
		for _, c := range callers {
			wg.Go(func() { f.load(t.Context(), c, victim) })
		}
		time.Sleep(50*time.Millisecond + rand.N(250*time.Millisecond))
		n := f.nodes[victim].Load()
		require.NoError(t, n.proc.cmd.Process.Kill())
		if kill%3 == 2 {
			f.killDatabase(t)
		}
		wg.Wait()
		require.Equal(t, -1, n.proc.wait(t))
		if kill%3 == 2 {
			f.startDatabase(t)
		}
		f.nodes[victim].Store(f.serve(t))
		f.heal(t.Context())
		conn, err := pgx.Connect(t.Context(), f.cluster.URL())
		require.NoError(t, err)
		for _, c := range callers {
			if c.index != linear.Wrong {
				cut++
			}
			f.requireNothingLost(t, conn, c)
		}
		require.NoError(t, conn.Close(t.Context()))
	}
	require.Empty(t, f.unexpected)
	require.Positive(t, cut, "no call was cut off: that proves little")
	require.NoError(t, f.history.Check(time.Minute))
	figures := f.history.Figures()
	t.Logf("%d kills, %d of PostgreSQL too; %s", kills, kills/3, figures)
	for i := range f.nodes {
		p := f.nodes[i].Load().proc
		require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
		require.Zero(t, p.wait(t), p.out)
	}
	f.requireAudited(t, figures)
}

// load verifies signature after signature until an answer stays out.
func (f *fleet) load(ctx context.Context, c *caller, victim int) {
	for {
		header, err := c.phone.Sign("POST", "/payment", []byte("{}"), signature.PossessionKnowledge)
		if err != nil {
			f.fail(err)
			return
		}
		b := verifyBody{"POST", "/payment", header, base64Text([]byte("{}"))}
		index := c.used
		c.used++
		node := victim
		if c.id%4 == 3 && index%2 == 0 {
			node = 1 - victim
		}
		a := f.once(ctx, node, c.id, c.call(index), askSignature(b, []byte("{}")))
		switch {
		case a.Unknown:
			c.open, c.index = b, index
			return
		case !a.Valid:
			f.fail(fmt.Errorf("a right signature was refused: %+v", a))
			return
		}
		c.last, c.acked = b, append(c.acked, index)
	}
}

// once asks one node, and takes whatever comes.
func (f *fleet) once(ctx context.Context, node, client int, c linear.Call, r request) linear.Answer {
	n := f.nodes[node].Load()
	call := r.rest
	if f.turn.Add(1)%2 == 0 {
		call = r.grpc
	}
	a, _ := f.history.Record(client, c, func() (linear.Answer, bool) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		a, err := call(ctx, n)
		if err != nil {
			if !outage(err) {
				f.fail(err)
			}
			a = linear.Answer{Unknown: true}
		}
		return a, true
	})
	return a
}

// requireNothingLost asks the nodes that serve now, and the database.
func (f *fleet) requireNothingLost(t *testing.T, conn *pgx.Conn, c *caller) {
	t.Helper()
	ask := func(index int, b verifyBody) linear.Answer {
		t.Helper()
		a := f.ask(t.Context(), c.id, c.call(index), askSignature(b, []byte("{}")))
		require.False(t, a.Unknown)
		return a
	}
	if n := len(c.acked); n > 0 {
		require.False(t, ask(c.acked[n-1], c.last).Valid, "an acknowledged signature was accepted again")
	}
	if c.index != linear.Wrong {
		if ask(c.index, c.open).Valid {
			c.acked = append(c.acked, c.index)
		}
		require.False(t, ask(c.index, c.open).Valid, "accepted twice")
		c.index = linear.Wrong
	}
	header, err := c.phone.Sign("POST", "/payment", []byte("{}"), signature.PossessionKnowledge)
	require.NoError(t, err)
	b := verifyBody{"POST", "/payment", header, base64Text([]byte("{}"))}
	require.Equal(t, linear.Answer{Valid: true, Status: "ACTIVE", Remaining: 5}, ask(c.used, b))
	c.acked, c.last = append(c.acked, c.used), b
	c.used++

	var counter int
	var audited []int
	require.NoError(t, conn.QueryRow(t.Context(), `select counter, array(
			select (detail->>'counter')::int from audit_entry e
			where e.tenant_id = r.tenant_id and subject = r.id::text and action = 'registration.verify' and outcome = 'signature_ok' order by 1)
		from registration r where tenant_id = 'demo' and id = $1`, c.phone.ActivationID()).Scan(&counter, &audited))
	require.Equal(t, c.used, counter)
	has := map[int]bool{}
	for _, n := range audited {
		require.False(t, has[n], "accepted twice")
		has[n] = true
	}
	for _, index := range c.acked {
		require.True(t, has[index+1], "no event of an acknowledged verdict")
	}
}
