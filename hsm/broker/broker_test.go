package broker_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/broker/worker"
	"github.com/signet-hsm/signet/hsm/hsmtest"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// The test binary is its own worker.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == broker.Verb {
		os.Exit(worker.Main(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// journal collects log lines for a test.
type journal struct {
	mu   sync.Mutex
	text []byte
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, p...)
	if os.Getenv("BROKER_LOG") != "" {
		_, _ = os.Stderr.Write(p)
	}
	return len(p), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// open puts a broker before a token and shows its log when the test fails.
func open(tb testing.TB, st *softhsm.Token, change ...func(*broker.Config)) (*hsm.Token, *broker.Broker, *journal) {
	tb.Helper()
	j := &journal{}
	c := broker.Config{HSM: st.HSM(), Role: worker.RoleCeremony, Workers: 2}
	c.HSM.Logger = j.logger()
	for _, f := range change {
		f(&c)
	}
	b, err := broker.Open(tb.Context(), c)
	require.NoError(tb, err)
	t, err := hsm.New(tb.Context(), b, hsm.Options{})
	require.NoError(tb, err)
	require.Eventually(tb, func() bool { return len(b.Workers()) == c.Workers }, 20*time.Second, time.Millisecond)
	tb.Cleanup(func() {
		require.NoError(tb, t.Close())
		require.NotContains(tb, j.String(), "DATA RACE")
		if tb.Failed() {
			tb.Log(j.String())
		}
	})
	return t, b, j
}

var signerRef = hsm.Ref{Tenant: "alpha", Role: hsm.RoleSigner, Name: "s"}

// signer makes a P-256 key and returns a function that signs and verifies once.
func signer(tb testing.TB, t *hsm.Token) func(context.Context) error {
	tb.Helper()
	info, err := t.Generate(tb.Context(), signerRef, hsm.P256, [16]byte{})
	require.NoError(tb, err)
	s, err := t.Signer(tb.Context(), signerRef)
	require.NoError(tb, err)
	d := sha256.Sum256([]byte("x"))
	return func(ctx context.Context) error {
		sig, err := s.SignContext(ctx, d[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(info.Public.(*ecdsa.PublicKey), d[:], sig) {
			panic("a signature that does not verify")
		}
		return err
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	hsmtest.Run(t, func(t *testing.T) *hsm.Token {
		tok, _, _ := open(t, softhsmtest.Create(t))
		return tok
	}, hsmtest.Caps{})
}
