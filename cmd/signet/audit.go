package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/tenant"
)

// errAudit is the answer when a log is not what was sealed; what is wrong was
// printed.
var errAudit = errors.New("the audit log was changed")

// verifyAudit waits until all that happened so far is chained, then verifies.
func (d *domains) verifyAudit(t tenant.ID) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		v := audit.Verifier{DB: d.pool, Keys: d.token}
		for {
			r, err := v.Verify(ctx, t)
			switch {
			case err != nil:
				return "", err
			case !r.OK():
				return "", fmt.Errorf("%w: %d findings", errAudit, r.Bad)
			case r.Unsealed == 0:
				return fmt.Sprintf("%d events, %d checkpoints", r.Seq, r.Checkpoints), nil
			}
			select {
			case <-ctx.Done():
				return "", fmt.Errorf("%d events are not chained yet: %w", r.Unsealed, ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Work with the audit log", Args: noArgs}
	var config, only string
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Compute the audit chains anew and hold them against the checkpoints signed in the HSM",
		Long: `Reads the whole audit log of each tenant and prints one line a tenant, then one
line for each event that was changed, deleted, inserted or cut off. Writes
nothing and may run beside everything else. Exit status 1 when a log was changed
or could not be read.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			s, err := p.openStores(ctx, toRead)
			if err != nil {
				return err
			}
			defer s.close()
			v := audit.Verifier{DB: s.pool, Keys: s.token}
			var tenants []tenant.ID
			if only != "" {
				id, err := tenant.Parse(only)
				if err != nil {
					return usageError{fmt.Errorf("--tenant: %w", err)}
				}
				tenants = []tenant.ID{id}
			} else if tenants, err = v.Tenants(ctx); err != nil {
				return err
			}
			good := true
			for _, t := range tenants {
				r, err := v.Verify(ctx, t)
				if err != nil {
					return err
				}
				verdict := "good"
				if !r.OK() {
					verdict, good = "BAD", false
				}
				fmt.Fprintf(out, "%-4s %s: %d events chained, %d signed (%d checkpoints), %d not chained yet, %d findings\n",
					verdict, t, r.Seq, r.Signed.Seq, r.Checkpoints, r.Unsealed, r.Bad)
				for _, f := range r.Findings {
					fmt.Fprintf(out, "     %s\n", f)
				}
			}
			if !good {
				return errAudit
			}
			return nil
		},
	}
	configFlag(verify, &config)
	verify.Flags().StringVar(&only, "tenant", "", "only this tenant")
	cmd.AddCommand(verify)
	return cmd
}
