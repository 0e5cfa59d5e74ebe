package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/obs"
	"github.com/signet-hsm/signet/internal/pg"
)

func configFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "config", "c", "", "configuration file (signet.yaml)")
	_ = cmd.MarkFlagRequired("config")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// newProcess reads the configuration; what is wrong with it is the caller's to
// mend.
func newProcess(config string) (*process, error) {
	c, err := loadConfig(config)
	if err != nil {
		return nil, usageError{err}
	}
	log, err := obs.NewLogger(os.Stderr, obs.Log{Level: c.Log.Level, Format: c.Log.Format})
	if err != nil {
		return nil, usageError{err}
	}
	return &process{cfg: c, log: log, registry: obs.NewRegistry(version)}, nil
}

func serveCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve REST and gRPC until told to stop (SIGINT, SIGTERM)",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			if err := p.guardVerdicts(); err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := p.openStores(ctx, toServe)
			if err != nil {
				return err
			}
			d, err := p.openDomains(ctx, s)
			if err != nil {
				return err
			}
			defer d.close()
			n, err := p.newNode(ctx, d)
			if err != nil {
				return err
			}
			p.log.Info("serving", "version", version, "rest", n.restAddr(), "grpc", n.grpcAddr(), "ops", n.opsAddr(), "pki", n.pkiAddr())
			return n.serve(ctx)
		},
	}
	configFlag(cmd, &config)
	return cmd
}

func checkCommand() *cobra.Command {
	var config string
	var withHSM bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration without starting: is it whole, are its files there?",
		Long: `Reads the configuration strictly and looks for the files it names. Nothing is
opened that would change anything: no database, no HSM, no login.

With --hsm it opens the token as well, which is one login, and runs the self-test
of serve: the module must keep keys to their roles, no key may be able to do more
than its role, and the key-encryption key must be there.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(config)
			if err != nil {
				return usageError{err}
			}
			if err := c.checkFiles(); err != nil {
				return usageError{err}
			}
			if withHSM {
				if err := checkHSM(cmd.Context(), config); err != nil {
					return err
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good\n", config)
			return nil
		},
	}
	configFlag(cmd, &config)
	cmd.Flags().BoolVar(&withHSM, "hsm", false, "also open the HSM's token and test its keys (one login)")
	return cmd
}

// checkHSM opens the token as serve does, and closes it.
func checkHSM(ctx context.Context, config string) (err error) {
	p, err := newProcess(config)
	if err != nil {
		return err
	}
	t, err := p.openToken(ctx, toRead)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := t.SelfTest(ctx); err != nil {
		return err
	}
	kek, err := p.cfg.kekRef()
	if err != nil {
		return err
	}
	_, err = t.Lookup(ctx, kek)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		return fmt.Errorf("%w: run `signet bootstrap`, which makes it", err)
	}
	return err
}

func migrateCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database up to this version",
		Long: `Applies the migrations that the database lacks, each in a transaction of its
own. Several may run at once: one works, the others wait.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			pool, err := p.openDatabase(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			n, err := pg.Migrate(cmd.Context(), pool)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d migrations applied\n", n)
			return nil
		},
	}
	configFlag(cmd, &config)
	return cmd
}

func ceremonyCommand() *cobra.Command {
	var config, plan, out string
	var resume bool
	cmd := &cobra.Command{
		Use:   "ceremony",
		Short: "Make the keys, certificates and CRLs that a reviewed plan describes, once",
		Long: `Reads the plan whole and checks it, and that no key of its labels and no file of
its outputs exists, before any key is made. Writes the root, the issuer chain
and a hash-chained transcript to a new folder. Needs the HSM only. Plans with
people, PINs or backups are for the offline program "ceremony", which is the same code.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newProcess(config)
			if err != nil {
				return err
			}
			what, err := ceremony.Load(plan)
			if err != nil {
				return usageError{err}
			}
			t, err := p.openToken(cmd.Context(), toMake)
			if err != nil {
				return err
			}
			defer t.Close()
			if _, err := ceremony.Execute(cmd.Context(), what, ceremony.Options{Token: t, Out: out, Resume: resume}); err != nil {
				if errors.Is(err, ceremony.ErrStep) {
					fmt.Fprintf(cmd.ErrOrStderr(), "signet: what was done stands in %s; mend the cause and give the command again with --resume\n", filepath.Join(out, ceremony.TranscriptFile))
				}
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "outputs and transcript written to %s\n", out)
			return nil
		},
	}
	configFlag(cmd, &config)
	cmd.Flags().StringVar(&plan, "plan", "", "plan (YAML)")
	cmd.Flags().StringVar(&out, "out", "", "folder for the outputs; must not exist")
	cmd.Flags().BoolVar(&resume, "resume", false, "go on with the ceremony of this plan that was cut off in --out")
	for _, f := range []string{"plan", "out"} {
		_ = cmd.MarkFlagRequired(f)
	}
	return cmd
}
