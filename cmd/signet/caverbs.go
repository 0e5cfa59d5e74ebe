package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/ca"
)

func caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Operate the certificate authority of all tenants",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		caVerb("renew-all", "Renew every signer's certificate, after a change of the issuer",
			`Asks for a new certificate for each signer that the configured issuer did not
certify, with the key it has. Signers go on issuing meanwhile. What an outage
leaves is queued and done by the running nodes; the command may be given again.`,
			func(ctx context.Context, a *ca.Authority, out io.Writer) error {
				r, err := a.RenewAll(ctx, ca.RenewAll{Actor: "operator"})
				fmt.Fprintf(out, "%d renewed, %d queued, %d failed\n", r.Renewed, r.Queued, r.Failed)
				if err == nil && r.Failed > 0 {
					err = fmt.Errorf("%d signers were not renewed: the log says why", r.Failed)
				}
				return err
			}),
		caVerb("unrecorded", "List signer keys in the HSM that no record explains",
			`A key that no record explains is never used and never destroyed: the database may
be an old copy. Exit status 1 when there is one.`,
			func(ctx context.Context, a *ca.Authority, out io.Writer) error {
				refs, err := a.Unrecorded(ctx)
				if err != nil {
					return err
				}
				for _, ref := range refs {
					fmt.Fprintln(out, ref)
				}
				if len(refs) > 0 {
					return fmt.Errorf("%d keys are not recorded", len(refs))
				}
				fmt.Fprintln(out, "every signer key is recorded")
				return nil
			}),
	)
	return cmd
}

func caVerb(use, short, long string, do func(context.Context, *ca.Authority, io.Writer) error) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := p.openStores(ctx, toManage)
			if err != nil {
				return err
			}
			d, err := p.openDomains(ctx, s)
			if err != nil {
				return err
			}
			defer d.close()
			a, err := p.openAuthority(ctx, d, p.cfg.PKI.URL)
			if err != nil {
				return err
			}
			return do(ctx, a, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &config)
	return cmd
}
