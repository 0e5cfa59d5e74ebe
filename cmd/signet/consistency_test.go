package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/linear"
	"github.com/signet-hsm/signet/signature"
)

const (
	// Clients that race for one object.
	signatureClients, tokenClients, otpClients = 8, 6, 4
	// perRegistration bounds a registration's history, and so the search.
	perRegistration = 160
)

// Two processes on one database, both dialects, clients that race for the same
// signature, token header or OTP: there is an order of all calls in which every
// answer is the one that the protocol's rules give. SIGNET_SOAK makes it 100,000
// calls while nodes are killed, connections cut and PostgreSQL restarted and
// killed; without, there are no faults.
func TestVerdictsAreLinearizable(t *testing.T) {
	t.Parallel()
	calls := 5_000
	if soak {
		calls = 100_000
	}
	f := newFleet(t)
	lanes := []func(context.Context){
		f.signatures(t, calls*3/10), f.signatures(t, calls*3/10), f.tokens(t, calls*3/10), f.otps(t, calls/20), f.otps(t, calls/20),
	}
	began := time.Now()
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	for _, lane := range lanes {
		wg.Go(func() { lane(ctx) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	faults := 0
	if soak {
		faults = f.harass(t, done)
	}
	<-done
	ran := time.Since(began)
	require.NoError(t, ctx.Err())
	require.Empty(t, f.unexpected)

	figures := f.history.Figures()
	require.GreaterOrEqual(t, figures.Calls, calls)
	require.GreaterOrEqual(t, figures.Overlapping, calls/2, "that is no race")
	if faults == 0 {
		require.Zero(t, figures.Unknown)
	}
	require.LessOrEqual(t, figures.Never, figures.Unknown, "good ones were refused")
	began = time.Now()
	require.NoError(t, f.history.Check(time.Minute))
	t.Logf("%s; %d faults; ran %s, checked in %s", figures, faults, ran.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))

	for i := range f.nodes {
		p := f.nodes[i].Load().proc
		require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
		require.Zero(t, p.wait(t), p.out)
	}
	f.requireAudited(t, figures)
}

// requireAudited: the log has every acceptance once, and its chain is whole.
func (f *fleet) requireAudited(t *testing.T, figures linear.Figures) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.cluster.URL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var accepted, twice int
	require.NoError(t, conn.QueryRow(t.Context(), `select count(*), count(*) - count(distinct (subject, action, coalesce(detail->>'counter', id::text)))
		from audit_entry where outcome in ('signature_ok', 'token_ok') and actor <> 'device'`).Scan(&accepted, &twice))
	require.Zero(t, twice, "a counter was accepted twice")
	require.GreaterOrEqual(t, accepted, figures.Accepted)
	require.LessOrEqual(t, accepted, figures.Accepted+figures.Unknown)
	p := start(t, "audit", "verify", "-c", f.config)
	require.Zero(t, p.wait(t), p.out)
	require.Regexp(t, `good demo: .* 0 findings`, p.out.String())
}

// signatures is a lane of calls around one registration after the other.
func (f *fleet) signatures(t *testing.T, calls int) func(context.Context) {
	phones := make([]*powerauth.Device, (calls+perRegistration-1)/perRegistration)
	for i := range phones {
		phones[i] = f.activeDevice(t, fmt.Sprintf("signer-%d-%p", i, phones), f.nodes[0].Load(), f.nodes[1].Load())
	}
	return func(ctx context.Context) {
		for _, d := range phones {
			if err := f.raceSignatures(ctx, d, min(calls, perRegistration)); err != nil {
				f.fail(err)
				return
			}
			calls -= perRegistration
		}
	}
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unexpected = append(f.unexpected, err)
}

// raceSignatures makes rounds in which several clients send one signature, others
// an older one, one from ahead or a wrong one, and somebody unblocks.
func (f *fleet) raceSignatures(ctx context.Context, d *powerauth.Device, calls int) error {
	var (
		right = []byte("{}")
		made  []verifyBody
		next  atomic.Int64 // what the clients believe
	)
	body := func(index int) (verifyBody, error) {
		for len(made) <= index {
			factors := signature.PossessionKnowledge
			if possession(len(made)) {
				factors = signature.Possession
			}
			header, err := d.Sign("POST", "/payment", right, factors)
			if err != nil {
				return verifyBody{}, err
			}
			made = append(made, verifyBody{"POST", "/payment", header, base64Text(right)})
		}
		return made[index], nil
	}
	for ctx.Err() == nil && calls > 0 {
		base := int(next.Load())
		hot := base
		if rand.IntN(3) == 0 {
			hot += rand.IntN(20)
		}
		var wg sync.WaitGroup
		for client := range min(signatureClients, calls) {
			calls--
			c, sent := linear.Call{Kind: linear.Signature, Object: d.ActivationID(), Index: hot}, right
			switch n := rand.IntN(20); {
			case client < 2 || n < 10: // several with the same
			case n < 12:
				c.Index = rand.IntN(base + 1)
			case n < 14:
				c.Index = base + rand.IntN(30) // maybe behind the window
			case n < 17:
				sent = []byte("[]")
			default:
				c.Kind = linear.Unblock
			}
			b, err := body(c.Index)
			if err != nil {
				return err
			}
			ask := askUnblock(d.ActivationID())
			if c.Kind == linear.Signature {
				c.Possession = possession(c.Index)
				if !bytes.Equal(sent, right) {
					b.RequestBody, c.Index = base64Text(sent), linear.Wrong
				}
				ask = askSignature(b, sent)
			}
			wg.Go(func() {
				a := f.ask(ctx, client, c, ask)
				if a.Valid && c.Kind == linear.Signature {
					for n := next.Load(); int64(c.Index) >= n && !next.CompareAndSwap(n, int64(c.Index)+1); n = next.Load() {
					}
				}
			})
		}
		wg.Wait()
	}
	return nil
}

// possession: one counter in five signs by possession alone.
func possession(index int) bool { return index%5 == 3 }

// tokens is a lane of token headers, each sent by several clients at once.
func (f *fleet) tokens(t *testing.T, calls int) func(context.Context) {
	d := f.activeDevice(t, "token", f.nodes[0].Load(), f.nodes[1].Load())
	token, err := d.CreateToken(t.Context(), signature.PossessionKnowledge)
	require.NoError(t, err)
	return func(ctx context.Context) {
		for ctx.Err() == nil && calls > 0 {
			header, err := d.TokenHeader(token)
			if err != nil {
				f.fail(err)
				return
			}
			var wg sync.WaitGroup
			for client := range min(tokenClients, calls) {
				calls--
				wg.Go(func() { f.ask(ctx, client, linear.Call{Kind: linear.Token, Object: header}, askToken(header)) })
			}
			wg.Wait()
		}
	}
}

// otps is a lane of operations, each approved offline by several clients at once.
func (f *fleet) otps(t *testing.T, calls int) func(context.Context) {
	n := f.nodes[0].Load()
	d := f.activeDevice(t, fmt.Sprintf("offline-%p", &calls), n, f.nodes[1].Load())
	user := fmt.Sprintf("offline-%p", &calls)
	template := map[string]any{
		"templateName": "race", "operationType": "authorize_payment", "dataTemplate": "A1*A${amount}CZK",
		"signatureType": []string{"POSSESSION_KNOWLEDGE"},
		"texts":         map[string]any{"en": map[string]any{"title": "Payment", "message": "Pay ${amount}"}},
	}
	admin := *f.site
	admin.env = map[string]string{"SIGNET_PA_APP": f.env["SIGNET_PA_ADMIN"]}
	status, err := (&siteNode{site: &admin, rest: n.rest}).call(t.Context(), "POST", "/admin/templates", template, nil)
	require.NoError(t, err)
	require.Contains(t, []int{200, 400}, status) // the other lane's is as good
	return func(ctx context.Context) {
		for ctx.Err() == nil && calls > 0 {
			o, err := f.operation(ctx, d, user)
			if err != nil {
				if !outage(err) {
					f.fail(err)
					return
				}
				f.heal(ctx)
				continue
			}
			var wg sync.WaitGroup
			for client := range min(otpClients, calls) {
				calls--
				c := linear.Call{Kind: linear.OTP, Object: o.operation}
				wg.Go(func() { f.ask(ctx, client, c, askOTP(o)) })
			}
			wg.Wait()
		}
	}
}

// operation makes one and what the phone answers to its QR code.
func (f *fleet) operation(ctx context.Context, d *powerauth.Device, user string) (otpCheck, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	n := f.nodes[f.turn.Add(1)%2].Load()
	var op struct{ OperationID string }
	err := n.ok(ctx, "POST", "/v2/operations", map[string]any{
		"userId": user, "template": "race", "parameters": map[string]any{"amount": "100"},
	}, &op)
	if err != nil {
		return otpCheck{}, err
	}
	var qr struct{ OperationQRCodeData, Nonce string }
	path := "/v2/operations/" + op.OperationID + "/offline/qr?" + url.Values{"registrationId": {d.ActivationID()}}.Encode()
	if err := n.ok(ctx, "GET", path, nil, &qr); err != nil {
		return otpCheck{}, err
	}
	scanned, err := d.ScanOffline(qr.OperationQRCodeData)
	if err != nil {
		return otpCheck{}, err
	}
	otp, err := d.SignOffline(scanned.Offline, signature.PossessionKnowledge)
	return otpCheck{op.OperationID, otp, qr.Nonce, d.ActivationID()}, err
}

// harass does something bad every few seconds until done; it counts.
func (f *fleet) harass(t *testing.T, done <-chan struct{}) (faults int) {
	t.Helper()
	for {
		select {
		case <-done:
			return faults
		case <-time.After(3 * time.Second):
		}
		switch faults % 5 {
		case 0, 2: // a node dies
			i := faults / 2 % 2
			n := f.nodes[i].Load()
			require.NoError(t, n.proc.cmd.Process.Kill())
			n.proc.wait(t)
			f.nodes[i].Store(f.serve(t))
		case 1: // connections are cut
			f.cutConnections(t)
		case 3: // PostgreSQL is restarted in order
			stop, cancel := context.WithTimeout(t.Context(), stopWithin)
			require.NoError(t, f.cluster.Stop(stop))
			cancel()
			f.startDatabase(t)
		case 4: // and dies
			f.killDatabase(t)
			f.startDatabase(t)
		}
		faults++
		f.heal(t.Context())
	}
}

func (f *fleet) cutConnections(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.cluster.URL())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

// killDatabase kills the postmaster; its children follow as soon as they notice.
func (s *site) killDatabase(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Kill(s.cluster.PID(), syscall.SIGKILL))
	<-s.cluster.Done()
	stop, cancel := context.WithTimeout(t.Context(), stopWithin)
	defer cancel()
	_ = s.cluster.Stop(stop) // it says that it crashed
}
