package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/rollback"
	"github.com/signet-hsm/signet/tenant"
)

func rollbackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Deal with a database that was set back in time",
		Long: `A node that finds the database older than it was, after a backup was restored, a
snapshot or a failover that lost commits, holds all tenants: signatures, tokens and
offline codes are not judged and phones get no status, until an operator has moved
the counters on. docs/restore.md tells how to restore.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(rollbackStatus(), rollbackRelease())
	return cmd
}

// databaseVerb is a verb that needs the database and nothing else.
func databaseVerb(use, short, long string, do func(ctx context.Context, pool *pgxpool.Pool, out io.Writer) error) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			pool, err := p.openMigrated(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			return do(cmd.Context(), pool, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &config)
	return cmd
}

func rollbackStatus() *cobra.Command {
	return databaseVerb("status", "List holds, and how far each node has seen the database", "",
		func(ctx context.Context, pool *pgxpool.Pool, out io.Writer) error {
			holds, marks, err := rollback.Status(ctx, pool)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TENANT\tFOUND\tBY NODE\tEXPECTED\tIS\tADVANCE\tRELEASED")
			for _, h := range holds {
				released := "no"
				if !h.ReleasedAt.IsZero() {
					released = h.ReleasedAt.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\n", h.Tenant, h.DetectedAt.UTC().Format(time.RFC3339), h.Node, h.Expected, h.Found, h.Advance, released)
			}
			fmt.Fprintln(w, "\nNODE\tMARK\tLAST")
			for _, m := range marks {
				fmt.Fprintf(w, "%s\t%d\t%s\n", m.Node, m.Seq, m.BeatenAt.UTC().Format(time.RFC3339))
			}
			return w.Flush()
		})
}

func rollbackRelease() *cobra.Command {
	var name string
	var all bool
	var advance int
	cmd := databaseVerb("release", "Move the counters of held tenants on, and let verdicts be made again",
		`Moves the counter of every registration on as if --advance signatures had been
made, and ends the hold. Nothing that a phone signed before is accepted then, as
long as no phone made more signatures than that since the state the database was
set back to: it is for the operator to know, from the archived audit log, and 64
is right for most. Phones follow by themselves when they are no more than 64
behind; the others have to be activated anew. Tokens are refused for a while yet:
five minutes from the hold on, two hours for protocols 3.0 and 3.1.

May be repeated after it was cut off, with the same number. Use a configuration
whose database user owns the tables, as for signet migrate.`,
		func(ctx context.Context, pool *pgxpool.Pool, out io.Writer) error {
			if all == (name != "") {
				return usageError{errors.New("give either --tenant or --all")}
			}
			tenants, err := heldTenants(ctx, pool)
			if err != nil {
				return err
			}
			if name != "" {
				t, err := parseTenant(name)
				if err != nil {
					return err
				}
				tenants = []tenant.ID{t}
			}
			if len(tenants) == 0 {
				return rollback.ErrNotHeld
			}
			log, err := audit.New(audit.Config{DB: pool})
			if err != nil {
				return err
			}
			for _, t := range tenants {
				if err := rollback.Release(ctx, pool, log, t, advance, "operator", registration.Advance); err != nil {
					return err
				}
				fmt.Fprintf(out, "%s released, counters moved on by %d\n", t, advance)
			}
			return nil
		})
	cmd.Flags().StringVar(&name, "tenant", "", "whose hold")
	cmd.Flags().BoolVar(&all, "all", false, "all that are held")
	cmd.Flags().IntVar(&advance, "advance", 0, "the most signatures that any phone made since the restored state (1 to 10000)")
	_ = cmd.MarkFlagRequired("advance")
	return cmd
}

func heldTenants(ctx context.Context, pool *pgxpool.Pool) ([]tenant.ID, error) {
	holds, _, err := rollback.Status(ctx, pool)
	if err != nil {
		return nil, err
	}
	var out []tenant.ID
	seen := map[tenant.ID]bool{}
	for _, h := range holds {
		if h.ReleasedAt.IsZero() && !seen[h.Tenant] {
			out, seen[h.Tenant] = append(out, h.Tenant), true
		}
	}
	return out, nil
}
