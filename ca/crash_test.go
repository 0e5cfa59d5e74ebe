package ca_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

// crashBench is an installation that other processes use as well.
type crashBench struct {
	*bench
	soft     *softhsm.Token
	url, dir string
	a        *ca.Authority
	issued   map[string]bool // references that a process was answered with
}

func crashable(t *testing.T) *crashBench {
	t.Helper()
	soft := softhsmtest.Create(t)
	b := &crashBench{soft: soft, url: pgtest.URL(t), dir: soft.Dir, issued: map[string]bool{}}
	db, err := pg.Open(t.Context(), b.url, pg.Options{MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	b.bench = &bench{db: db, token: softhsmtest.Open(t, soft.HSM())}
	b.chain = issuerChain(t, b.token)
	var out []byte
	for _, der := range b.chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "chain.pem"), out, 0o600))
	b.a = b.authority(t, nil)
	return b
}

// run starts a process that does what is said, and waits until it is dead. With
// after it is killed so long after it was ready; else it kills itself.
func (b *crashBench) run(t *testing.T, what string, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), childURL+"="+b.url, childDir+"="+b.dir, childDo+"="+what)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ready := false
	var log []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "ready":
			ready = true
			if after > 0 {
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			}
		case "issued":
			b.issued[rest] = true
		default:
			log = append(log, lines.Text())
		}
	}
	err = cmd.Wait()
	require.True(t, ready, "%s: %v\n%s\n%s", what, err, strings.Join(log, "\n"), stderr.String())
	require.ErrorContains(t, err, "killed", "%s\n%s\n%s", what, strings.Join(log, "\n"), stderr.String())
}

// check settles what the dead left, and then holds the records against the HSM
// and against what was answered.
func (b *crashBench) check(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	b.settle(t, b.a)
	require.Equal(t, 1, b.count(t, `select count(*) from ca_signer where tenant_id = 'alpha' and state = 'ACTIVE'`))
	require.Zero(t, b.count(t, `select count(*) from ca_certificate where status not in ('ISSUED', 'FAILED', 'REVOKED')`))
	require.Zero(t, b.count(t, `select count(*) from ca_certificate c where c.status = 'FAILED' and c.failure = 'ABANDONED'
		and not exists (select from ca_revocation v where v.serial = c.serial and v.issuer_key_id = c.issuer_key_id)`), "abandoned and not revoked")
	require.Zero(t, b.count(t, `select count(*) from ca_certificate c join ca_revocation v on v.serial = c.serial where c.status = 'ISSUED'`))
	// The HSM holds the keys of the signers that have one, and no others.
	strange, err := b.a.Unrecorded(ctx)
	require.NoError(t, err)
	require.Empty(t, strange)
	require.Len(t, b.signerKeys(t), b.count(t, `select count(*) from ca_signer where state in ('ACTIVE', 'RETIRED', 'REVOKED')`))
	b.everyObject(t)
	b.everySerial(t)
	for ref := range b.issued {
		info, err := b.a.CertificateInfo(ctx, alpha, ref)
		require.NoError(t, err)
		require.Contains(t, []ca.CertificateStatus{ca.StatusIssued, ca.StatusRevoked}, info.Status, "was answered with")
	}
	b.verifyAll(t)
	_, err = b.a.IssueDevice(ctx, alpha, order(t))
	require.NoError(t, err)
}

// everyObject holds the token against the records: the issuer's key and those of
// the signers, both halves of each, and nothing else.
func (b *crashBench) everyObject(t *testing.T) {
	t.Helper()
	want := map[string]int{issuerRef.String(): 2}
	for _, label := range b.signerKeys(t) {
		want[label] = 2
	}
	got := map[string]int{}
	there, _ := softhsmtest.Objects(t, b.soft)
	for _, o := range there {
		got[o.Label]++
	}
	require.Equal(t, want, got)
}

// everySerial asks for the state of every serial that was ever intended.
func (b *crashBench) everySerial(t *testing.T) {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `select tenant_id, serial, status from ca_certificate`)
	require.NoError(t, err)
	type intended struct {
		Tenant string
		Serial []byte
		Status ca.CertificateStatus
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[intended])
	require.NoError(t, err)
	for _, c := range all {
		serial, err := issuance.ParseSerial(c.Serial)
		require.NoError(t, err)
		of, err := tenant.Parse(c.Tenant)
		require.NoError(t, err)
		info, err := b.a.CertificateBySerial(t.Context(), of, serial)
		require.NoError(t, err)
		require.Equal(t, c.Status, info.Status)
	}
}

// verifyAll checks each stored certificate against the chain of its signer.
func (b *crashBench) verifyAll(t *testing.T) {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `select c.serial, c.certificate, coalesce(s.certificate, ''::bytea) from ca_certificate c
		left join ca_signer s on s.tenant_id = c.tenant_id and s.id = c.signer_id and s.state in ('ACTIVE', 'RETIRED')
		where c.certificate is not null and (c.signer_id is null or s.id is not null)`)
	require.NoError(t, err)
	type stored struct{ Serial, Certificate, Signer []byte }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
	require.NoError(t, err)
	issuer, signers := parse(t, b.chain[0]), map[string]*x509.Certificate{}
	for _, c := range all {
		cert, by := parse(t, c.Certificate), issuer
		if len(c.Signer) > 0 {
			if by = signers[string(c.Signer)]; by == nil {
				by = parse(t, c.Signer)
				signers[string(c.Signer)] = by
			}
		}
		require.Equal(t, c.Serial, cert.SerialNumber.FillBytes(make([]byte, 16)))
		require.NoError(t, cert.CheckSignatureFrom(by))
	}
}

// A process is killed at each step of what it does; the next one tidies up.
func TestCrashAtEachStep(t *testing.T) {
	t.Parallel()
	b := crashable(t)
	create(t, b.a)
	for what, steps := range map[string][]string{
		"issue":  {"intent-", "intent+", "sign-", "sign+", "store-", "store+"},
		"create": {"key-", "key+", "commit1-", "commit1+", "issuer-", "issuer+", "commit2-", "commit2+"},
		"renew":  {"commit1-", "commit1+", "sign-", "issuer-", "issuer+", "commit2-", "commit2+"},
		"delete": {"commit1-", "commit1+", "destroy-", "destroy+"},
		"revoke": {"commit1-", "commit1+"},
	} {
		for _, step := range steps {
			if what == "delete" {
				create(t, b.a) // one that was not used; its end brings nothing back
			}
			b.run(t, what+" "+step, 0)
			if what == "delete" {
				b.settle(t, b.a)
				create(t, b.a)
			}
			b.check(t)
		}
	}
}

// Processes that do everything at once are killed at any moment. SIGNET_LONG
// makes it 200 of them.
func TestCrashAtRandom(t *testing.T) {
	t.Parallel()
	kills := 8
	if os.Getenv("SIGNET_LONG") != "" {
		kills = 200
	}
	b := crashable(t)
	create(t, b.a)
	for i := range kills {
		b.run(t, "all", rand.N(600*time.Millisecond))
		require.LessOrEqual(t, b.count(t, `select count(*) from ca_signer where tenant_id = 'alpha' and state = 'ACTIVE'`), 1)
		b.expire(t) // for the reconciler in the next process
		if i%25 == 24 {
			b.check(t)
			t.Log(i+1, "kills")
		}
	}
	b.check(t)
	rows, err := b.db.Query(t.Context(), `select state, count(*) from ca_signer group by state
		union all select status || coalesce(' ' || failure, ''), count(*) from ca_certificate group by 1 order by 1`)
	require.NoError(t, err)
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error { t.Log(n, state); return nil })
	require.NoError(t, err)
	t.Logf("%d kills, %d certificates were answered", kills, len(b.issued))
}

const (
	childURL = "CA_CHILD_DATABASE"
	childDir = "CA_CHILD_TOKEN"
	childDo  = "CA_CHILD_DO"
)

// TestCrashChild is the process that is killed.
func TestCrashChild(t *testing.T) {
	if os.Getenv(childURL) == "" {
		return // not a child
	}
	soft, err := softhsm.Load(os.Getenv(childDir))
	require.NoError(t, err)
	db, err := pg.Open(t.Context(), os.Getenv(childURL), pg.Options{MaxConns: 8})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	chain, err := os.ReadFile(filepath.Join(os.Getenv(childDir), "chain.pem"))
	require.NoError(t, err)
	b := &bench{db: db, token: softhsmtest.Open(t, soft.HSM())}
	b.chain, err = ca.ParseChain(chain)
	require.NoError(t, err)
	what, step, _ := strings.Cut(os.Getenv(childDo), " ")
	a := b.doomed(t, step)
	fmt.Println("\nready")
	switch ctx := t.Context(); what {
	case "issue":
		_, err = a.IssueDevice(ctx, alpha, order(t))
	case "create":
		_, err = a.CreateSigner(ctx, alpha, ca.CreateSigner{})
	case "renew":
		_, err = a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: ca.Current})
	case "delete":
		err = a.DeleteSigner(ctx, alpha, ca.DeleteSigner{Spec: ca.Current})
	case "revoke":
		var c ca.Certificate
		if c, err = b.authority(t, nil).IssueDevice(ctx, alpha, order(t)); err == nil {
			err = a.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Ref: c.Ref})
		}
	case "all":
		everything(ctx, t, a)
	}
	t.Fatal("survived", err)
}

// everything does all that can be done, until it is killed.
func everything(ctx context.Context, t *testing.T, a *ca.Authority) {
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Run(ctx) })
	for range 3 {
		r := order(t)
		wg.Go(func() {
			for {
				if c, err := a.IssueDevice(ctx, alpha, r); err == nil {
					fmt.Println("issued " + c.Ref)
					if rand.N(10) == 0 {
						_ = a.RevokeCertificate(ctx, alpha, ca.RevokeCertificate{Ref: c.Ref})
					}
				}
			}
		})
	}
	wg.Go(func() {
		for {
			switch rand.N(6) {
			case 0, 1:
				_, _ = a.CreateSigner(ctx, alpha, ca.CreateSigner{})
			case 2, 3:
				_, _ = a.RenewSigner(ctx, alpha, ca.RenewSigner{Spec: ca.Current, IgnoreNotIssued: true})
			case 4: // at once, before it is used, if that succeeds
				if s, err := a.CreateSigner(ctx, beta, ca.CreateSigner{}); err == nil {
					_ = a.DeleteSigner(ctx, beta, ca.DeleteSigner{Spec: s.ID})
				}
			case 5:
				if s, err := a.CreateSigner(ctx, beta, ca.CreateSigner{}); err == nil {
					_ = a.RevokeSigner(ctx, beta, ca.RevokeSigner{Spec: s.ID})
				}
			}
		}
	})
	wg.Wait()
}
