package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
	"github.com/signet-hsm/signet/internal/obs"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/tenant"
)

const (
	devTenant  = "demo"
	devApp     = "demo-app"
	stopWithin = 20 * time.Second
)

type devOptions struct {
	data, rest, grpc, pki string
	noTour, exit          bool
}

func devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: private PostgreSQL, SoftHSM, demo tenant, and a tour",
		Long: `Makes a data folder with a SoftHSM token, a private PostgreSQL cluster, a root and
an issuer CA, a demo tenant with an application and credentials, serves, and
takes a tour of itself over loopback. The credentials stand in DATA/dev.env, to
source; the log is DATA/signet.log. Ctrl-C stops all that it started.

For development only: the PINs and the demo identity provider's key lie in the
data folder.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.noTour && o.exit {
				return usageError{errors.New("--no-tour and --exit-after-tour exclude each other")}
			}
			return runDev(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.data, "data", ".signet", "data folder")
	cmd.Flags().StringVar(&o.rest, "rest", "127.0.0.1:8300", "address of REST; port 0 picks a free one")
	cmd.Flags().StringVar(&o.grpc, "grpc", "127.0.0.1:8301", "address of gRPC; port 0 picks a free one")
	cmd.Flags().StringVar(&o.pki, "pki", "127.0.0.1:8302", "address of CRLs and OCSP; port 0 picks a free one")
	cmd.Flags().BoolVar(&o.noTour, "no-tour", false, "serve only")
	cmd.Flags().BoolVar(&o.exit, "exit-after-tour", false, "stop after the tour; exit status 0 only when every line was good")
	return cmd
}

// devHome is the data folder and where things stand in it.
type devHome struct{ dir string }

func (h devHome) path(name string) string { return filepath.Join(h.dir, name) }
func (h devHome) token() string           { return h.path("softhsm") }
func (h devHome) cluster() string         { return h.path("pg") }
func (h devHome) ca() string              { return h.path("ca") }
func (h devHome) chain() string           { return filepath.Join(h.ca(), ceremony.ChainFile) }
func (h devHome) root() string            { return filepath.Join(h.ca(), ceremony.RootFile) }
func (h devHome) env() string             { return h.path("dev.env") }
func (h devHome) pushes() string          { return h.path("pushes.jsonl") }
func (h devHome) fresh() string           { return h.path("first-start") }

func runDev(ctx context.Context, o devOptions, out io.Writer) (err error) {
	began := time.Now()
	home, unlock, err := openHome(o.data)
	if err != nil {
		return err
	}
	defer unlock()
	logFile, err := os.OpenFile(home.path("signet.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	log, err := obs.NewLogger(logFile, obs.Log{Format: "text"})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "signet %s dev, data in %s\n", version, home.dir)

	fresh, err := home.prepareFresh()
	if err != nil {
		return err
	}
	var cluster *pgcluster.Cluster
	var token *softhsm.Token
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		cluster, err = pgcluster.Start(gctx, pgcluster.Config{Dir: home.cluster(), Durable: true, Logger: log})
		return err
	})
	g.Go(func() (err error) { token, err = home.prepareToken(gctx, fresh); return err })
	err = g.Wait()
	if cluster != nil {
		defer func() {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
			defer cancel()
			err = errors.Join(err, cluster.Stop(stop))
		}()
	}
	if err != nil {
		return err
	}

	idp, err := openDevIDP(home.dir)
	if err != nil {
		return err
	}
	p := &process{log: log, registry: obs.NewRegistry(version), cfg: Config{
		Listen:   ListenConfig{REST: o.rest, GRPC: o.grpc, PKI: o.pki},
		Database: DatabaseConfig{URL: cluster.URL()},
		HSM: HSMConfig{
			Module: token.Module, TokenLabel: token.Label, Env: token.HSM().Env,
			PIN: conf.SecretSource{File: filepath.Join(token.Dir, "pin")},
		},
		CA:        CAConfig{IssuerChain: home.chain(), OperatorTenant: devTenant},
		Push:      PushConfig{Record: home.pushes()},
		Callbacks: CallbackConfig{Allow: []string{"127.0.0.0/8", "::1/128"}, AllowHTTP: true},
		Tenants:   []TenantConfig{{ID: devTenant, Issuer: devIssuer, Audience: devAudience, JWKSFile: idp.JWKSFile}},
	}}
	d, err := p.openDev(ctx, fresh)
	if err != nil {
		return err
	}
	defer d.close()
	if err := os.RemoveAll(home.fresh()); err != nil {
		return err
	}
	n, err := p.newNode(ctx, d)
	if err != nil {
		return err
	}
	env, err := home.writeEnv(ctx, d, idp, n)
	if err != nil {
		n.abandon()
		return err
	}

	// Losing the database's process is losing the node: stop and say so.
	g, gctx = errgroup.WithContext(ctx)
	serveCtx, stopServing := context.WithCancel(gctx)
	defer stopServing()
	g.Go(func() error { return n.serve(serveCtx) })
	g.Go(func() error {
		select {
		case <-cluster.Done():
			return fmt.Errorf("PostgreSQL ended: %w", cluster.Err())
		case <-serveCtx.Done():
			return nil
		}
	})
	g.Go(func() error {
		fmt.Fprintf(out, "ready after %s: REST %s, gRPC %s, CRLs and OCSP %s\n", time.Since(began).Round(time.Millisecond), env.rest, env.grpc, env.pki)
		if !o.noTour {
			if err := env.tour(serveCtx, out); err != nil {
				if o.exit {
					return err
				}
				fmt.Fprintln(out, "tour:", err)
			}
		}
		if o.exit {
			stopServing()
			return nil
		}
		env.hints(out)
		return nil
	})
	return g.Wait()
}

// openHome makes the data folder and takes its lock: one signet per folder.
func openHome(dir string) (devHome, func(), error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return devHome{}, nil, err
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return devHome{}, nil, err
	}
	f, err := os.OpenFile(filepath.Join(abs, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return devHome{}, nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return devHome{}, nil, fmt.Errorf("another signet dev uses %s; stop it or choose another folder with --data", abs)
	}
	return devHome{abs}, func() { _ = f.Close() }, nil
}

// prepareFresh reports whether the first start is still to be done. A first start
// that was cut short is begun anew: keys half made can not be finished, and
// rows sealed below a lost token can not be read. The marker stays until the
// database too is known to be empty.
func (h devHome) prepareFresh() (bool, error) {
	_, chainErr := os.Stat(h.chain())
	_, markErr := os.Stat(h.fresh())
	if chainErr == nil && errors.Is(markErr, os.ErrNotExist) {
		return false, nil
	}
	if err := os.WriteFile(h.fresh(), nil, 0o600); err != nil {
		return false, err
	}
	for _, path := range []string{h.token(), h.ca(), h.env()} {
		if err := os.RemoveAll(path); err != nil {
			return false, err
		}
	}
	return true, nil
}

// prepareToken loads the token, or makes it with its root and issuer.
func (h devHome) prepareToken(ctx context.Context, fresh bool) (*softhsm.Token, error) {
	if !fresh {
		return softhsm.Load(h.token())
	}
	token, err := softhsm.Create(ctx, h.token(), "signet-dev")
	if err != nil {
		return nil, err
	}
	t, err := hsm.Open(ctx, token.HSM())
	if err != nil {
		return nil, err
	}
	defer t.Close()
	_, err = ceremony.Run(ctx, t, ceremony.DevPlan(), h.ca())
	return token, err
}

// openDev empties a database that belongs to a lost token, brings it up to date
// and wires the domains.
func (p *process) openDev(ctx context.Context, fresh bool) (_ *domains, err error) {
	pool, err := p.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	if fresh {
		for _, sql := range []string{`drop schema public cascade`, `create schema public`} {
			if err == nil {
				_, err = pool.Exec(ctx, sql)
			}
		}
	}
	if err == nil {
		_, err = pg.Migrate(ctx, pool)
	}
	pool.Close()
	if err != nil {
		return nil, err
	}
	s, err := p.openStores(ctx, toDevelop)
	if err != nil {
		return nil, err
	}
	if err = p.ensureKeys(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	return p.openDomains(ctx, s)
}

// writeEnv makes sure of the demo application and its credentials and writes
// dev.env. Passwords are known only here: those of the last start are kept.
func (h devHome) writeEnv(ctx context.Context, d *domains, idp *devIDP, n *node) (*devEnv, error) {
	t := tenant.MustParse(devTenant)
	made, err := d.bootstrap(ctx, bootstrapParams{Tenant: t, App: devApp, Actor: "signet dev"})
	if err != nil {
		return nil, err
	}
	old, err := readEnv(h.env())
	if err != nil {
		return nil, err
	}
	password := func(c credential, key string) (string, error) {
		if c.Password.Len() == 0 {
			if v, ok := old[key]; ok {
				return v, nil
			}
			var err error
			if c.Password, err = d.basic.Reset(ctx, t, c.Username); err != nil {
				return "", err
			}
		}
		return c.Username + ":" + string(c.Password.Reveal()), nil
	}
	e := &devEnv{
		rest: "http://" + n.restAddr(), grpc: n.grpcAddr(), pki: "http://" + n.pkiAddr(), file: h.env(), rootFile: h.root(),
		pushFile: h.pushes(), verifyAudit: d.verifyAudit(t),
	}
	if e.paAdmin, err = password(made.Admin, "SIGNET_PA_ADMIN"); err != nil {
		return nil, err
	}
	if e.paApp, err = password(made.Integ, "SIGNET_PA_APP"); err != nil {
		return nil, err
	}
	now := time.Now()
	if e.tokenRead, err = idp.token(now, "admin-read"); err != nil {
		return nil, err
	}
	if e.tokenWrite, err = idp.token(now, "admin-read", "admin-write"); err != nil {
		return nil, err
	}
	application, err := d.apps.Get(ctx, t, devApp)
	if err != nil {
		return nil, err
	}
	versions, err := d.apps.Versions(ctx, t, devApp)
	if err != nil {
		return nil, err
	}
	e.masterPublic, e.appKey, e.appSecret = application.MasterPublic, versions[0].Key, versions[0].Secret

	var b bytes.Buffer
	w := &envWriter{w: &b}
	w.line("SIGNET_REST", e.rest)
	w.line("SIGNET_GRPC", e.grpc)
	w.line("SIGNET_PKI", e.pki)
	w.line("SIGNET_TENANT", devTenant)
	w.line("SIGNET_TOKEN_ADMIN_READ", e.tokenRead)
	w.line("SIGNET_TOKEN_ADMIN_WRITE", e.tokenWrite)
	w.line("SIGNET_PA_ADMIN", e.paAdmin)
	w.line("SIGNET_PA_APP", e.paApp)
	w.line("SIGNET_PA_APP_ID", devApp)
	w.line("SIGNET_PA_APP_KEY", base64Text(e.appKey[:]))
	w.line("SIGNET_PA_APP_SECRET", string(e.appSecret.Reveal()))
	w.line("SIGNET_PA_MASTER_PUBLIC_KEY", base64Text(e.masterPublic))
	w.line("SIGNET_ROOT", e.rootFile)
	if w.err != nil {
		return nil, w.err
	}
	return e, replaceFile(h.env(), b.Bytes(), 0o600)
}

// devEnv is what dev.env says, and what the tour needs.
type devEnv struct {
	rest, grpc, pki       string
	file, rootFile        string
	tokenRead, tokenWrite string
	paAdmin, paApp        string // user:password
	appKey                [16]byte
	appSecret             secret.Bytes
	masterPublic          []byte

	pushFile    string                                // where pushes are recorded
	verifyAudit func(context.Context) (string, error) // of the demo tenant
}

// hints prints lines that work when pasted; the secrets stay in dev.env.
func (e *devEnv) hints(out io.Writer) {
	fmt.Fprintf(out, "\nThe credentials stand in %s. Try:\n\n", e.file)
	for _, line := range []string{
		`curl -s -H "Authorization: Bearer $SIGNET_TOKEN_ADMIN_READ" "$SIGNET_REST/v2/tenants/$SIGNET_TENANT/signers"`,
		`curl -s -u "$SIGNET_PA_APP" -H "Content-Type: application/json" -d "{\"userId\":\"me-$(date +%s)\",\"appId\":\"$SIGNET_PA_APP_ID\"}" "$SIGNET_REST/v2/registrations"`,
		`curl -s "$SIGNET_REST/readyz"`,
	} {
		fmt.Fprintf(out, "  (. '%s'; %s)\n", e.file, line)
	}
	fmt.Fprint(out, "\nCtrl-C stops everything.\n")
}
