package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/ownkey"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// bootstrapParams names what bootstrap makes sure of.
type bootstrapParams struct {
	Tenant tenant.ID
	App    string
	Actor  string
	Reset  bool // give credentials that are there already a new secret
}

// credential is a user with the secret that is shown once.
type credential struct {
	Username string
	Password secret.Bytes // empty when the credential was there already
}

// bootstrapped is what bootstrap found or made.
type bootstrapped struct{ Admin, Integ credential }

// ensureKeys makes the installation's own keys unless they were made: the
// key-encryption key and the one that signs the audit log.
func (p *process) ensureKeys(ctx context.Context, s *stores) error {
	kek, err := p.primaryKEK(ctx, s)
	if err != nil {
		return err
	}
	m := ownkey.Maker{DB: s.pool, HSM: s.token, Logger: p.log}
	return errors.Join(m.Ensure(ctx, kek, hsm.AES256), m.Ensure(ctx, audit.KeyRef(), hsm.P256))
}

// bootstrap makes what no API can make because it is needed to call one: the
// tenant, an application and its two credentials. What is there stays. On an
// error it returns what it made until then: secrets are told once.
func (d *domains) bootstrap(ctx context.Context, b bootstrapParams) (bootstrapped, error) {
	var out bootstrapped
	if err := tenant.Ensure(ctx, d.pool, b.Tenant); err != nil {
		return out, err
	}
	_, _, err := d.apps.Create(ctx, b.Tenant, app.CreateParams{ID: b.App, Roles: []string{}, Actor: b.Actor})
	if err != nil && !errors.Is(err, app.ErrExists) {
		return out, fmt.Errorf("application %s: %w", b.App, err)
	}
	for _, c := range []struct {
		into *credential
		name string
		role access.Privilege
		apps []string
	}{
		// No tenant's name holds a slash, so that these names never meet.
		{&out.Admin, b.Tenant.String() + "/admin", access.PAAdmin, nil},
		{&out.Integ, b.Tenant.String() + "/app/" + b.App, access.PAIntegration, []string{b.App}},
	} {
		c.into.Username = c.name
		c.into.Password, err = d.basic.Create(ctx, b.Tenant, access.NewCredential{Username: c.name, Role: c.role, Apps: c.apps})
		if errors.Is(err, access.ErrUserExists) {
			c.into.Password, err = secret.Bytes{}, nil
			if b.Reset {
				c.into.Password, err = d.basic.Reset(ctx, b.Tenant, c.name)
			}
		}
		if err != nil {
			return out, fmt.Errorf("credential %s: %w", c.name, err)
		}
	}
	return out, nil
}

func bootstrapCommand() *cobra.Command {
	var config, tenantName, appID, out string
	var reset bool
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make the installation's own keys, a tenant, a PowerAuth application and its credentials, once",
		Long: `Makes what no API can make because it is needed to call one. What is there
already stays as it is, so a second call is safe. New secrets are written to
the file --out (created, mode 0600), never to the terminal.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			id, err := tenant.Parse(tenantName)
			if err != nil {
				return usageError{fmt.Errorf("--tenant: %w", err)}
			}
			if !sourceable(appID) {
				return usageError{errors.New("--app: the name has characters that a shell would take for its own")}
			}
			return p.runBootstrap(cmd.Context(), bootstrapParams{Tenant: id, App: appID, Actor: "bootstrap", Reset: reset}, out)
		},
	}
	configFlag(cmd, &config)
	cmd.Flags().StringVar(&tenantName, "tenant", "", "tenant to make")
	cmd.Flags().StringVar(&appID, "app", "", "PowerAuth application to make")
	cmd.Flags().StringVar(&out, "out", "", "file for the new secrets; must not exist")
	cmd.Flags().BoolVar(&reset, "reset", false, "give the two credentials new secrets when they are there already")
	for _, f := range []string{"tenant", "app", "out"} {
		_ = cmd.MarkFlagRequired(f)
	}
	return cmd
}

func (p *process) runBootstrap(ctx context.Context, b bootstrapParams, out string) (err error) {
	// The file comes first: secrets that can not be handed over must not be made.
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	told := false
	defer func() {
		err = errors.Join(err, f.Sync(), f.Close())
		if err != nil && !told { // a file that holds a secret stays, whatever happened
			_ = os.Remove(out)
		}
	}()
	s, err := p.openStores(ctx, toMake)
	if err != nil {
		return err
	}
	if err := p.ensureKeys(ctx, s); err != nil {
		s.close()
		return err
	}
	d, err := p.openDomains(ctx, s)
	if err != nil {
		return err
	}
	defer d.close()
	made, err := d.bootstrap(ctx, b)
	w := &envWriter{w: f}
	w.line("SIGNET_TENANT", b.Tenant.String())
	w.line("SIGNET_PA_APP_ID", b.App)
	for _, c := range []struct {
		key string
		credential
	}{{"SIGNET_PA_ADMIN", made.Admin}, {"SIGNET_PA_APP", made.Integ}} {
		if c.Password.Len() > 0 {
			told = true
			w.line(c.key, c.Username+":"+string(c.Password.Reveal()))
		}
	}
	if err := errors.Join(err, w.err); err != nil {
		return err
	}
	application, err := d.apps.Get(ctx, b.Tenant, b.App)
	if err != nil {
		return err
	}
	versions, err := d.apps.Versions(ctx, b.Tenant, b.App)
	if err != nil {
		return err
	}
	w.line("SIGNET_PA_MASTER_PUBLIC_KEY", base64Text(application.MasterPublic))
	w.line("SIGNET_PA_APP_KEY", base64Text(versions[0].Key[:]))
	w.line("SIGNET_PA_APP_SECRET", string(versions[0].Secret.Reveal()))
	return w.err
}
