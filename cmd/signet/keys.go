package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/tenant"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Operate the keys that seal secrets in the database",
		Long: `The key-encryption key in the HSM seals data keys, one for each tenant and table;
data keys seal secrets in rows. Each can be replaced while everything goes on:
the running nodes seal anew, in the background, what an old data key sealed.

All but status change rows that the service has no right to change: use a
configuration whose database user owns the tables, as for signet migrate.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(keysStatus(), keysRotateData(), keysRotateKEK(), keysRetire(), keysErase())
	return cmd
}

// keysVerb is a verb that works on the wired domains.
func keysVerb(use, short, long string, do func(ctx context.Context, d *domains, out io.Writer) error) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := p.openStores(ctx, toMake)
			if err != nil {
				return err
			}
			d, err := p.openDomains(ctx, s)
			if err != nil {
				return err
			}
			defer d.close()
			return do(ctx, d, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &config)
	return cmd
}

func keysStatus() *cobra.Command {
	return keysVerb("status", "List key-encryption and data keys with state and age",
		`States: ADDED (stored, not used), PRIMARY (seals), RETIRING (opens what it sealed
until that is sealed anew), RETIRED (has nothing left).`,
		func(ctx context.Context, d *domains, out io.Writer) error {
			list, err := d.rotation.Status(ctx)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TENANT\tTABLE\tVERSION\tSTATE\tSINCE\tMADE\tKEK")
			for _, k := range list {
				tenantName, table, number := k.Tenant, k.Table, fmt.Sprint(k.Version)
				switch {
				case k.Tenant == "":
					tenantName, table, number = "-", "-", "-"
				case table == "":
					table = "(all)"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", tenantName, table, number, k.State,
					k.Since.UTC().Format(time.RFC3339), k.Created.UTC().Format(time.RFC3339), k.KEK)
			}
			return w.Flush()
		})
}

func keysRotateData() *cobra.Command {
	var name string
	cmd := keysVerb("rotate-data", "Give each table of a tenant a new data key",
		`Then seals anew what the old keys sealed. When it is cut off, the running nodes go
on with that; signet keys status tells how far they are. The tenant _system has
the installation's own secrets.`,
		func(ctx context.Context, d *domains, out io.Writer) error {
			t, err := parseTenant(name)
			if err != nil {
				return err
			}
			n, err := d.rotation.Rotate(ctx, t)
			fmt.Fprintf(out, "%d data keys replaced\n", n)
			if err := errors.Join(err, d.recordKeys(ctx, t, "keys.rotate_data", map[string]any{"keys": n})); err != nil {
				return err
			}
			for more := true; more && err == nil; {
				more, err = d.rotation.Round(ctx)
			}
			return err
		})
	cmd.Flags().StringVar(&name, "tenant", "", "whose data keys")
	_ = cmd.MarkFlagRequired("tenant")
	return cmd
}

func keysRotateKEK() *cobra.Command {
	return keysVerb("rotate-kek", "Make a new key-encryption key and seal all data keys with it",
		`The new key is made in the HSM, proved, and used from then on; all data keys are
sealed anew before the command ends. The old key stays in the HSM: older copies
of the database need it. May be repeated after it was cut off: it goes on with
the key that it had begun.`,
		func(ctx context.Context, d *domains, out io.Writer) error {
			name, n, err := d.rotation.RotateKEK(ctx, nextGeneration, d.makeKEK)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s seals %d data keys\n", name, n)
			return d.recordKeys(ctx, tenant.System, "keys.rotate_kek", map[string]any{"kek": name, "keys": n})
		})
}

func nextGeneration(name string) (string, error) {
	ref, err := hsm.ParseRef(name)
	if err != nil {
		return "", err
	}
	ref.Generation++
	return ref.String(), nil
}

// makeKEK makes the key that was written down, unless it is there.
func (d *domains) makeKEK(ctx context.Context, n envelope.NewKEK) error {
	ref, err := hsm.ParseRef(n.Name)
	if err != nil {
		return err
	}
	info, err := d.token.Lookup(ctx, ref)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		info, err = d.token.Generate(ctx, ref, hsm.AES256, n.ID)
	}
	if err == nil && info.ID != n.ID {
		err = fmt.Errorf("the HSM has a key %s that was not made by this rotation", ref)
	}
	return err
}

func keysRetire() *cobra.Command {
	var keep time.Duration
	var destroy bool
	cmd := keysVerb("retire", "Remove data keys that seal nothing any more, and name key-encryption keys that do not",
		`Looks through all that an old data key may have sealed once more before it goes.
With --destroy-kek, key-encryption keys that seal no data key here are destroyed
in the HSM: copies of the database from before their rotation can not be read
any more, here or anywhere.`,
		func(ctx context.Context, d *domains, out io.Writer) error {
			n, err := d.rotation.Prune(ctx, keep)
			fmt.Fprintf(out, "%d data keys removed\n", n)
			if err != nil {
				return err
			}
			names, err := d.rotation.RetireKEKs(ctx)
			if err != nil {
				return err
			}
			destroyed := []string{}
			for _, name := range names {
				ref, err := hsm.ParseRef(name)
				if err != nil {
					return err
				}
				if _, err := d.token.Lookup(ctx, ref); errors.Is(err, hsm.ErrKeyNotFound) {
					continue
				}
				if !destroy {
					fmt.Fprintf(out, "%s seals nothing here; --destroy-kek destroys it\n", name)
					continue
				}
				if err := d.token.Destroy(ctx, ref); err != nil {
					return err
				}
				destroyed = append(destroyed, name)
				fmt.Fprintf(out, "%s destroyed\n", name)
			}
			return d.recordKeys(ctx, tenant.System, "keys.retire", map[string]any{"removed": n, "destroyed": destroyed})
		})
	cmd.Flags().DurationVar(&keep, "keep", 7*24*time.Hour, "how long a data key without any use is kept")
	cmd.Flags().BoolVar(&destroy, "destroy-kek", false, "destroy key-encryption keys that seal nothing here")
	return cmd
}

func keysErase() *cobra.Command {
	var name, confirm string
	cmd := keysVerb("erase", "Make all sealed data of a tenant unreadable, for ever",
		`Removes all data keys of the tenant. Its devices can not be verified any more and
have to be activated anew. Running nodes forget the data keys within a minute, but
not the devices' keys that they have in memory: restart them. A
copy of the database from before, together with the key-encryption key in the
HSM, still opens: to close that too, rotate the key-encryption key and destroy
the old one (signet keys rotate-kek, then retire --destroy-kek). --confirm
repeats the tenant's name.`,
		func(ctx context.Context, d *domains, out io.Writer) error {
			if name != confirm {
				return usageError{errors.New("--confirm is not the tenant's name: nothing was erased")}
			}
			t, err := parseTenant(name)
			if err != nil {
				return err
			}
			// Before and after: what can not be undone must not be without a trace.
			if err := d.recordKeys(ctx, t, "keys.erase", nil); err != nil {
				return err
			}
			n, err := d.rotation.Erase(ctx, t)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%d data keys of %s erased\n", n, t)
			return d.recordKeys(ctx, t, "keys.erased", map[string]any{"keys": n})
		})
	cmd.Flags().StringVar(&name, "tenant", "", "whose data")
	cmd.Flags().StringVar(&confirm, "confirm", "", "the tenant's name once more")
	_ = cmd.MarkFlagRequired("tenant")
	_ = cmd.MarkFlagRequired("confirm")
	return cmd
}

func parseTenant(name string) (tenant.ID, error) {
	t, err := tenant.Stored(name)
	if err != nil {
		return t, usageError{fmt.Errorf("--tenant: %w", err)}
	}
	return t, nil
}

// recordKeys writes what an operator did with keys into the audit log.
func (d *domains) recordKeys(ctx context.Context, t tenant.ID, action string, detail map[string]any) error {
	return d.audit.RecordTx(ctx, d.pool, audit.Event{
		Tenant: t, Action: action, Actor: "operator", Subject: t.String(), Outcome: "ok", Detail: detail,
	})
}
