package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/conf"
	"github.com/signet-hsm/signet/softhsm"
)

// version is set by the linker (see Makefile).
var version = "unknown"

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if err := harden(); err != nil {
		fmt.Fprintln(os.Stderr, "ceremony:", err)
		return exitFailed
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not end by itself
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	conf.Forget()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ceremony:", strings.TrimPrefix(err.Error(), "ceremony: "))
	}
	return exitStatus(err)
}

// The exit statuses, as the package comment and docs/ceremonies.md tell them.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitPIN         = 4
	exitUnavailable = 5
	exitDamaged     = 6
	exitPeople      = 7
)

type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitStatus is the first line that fits: what stopped a ceremony that had begun
// counts less than that it had begun.
func exitStatus(err error) int {
	var usage usageError
	if err == nil {
		return 0
	}
	for _, c := range []struct {
		status int
		causes []error
	}{
		{exitFailed, []error{ceremony.ErrStep}},
		{exitPIN, []error{hsm.ErrPIN}},
		{exitPeople, []error{ceremony.ErrPeople, custody.ErrShares, custody.ErrPerson}},
		{exitDamaged, []error{ceremony.ErrTranscript, ceremony.ErrBackup, custody.ErrSealed}},
		{exitRefused, []error{ceremony.ErrLabel, ceremony.ErrKey, ceremony.ErrOutput, ceremony.ErrToken, hsm.ErrExists, hsm.ErrKeyNotFound, os.ErrExist}},
		{exitUsage, []error{ceremony.ErrPlan, hsm.ErrConfig}},
		{exitUnavailable, []error{hsm.ErrTokenNotFound, hsm.ErrUnsupported, hsm.ErrClosed, softhsm.ErrNotInstalled}},
	} {
		for _, cause := range c.causes {
			if errors.Is(err, cause) {
				return c.status
			}
		}
	}
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case isUnavailable(err):
		return exitUnavailable
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "ceremony",
		Short:         "Key ceremonies, offline: plan, rehearsal, run, signed transcript",
		Long:          "Key ceremonies, offline: plan, rehearsal, run, signed transcript.\ndocs/ceremonies.md is the manual; exit status: 1 failed, 2 usage or plan, 3 refused, 4 PIN, 5 HSM, 6 not intact, 7 people or shares.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		preflightCommand(), rehearseCommand(), runCommand(), transcriptCommand(), personCommand(), backupCommand(), inventoryCommand(), versionCommand(),
		group("token", "Tokens", planVerb("init", "Initialise an empty token", "token_init")),
		group("pin", "PINs", planVerb("init", "Set the user's PIN as security officer", "pin_init"), planVerb("change", "Replace a PIN by a new one", "pin_change")),
		group("key", "Keys without a certificate", planVerb("gen", "Make keys", "key"), planVerb("verify", "Read keys back and use them once", "key_verify"),
			planVerb("destroy", "Destroy keys for ever", "key_destroy", "inventory")),
		planVerb("root", "Make a root", "root", "crl", "inventory"),
		planVerb("intermediate", "Certify an issuer", "intermediate", "existing", "crl", "inventory"),
		planVerb("cross-sign", "Certify a new CA by an existing one as well", "cross_sign", "existing", "root", "intermediate", "crl", "inventory"),
		planVerb("csr", "Make a key and a request for a CA elsewhere", "csr"),
		planVerb("crl", "Sign CRLs", "crl", "existing"),
		planVerb("rotate", "Make the next issuer, under the old root or a new one with cross-certificates", "intermediate", "existing", "root", "cross_sign", "crl", "backup_verify", "inventory"),
	)
	return root
}

func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(*cobra.Command, []string) error {
		return usageError{fmt.Errorf("%s needs a verb: see `ceremony %s --help`", use, use)}
	}}
	cmd.AddCommand(verbs...)
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "ceremony %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}
