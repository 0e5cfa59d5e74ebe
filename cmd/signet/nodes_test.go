package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/hsm/hsmtest/faultmodule"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/softhsm"
)

// site is an installation as an operator makes it: an external PostgreSQL, a
// token, a ceremony, a bootstrap, and any number of `signet serve`.
type site struct {
	dir, config string
	cluster     *pgcluster.Cluster
	idp         *devIDP
	env         map[string]string
	http        *http.Client
}

// One worker, because every process that a test starts is the raced test binary;
// TestHSMFailsUnderTheService has two.
const siteConfig = `listen: {rest: 127.0.0.1:0, grpc: 127.0.0.1:0, ops: 127.0.0.1:0}
database: {url: "%s", password: {file: %s}}
hsm: {workers: 1, module: %s, token_label: site, pin: {file: %s}, env: {SOFTHSM2_CONF: %s}}
ca: {issuer_chain: %s}
tenants:
  - {id: demo, issuer: "%s", audience: %s, jwks_file: %s}
`

const sitePlan = `name: site
root: {key: root, generation: 0, algorithm: P-384, subject: {common_name: Site root}, validity: 87600h}
issuer: {key: issuer, generation: 0, algorithm: P-256, subject: {common_name: Site issuer}, validity: 43800h}
`

func newSite(t *testing.T) *site {
	t.Helper()
	return makeSite(t, func(func()) {})
}

// makeSite has careless do, or leave out, what an operator may do too early or twice.
func makeSite(t *testing.T, careless func(func())) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	t.Cleanup(s.http.CloseIdleConnections)
	ctx := t.Context()
	s.startDatabase(t)
	token, err := softhsm.Create(ctx, filepath.Join(s.dir, "token"), "site")
	require.NoError(t, err)
	s.idp, err = openDevIDP(s.dir)
	require.NoError(t, err)

	u, err := url.Parse(s.cluster.URL())
	require.NoError(t, err)
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	s.write(t, "db-password", password)
	s.write(t, "plan.yaml", sitePlan)
	s.write(t, "signet.yaml", fmt.Sprintf(siteConfig, u, s.path("db-password"), token.Module, s.path("token/pin"),
		token.HSM().Env["SOFTHSM2_CONF"], s.path("ca/issuer-chain.pem"), devIssuer, devAudience, s.idp.JWKSFile))
	s.config = s.path("signet.yaml")

	careless(func() { // no schema yet
		s.verb(t, 1, "bootstrap", "--tenant", "demo", "--app", "bank", "--out", s.path("early.env"))
	})
	s.verb(t, 0, "migrate")
	s.verb(t, 0, "ceremony", "--plan", s.path("plan.yaml"), "--out", s.path("ca"))
	careless(func() {
		s.verb(t, 1, "ceremony", "--plan", s.path("plan.yaml"), "--out", s.path("ca2")) // labels are taken
		require.NoFileExists(t, s.path("ca2"))
		s.verb(t, 0, "check")
		s.verb(t, 1, "serve") // no key-encryption key yet
	})
	s.verb(t, 0, "bootstrap", "--tenant", "demo", "--app", "bank", "--out", s.path("bank.env"))
	s.env, err = readEnv(s.path("bank.env"))
	require.NoError(t, err)
	require.Len(t, s.env, 7)
	careless(func() {
		s.verb(t, 1, "bootstrap", "--tenant", "demo", "--app", "bank", "--out", s.path("bank.env")) // the file exists
		s.verb(t, 2, "bootstrap", "--tenant", "demo", "--app", "My Bank", "--out", s.path("blank.env"))
		require.NoFileExists(t, s.path("blank.env"))
	})
	return s
}

func (s *site) startDatabase(t *testing.T) {
	t.Helper()
	c, err := pgcluster.Start(t.Context(), pgcluster.Config{Dir: filepath.Join(s.dir, "pg"), Durable: true})
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); {
		// The children of a server that was killed may still be there.
		require.ErrorContains(t, err, "pre-existing shared memory block")
		time.Sleep(100 * time.Millisecond)
		c, err = pgcluster.Start(t.Context(), pgcluster.Config{Dir: filepath.Join(s.dir, "pg"), Durable: true})
	}
	require.NoError(t, err)
	s.cluster = c
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		_ = c.Stop(ctx)
	})
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(s.path(name), []byte(content), 0o600))
}

func (s *site) verb(t *testing.T, want int, args ...string) {
	t.Helper()
	p := start(t, append(args, "-c", s.config)...)
	require.Equal(t, want, p.wait(t), "%s: %s", args, p.out)
	require.NotContains(t, p.out.String(), "panic")
}

// siteNode is one running `signet serve`.
type siteNode struct {
	*site
	proc      *proc
	rest, ops string
	grpc      *grpc.ClientConn
}

func (s *site) serve(t *testing.T) *siteNode {
	t.Helper()
	p := start(t, "serve", "-c", s.config)
	m := p.until(t, `"msg":"serving".*"rest":"([^"]+)","grpc":"([^"]+)","ops":"([^"]+)"`)
	conn, err := grpc.NewClient(m[2], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &siteNode{site: s, proc: p, rest: "http://" + m[1], ops: "http://" + m[3], grpc: conn}
}

// call answers the status and decodes the body when res is not nil.
func (n *siteNode) call(ctx context.Context, method, path string, body, res any) (int, error) {
	var rd io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		rd = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.rest+path, rd)
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	user, password, _ := strings.Cut(n.env["SIGNET_PA_APP"], ":")
	req.SetBasicAuth(user, password)
	resp, err := n.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && res != nil {
		err = json.Unmarshal(raw, res)
	}
	return resp.StatusCode, err
}

// activeDevice makes an ACTIVE registration: created at one node, activated at
// another, committed at the first.
func (s *site) activeDevice(t *testing.T, user string, a, b *siteNode) *powerauth.Device {
	t.Helper()
	ctx := t.Context()
	var created struct{ RegistrationID, ActivationQRCodeData string }
	status, err := a.call(ctx, "POST", "/v2/registrations", map[string]any{"userId": user, "appId": "bank"}, &created)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	d, err := powerauth.New(powerauth.Config{
		BaseURL: b.rest, ApplicationKey: s.env["SIGNET_PA_APP_KEY"], ApplicationSecret: s.env["SIGNET_PA_APP_SECRET"],
		MasterPublicKey: s.env["SIGNET_PA_MASTER_PUBLIC_KEY"], HTTP: s.http,
	})
	require.NoError(t, err)
	require.NoError(t, d.Activate(ctx, created.ActivationQRCodeData, powerauth.ActivateOptions{Name: "phone"}))
	status, err = a.call(ctx, "POST", "/v2/registrations/"+created.RegistrationID+"/commit", map[string]any{}, nil)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	return d
}

func signed(t *testing.T, d *powerauth.Device) verifyBody {
	t.Helper()
	header, err := d.Sign("POST", "/payment", []byte("{}"), signature.PossessionKnowledge)
	require.NoError(t, err)
	return verifyBody{"POST", "/payment", header, base64Text([]byte("{}"))}
}

// Two server processes on one database, given the same valid signature 1,000
// times at once, accept it once (fault 18).
func TestPAAUTH01_TwoNodesAcceptASignatureOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	nodes := []*siteNode{s.serve(t), s.serve(t)}
	d := s.activeDevice(t, "alice", nodes[0], nodes[1])
	b := signed(t, d)

	const calls, parallel = 1000, 64
	var accepted, refused atomic.Int64
	var wg sync.WaitGroup
	gate := make(chan struct{})
	failures := make(chan error, calls)
	for w := range parallel {
		wg.Go(func() {
			<-gate
			for i := w; i < calls; i += parallel {
				var res verifyResult
				status, err := nodes[i%2].call(t.Context(), "POST", "/v2/signature/verify", b, &res)
				switch {
				case err != nil || status != 200:
					failures <- fmt.Errorf("status %d: %w", status, err)
				case res.SignatureValid:
					accepted.Add(1)
				default:
					refused.Add(1)
				}
			}
		})
	}
	close(gate)
	wg.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, accepted.Load())
	require.EqualValues(t, calls-1, refused.Load())

	// The replays counted as what they are: wrong signatures, five of them enough.
	var res verifyResult
	_, err := nodes[1].call(t.Context(), "POST", "/v2/signature/verify", signed(t, d), &res)
	require.NoError(t, err)
	require.Equal(t, verifyResult{false, "BLOCKED", 0}, res)

	s.requireHotRegistrationsCountExactly(t, nodes)
	for _, n := range nodes {
		require.NoError(t, n.proc.cmd.Process.Signal(os.Interrupt))
		require.Zero(t, n.proc.wait(t), n.proc.out)
		require.NotContains(t, n.proc.out.String(), s.env["SIGNET_PA_APP_SECRET"])
		require.NotContains(t, n.proc.out.String(), strings.SplitN(s.env["SIGNET_PA_APP"], ":", 2)[1])
	}
}

// Hot registrations, each signature given to both nodes at the same time: what was
// acknowledged is what the counters moved by, and nobody waits for somebody who waits
// for him.
func (s *site) requireHotRegistrationsCountExactly(t *testing.T, nodes []*siteNode) {
	t.Helper()
	phones, each := 12, 10
	if soak {
		phones, each = 50, 400
	}
	devices := make([]*powerauth.Device, phones)
	var making errgroup.Group
	for i := range devices {
		making.Go(func() error {
			devices[i] = s.activeDevice(t, fmt.Sprintf("hot-%d", i), nodes[0], nodes[1])
			return nil
		})
	}
	require.NoError(t, making.Wait())
	acknowledged := make([]int64, phones)
	began := time.Now()
	var wg sync.WaitGroup
	failures := make(chan error, phones)
	for i, d := range devices {
		wg.Go(func() {
			for range each {
				header, err := d.Sign("POST", "/payment", []byte("{}"), signature.PossessionKnowledge)
				if err != nil {
					failures <- err
					return
				}
				b := verifyBody{"POST", "/payment", header, base64Text([]byte("{}"))}
				var valid [2]verifyResult
				var both errgroup.Group
				for k, n := range nodes {
					both.Go(func() error {
						status, err := n.call(t.Context(), "POST", "/v2/signature/verify", b, &valid[k])
						if err == nil && status != 200 {
							err = fmt.Errorf("status %d", status)
						}
						return err
					})
				}
				if err := both.Wait(); err != nil {
					failures <- err
					return
				}
				for _, v := range valid {
					if v.SignatureValid {
						acknowledged[i]++
					}
				}
			}
		})
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	conn, err := pgx.Connect(t.Context(), s.cluster.URL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	for i, d := range devices {
		var counter int64
		require.NoError(t, conn.QueryRow(t.Context(), `select counter from registration where id = $1`, d.ActivationID()).Scan(&counter))
		require.EqualValues(t, each, acknowledged[i])
		require.Equal(t, acknowledged[i], counter)
	}
	var deadlocks int64
	require.NoError(t, conn.QueryRow(t.Context(), `select sum(deadlocks) from pg_stat_database`).Scan(&deadlocks))
	require.Zero(t, deadlocks)
	t.Logf("%d signatures of %d registrations, each at two nodes at once, in %s: every one accepted once", phones*each, phones, time.Since(began).Round(time.Millisecond))
}

// What a database administrator changes in the audit log is found.
func TestAuditVerifyFindsAChange(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.serve(t)
	d := s.activeDevice(t, "carol", n, n)
	for range 3 {
		_, err := n.call(t.Context(), "POST", "/v2/signature/verify", signed(t, d), nil)
		require.NoError(t, err)
	}
	require.NoError(t, n.proc.cmd.Process.Signal(os.Interrupt))
	require.Zero(t, n.proc.wait(t), n.proc.out)

	good := start(t, "audit", "verify", "-c", s.config)
	require.Zero(t, good.wait(t), good.out)
	require.Regexp(t, `good demo: \d+ events chained, .* 0 not chained yet, 0 findings`, good.out.String())

	conn, err := pgx.Connect(t.Context(), s.cluster.URL())
	require.NoError(t, err)
	tag, err := conn.Exec(t.Context(), `update audit_event set outcome = 'signature_does_not_match'
		where tenant_id = 'demo' and outcome = 'signature_ok'`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	bad := start(t, "audit", "verify", "-c", s.config)
	require.Equal(t, 1, bad.wait(t), bad.out)
	require.Regexp(t, fmt.Sprintf(`BAD  demo: .* %d findings`, tag.RowsAffected()), bad.out.String())
	require.Contains(t, bad.out.String(), "the audit log was changed")
}

// A second bootstrap changes nothing unless it is asked to.
func TestBootstrapAgain(t *testing.T) {
	t.Parallel()
	s := makeSite(t, func(do func()) { do() })
	read := func(out string, more ...string) map[string]string {
		t.Helper()
		s.verb(t, 0, append([]string{"bootstrap", "--tenant", "demo", "--app", "bank", "--out", s.path(out)}, more...)...)
		env, err := readEnv(s.path(out))
		require.NoError(t, err)
		return env
	}
	again := read("again.env")
	require.NotContains(t, again, "SIGNET_PA_APP")
	require.Equal(t, s.env["SIGNET_PA_APP_SECRET"], again["SIGNET_PA_APP_SECRET"])
	reset := read("reset.env", "--reset")
	require.NotEqual(t, s.env["SIGNET_PA_APP"], reset["SIGNET_PA_APP"])
	require.NotEmpty(t, reset["SIGNET_PA_ADMIN"])

	n := s.serve(t)
	status, err := n.call(t.Context(), "GET", "/v2/registrations?userId=x", nil, nil) // the old secret
	require.NoError(t, err)
	require.Equal(t, 401, status)
	s.env = reset
	status, err = n.call(t.Context(), "GET", "/v2/registrations?userId=x", nil, nil)
	require.NoError(t, err)
	require.Equal(t, 200, status)

	// A token that is full: said plainly, no file, and the same command works later.
	token, err := softhsm.Load(s.path("token"))
	require.NoError(t, err)
	module := faultmodule.New(t, s.dir, token.Module)
	config, err := os.ReadFile(s.config)
	require.NoError(t, err)
	s.write(t, "signet.yaml", strings.Replace(string(config), token.Module, module.Path, 1))
	module.Inject(faultmodule.Rule{On: "C_GenerateKeyPair", Do: faultmodule.Half, Value: p11.CKR_DEVICE_MEMORY})
	other := []string{"bootstrap", "--tenant", "demo", "--app", "other", "--out", s.path("other.env"), "-c", s.config}
	full := start(t, other...)
	require.Equal(t, 1, full.wait(t), full.out)
	require.Contains(t, full.out.String(), "the HSM has no room for another key")
	require.Contains(t, full.out.String(), "Get the token more room")
	require.NoFileExists(t, s.path("other.env"))
	module.Clear()
	later := start(t, other...)
	require.Zero(t, later.wait(t), later.out)
}

// While the database is out there is no verdict, and after it came back the
// same signature is still good: the outage neither counted nor consumed it.
func TestPAAUTH01_DatabaseOutageIsNoVerdict(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.serve(t)
	d := s.activeDevice(t, "bob", n, n)
	var res verifyResult
	status, err := n.call(t.Context(), "POST", "/v2/signature/verify", signed(t, d), &res)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.True(t, res.SignatureValid)

	stop, cancel := context.WithTimeout(t.Context(), stopWithin)
	defer cancel()
	require.NoError(t, s.cluster.Stop(stop))
	b := signed(t, d)
	var body map[string]any
	status, err = n.call(t.Context(), "POST", "/v2/signature/verify", b, &body)
	require.NoError(t, err)
	require.Equal(t, 500, status)
	require.Equal(t, "ERROR", body["status"])
	require.NotContains(t, body, "signatureValid")
	ready, err := n.http.Get(n.ops + "/readyz")
	require.NoError(t, err)
	said, err := io.ReadAll(ready.Body)
	require.NoError(t, err)
	require.NoError(t, ready.Body.Close())
	require.Equal(t, 503, ready.StatusCode)
	require.Contains(t, string(said), "database")

	s.startDatabase(t)
	require.Eventually(t, func() bool {
		res = verifyResult{}
		status, err := n.call(t.Context(), "POST", "/v2/signature/verify", b, &res)
		return err == nil && status == 200
	}, 20*time.Second, 100*time.Millisecond)
	require.Equal(t, verifyResult{true, "ACTIVE", 5}, res)
}
