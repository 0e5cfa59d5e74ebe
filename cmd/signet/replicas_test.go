package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/linear"
	"github.com/signet-hsm/signet/signature"
)

// balancer is the plainest there is: each TCP connection goes to the next
// backend in turn, or to the one after it when that does not take it. It knows
// nothing of what it carries.
type balancer struct {
	listener net.Listener
	backends []string
	taken    []atomic.Int64 // connections, by backend
	turn     atomic.Uint64
	wg       sync.WaitGroup
}

func balance(t *testing.T, backends ...string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &balancer{listener: l, backends: backends, taken: make([]atomic.Int64, len(backends))}
	b.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.wg.Wait() // the clients and the nodes have closed theirs before
	})
	return b
}

func (b *balancer) address() string { return b.listener.Addr().String() }

func (b *balancer) carry(client net.Conn) {
	defer client.Close()
	for range b.backends {
		i := int(b.turn.Add(1)) % len(b.backends)
		node, err := net.DialTimeout("tcp", b.backends[i], time.Second)
		if err != nil {
			continue
		}
		b.taken[i].Add(1)
		done := make(chan struct{})
		go func() { // ends with either connection
			defer close(done)
			_, _ = io.Copy(node, client)
			_ = node.Close()
		}()
		_, _ = io.Copy(client, node)
		_ = client.Close()
		<-done
		return
	}
}

// Three processes on one database behind a balancer, in both dialects; one of them
// is killed while phones sign. Every signature goes out twice at once and, when
// what became of it is not known, again until somebody says so: it is accepted
// exactly once, by whichever node, and the counter stands where the phone's does.
// SIGNET_LONG: 100 times as many.
func TestThreeReplicasBehindABalancer(t *testing.T) {
	t.Parallel()
	const phones = 6
	each := 20
	if os.Getenv("SIGNET_LONG") != "" {
		each = 2000
	}
	s := newSite(t)
	nodes := []*siteNode{s.serve(t), s.serve(t), s.serve(t)}
	var rest, calls []string
	for _, n := range nodes {
		rest, calls = append(rest, n.rest[len("http://"):]), append(calls, n.grpc.Target())
	}
	overREST, overGRPC := balance(t, rest...), balance(t, calls...)
	t.Cleanup(s.http.CloseIdleConnections)

	var (
		wg           sync.WaitGroup
		signed       atomic.Int64
		killed       = make(chan struct{})
		unknown      atomic.Int64
		registration [phones]string
		failures     [phones]error
	)
	for i := range phones {
		d := s.activeDevice(t, fmt.Sprintf("replica-%d", i), nodes[i%3], nodes[(i+1)%3])
		registration[i] = d.ActivationID()
		// A connection of its own, so that phones are spread over the nodes.
		conn, err := grpc.NewClient(overGRPC.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		front := &siteNode{site: s, rest: "http://" + overREST.address(), grpc: conn}
		wg.Go(func() {
			for k := range each {
				if failures[i] = acceptedOnce(t.Context(), d, front, (i+k)%2 == 0, &unknown); failures[i] != nil {
					return
				}
				if signed.Add(1) == phones*int64(each)/3 {
					close(killed)
				}
			}
		})
	}
	<-killed
	require.NoError(t, nodes[0].proc.cmd.Process.Kill())
	wg.Wait()
	for _, err := range failures {
		require.NoError(t, err)
	}

	conn, err := pgx.Connect(t.Context(), s.cluster.URL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, id := range registration {
		var counter, accepted int
		require.NoError(t, conn.QueryRow(t.Context(), "select counter from registration where id = $1", id).Scan(&counter))
		require.Equal(t, each, counter)
		require.NoError(t, conn.QueryRow(t.Context(),
			"select count(*) from audit_entry where subject = $1 and action = 'registration.verify' and outcome = 'signature_ok'", id).Scan(&accepted))
		require.Equal(t, each, accepted)
	}
	for _, b := range []*balancer{overREST, overGRPC} {
		for i := range b.taken {
			require.Positive(t, b.taken[i].Load(), "node %d was not asked", i)
		}
	}
	t.Logf("%d signatures, each twice at once; %d answers unknown", phones*each, unknown.Load())
}

// acceptedOnce makes the phone's next signature, sends it twice at once, and what
// was not answered again.
func acceptedOnce(ctx context.Context, d *powerauth.Device, front *siteNode, overGRPC bool, unknown *atomic.Int64) error {
	header, err := d.Sign("POST", "/payment", []byte("{}"), signature.PossessionKnowledge)
	if err != nil {
		return err
	}
	r := askSignature(verifyBody{"POST", "/payment", header, base64Text([]byte("{}"))}, []byte("{}"))
	ask := r.rest
	if overGRPC {
		ask = r.grpc
	}
	var (
		wg      sync.WaitGroup
		answers [2]linear.Answer
		lost    [2]bool
		errs    [2]error
	)
	for i := range answers {
		wg.Go(func() {
			for end := time.Now().Add(30 * time.Second); ; {
				call, cancel := context.WithTimeout(ctx, 5*time.Second)
				answers[i], errs[i] = ask(call, front)
				cancel()
				if errs[i] == nil || !outage(errs[i]) || time.Now().After(end) {
					return
				}
				lost[i] = true
				unknown.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	valid := 0
	for i, a := range answers {
		if errs[i] != nil {
			return errs[i]
		}
		if a.Status != "ACTIVE" {
			return fmt.Errorf("the registration became %s", a.Status)
		}
		if a.Valid {
			valid++
		}
	}
	// An answer that was lost may have been the one that accepted it.
	if valid > 1 || valid == 0 && !lost[0] && !lost[1] {
		return errors.New("accepted " + fmt.Sprint(valid) + " times")
	}
	return nil
}
